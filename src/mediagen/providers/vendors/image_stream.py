"""Pictures in a stream of events, as OpenAI's API and those who speak it send them.

``image_generation.partial_image`` and ``.completed`` (``image_edit.`` of edits), with base64 or, of some gateways, a
URL; or a whole answer in one event. Source: OpenAI API reference, image streaming, as read on 2026-11-20.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import structlog

from mediagen.core.errors import InvalidRequest, OutcomeUnknown, ProviderError, TooLarge
from mediagen.providers.base import About, Content, Made
from mediagen.providers.calls.error_bodies import Complaint, reasons_in, said_in
from mediagen.providers.calls.lenient_json import as_object, plain
from mediagen.providers.calls.refusals import failure, nothing_made
from mediagen.providers.calls.sse import Event, Events
from mediagen.streams.json.media_fields import MediaField, MediaFields
from mediagen.streams.json.scanner import Pointer

log = structlog.get_logger(__name__)

_IN_BASE64: Final = (("b64_json",), ("data", "*", "b64_json"), ("image", "b64_json"))
_LINKS: Final = (("url",), ("data", "*", "url"), ("image", "url"))
_TYPE: Final = re.compile(rb'"type"\s*:\s*"([^"]{0,100})"')


class Make(Protocol):
    """Makes a result of a field; see ``Vendor``."""

    async def __call__(self, field: MediaField, index: int, *, is_link: bool) -> Made | None: ...


class PictureStream:
    """One answer."""

    def __init__(self, name: str, make: Make, read_about: Callable[[Mapping[str, Any], About], None]) -> None:
        """``name`` of the provider; ``read_about`` reads what an event says beside its picture."""
        self._name = name
        self._make = make
        self._read_about = read_about

    async def results(self, chunks: AsyncIterator[bytes], about: About, wanted: int) -> AsyncGenerator[Made]:
        """The pictures, and their earlier states, while they arrive; ``wanted``: so many were asked for.

        What an event is often stands behind its picture; one that was taken for the picture itself and is an earlier
        state is withdrawn. A line that is not understood, and what follows the last picture, costs no picture.
        """
        state = _Stream()
        events = Events(chunks).events()
        try:
            while True:
                try:
                    event = await anext(events, None)
                    if event is None:
                        break
                    results = self._of_event(event, state, about)
                    try:
                        async for made in results:
                            yield made
                    finally:
                        await results.aclose()
                except OutcomeUnknown as exc:
                    if state.done < wanted:
                        raise
                    log.info("stream_ended_badly", provider=self._name, reason=exc.detail)
                    break
        finally:
            await events.aclose()
        if state.done == 0:
            if state.said:
                raise nothing_made(self._name, "a picture", Complaint(state.said))
            raise OutcomeUnknown(f"the stream of {self._name} ended before the image; the call may have been charged")

    async def _of_event(self, event: Event, state: _Stream, about: About) -> AsyncGenerator[Made]:
        """The pictures of one event: one, or with a whole answer in it several."""
        fields = MediaFields(event.data, [*_IN_BASE64, *_LINKS])
        places = fields.fields()
        yielded: list[int] = []
        last: Pointer | None = None
        try:
            while (field := await self._next_of_event(places, state, yielded)) is not None:
                if last == (last := field.place[:-1]):
                    continue  # the same picture in another form
                is_partial = _is_partial(event.name, _kind_so_far(fields.rest), fields.rest)
                try:
                    made = await self._make(field, state.given, is_link=field.place[-1] == "url")
                except ProviderError as exc:  # a link that is none
                    if isinstance(exc, OutcomeUnknown):
                        raise
                    state.said = exc.detail
                    continue
                if not is_partial and made is not None:
                    yielded.append(state.given)
                    state.given += 1
                    yield made
                elif isinstance(made, Content):
                    yield replace(made, partial=state.shown)
                    state.shown += 1
            document = as_object(plain(fields.document))
            if yielded and _is_partial(event.name, document.get("type"), fields.rest):
                about.withdrawn.update(yielded)
            elif yielded:
                state.done, state.shown = state.done + len(yielded), 0
                self._read_about(document, about)
            elif not state.done:
                self._refuse_event(document, state)
        finally:
            await fields.aclose()

    async def _next_of_event(
        self, places: AsyncIterator[MediaField], state: _Stream, yielded: Sequence[int]
    ) -> MediaField | None:
        """The next picture; None where there is none, also in what is no JSON at all."""
        try:
            while (field := await anext(places, None)) is not None and not await field.peek(1):
                pass
        except (InvalidRequest, TooLarge) as exc:
            log.info("event_not_understood", provider=self._name, reason=exc.detail, pictures=len(yielded))
            return None
        return field

    def _refuse_event(self, document: dict[str, Any], state: _Stream) -> None:
        if document.get("error") or document.get("type") == "error":
            raise failure(self._name, said_in(document))
        state.said = reasons_in(document).message or state.said


@dataclass(slots=True)
class _Stream:
    """How far a stream of events is."""

    given: int = 0
    """Pictures handed on, those among them that are withdrawn."""
    done: int = 0
    """Pictures that are results."""
    shown: int = 0
    """Earlier states of the present picture."""
    said: str = ""
    """What events without a picture say."""


def _is_partial(name: str, kind: object, text: bytes) -> bool:
    """Whether an event shows an earlier state: by its ``type``, by its name, by having a number among such states."""
    for word in (kind, name):
        if isinstance(word, str) and ("partial" in word or "complete" in word):
            return "partial" in word
    return b'"partial_image_index"' in text


def _kind_so_far(text: bytes) -> str:
    found = _TYPE.search(text)
    return found[1].decode("utf-8", "replace") if found is not None else ""
