"""Other spellings of our paths, as the settings of clients make them, found when no route has the path as it is.

A base URL with a slash too many, a path with one at its end, and the paths of Azure's variant of OpenAI's API:
``/openai/deployments/{deployment}/images/generations``, ``/openai/v1/videos``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NoReturn
from urllib.parse import unquote

from aiohttp import web
from aiohttp.abc import AbstractMatchInfo
from aiohttp.web_urldispatcher import AbstractResource, AbstractRoute, _InfoDict
from yarl import URL

DEPLOYMENT: Final = "deployment"
"""What the path calls the model, in the request's ``match_info``."""

_SLASHES: Final = re.compile("/{2,}")
_AZURE: Final = re.compile(
    r"(?:/v1)?/openai(?:/v1)?(?:/deployments/(?P<deployment>[^/]+))?(?P<rest>/(?:images|videos|models)(?:/.*)?)"
)


def plain(path: str) -> str:
    """The path without empty segments, at its end neither."""
    return _SLASHES.sub("/", path).rstrip("/") or "/"


def usual(path: str, base_path: str) -> tuple[str, str | None]:
    """The path by which our routes may know a call, and the deployment that its path names."""
    path = plain(path)
    azure = _AZURE.fullmatch(path.removeprefix(base_path)) if path.startswith(base_path) else None
    if azure is None:
        return path, None
    deployment = azure[DEPLOYMENT]
    return f"{base_path}/v1{azure['rest']}", None if deployment is None else unquote(deployment)


class OtherSpellings(AbstractResource):
    """Finds the route of a path that none has. The router asks it last, since it stands for the root."""

    def __init__(self, app: web.Application, *, base_path: str) -> None:
        super().__init__()
        self._app = app
        self._base_path = base_path

    @property
    def canonical(self) -> str:
        return "/"

    async def resolve(self, request: web.Request) -> tuple[web.UrlMappingMatchInfo | None, set[str]]:
        path = request.rel_url.raw_path
        ours, deployment = usual(path, self._base_path)
        if ours == path:
            return None, set()
        other = request.clone(rel_url=URL.build(path=ours, encoded=True))
        found: AbstractMatchInfo = await self._app.router.resolve(other)
        if not isinstance(found, web.UrlMappingMatchInfo):
            return None, set()
        refused = found.http_exception
        if isinstance(refused, web.HTTPMethodNotAllowed):
            return None, set(refused.allowed_methods)
        if refused is not None:
            return None, set()
        if deployment is not None:
            found[DEPLOYMENT] = deployment
        return found, set()

    def url_for(self, **_kwargs: str) -> NoReturn:
        raise NotImplementedError("a spelling has no URL of its own")

    def add_prefix(self, prefix: str) -> NoReturn:
        raise NotImplementedError("paths are registered with their prefix")

    def get_info(self) -> _InfoDict:
        return {"path": self.canonical}

    def raw_match(self, _path: str) -> bool:
        return False

    def __len__(self) -> int:
        return 0

    def __iter__(self) -> Iterator[AbstractRoute]:
        return iter(())
