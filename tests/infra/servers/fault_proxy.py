"""A proxy that breaks chosen HTTP exchanges and passes all others as they are, so that S3 signatures stay valid."""

from __future__ import annotations

import asyncio
import re
import ssl
from dataclasses import dataclass, field
from types import TracebackType

from tests.infra.servers.faults import Client, Fault, HangUp
from tests.infra.servers.http_messages import Body, Head, framed, read_head, send
from tests.infra.servers.journal import Journal
from tests.infra.servers.listener import BUFFER, Listener, LoopThread, send_reset


@dataclass(slots=True)
class Rule:
    """Which exchanges meet ``fault``: those whose method, target (path and query) and header fit the patterns.

    ``skip`` lets the first n of them pass, ``times`` spares those after the next n; None means for ever.
    """

    fault: Fault
    method: str = ".*"
    target: str = ""
    header: tuple[str, str] | None = None
    times: int | None = None
    skip: int = 0
    hits: int = 0

    def takes(self, head: Head) -> bool:
        """Whether this request is one, counting it if so."""
        if not re.fullmatch(self.method, head.method) or not re.search(self.target, head.target):
            return False
        if self.header and not re.search(self.header[1], head.get(self.header[0]) or ""):
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times is not None and self.hits >= self.times:
            return False
        self.hits += 1
        return True


@dataclass(slots=True)
class Exchange:
    """What the proxy saw of a request. Bytes are payload, without heads and framing."""

    method: str
    target: str
    headers: dict[str, str]
    fault: str | None = None
    status: int | None = None
    received: int = 0
    """Of the request's body, sent on upstream."""
    sent: int = 0
    """Of the answer's body, sent on to the client."""
    ended: bool = False


@dataclass(slots=True)
class FaultProxy:
    """The proxy in front of ``host:port``, running inside ``async with`` on the running loop.

    With ``tls`` it speaks TLS to the client and plain HTTP upstream, whatever upstream is otherwise reached by.
    """

    host: str
    port_upstream: int
    tls: ssl.SSLContext | None = None
    rules: list[Rule] = field(default_factory=list)
    log: Journal[Exchange] = field(default_factory=Journal)
    _listener: Listener = field(init=False)

    def __post_init__(self) -> None:
        self._listener = Listener(self._serve, tls=self.tls)

    @property
    def port(self) -> int:
        """Where the proxy listens."""
        return self._listener.port

    @property
    def url(self) -> str:
        """``http://127.0.0.1:port``, or ``https://localhost:port`` with TLS."""
        return f"https://localhost:{self.port}" if self.tls else f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> FaultProxy:
        await self._listener.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._listener.close()

    def add(
        self,
        fault: Fault,
        method: str = ".*",
        target: str = "",
        *,
        header: tuple[str, str] | None = None,
        times: int | None = None,
        skip: int = 0,
    ) -> Rule:
        """Break matching exchanges from now on; the first rule that matches counts."""
        rule = Rule(fault, method, target, header, times, skip)
        self.rules.append(rule)
        return rule

    def clear(self) -> None:
        """Forget all rules and the log."""
        self.rules.clear()
        self.log.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (head := await read_head(reader)) is not None:
                client = Client(head, Body.of_request(head, reader), reader, writer, (self.host, self.port_upstream))
                if not await self._exchange(client):
                    break
        except HangUp as exc:
            if exc.reset:
                await send_reset(writer)

    async def _exchange(self, client: Client) -> bool:
        """Carry out one exchange; False when the connection ends with it."""
        request = client.request
        entry = self.log.append(Exchange(request.method, request.target, request.headers()))
        rule = next((rule for rule in list(self.rules) if rule.takes(request)), None)
        fault = rule.fault if rule else Fault()
        entry.fault = type(fault).__name__ if rule else None
        try:
            if (answer := await fault.intercept(client)) is not None:
                entry.status = answer.status
                return not request.has_token("Connection", "close")
            return await _Passage(self, client, fault, entry).run()
        finally:
            entry.ended = True
            self.log.changed()


@dataclass(slots=True)
class _Passage:
    """One exchange on its way through to upstream and back."""

    proxy: FaultProxy
    client: Client
    fault: Fault
    entry: Exchange
    whole: bool = True
    """The request's body went upstream to its end."""

    async def run(self) -> bool:
        reader, writer = await asyncio.open_connection(self.proxy.host, self.proxy.port_upstream, limit=BUFFER)
        try:
            async with asyncio.TaskGroup() as group:
                writer.write(self.client.request.encode())
                upload = group.create_task(self._upload(writer))
                keep = await self._answer(reader)
                self.whole = self.whole and upload.done()
                upload.cancel()  # upstream has answered before the end of the body
        except BaseExceptionGroup as exc:
            raise exc.exceptions[0] from None
        finally:
            writer.transport.abort()
        return keep and self.whole

    async def _upload(self, writer: asyncio.StreamWriter) -> None:
        body = self.client.body
        async for chunk in self.fault.request(body.payload()):
            try:
                await send(writer, framed(chunk) if body.chunked else chunk)
            except ConnectionError:
                self.whole = False  # upstream has had enough; what it answered is still to be read
                return
            self.entry.received += len(chunk)
            self.proxy.log.changed()
        if body.chunked:
            await send(writer, b"0\r\n" + body.trailer)

    async def _answer(self, reader: asyncio.StreamReader) -> bool:
        request, writer = self.client.request, self.client.writer
        while (head := await read_head(reader)) is not None and head.status < 200:
            await send(writer, head.encode())
        if head is None:
            raise HangUp
        self.entry.status = head.status
        self.proxy.log.changed()
        body = Body.of_answer(head, reader, request.method)
        self.fault.head(head)
        in_chunks = head.has_token("Transfer-Encoding", "chunked") and request.method != "HEAD"
        writer.write(head.encode())
        async for chunk in self.fault.answer(body.payload()):
            await send(writer, framed(chunk) if in_chunks and chunk else chunk)
            self.entry.sent += len(chunk)
            self.proxy.log.changed()
        await send(writer, b"0\r\n" + body.trailer if in_chunks else b"")
        await self.fault.finish(self.client)
        closes = head.has_token("Connection", "close") or request.has_token("Connection", "close")
        return not closes and (body.chunked or body.length is not None)


class FaultProxyThread:
    """``FaultProxy`` on a loop and thread of its own, inside ``with``; rules may be added from the test's thread."""

    def __init__(self, host: str, port: int, *, tls: ssl.SSLContext | None = None) -> None:
        self._thread = LoopThread("fault proxy")
        self.proxy = FaultProxy(host, port, tls)
        self.add = self.proxy.add
        self.clear = self.proxy.clear
        self.log = self.proxy.log
        self.call = self._thread.call

    @property
    def url(self) -> str:
        """Where the proxy listens."""
        return self.proxy.url

    @property
    def port(self) -> int:
        """Where the proxy listens."""
        return self.proxy.port

    def __enter__(self) -> FaultProxyThread:
        self._thread.start()
        self._thread.run(self.proxy.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.run(self.proxy.__aexit__(kind, exc, trace))
        self._thread.stop()
