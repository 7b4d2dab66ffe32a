"""The live feed: every event to every reader who asked for it, and nobody waits for anybody.

The bus remembers; readers pull. A reader that is clear (told everything, its socket empty) is written to as soon as
something happens, the same frame to all of them. One that is not keeps its place in the bus's memory, and is written to
each time that its socket has drained: facts in order, of each task the latest reading, many frames in one write. So a
burst, a reader that comes back and a slow one are the same case, and cost a number each. When what a reader has not
been told is forgotten, it gets a snapshot that stands for it (``reset``) and goes on from there. A reader that does not
read is ended by the connection's limits (``web.gate``), not by what happens meanwhile.

All writing is done by one coroutine in slices of a few milliseconds, between which everything else has its turn.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Sequence
from time import monotonic
from typing import Final

import structlog

from mediagen.core.errors import MediagenError
from mediagen.core.events import Event, EventType
from mediagen.streams.base import MIB
from mediagen.tasks.ports import EventBus
from mediagen.web.feed.frames import FeedMessage
from mediagen.web.feed.protocol_wrapper import ProtocolWrapper
from mediagen.web.feed.snapshots import Snapshot, SnapshotTaker
from mediagen.web.feed.subscriber import MAX_FOLLOWED, WRITE_BYTES, FrameFormat, Subscriber
from mediagen.web.feed.task_renderer import TaskRenderer

log = structlog.get_logger(__name__)

MAX_FRAME_BYTES: Final = 16 * MIB
"""Frames that are kept for readers that come to the same event later."""

STOPPING: Final = "the server is stopping"
UNTELLABLE: Final = "an event could not be rendered"

_FRAME_SECONDS: Final = 60.0
"""How long a frame is kept: links in it end."""
_TURN_SECONDS: Final = 0.004
"""Work before the event loop gets a turn."""
_READERS_PER_TURN: Final = 128
"""The same for the usual case, in writes: about one millisecond."""
_ONE_BY_ONE: Final = 4
"""So many events at once are written one by one; more are told as to readers that lag, many in one write."""
_ALL: Final = 1 << 20
"""More events than are ever remembered."""
_PULLED: Final = 128
"""Events that a lagging reader looks at in one turn."""


class Hub:
    """Renders events once and fans them out."""

    def __init__(self, bus: EventBus, renderer: TaskRenderer, snapshots: SnapshotTaker) -> None:
        self._bus = bus
        self._renderer = renderer
        self._snapshots = snapshots
        self._all: dict[str | None, set[Subscriber]] = {None: set()}
        """Readers of all tasks that they may hear of, by owner; None: of everybody's."""
        self._by_task: dict[str, set[Subscriber]] = {}
        self._readers: set[Subscriber] = set()
        self._ready: deque[Subscriber] = deque()
        """Readers that are not clear and whose sockets have room."""
        self._seen = bus.last_seq
        """Every clear reader has been told everything up to here."""
        self._touched: set[str] = set()
        """Tasks that readers follow by name and of which there is news."""
        self._frames: OrderedDict[tuple[int, FrameFormat], tuple[float, bytes]] = OrderedDict()
        self._frame_bytes = 0
        self._wake = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None
        self._stopping = False

    @property
    def readers(self) -> int:
        return len(self._readers)

    @property
    def stopping(self) -> bool:
        return self._stopping

    # -- readers come, say what they want, and go

    def add(
        self, reader: Subscriber, transport: asyncio.Transport, passes: Callable[[bytes], bool] = lambda _data: True
    ) -> None:
        """Take in a connection; it hears nothing before ``follow``. ``passes``: see ``ProtocolWrapper``."""
        self._readers.add(reader)
        ProtocolWrapper(transport, lambda: self._drained(reader), passes)
        if self._stopping:
            reader.lose(STOPPING)

    def remove(self, reader: Subscriber) -> None:
        """Forget a connection."""
        self._readers.discard(reader)
        self._forget_all(reader)
        for task_id in tuple(reader.task_ids):
            self._forget(reader, task_id)
        reader.end()

    def place(self, reader: Subscriber) -> int:
        """The number of the event up to which ``reader`` has been told what it wants to hear of."""
        if not reader.task_ids and not reader.follows_all:
            return self._bus.last_seq
        return max(reader.cursor, self._seen) if reader.clear else reader.cursor

    def tell(self, reader: Subscriber, message: FeedMessage | bytes) -> None:
        """Answer one reader."""
        at_once = reader.clear and reader.may_write
        reader.tell(message)
        if at_once:
            reader.write_waiting()
        if reader.owes:
            self._lag(reader)

    def full(self, reader: Subscriber, task_ids: Collection[str]) -> bool:
        """Whether ``reader`` would follow too many tasks by name."""
        return len(reader.task_ids | set(task_ids)) > MAX_FOLLOWED

    async def follow(self, reader: Subscriber, task_ids: list[str] | None, after: int | None) -> None:
        """Tell ``reader`` how these tasks are (None: all that live), what it missed, then what happens.

        ``after`` is the last number that the reader knows. What came later is told again as far as it is remembered,
        and the snapshot has that number; otherwise it says ``reset`` and has the number at which it was taken.

        Raises:
            Unavailable: rows cannot be read.
        """
        snapshot = await self._take(reader, task_ids)
        resumes = after is not None and self._bus.since(after, 1) is not None
        seq = after if after is not None and resumes else snapshot.seq
        place = self.place(reader)
        first = not reader.task_ids and not reader.follows_all
        reader.follow(task_ids, seq, behind=place)
        if task_ids is None:
            self._all.setdefault(reader.owner, set()).add(reader)
        else:
            for task_id in task_ids:
                self._by_task.setdefault(task_id, set()).add(reader)
        message = snapshot.message(seq=seq, reset=after is not None and not resumes)
        reader.tell(message, behind=0 if first or resumes else seq)
        reader.clear = False
        self._line_up(reader)

    def told(self, task_id: str, after: int) -> bool:
        """Whether nothing has happened to the task since the event ``after``; False also when that is forgotten."""
        events = self._bus.since(after, _ALL)
        return events is not None and all(event.task_id != task_id for event in events)

    def unfollow(self, reader: Subscriber, task_ids: list[str] | None) -> bool:
        """Stop telling ``reader`` of these tasks (None: of any). False: it would except too many from all."""
        if task_ids is None:
            reader.unfollow(None)
            self._forget_all(reader)
            task_ids = list(reader.task_ids)
        elif reader.follows_all and reader.excepted + len(task_ids) > MAX_FOLLOWED:
            return False
        for task_id in task_ids:
            self._forget(reader, task_id)
        return True

    def close(self) -> None:
        """Cut every reader: the server stops. Those who come later are cut at once."""
        self._stopping = True
        for reader in tuple(self._readers):
            reader.lose(STOPPING)

    def _forget_all(self, reader: Subscriber) -> None:
        readers = self._all.get(reader.owner)
        if readers is not None:
            readers.discard(reader)
            if not readers and reader.owner is not None:
                del self._all[reader.owner]

    def _forget(self, reader: Subscriber, task_id: str) -> None:
        reader.unfollow(task_id)
        readers = self._by_task.get(task_id)
        if readers is not None:
            readers.discard(reader)
            if not readers:
                del self._by_task[task_id]

    async def _take(self, reader: Subscriber, task_ids: list[str] | None) -> Snapshot:
        base = reader.form[1]
        if task_ids is None:
            return await self._snapshots.of_all(base, owner=reader.owner)
        return await self._snapshots.of(task_ids, base, owner=reader.owner)

    # -- writing

    async def run(self, ready: asyncio.Event) -> None:
        """Fan out until cancelled. ``ready`` is set when no event can be missed any more."""
        self._seen = self._bus.last_seq
        listening = self._bus.listen(None, self._told)
        try:
            async with asyncio.TaskGroup() as self._group:
                ready.set()
                while True:
                    await self._wake.wait()
                    self._wake.clear()
                    while self._ready or self._seen < self._bus.last_seq:
                        await self._news()
                        await self._lagging()
                        await asyncio.sleep(0)
        finally:
            listening.close()

    def _told(self, event: Event) -> None:
        """A listener of the bus: what it is told it need not keep."""
        if event.task_id in self._by_task:
            self._touched.add(event.task_id)
        self._wake.set()

    def _drained(self, reader: Subscriber) -> None:
        if not reader.clear:
            self._line_up(reader)

    def _lag(self, reader: Subscriber) -> None:
        """What is to come is written when the socket has room, and in order."""
        if reader.clear and not reader.done.is_set():
            reader.cursor = self.place(reader)
            reader.clear = False
            self._line_up(reader)

    def _line_up(self, reader: Subscriber) -> None:
        if not reader.queued and not reader.resetting and reader.may_write:
            reader.queued = True
            self._ready.append(reader)
            self._wake.set()

    async def _news(self) -> None:
        """Tell clear readers what has happened since the last time."""
        events = self._bus.since(self._seen, _ONE_BY_ONE + 1, settled=True)
        if events is not None and len(events) <= _ONE_BY_ONE:
            for event in events:
                self._touched.discard(event.task_id)
                await self._fan_out(event)
                self._seen = event.seq
            if not events:
                self._seen = self._bus.last_seq
            return
        touched, self._touched = self._touched, set()
        readers = set[Subscriber]().union(*self._all.values(), *(self._by_task.get(task_id, ()) for task_id in touched))
        for reader in readers:
            self._lag(reader)
        self._seen = self._bus.last_seq

    async def _fan_out(self, event: Event) -> None:
        frames: dict[FrameFormat, bytes] = {}
        last = event.type is EventType.DELETED or (event.type is EventType.STATUS and event.task.ended)
        seq = event.seq
        for count, reader in enumerate(self._readers_of(event), start=1):
            if not count % _READERS_PER_TURN:
                await asyncio.sleep(0)
            form = reader.form
            frame = frames.get(form)
            if frame is None:
                found = await self._frame(event, form)
                if found is None:
                    reader.lose(UNTELLABLE)
                    continue
                frame = frames[form] = found
            # the usual case, spelled out because it happens fifty thousand times a second
            if not reader.clear or seq <= reader.cursor or (seq <= reader.floor and not reader.wants(event)):
                continue
            if reader.transport.get_write_buffer_size():
                self._lag(reader)
                continue
            reader.cursor = seq
            if len(frame) > WRITE_BYTES:
                reader.clear = False
                reader.write(frame)
                self._line_up(reader)
            elif not reader.transport.is_closing():
                reader.transport.write(frame)
            if last and reader.ends_with == event.task_id:
                reader.finish()

    def _readers_of(self, event: Event) -> tuple[Subscriber, ...]:
        """Who may be told: each once, and nobody of what is another owner's."""
        everything = self._all[None]
        own = self._all.get(event.task.owner) if event.task.owner is not None else None
        if own:
            everything = everything | own
        named = self._by_task.get(event.task_id)
        if not named:
            return tuple(everything)
        return (*everything, *(reader for reader in named - everything if reader.may_hear(event)))

    async def _lagging(self) -> None:
        """Write to readers whose sockets have room, in turn, for a while."""
        ends = monotonic() + _TURN_SECONDS
        while self._ready and monotonic() < ends:
            reader = self._ready.popleft()
            reader.queued = False
            if not reader.may_write:
                continue  # it is told when it has drained
            if reader.done.is_set():
                reader.write_waiting()  # a message that was begun is ended
                continue
            await self._write(reader, ends)

    async def _write(self, reader: Subscriber, ends: float) -> None:
        """One write to a lagging reader: what waits for it, else what happened since its cursor."""
        until = reader.until()
        if until is not None and until <= reader.cursor:
            reader.write_waiting()
        else:
            events = self._bus.since(reader.cursor, _PULLED)
            if events is None:
                self._reset(reader)
                return
            await self._write_events(reader, events, until, ends)
        if reader.until() is None and reader.cursor >= self._bus.last_seq:
            reader.clear = not reader.done.is_set()
            reader.settle()
        else:
            self._line_up(reader)

    async def _write_events(self, reader: Subscriber, events: Sequence[Event], until: int | None, ends: float) -> None:
        frames, size, head = list[bytes](), 0, self._bus.last_seq
        for event in events:
            if until is not None and event.seq > until:
                reader.cursor = until
                break
            if not reader.wants(event):
                reader.cursor = event.seq
                continue
            if frames and (size > WRITE_BYTES // 2 or monotonic() > ends):
                break
            frame = await self._frame(event, reader.form)
            if frame is None:
                reader.lose(UNTELLABLE)
                return
            frames.append(frame)
            size += len(frame)
            reader.cursor = event.seq
            if reader.ends_with == event.task_id and event.type is not EventType.PROGRESS and event.task.ended:
                reader.finish()
        else:
            if not events:
                reader.cursor = head if until is None else min(head, until)
        if frames and reader.may_write:
            reader.write(b"".join(frames))

    def _reset(self, reader: Subscriber) -> None:
        if self._group is not None:
            reader.resetting = True
            self._group.create_task(self._start_anew(reader))

    async def _start_anew(self, reader: Subscriber) -> None:
        """What the reader was not told is forgotten: a snapshot of what it follows stands for it."""
        named, everything = list(reader.task_ids), reader.follows_all
        try:
            snapshots = [await self._take(reader, ids) for ids in ([named] if named else []) + [None] * everything]
        except (MediagenError, ValueError):  # rows that cannot be read; text that is none: the reader comes back
            log.exception("snapshot_not_rendered", tasks=len(named), all=everything)
            reader.lose(UNTELLABLE)
            return
        finally:
            reader.resetting = False
        seq = min(snapshot.seq for snapshot in snapshots) if snapshots else self._bus.last_seq
        reader.restart(seq)
        for snapshot in snapshots:
            reader.tell(snapshot.message(seq=seq, reset=True))
        self._line_up(reader)

    async def _frame(self, event: Event, form: FrameFormat) -> bytes | None:
        """The frame of an event, rendered once; None when it cannot be."""
        key = (event.seq, form)
        kept, now = self._frames.get(key), monotonic()
        if kept is not None and now - kept[0] < _FRAME_SECONDS:
            return kept[1]
        encode, base = form
        try:
            frame = b"".join(encode(await self._renderer.event(event, base)))
        except (MediagenError, ValueError):  # rows that cannot be read; text that is none: the readers come back
            log.exception("event_not_rendered", seq=event.seq, task_id=event.task_id)
            return None
        if (again := self._frames.pop(key, None)) is not None:
            self._frame_bytes -= len(again[1])
        self._frames[key] = (now, frame)
        self._frame_bytes += len(frame)
        while self._frame_bytes > MAX_FRAME_BYTES:
            _, (_, oldest) = self._frames.popitem(last=False)
            self._frame_bytes -= len(oldest)
        return frame
