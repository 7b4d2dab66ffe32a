"""What every vendor's adapter shares: how it is made of its settings, and how results come out of its JSON."""

from __future__ import annotations

import base64
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Any, ClassVar
from urllib.parse import urljoin

from yarl import URL

from mediagen.core.errors import InvalidBase64, InvalidRequest, MediagenError, ProviderError, TooLarge
from mediagen.net.policy import check_text
from mediagen.providers.base import About, Answer, Content, Link, Made, Model, Request
from mediagen.providers.demands import check
from mediagen.providers.endpoint import Endpoint, Reply
from mediagen.providers.foreign import plain
from mediagen.providers.settings import ProviderSettings
from mediagen.providers.words import Words
from mediagen.streams.base import View
from mediagen.streams.embedded_many import EmbeddedField, EmbeddedFields
from mediagen.streams.jsonfield import Pointer, fits
from mediagen.streams.sniff import sniff
from mediagen.streams.sources import ChunkSource


class Vendor(ABC):
    """One configured account at a vendor."""

    base_url: ClassVar[str]
    """Where the vendor's own API is."""
    known: ClassVar[tuple[Model, ...]] = ()
    """Models that are offered when the settings name none."""

    def __init__(self, endpoint: Endpoint, settings: ProviderSettings) -> None:
        self.name = endpoint.name
        self._endpoint = endpoint
        self._words = Words(endpoint.name)
        self._settings = settings
        wanted = dict.fromkeys(settings.named_models.values())
        self.models = tuple(self._model(name) for name in wanted) or self._known()

    @staticmethod
    def credentials(key: str) -> Mapping[str, str]:
        """Headers that carry the key."""
        return {"Authorization": f"Bearer {key}"}

    def _known(self) -> tuple[Model, ...]:
        return self.known

    def _model(self, name: str) -> Model:
        """What a model can do that the settings name."""
        return next((model for model in self.known if model.id == name), None) or self._unknown(name)

    @abstractmethod
    def _unknown(self, name: str) -> Model:
        """What a model of the settings can do that is not among ``known``."""

    def check(self, request: Request, /) -> None:
        """As ``Provider.check``."""
        model = next((model for model in self.models if model.id == request.model), None)
        check(request, model or self._model(request.model))
        self._prepared(request)

    @abstractmethod
    def _prepared(self, request: Request) -> object:
        """What would be sent, put together without sending it. Raises InvalidRequest."""

    # -- results

    def _link(self, url: str, index: int, *, media_type: str | None = None) -> Link:
        """A result behind a URL, absolute or relative to the base URL. Raises ProviderError."""
        base = str(self._endpoint.origin.base_url)
        try:
            whole = check_text(urljoin(base, url))
        except MediagenError as exc:
            raise ProviderError(f"{self.name} gave a URL that cannot be fetched: {exc.detail}") from None
        trusted = self._endpoint.origin if self._endpoint.origin.covers(whole) else None
        return Link(str(URL(str(whole), encoded=True)), index, trusted, media_type)

    def _one_link(self, url: str, about: About, *, media_type: str | None = None) -> Answer:
        async def results() -> AsyncIterator[Made]:
            yield self._link(url, 0, media_type=media_type)

        return Answer(results(), about)

    @asynccontextmanager
    async def _answer(
        self,
        reply: Reply,
        read: Callable[[Any, About, int], None],
        *,
        media: Sequence[Pointer] = (),
        links: Sequence[Pointer] = (),
        wanted: str = "",
        one_each: bool = False,
    ) -> AsyncIterator[Answer]:
        """The results in a JSON answer while it arrives.

        ``media`` are fields with base64, ``links`` fields with URLs (or ``data:`` URIs). Base64 whose bytes are of
        another kind than ``wanted`` (``image``, ``video``) is passed over; with ``one_each``, a second field of the
        same object too. ``read`` gets the rest of the document and how many results there were; it may raise, for
        example when there are none.
        """
        await reply.check_json()
        about = About()
        fields = EmbeddedFields(reply.chunks(), (*media, *links))
        try:
            async with aclosing(self._results(fields, read, about, links, wanted, one_each=one_each)) as results:
                yield Answer(results, about)
        finally:
            await fields.aclose()

    async def _results(
        self,
        fields: EmbeddedFields,
        read: Callable[[Any, About, int], None],
        about: About,
        links: Sequence[Pointer],
        wanted: str,
        *,
        one_each: bool,
    ) -> AsyncGenerator[Made]:
        places = fields.fields()
        found = 0
        seen: Pointer | None = None
        while True:
            with self._understood():
                field = await anext(places, None)
                if field is None:
                    break
                if one_each and field.place[:-1] == seen:
                    continue
                seen = field.place[:-1]
                if wanted and not await _may_be(field, wanted):
                    continue
                made = await self._made(field, found, is_link=any(fits(field.place, link) for link in links))
            found += 1
            yield made
        read(plain(fields.document), about, found)

    async def _skim(self, path: str, media: Sequence[Pointer]) -> tuple[dict[str, Any], int]:
        """A JSON answer without its media, which may be large, and how many there are."""
        async with self._endpoint.open("GET", path) as reply:
            await reply.check_json()
            fields = EmbeddedFields(reply.chunks(), media)
            found = 0
            try:
                with self._understood():
                    async for _ in fields.fields():
                        found += 1
            finally:
                await fields.aclose()
        document = plain(fields.document)
        if not isinstance(document, dict):
            raise ProviderError(f"{self.name} answered something else than a JSON object")
        return document, found

    async def _made(self, field: EmbeddedField, index: int, *, is_link: bool) -> Made:
        if is_link and (await field.peek(5)).lower() != b"data:":
            return self._link(await field.text(), index)
        return Content(ChunkSource(self._decoded(field)), index)

    async def _decoded(self, field: EmbeddedField) -> AsyncIterator[View]:
        chunks = field.chunks()
        while True:
            with self._understood():
                chunk = await anext(chunks, None)
            if chunk is None:
                return
            yield chunk

    @contextmanager
    def _understood(self) -> Iterator[None]:
        """Round the reading of an answer: what we say of a caller's JSON is said of the provider's."""
        try:
            yield
        except InvalidBase64 as exc:
            raise ProviderError(f"{self.name} sent a result that is no base64: {exc.detail}") from None
        except (InvalidRequest, TooLarge) as exc:
            raise self._endpoint.unreadable(exc.detail) from None


async def _may_be(field: EmbeddedField, wanted: str) -> bool:
    """Whether base64 can be media of that kind, by its first bytes; what they do not tell may be."""
    head = await field.peek(64)
    try:
        seen = sniff(base64.b64decode(head[: len(head) // 4 * 4]))
    except ValueError:
        return True
    return seen is None or seen.startswith(wanted)
