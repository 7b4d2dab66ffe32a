"""One connection, as the feed sees it: what it wants to hear of, how far it was told, what waits to be written.

A reader keeps no events. It keeps a cursor, the number of the last event that it was told or that does not concern it,
and what the hub writes next is pulled from the bus behind that number. What it does keep are answers to its own
messages and one snapshot, which all readers share.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, KeysView
from dataclasses import dataclass
from typing import Final, TypeAlias

from mediagen.core.events import Event
from mediagen.streams.base import KIB
from mediagen.web.feed.frames import FeedMessage, FrameEncoder

MAX_OWED: Final = 64
"""Messages that wait for a reader before its own are no longer read."""

MAX_FOLLOWED: Final = 1000
"""Tasks that one reader may name, and tasks that it may except from all."""

WRITE_BYTES: Final = 64 * KIB
"""Written at once, and only into a socket that has taken all before: what a reader can hold of our memory."""

_ALWAYS: Final = 1 << 63
"""A floor above all numbers."""

FrameFormat: TypeAlias = tuple[FrameEncoder, str]
"""How a frame is put on the wire, and the base of the URLs in it."""


@dataclass(slots=True)
class _Waiting:
    """Bytes of one message that are to be written, and the event that must have been told before."""

    parts: deque[memoryview]
    behind: int
    begun: bool = False


class Subscriber:
    """One connection.

    ``form`` is all that its frames depend on. ``clear``: it was told everything, so that a frame may go straight to the
    transport when that is empty. ``cursor``: see above; while it is clear it may be further than this says.
    ``floor``: an event up to this number may be in a snapshot, or of a task that is excepted; ``wants`` tells.
    ``owner``: whose tasks it may hear of; None: everybody's. ``lost``: why the reader was given up.
    ``cut`` is called at most once, with the reason, when the reader is given up; it must not wait. ``done`` is set
    then, and also when the reader got all that it came for (``ends_with``: a task whose end is the last thing told).
    ``whole`` is set while no message has been written in part, so that something else may go over the wire.
    ``room`` is set while few messages wait: what asks for more of them must wait for it.
    """

    def __init__(
        self,
        transport: asyncio.WriteTransport,
        *,
        encode: FrameEncoder,
        base: str,
        cut: Callable[[str], None] = lambda _reason: None,
        ends_with: str | None = None,
        owner: str | None = None,
    ) -> None:
        self.owner = owner
        self.form: FrameFormat = (encode, base)
        self.transport = transport
        self.ends_with = ends_with
        self.done = asyncio.Event()
        self.whole = asyncio.Event()
        self.whole.set()
        self.room = asyncio.Event()
        self.room.set()
        self.clear = True
        self.cursor = 0
        self.floor = 0
        self.lost: str | None = None
        self.queued = False
        """Whether it stands in the hub's line of those that may be written to."""
        self.resetting = False
        """Whether a snapshot is being made because it fell behind all that is remembered."""
        self.writes = 0
        """Writes to it as to a reader that lags: each means that it has taken all before."""
        self._after: dict[str, int] = {}
        self._after_all: int | None = None
        self._except: set[str] = set()
        self._cut = cut
        # a limit of 0 makes the transport tell when its buffer is empty, not when it is merely short
        transport.set_write_buffer_limits(high=0)
        self._waiting: deque[_Waiting] = deque()
        self._finishing = False

    # -- what it wants

    @property
    def task_ids(self) -> KeysView[str]:
        """The tasks that it follows by name."""
        return self._after.keys()

    @property
    def follows_all(self) -> bool:
        return self._after_all is not None

    @property
    def excepted(self) -> int:
        """How many tasks it does not want to hear of although it follows all."""
        return len(self._except)

    def follow(self, task_ids: Iterable[str] | None, after: int, *, behind: int) -> None:
        """Be interested in events of these tasks (None: of all) with numbers above ``after``.

        ``behind``: where its cursor stands. When ``after`` is less, the cursor goes back, and what was told is not
        told again.
        """
        if not self.follows_all and not self._after:
            behind = after  # nothing before concerned it
        elif after < behind:
            self._after = {task_id: max(seq, behind) for task_id, seq in self._after.items()}
            self._after_all = None if self._after_all is None else max(self._after_all, behind)
            self.floor = max(self.floor, behind)
        self.cursor = min(after, behind)
        if task_ids is None:
            self._after_all = after
            self._except.clear()
        else:
            task_ids = tuple(task_ids)
            self._after.update(dict.fromkeys(task_ids, after))
            self._except.difference_update(task_ids)
        self.floor = max(self.floor, after)

    def unfollow(self, task_id: str | None) -> None:
        """Not be interested in this task any more (None: in all)."""
        if task_id is None:
            self._after_all = None
            self._except.clear()
            return
        self._after.pop(task_id, None)
        if self.follows_all:
            self._except.add(task_id)
            self.floor = _ALWAYS

    def restart(self, seq: int) -> None:
        """Everything up to ``seq`` is in snapshots that it will be told."""
        self._after = dict.fromkeys(self._after, seq)
        self._after_all = None if self._after_all is None else seq
        self.floor = max(self.floor, seq)
        self.cursor = seq

    def may_hear(self, event: Event) -> bool:
        """Whether the task is one that its owner may see."""
        return self.owner is None or event.task.owner == self.owner

    def wants(self, event: Event) -> bool:
        """Whether ``event`` is of interest, and later than the snapshot that this reader got."""
        after = self._after.get(event.task_id)
        if after is None:
            after = None if event.task_id in self._except else self._after_all
        return after is not None and event.seq > after and self.may_hear(event)

    # -- what is written

    @property
    def may_write(self) -> bool:
        """Whether the transport has taken all before."""
        return not self.transport.get_write_buffer_size() and not self.transport.is_closing()

    @property
    def owes(self) -> bool:
        """Whether messages wait that are no events."""
        return bool(self._waiting)

    @property
    def idle(self) -> bool:
        """Everything that was told so far has left the process."""
        return not self._waiting and self.transport.get_write_buffer_size() == 0

    def tell(self, message: FeedMessage | bytes, *, behind: int = 0) -> None:
        """Hand over a message (or a whole frame); never waits. It is written once event ``behind`` has been told."""
        if self.done.is_set():
            return
        parts = (message,) if isinstance(message, bytes) else self.form[0](message)
        self._waiting.append(_Waiting(deque(memoryview(part) for part in parts), behind))
        if len(self._waiting) >= MAX_OWED:
            self.room.clear()

    def until(self) -> int | None:
        """The event up to which events go before what waits; None: nothing waits. 0: a message was begun."""
        if not self._waiting:
            return None
        return 0 if self._waiting[0].begun else self._waiting[0].behind

    def write(self, frames: bytes) -> None:
        """Write whole frames; what is too much for one time waits."""
        self.writes += 1
        if len(frames) <= WRITE_BYTES:
            self.transport.write(frames)
            return
        self._waiting.appendleft(_Waiting(deque((memoryview(frames),)), 0, begun=True))
        self.write_waiting()

    def write_waiting(self) -> None:
        """Write as much as is due of what waits."""
        self.writes += 1
        room, pieces = WRITE_BYTES, list[memoryview]()
        while self._waiting and room:
            first = self._waiting[0]
            if first.behind > self.cursor and not first.begun:
                break
            first.begun = True
            while first.parts and room:
                piece = first.parts.popleft()
                pieces.append(piece[:room])
                if len(piece) > room:
                    first.parts.appendleft(piece[room:])
                room -= len(pieces[-1])
            if not first.parts:
                self._waiting.popleft()
        if pieces:
            self.transport.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if self._waiting and self._waiting[0].begun:
            self.whole.clear()
        else:
            self.whole.set()
        if len(self._waiting) < MAX_OWED:
            self.room.set()

    def finish(self) -> None:
        """Nothing more comes: done as soon as everything told has been written."""
        self._finishing = True
        self.settle()

    def settle(self) -> None:
        """Done, when nothing more comes and nothing waits."""
        if self._finishing and self.clear and not self._waiting:
            self.end()

    def end(self) -> None:
        """Tell it nothing more, but for the rest of a message that was begun."""
        self.done.set()
        self.room.set()
        self.clear = False

    def lose(self, reason: str) -> None:
        """Give the reader up."""
        if not self.done.is_set():
            self.lost = reason
            self.end()
            while len(self._waiting) > (not self.whole.is_set()):  # what was begun is ended
                self._waiting.pop()
            self._cut(reason)
