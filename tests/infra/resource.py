"""What a scripted source has to give, and everything that it may do wrong while giving it."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from tests.infra.content import content, content_bytes

if TYPE_CHECKING:
    from tests.infra.servers.source import Request


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer written out by the test, with its Content-Length."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


def redirect_to(location: str, status: int = 302, **headers: str) -> Answer:
    """A redirect; underscores in the names of ``headers`` stand for hyphens."""
    return Answer(status, {"Location": location, **{name.replace("_", "-"): value for name, value in headers.items()}})


def busy(status: int = 503, retry_after: float | str | None = None) -> Answer:
    """A refusal for now, with Retry-After (seconds or an HTTP date) when given."""
    return Answer(status, {} if retry_after is None else {"Retry-After": str(retry_after)})


@dataclass(frozen=True, slots=True)
class Break:
    """Where a transfer goes wrong: after ``after`` bytes of an answer's body (None: in place of the head).

    ``fin`` and ``rst`` end the connection. ``stall`` keeps it open and silent until ``SourceServer.release``.
    Of the bodies that are due at this path, the first ``skip`` pass and the next ``times`` break (None: all of them).
    """

    after: int | None = 0
    how: Literal["fin", "rst", "stall"] = "fin"
    times: int | None = None
    skip: int = 0


@dataclass(frozen=True, slots=True)
class Resource:
    """One path of the source. The defaults are a good citizen: length, Range, a strong ETag, keep-alive."""

    size: int = 0
    """Bytes of generated content (``tests.infra.content``)."""
    seed: int = 0
    body: bytes | None = None
    """Literal bytes in place of generated content."""

    media_type: str | None = "application/octet-stream"
    filename: str | None = None
    """Given in Content-Disposition."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """More fields of every 200 and 206."""

    validator: Literal["strong", "weak", "date", "none"] = "strong"
    """Strong or weak ETag (with Last-Modified), Last-Modified alone, or nothing."""
    ranges: Literal["yes", "no", "claimed", "unasked", "wrong", "ignores_if_range"] = "yes"
    """``no``: no Accept-Ranges and always 200. ``claimed``: Accept-Ranges, and yet always 200. ``unasked``: 206 with
    the first half of the content to a request without Range. ``wrong``: Content-Range names other bytes than were asked
    for. ``ignores_if_range``: 206 although the validator differs."""
    framing: Literal["length", "close", "chunked"] = "length"
    """``close``: no length, the connection's end is the body's. A break of ``chunked`` leaves out the last chunk."""
    length_delta: int = 0
    """Added to Content-Length; the body stays as it is and the connection ends after it."""
    gzip: bool = False
    """Content-Encoding: gzip, asked for or not; the compressed body is held in memory."""
    head: bool = True
    """False: HEAD is answered 405."""

    script: Sequence[Answer] = ()
    """Given to the first GET requests, in order; then the content."""
    always: Answer | None = None
    """Given to every request."""
    raw: Callable[[Request], bytes] | None = None
    """Makes whole answers, head and framing included, which are sent as they are; then the connection ends."""
    breaks: Sequence[Break] = ()
    delay: float = 0.0
    """Seconds before the head of each answer."""
    rate: int = 0
    """Bytes a second of one connection; 0 is no limit. A few bytes a second is a drip."""
    max_connections: int = 0
    """How many answers may run at once; 0 is no limit."""
    refusal: Answer = field(default_factory=lambda: busy(429, 1))
    """For those beyond ``max_connections``."""
    one_time: bool = False
    """The second GET is answered 403."""
    changes_after: int | None = None
    """After that many GET answers the content and its validators are others."""

    @property
    def length(self) -> int:
        """Bytes of the body."""
        if self.gzip:
            return len(_compressed(self.size, self.seed, self.body))
        return self.size if self.body is None else len(self.body)

    def chunks(self, start: int, stop: int) -> Iterator[bytes]:
        """A part of the body."""
        if self.gzip:
            yield _compressed(self.size, self.seed, self.body)[start:stop]
        elif self.body is not None:
            yield self.body[start:stop]
        else:
            yield from content(self.size, self.seed, start=start, stop=stop)

    @property
    def etag(self) -> str:
        """Without the quotes and the weakness mark."""
        return _tag(self.size, self.seed, self.body, self.gzip)


@lru_cache(maxsize=64)
def _tag(size: int, seed: int, body: bytes | None, gzip: bool) -> str:
    named = repr((size, seed, body is None, gzip)).encode() + (body or b"")
    return hashlib.sha256(named).hexdigest()[:24]


@lru_cache(maxsize=4)
def _compressed(size: int, seed: int, body: bytes | None) -> bytes:
    packer = zlib.compressobj(level=1, wbits=31)
    return packer.compress(content_bytes(size, seed) if body is None else body) + packer.flush()
