"""A web server that does what a test tells it to, byte by byte."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from http import HTTPStatus
from types import TracebackType

from tests.infra.resource import Answer, Break, Resource, redirect_to
from tests.infra.servers.faults import HangUp
from tests.infra.servers.http_messages import Head, framed, read_head, send
from tests.infra.servers.journal import Journal
from tests.infra.servers.listener import Listener, LoopThread, send_reset

_EPOCH = 1_700_000_000


@dataclass(slots=True)
class Request:
    """What the source saw of a request and did about it."""

    method: str
    path: str
    target: str
    """Path and query as they were sent."""
    headers: dict[str, str]
    """By lower-case name."""
    status: int | None = None
    sent: int = 0
    """Bytes of the body without framing."""
    ended: bool = False

    @property
    def range(self) -> tuple[int, int | None] | None:
        """First and last byte of ``Range: bytes=a-b`` or ``a-``, or None."""
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", ""))
        return (int(found[1]), int(found[2]) if found[2] else None) if found else None


@dataclass(slots=True)
class _Place:
    """A path's resource and what has happened to it."""

    resource: Resource
    version: int = 0
    gets: int = 0
    running: int = 0
    bodies: int = 0
    release: asyncio.Event = field(default_factory=asyncio.Event)


class SourceServer:
    """The source, running inside ``with`` on a loop and thread of its own. Paths may be added at any time."""

    def __init__(self, host: str = "127.0.0.1", *, tls: ssl.SSLContext | None = None) -> None:
        self._host = host
        self._scheme = "http" if tls is None else "https"
        self._places: dict[str, _Place] = {}
        self._thread = LoopThread("source")
        self._listener = Listener(self._serve, host=host, tls=tls)
        self.log: Journal[Request] = Journal()

    def __enter__(self) -> SourceServer:
        self._thread.start()
        self._thread.run(self._listener.open())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.run(self._listener.close())
        self._thread.stop()

    @property
    def port(self) -> int:
        """Where the source listens."""
        return self._listener.port

    def url(self, path: str) -> str:
        """The URL of a path."""
        return f"{self._scheme}://{self._host}:{self.port}{path}"

    def add(self, path: str, resource: Resource) -> str:
        """Serve ``resource`` at ``path`` from now on; gives its URL."""
        self._places[path] = _Place(resource)
        return self.url(path)

    def redirect(self, path: str, to: str, *, hops: int = 1, status: int = 302) -> str:
        """A chain of ``hops`` redirects that ends at ``to`` (path or URL; ``path`` itself makes a loop)."""
        steps = [path, *(f"{path}-{number}" for number in range(2, hops + 1))]
        for step, following in zip(steps, [*steps[1:], to], strict=True):
            self.add(step, Resource(always=redirect_to(following, status)))
        return self.url(path)

    def change(self, path: str) -> None:
        """Replace the content by other bytes of the same size, with other validators."""
        self._places[path].version += 1

    def release(self, path: str) -> None:
        """Let stalled answers of ``path`` go on; later ones do not stall."""
        self._thread.call(self._places[path].release.set)

    def requests(self, path: str, method: str = "GET") -> list[Request]:
        """What was asked of ``path`` so far."""
        return [request for request in self.log if request.path == path and request.method == method]

    def sent(self, path: str) -> int:
        """Bytes of ``path`` given away so far, over all answers."""
        return sum(request.sent for request in self.requests(path))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (head := await read_head(reader)) is not None:
                path = head.target.partition("?")[0]
                request = self.log.append(Request(head.method, path, head.target, head.headers()))
                try:
                    await _Reply(self, head, request, reader, writer).run(self._places.get(path))
                finally:
                    request.ended = True
                    self.log.changed()
                if head.has_token("Connection", "close"):
                    break
        except HangUp as exc:
            if exc.reset:
                await send_reset(writer)


@dataclass(slots=True)
class _Reply:
    """The answer to one request. ``HangUp`` ends the connection with it."""

    server: SourceServer
    head: Head
    request: Request
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def run(self, place: _Place | None) -> None:
        if place is None:
            await self._canned(Answer(404))
            return
        if place.resource.raw is not None:
            await send(self.writer, place.resource.raw(self.request))
            raise HangUp
        version, canned = place.version, self._instead(place)
        await asyncio.sleep(place.resource.delay)
        if canned is not None:
            await self._canned(canned)
        elif place.resource.max_connections and place.running >= place.resource.max_connections:
            await self._canned(place.resource.refusal)
        else:
            with _counted(place):
                await self._content(place, version)

    def _instead(self, place: _Place) -> Answer | None:
        """Count a GET; the answer that stands in for the content, if one does."""
        resource = place.resource
        if self.request.method == "HEAD" and resource.head:
            return resource.always
        if self.request.method != "GET":
            return Answer(405, {"Allow": "GET"})
        place.gets += 1
        if place.gets <= len(resource.script):
            return resource.script[place.gets - 1]
        if resource.one_time and place.gets - len(resource.script) > 1:
            return Answer(403)
        if resource.changes_after is not None and place.gets == len(resource.script) + resource.changes_after:
            place.version += 1
        return resource.always

    async def _canned(self, answer: Answer) -> None:
        head = Head(f"HTTP/1.1 {answer.status} {_phrase(answer.status)}", list(answer.headers.items()))
        head.set("Content-Length", len(answer.body))
        self.request.status = answer.status
        body = b"" if self.request.method == "HEAD" else answer.body
        await send(self.writer, head.encode() + body)
        self.request.sent += len(body)

    async def _content(self, place: _Place, version: int) -> None:
        resource = place.resource
        if version:
            altered = None if resource.body is None else bytes(byte ^ 0xFF for byte in resource.body)
            resource = replace(resource, seed=resource.seed + 1_000_003 * version, body=altered)
        fields = _entity_fields(resource, version)
        wanted = self._range(resource, version)
        if self._precondition_failed(resource, version):
            await self._canned(Answer(412, dict(fields)))
        elif wanted is None:
            await self._send(place, resource, 0, resource.length, Head("HTTP/1.1 200 OK", fields))
        elif wanted[0] >= wanted[1]:
            fields.append(("Content-Range", f"bytes */{resource.length}"))
            await self._canned(Answer(416, dict(fields)))
        else:
            start, stop = wanted
            shift = 1 if resource.ranges == "wrong" else 0
            fields.append(("Content-Range", f"bytes {start + shift}-{stop - 1 + shift}/{resource.length}"))
            await self._send(place, resource, start, stop, Head("HTTP/1.1 206 Partial Content", fields))

    def _precondition_failed(self, resource: Resource, version: int) -> bool:
        match, since = self.head.get("If-Match"), self.head.get("If-Unmodified-Since")
        if match is not None:
            return match != "*" and (resource.validator != "strong" or match != f'"{resource.etag}"')
        return since is not None and resource.validator != "none" and since != _modified(version)

    def _range(self, resource: Resource, version: int) -> tuple[int, int] | None:
        """First byte and the one after the last to send as 206; None for 200; an empty range for 416."""
        found = re.fullmatch(r"bytes=(\d*)-(\d*)", self.head.get("Range") or "")
        if resource.ranges == "unasked" and found is None:
            return 0, resource.length // 2
        if resource.ranges in ("no", "claimed") or found is None or not any(found.groups()):
            return None
        condition = self.head.get("If-Range")
        if condition is not None and resource.ranges != "ignores_if_range":
            strong = resource.validator == "strong" and condition == f'"{resource.etag}"'
            dated = resource.validator != "none" and condition == _modified(version)
            if not strong and not dated:
                return None
        first, last = found.groups()
        if not first:
            return max(0, resource.length - int(last)), resource.length
        return int(first), min(resource.length, int(last) + 1 if last else resource.length)

    async def _send(self, place: _Place, resource: Resource, start: int, stop: int, head: Head) -> None:
        trouble = self._break(place)
        if trouble is not None and trouble.after is None:
            await self._broken(place, trouble)
        if resource.framing == "length":
            head.set("Content-Length", stop - start + resource.length_delta)
        elif resource.framing == "chunked":
            head.set("Transfer-Encoding", "chunked")
        else:
            head.set("Connection", "close")
        self.request.status = head.status
        await send(self.writer, head.encode())
        if self.request.method == "HEAD":
            return
        async for piece in self._pieces(place, resource, start, stop, trouble):
            await send(self.writer, framed(piece) if resource.framing == "chunked" else piece)
            self.request.sent += len(piece)
            self.server.log.changed()
        if resource.framing == "chunked":
            await send(self.writer, b"0\r\n\r\n")
        if resource.framing == "close" or resource.length_delta:
            raise HangUp

    async def _pieces(
        self, place: _Place, resource: Resource, start: int, stop: int, trouble: Break | None
    ) -> AsyncIterator[bytes]:
        step = max(1, resource.rate // 20) if resource.rate else 1 << 18
        left = stop - start if trouble is None else trouble.after or 0
        for chunk in resource.chunks(start, stop):
            for offset in range(0, len(chunk), step):
                piece = chunk[offset : offset + step]
                if trouble is not None and len(piece) >= left:
                    if left:  # an empty chunk would be the last one
                        yield piece[:left]
                    await self._broken(place, trouble)
                    piece, trouble = piece[left:], None
                left -= len(piece)
                if resource.rate:
                    await asyncio.sleep(len(piece) / resource.rate)
                if piece:
                    yield piece
        if trouble is not None:
            await self._broken(place, trouble)

    def _break(self, place: _Place) -> Break | None:
        """Count a body that is due; the break that it meets, if any."""
        if self.request.method == "HEAD":
            return None
        number = place.bodies
        place.bodies += 1
        for trouble in place.resource.breaks:
            if number >= trouble.skip and (trouble.times is None or number < trouble.skip + trouble.times):
                return trouble
        return None

    async def _broken(self, place: _Place, trouble: Break) -> None:
        """Carry out a break: end the connection, or return once a stall is released."""
        if trouble.how != "stall":
            await self.writer.drain()
            raise HangUp(reset=trouble.how == "rst")
        async with _unless_closed(self.reader):
            await place.release.wait()


@contextmanager
def _counted(place: _Place) -> Iterator[None]:
    place.running += 1
    try:
        yield
    finally:
        place.running -= 1


@asynccontextmanager
async def _unless_closed(reader: asyncio.StreamReader) -> AsyncIterator[None]:
    """Raise ``HangUp`` inside the block when the client ends the connection first."""

    async def watch() -> None:
        if not await reader.read(1):
            raise HangUp

    try:
        async with asyncio.TaskGroup() as group:
            watcher = group.create_task(watch())
            yield
            watcher.cancel()
    except* (HangUp, ConnectionError):
        raise HangUp from None


def _modified(version: int) -> str:
    return formatdate(_EPOCH + 3600 * version, usegmt=True)


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Unknown"


def _entity_fields(resource: Resource, version: int) -> list[tuple[str, str]]:
    fields: dict[str, str] = {}
    if resource.media_type is not None:
        fields["Content-Type"] = resource.media_type
    if resource.filename is not None:
        fields["Content-Disposition"] = f'attachment; filename="{resource.filename}"'
    if resource.gzip:
        fields["Content-Encoding"] = "gzip"
    if resource.ranges != "no":
        fields["Accept-Ranges"] = "bytes"
    if resource.validator != "none":
        fields["Last-Modified"] = _modified(version)
    if resource.validator in ("strong", "weak"):
        fields["ETag"] = f'{"W/" if resource.validator == "weak" else ""}"{resource.etag}"'
    return [*fields.items(), *resource.headers.items()]
