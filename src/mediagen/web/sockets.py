"""The feed over a WebSocket (RFC 6455): subscribe, snapshot, events."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

from aiohttp import WSCloseCode, WSMsgType, web
from pydantic import Field, TypeAdapter, ValidationError

from mediagen.core.errors import InvalidRequest, MediagenError, Unavailable
from mediagen.streams import jsontext
from mediagen.tasks.ports import EventBus
from mediagen.web import frames
from mediagen.web.auth import ENDING
from mediagen.web.feed import Hub, Reader
from mediagen.web.frames import Message
from mediagen.web.origins import Origins
from mediagen.web.rendering import as_json
from mediagen.web.routing import Call, Empty, route
from mediagen.web.schemas import FeedError, Given, Ping, Pong, Subscribe, Unsubscribe

HEARTBEAT_SECONDS = 30.0
MAX_MESSAGE_BYTES: Final = 64 * 1024
KEY_ENDED: Final = "the key has ended"
_CLOSE_SECONDS: Final = 2.0

_INCOMING: Final[TypeAdapter[Subscribe | Unsubscribe | Ping]] = TypeAdapter(
    Annotated[Subscribe | Unsubscribe | Ping, Field(discriminator="type")]
)


class SocketQuery(Given):
    """How a WebSocket is opened."""

    ticket: str | None = Field(
        None, max_length=100, description="one-use ticket of POST /v1/ws/tickets, for browsers: they can send no key"
    )


class SocketRoutes:
    """``GET /v1/ws``."""

    def __init__(self, hub: Hub, bus: EventBus, origins: Origins) -> None:
        self._hub = hub
        self._bus = bus
        self._origins = origins

    @route(
        "GET",
        "/v1/ws",
        "Live feed of tasks over a WebSocket",
        status=101,
        fails=(Unavailable,),
        streamed=True,
        query=SocketQuery,
        ticket=True,
    )
    async def feed(self, call: Call[SocketQuery, Empty]) -> web.StreamResponse:
        """One connection, from its upgrade to its end."""
        request = call.request
        if self._hub.stopping:
            raise Unavailable("the server is stopping", retry_after=5)
        socket = web.WebSocketResponse(
            timeout=_CLOSE_SECONDS, heartbeat=HEARTBEAT_SECONDS, compress=False, max_msg_size=MAX_MESSAGE_BYTES
        )
        await socket.prepare(request)
        transport = request.transport
        if transport is None:
            return socket
        reader = Reader(
            transport,
            encode=frames.websocket,
            base=self._origins.base(request),
            drained=request.writer.drain,
            cut=lambda _reason: None,
            owner=call.caller.sees,
        )
        if (ending := request.get(ENDING)) is not None:
            ending.cut = lambda: reader.lose(KEY_ENDED)
        self._hub.add(reader)
        try:
            await self._converse(socket, reader)
        finally:
            self._hub.remove(reader)
            if transport.get_write_buffer_size():
                transport.abort()  # a peer that does not read would keep the socket and its buffer for ever
        return socket

    async def _converse(self, socket: web.WebSocketResponse, reader: Reader) -> None:
        """Answer messages until either side ends it; the reader's end closes the socket from ours."""
        async with asyncio.TaskGroup() as group:
            closing = group.create_task(self._close_when_done(socket, reader))
            async for message in socket:
                if message.type is not WSMsgType.TEXT:
                    self._refuse(reader, "send JSON as text")
                    continue
                await self._receive(reader, message.data)
            if not reader.done.is_set():
                closing.cancel()

    async def _close_when_done(self, socket: web.WebSocketResponse, reader: Reader) -> None:
        await reader.done.wait()
        code = WSCloseCode.GOING_AWAY if self._hub.stopping else WSCloseCode.TRY_AGAIN_LATER
        if reader.lost == KEY_ENDED:
            code = WSCloseCode.POLICY_VIOLATION
        await socket.close(code=code, drain=False)

    async def _receive(self, reader: Reader, text: str) -> None:
        try:
            message = _INCOMING.validate_python(
                jsontext.parse(text.encode("utf-8", "surrogatepass"), what="the message")
            )
        except InvalidRequest as exc:
            self._refuse(reader, exc.detail)
            return
        except ValidationError as exc:
            fault = exc.errors(include_url=False, include_context=False, include_input=False)[0]
            self._refuse(reader, fault["msg"].removeprefix("Value error, "))
            return
        if isinstance(message, Ping):
            seq = self._bus.last_seq
            self._hub.tell(reader, Message("pong", seq, as_json(Pong(seq=seq))))
            return
        tasks = None if message.tasks == "all" else message.tasks
        if isinstance(message, Unsubscribe):
            self._hub.unfollow(reader, tasks)
        elif self._hub.full(reader, tasks):
            self._refuse(reader, "too many tasks for one connection; subscribe to all of them")
        else:
            try:
                await self._hub.follow(reader, tasks, message.after)
            except MediagenError as exc:
                self._refuse(reader, exc.detail, code=exc.code)

    def _refuse(self, reader: Reader, why: str, *, code: str = InvalidRequest.code) -> None:
        view = FeedError(code=code, message=why)
        self._hub.tell(reader, Message(view.type, self._bus.last_seq, as_json(view)))
