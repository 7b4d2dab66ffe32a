"""The feed over a WebSocket (RFC 6455): subscribe, snapshot, events."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

from aiohttp import HttpVersion11, WSCloseCode, WSMessage, WSMsgType, web
from pydantic import Field, TypeAdapter, ValidationError

from mediagen.core.errors import InvalidRequest, MediagenError, Unavailable
from mediagen.streams.json import parser as jsontext
from mediagen.streams.turnstile import Turnstile
from mediagen.tasks.ports import EventBus
from mediagen.web.api.routing import Call, Empty, route
from mediagen.web.auth.authenticator import ENDING
from mediagen.web.feed import frames
from mediagen.web.feed.frames import FeedMessage
from mediagen.web.feed.hub import STOPPING, UNTELLABLE, Hub
from mediagen.web.feed.masking import MaskCheck
from mediagen.web.feed.schemas import FeedError, Ping, Pong, Subscribe, TicketQuery, Unsubscribe
from mediagen.web.feed.subscriber import Subscriber
from mediagen.web.feed.upgrade_pacing import UpgradePacer
from mediagen.web.http.json_output import as_json

HEARTBEAT_SECONDS = 30.0
"""Silence after which a client is asked whether it is there; it has half of that to answer."""
MAX_MESSAGE_BYTES: Final = 64 * 1024
KEY_ENDED: Final = "the key has ended"
UNMASKED: Final = "a frame was not masked"
CLOSED: Final = "the client closes"
SILENT: Final = "a ping was not answered"
_CLOSE_SECONDS: Final = 2.0

_CODES: Final = {
    STOPPING: WSCloseCode.GOING_AWAY,
    KEY_ENDED: WSCloseCode.POLICY_VIOLATION,
    UNTELLABLE: WSCloseCode.INTERNAL_ERROR,
    UNMASKED: WSCloseCode.PROTOCOL_ERROR,
}
"""What a reader that was given up is told; what is not here: come again."""

_CLOSE_CODES: Final = range(1000, 5000)

_INCOMING: Final[TypeAdapter[Subscribe | Unsubscribe | Ping]] = TypeAdapter(
    Annotated[Subscribe | Unsubscribe | Ping, Field(discriminator="type")]
)


class WebSocketRoutes:
    """``GET /v1/ws``."""

    def __init__(self, hub: Hub, bus: EventBus, crowd: UpgradePacer) -> None:
        self._hub = hub
        self._bus = bus
        self._crowd = crowd
        self._leaving = Turnstile()

    @route(
        "GET",
        "/v1/ws",
        "Follow tasks over a WebSocket",
        status=101,
        fails=(Unavailable,),
        streamed=True,
        query=TicketQuery,
        ticket="once",
    )
    async def feed(self, call: Call[TicketQuery, Empty]) -> web.StreamResponse:
        """One connection, from its upgrade to its end."""
        request = call.request
        if self._hub.stopping:
            raise Unavailable("the server is stopping", retry_after=5)
        if request.version < HttpVersion11:
            raise InvalidRequest("a WebSocket must be opened with HTTP/1.1 (RFC 6455 section 4.1)")
        await self._crowd.pass_through()
        socket = web.WebSocketResponse(
            timeout=_CLOSE_SECONDS,
            autoping=False,  # control frames go through the reader as well, so that they stay out of other frames
            autoclose=False,
            compress=False,
            max_msg_size=MAX_MESSAGE_BYTES + 1,  # aiohttp's limit is the first size that is too large
        )
        await socket.prepare(request)
        transport = request.transport
        if transport is None:
            return socket
        reader = Subscriber(transport, encode=frames.websocket, base=call.base, owner=call.caller.sees)
        if (ending := request.get(ENDING)) is not None:
            ending.cut = lambda: reader.lose(KEY_ENDED)
        check = MaskCheck()

        def passes(data: bytes) -> bool:
            if not check.passes(data):
                reader.lose(UNMASKED)
            return not reader.done.is_set() or reader.lost != UNMASKED

        self._hub.add(reader, transport, passes)
        try:
            await self._converse(socket, reader, transport)
            await self._leaving.pass_through()
        finally:
            self._hub.remove(reader)
            if transport.get_write_buffer_size():
                transport.abort()  # a peer that does not read would keep the socket and its buffer for ever
        return socket

    async def _converse(self, socket: web.WebSocketResponse, reader: Subscriber, transport: asyncio.Transport) -> None:
        """Answer messages until either side ends it; the reader's end closes the socket from ours."""
        heard = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            attending = group.create_task(self._attend(reader, transport, heard))
            closing = group.create_task(self._close_when_done(socket, reader, transport))
            while True:
                await reader.room.wait()
                message = await socket.receive()
                heard.set()
                if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR):
                    break
                await self._answer(reader, message)
            attending.cancel()
            if message.type is WSMsgType.CLOSE and not reader.done.is_set():
                closing.cancel()
                reader.lose(CLOSED)
                await self._close(socket, reader, transport, _echoed(int(message.data)))
            elif not reader.done.is_set():
                closing.cancel()

    async def _answer(self, reader: Subscriber, message: WSMessage) -> None:
        if message.type is WSMsgType.TEXT:
            await self._receive(reader, message.data)
        elif message.type is WSMsgType.PING:
            self._hub.tell(reader, frames.websocket_control(WSMsgType.PONG, bytes(message.data)))
        elif message.type is not WSMsgType.PONG:
            self._refuse(reader, "send JSON as text")

    async def _attend(self, reader: Subscriber, transport: asyncio.Transport, heard: asyncio.Event) -> None:
        """Ask a silent client whether it is there; one that does not answer is gone."""
        asked = False
        while True:
            heard.clear()
            try:
                async with asyncio.timeout(HEARTBEAT_SECONDS / 2 if asked else HEARTBEAT_SECONDS):
                    await heard.wait()
                asked = False
            except TimeoutError:
                if asked and not reader.owes:  # else what it was asked waits behind what it reads
                    reader.lose(SILENT)
                    transport.abort()
                    return
                if not asked:
                    self._hub.tell(reader, frames.websocket_control(WSMsgType.PING, b""))
                asked = True

    async def _close_when_done(
        self, socket: web.WebSocketResponse, reader: Subscriber, transport: asyncio.Transport
    ) -> None:
        await reader.done.wait()
        code = _CODES.get(reader.lost or "", WSCloseCode.TRY_AGAIN_LATER)
        await self._close(socket, reader, transport, code)

    async def _close(
        self, socket: web.WebSocketResponse, reader: Subscriber, transport: asyncio.Transport, code: int | None
    ) -> None:
        """Close with this code (None: with none), after the message that is under way."""
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await reader.whole.wait()
        except TimeoutError:
            transport.abort()
            return
        if code is None and not transport.is_closing():
            transport.write(frames.websocket_control(WSMsgType.CLOSE, b""))
            transport.close()
        await socket.close(code=code or WSCloseCode.OK, drain=False)

    async def _receive(self, reader: Subscriber, text: str) -> None:
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
            seq = self._hub.place(reader)  # not the last of all: from it on nothing is missed
            self._hub.tell(reader, FeedMessage("pong", seq, (as_json(Pong(seq=seq)),)))
            return
        tasks = None if message.tasks == "all" else message.tasks
        if isinstance(message, Unsubscribe):
            if not self._hub.unfollow(reader, tasks):
                self._refuse(reader, "too many tasks left out of all; subscribe to those that you want")
        elif tasks is not None and self._hub.full(reader, tasks):
            self._refuse(reader, "too many tasks for one connection; subscribe to all of them")
        else:
            try:
                await self._hub.follow(reader, tasks, message.after)
            except MediagenError as exc:
                self._refuse(reader, exc.detail, code=exc.code)

    def _refuse(self, reader: Subscriber, why: str, *, code: str = InvalidRequest.code) -> None:
        view = FeedError(code=code, message=why)
        self._hub.tell(reader, FeedMessage(view.type, self._bus.last_seq, (as_json(view),)))


def _echoed(code: int) -> int | None:
    """The code with which a client's close is answered (RFC 6455 sections 5.5.1 and 7.4); None: it gave none."""
    if code == 0:
        return None
    if code == WSCloseCode.ABNORMAL_CLOSURE or code not in _CLOSE_CODES:
        return WSCloseCode.PROTOCOL_ERROR  # never sent, or of no meaning
    return code
