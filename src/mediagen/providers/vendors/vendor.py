"""What every vendor's adapter shares: how it is made of its settings, and how results come out of its JSON."""

from __future__ import annotations

import base64
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from http import HTTPStatus
from typing import Any, ClassVar, Final, TypeAlias
from urllib.parse import urljoin, urlsplit

from yarl import URL

from mediagen.core.errors import (
    InvalidBase64,
    InvalidRequest,
    MediagenError,
    ProviderError,
    ProviderUnavailable,
    StatusMissing,
    TooLarge,
)
from mediagen.net.policy import check_text
from mediagen.providers.base import About, Answer, Content, EffectiveOptions, Link, Made, Model, Phase, Request, Role
from mediagen.providers.calls.endpoint import Endpoint, Reply
from mediagen.providers.calls.error_bodies import Complaint, reasons_in, said_in
from mediagen.providers.calls.lenient_json import as_object, as_text, plain
from mediagen.providers.calls.refusals import failure
from mediagen.providers.capabilities import check
from mediagen.providers.effective_options import find_effective_options
from mediagen.providers.settings import ProviderSettings
from mediagen.providers.vendors.status_words import StatusWords
from mediagen.streams.base import View
from mediagen.streams.formats.sniff import sniff
from mediagen.streams.json.media_fields import MediaField, MediaFields
from mediagen.streams.json.scanner import Pointer, fits
from mediagen.streams.sources import ChunkSource

Read: TypeAlias = Callable[[Any, About, Sequence[Pointer]], None]
"""Reads what an answer says beside its results: gets the rest of the document, and the places of the results."""

_KINDS: Final = {
    ending: kind
    for kind, endings in {
        "image": "png jpg jpeg webp avif heic bmp tif tiff",
        "video": "mp4 m4v mov webm mkv avi",
        "audio": "mp3 wav ogg oga opus flac m4a aac",
        "text": "txt json jsonl csv srt vtt html md log",
    }.items()
    for ending in endings.split()
}
"""What a name's ending tells; that of a GIF may be either."""
_MEDIA: Final = frozenset({"image", "video", "audio", "text"})
_MAX_REASON: Final = 300
"""Characters of a text that is no link."""
_NAMES: Final = (b"http://", b"https://", b"data:")


class Vendor(ABC):
    """One configured account at a vendor."""

    base_url: ClassVar[str]
    """Where the vendor's own API is."""
    known: ClassVar[tuple[Model, ...]] = ()
    """Models that are offered when the settings name none."""

    def __init__(self, endpoint: Endpoint, settings: ProviderSettings) -> None:
        self.name = endpoint.name
        self._endpoint = endpoint
        self._words = StatusWords(endpoint.name)
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

    def check(self, request: Request, roles: Sequence[Role] = (), /) -> None:
        """As ``Provider.check``."""
        model = next((model for model in self.models if model.id == request.model), None)
        check(request, model or self._model(request.model), roles)
        self._prepared(request)

    def effective_options(self, request: Request, /) -> EffectiveOptions:
        """As ``Provider.told``."""
        return find_effective_options(request, self._prepared)

    @abstractmethod
    def _prepared(self, request: Request) -> object:
        """What would be sent, as plain values that compare, without sending it. Raises InvalidRequest."""

    def _several(self, model: str, known: Sequence[tuple[str, str]]) -> str | None:
        """The field of a model that takes several pictures, of the settings, else of ``known``; None: it has none."""
        set_by_name = self._settings.picture_fields.get(model)
        return set_by_name or next((field for pattern, field in known if fnmatchcase(model, pattern)), None)

    # -- jobs

    def _phase_of(self, job: Mapping[str, Any], word: object) -> Phase:
        """How far a job is, by the provider's word for it.

        Raises:
            ProviderError: the answer says that there is no such job, which of a new one may change (as 404 does).
            StatusMissing: it has no word at all.
        """
        phase = self._words.phase(word)
        if phase is not None:
            return phase
        said = said_in(job) if job.get("error") else Complaint()
        tail = f": {said.message}" if said.message else ""
        if self._words.is_unknown(word) or any(self._words.is_unknown(code) for code in said.codes):
            raise ProviderError(
                f"{self.name} does not know the job{tail}", provider=self.name, status=HTTPStatus.NOT_FOUND
            )
        raise StatusMissing(f"{self.name} responds without the job's status{tail}", provider=self.name)

    def _failed(self, job: Mapping[str, Any], **about: object) -> MediagenError:
        """The error of a job that has failed, for the reason that it gives."""
        said = said_in(job)
        if not said.message:
            reasons = reasons_in(job)
            said = replace(reasons, codes=(*said.codes, *reasons.codes))
        word = as_text(job.get("status"))
        return failure(
            self.name, replace(said, message=said.message or f"status {word}", codes=(*said.codes, word)), **about
        )

    # -- results

    def _link(self, url: str, index: int, *, media_type: str | None = None) -> Link:
        """A result behind a URL, absolute or relative to the base URL. Raises ProviderError."""
        base = str(self._endpoint.origin.base_url)
        try:
            url = url.strip().replace(" ", "%20")
            whole = check_text(url if "://" in url.partition("?")[0] else urljoin(base, url))
            trusted = self._endpoint.origin if self._endpoint.origin.covers(whole) else None
        except (MediagenError, ValueError) as exc:
            reason = exc.detail if isinstance(exc, MediagenError) else str(exc)
            raise ProviderError(
                f"{self.name} returned a URL that cannot be fetched: {reason}", provider=self.name
            ) from None
        return Link(str(URL(str(whole), encoded=True)), index, trusted, media_type)

    def _one_link(self, url: str, about: About, *, media_type: str | None = None) -> Answer:
        async def results() -> AsyncIterator[Made]:
            yield self._link(url, 0, media_type=media_type)

        return Answer(results(), about)

    @asynccontextmanager
    async def _answer(
        self,
        reply: Reply,
        read: Read,
        *,
        media: Sequence[Pointer] = (),
        links: Sequence[Pointer] = (),
        passed: Sequence[Pointer] = (),
        wanted: str = "",
        one_each: bool = False,
        unwanted: Callable[[bytes], bool] | None = None,
    ) -> AsyncIterator[Answer]:
        """The results in a JSON answer while it arrives.

        ``media`` are fields with base64, ``links`` fields with URLs (or ``data:`` URIs), ``passed`` fields that are
        large and of no use. With ``wanted`` (``image``, ``video``) what is surely of another kind is passed over, among
        links also texts that are none; with ``one_each`` a second field of the same object; what ``unwanted`` says of
        the document before a field. ``read`` may raise, for example when there are no results, and may withdraw some.
        """
        await reply.check_json()
        about = About()
        fields = MediaFields(reply.chunks(), (*media, *links, *passed))
        try:
            async with aclosing(
                self._results(
                    fields, read, about, links, passed, wanted, paid=reply.paid, one_each=one_each, unwanted=unwanted
                )
            ) as results:
                yield Answer(results, about)
        finally:
            await fields.aclose()

    async def _results(
        self,
        fields: MediaFields,
        read: Read,
        about: About,
        links: Sequence[Pointer],
        passed: Sequence[Pointer],
        wanted: str,
        *,
        paid: bool,
        one_each: bool,
        unwanted: Callable[[bytes], bool] | None,
    ) -> AsyncGenerator[Made]:
        places = fields.fields()
        found: list[Pointer] = []
        while True:
            with self._understood(paid=paid):
                field = await anext(places, None)
                if field is None:
                    break
                if _is_of(field, passed) or not await field.peek(1):
                    continue
                if one_each and found and found[-1][:-1] == field.place[:-1]:
                    continue
                if unwanted is not None and unwanted(fields.rest):
                    continue
                is_link = _is_of(field, links)
                made = await self._made(field, len(found), is_link=is_link, wanted=wanted)
                if made is None and is_link:
                    about.texts.append((await field.peek(_MAX_REASON)).decode("utf-8", "replace"))
            if made is not None:
                found.append(field.place)
                yield made
        read(plain(fields.document), about, found)

    async def _skim(self, reply: Reply, media: Sequence[Pointer]) -> tuple[dict[str, Any], list[Pointer]]:
        """A JSON object without its media, which may be large, and where they were.

        What a paid call is answered instead of an object reads as an empty one.
        """
        await reply.check_json()
        fields = MediaFields(reply.chunks(), media)
        found: list[Pointer] = []
        try:
            with self._understood(paid=reply.paid):
                found.extend([field.place async for field in fields.fields()])
        finally:
            await fields.aclose()
        document = plain(fields.document)
        if not isinstance(document, dict) and not reply.paid:
            raise self._endpoint.no_object(paid=False)
        return as_object(document), found

    async def _made(self, field: MediaField, index: int, *, is_link: bool, wanted: str = "") -> Made | None:
        """A result; None: it is of another kind, or no link at all."""
        if is_link:
            head = (await field.peek(64)).lower()
            if wanted and not head.lstrip().startswith(_NAMES):
                return None
            if not head.lstrip().startswith(b"data:"):
                url = await field.text()
                return self._link(url, index) if _may_lead_to(url, wanted) else None
            if wanted and _is_of_another_kind(head.lstrip()[5:].partition(b"/")[0].decode("latin-1"), wanted):
                return None
        elif wanted and not await _may_be(field, wanted):
            return None
        return Content(ChunkSource(self._decoded(field)), index)

    async def _decoded(self, field: MediaField) -> AsyncIterator[View]:
        chunks = field.chunks()
        while True:
            with self._understood():
                chunk = await anext(chunks, None)
            if chunk is None:
                return
            yield chunk

    @contextmanager
    def _understood(self, *, paid: bool = True) -> Iterator[None]:
        """Round the reading of an answer: what we say of a caller's JSON is said of the provider's.

        Unless it is ``paid`` for, it can be asked for again.
        """
        try:
            yield
        except InvalidBase64 as exc:
            raise ProviderError(f"{self.name} returned a result that is not base64: {exc.detail}") from None
        except (InvalidRequest, TooLarge) as exc:
            error = ProviderError if paid else ProviderUnavailable
            raise self._endpoint.unreadable(exc.detail, error) from None


def _is_of(field: MediaField, patterns: Sequence[Pointer]) -> bool:
    return any(fits(field.place, pattern) for pattern in patterns)


def _is_of_another_kind(kind: str, wanted: str) -> bool:
    return kind in _MEDIA and kind != wanted


def _may_lead_to(url: str, wanted: str) -> bool:
    """Whether a link can be that of such media, by the name at its end; what that does not tell may be."""
    if not wanted:
        return True
    try:
        ending = urlsplit(url).path.rpartition(".")[2].lower()
    except ValueError:
        return True
    return not _is_of_another_kind(_KINDS.get(ending, ""), wanted)


async def _may_be(field: MediaField, wanted: str) -> bool:
    """Whether base64 can be media of that kind, by its first bytes; what they do not tell may be."""
    head = await field.peek(64)
    try:
        seen = sniff(base64.b64decode(head[: len(head) // 4 * 4]))
    except ValueError:
        return True
    return seen is None or seen.startswith(wanted)
