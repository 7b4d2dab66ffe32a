"""The feed of one task as Server-Sent Events (HTML standard, section 9.2)."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Final

from aiohttp import HttpVersion11, web

from mediagen.core.errors import InvalidRequest, NotFound, Unavailable
from mediagen.web.api.routing import Call, Empty, Reply, route
from mediagen.web.api.views import Tasks
from mediagen.web.feed import frames
from mediagen.web.feed.hub import Hub
from mediagen.web.feed.schemas import EventView, SnapshotView, TicketQuery
from mediagen.web.feed.subscriber import Subscriber

HEARTBEAT_SECONDS = 15.0
_SILENT_BEATS: Final = 2
_END_SECONDS: Final = 2.0
_RETRY: Final = b"retry: 2000\n\n"
_COMMENT: Final = b": still here\n\n"


class EventStreamRoutes:
    """``GET /v1/tasks/{id}/events``."""

    def __init__(self, hub: Hub, tasks: Tasks) -> None:
        self._hub = hub
        self._tasks = tasks

    @route(
        "GET",
        "/v1/tasks/{id}/events",
        "Follow one task until it ends (Server-Sent Events)",
        fails=(NotFound, Unavailable),
        media_type="text/event-stream",
        streamed=True,
        query=TicketQuery,
        ticket="stream",
        takes=("Last-Event-ID",),
        also=(Reply(HTTPStatus.NO_CONTENT, "the task has ended and `Last-Event-ID` covers its end: do not reconnect"),),
        events=(SnapshotView, EventView),
    )
    async def events(self, call: Call[TicketQuery, Empty]) -> web.StreamResponse:
        """Snapshot, what was missed since ``Last-Event-ID``, then what happens; ends when the task ends.

        An EventSource comes back whenever its stream ends, unless it is answered 204 (HTML standard, section 9.2.3): so
        that is the answer to one that knows the end already.
        """
        request = call.request
        after = _last_event_id(request)
        task = await self._tasks.get(call.id, owner=call.caller.sees)
        if task.ended and after is not None and self._hub.told(call.id, after):
            return web.Response(status=HTTPStatus.NO_CONTENT)
        if self._hub.stopping:
            raise Unavailable("the server is stopping", retry_after=5)
        response = web.StreamResponse(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        response.content_type = "text/event-stream"
        response.charset = "utf-8"
        response.force_close()  # the connection ends with the stream: its write limits are changed below
        chunked = request.version >= HttpVersion11
        await response.prepare(request)
        await response.write(_RETRY)
        transport = request.transport
        if transport is None:
            return response
        reader = Subscriber(
            transport,
            encode=frames.chunked_event_stream if chunked else frames.event_stream,
            base=call.base,
            cut=lambda _reason: None if self._hub.stopping else transport.abort(),
            ends_with=call.id,
            owner=call.caller.sees,
        )
        comment = frames.chunk(_COMMENT) if chunked else _COMMENT
        self._hub.add(reader, transport)
        try:
            await self._hub.follow(reader, [call.id], after)
            if (await self._tasks.get(call.id)).ended:
                reader.finish()
            await self._beat(reader, transport, comment)
        finally:
            self._hub.remove(reader)
        if not transport.is_closing():
            await self._end(response, transport, reader)
        return response

    @staticmethod
    async def _end(response: web.StreamResponse, transport: asyncio.Transport, reader: Subscriber) -> None:
        try:
            async with asyncio.timeout(_END_SECONDS):
                await reader.whole.wait()
                await response.write_eof()
        except TimeoutError:
            transport.abort()

    async def _beat(self, reader: Subscriber, transport: asyncio.Transport, comment: bytes) -> None:
        """Until the reader is done: a comment each heartbeat keeps proxies content and shows us when nobody reads."""
        silent, taken = 0, -1
        while not reader.done.is_set():
            try:
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    await reader.done.wait()
            except TimeoutError:
                if transport.is_closing():
                    return
                silent, taken = 0 if reader.idle or reader.writes != taken else silent + 1, reader.writes
                if silent >= _SILENT_BEATS:
                    reader.lose("nothing was read for two heartbeats")
                elif reader.idle:
                    self._hub.tell(reader, comment)


def _last_event_id(request: web.Request) -> int | None:
    text = request.headers.get("Last-Event-ID", "").strip()
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 16:
        raise InvalidRequest("Last-Event-ID is not a sequence number of this server")
    return int(text)
