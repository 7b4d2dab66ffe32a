"""Images that strangers made, decoded in confined children (``decoder_process``): the server never parses one.

The process that forks them is started when the first image is announced, and again when it has ended. From then on
some children wait, confined and warm, so that an image does not wait for its child. Images go to children, and
pixels come back, in memory without a name: through a socket, a busy machine would change between the two processes at
each of its buffers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final

import structlog

from mediagen.core.errors import DeadlineExceeded, SourceTruncated, Unavailable, UnsupportedMedia
from mediagen.media import decoder_process
from mediagen.media.fair_slots import FairSlots
from mediagen.media.video import Frame
from mediagen.media.vips import ImageProcessingFailed
from mediagen.streams.base import GIB, MIB, Source, fill
from mediagen.streams.formats.sniff import sniff

log = structlog.get_logger(__name__)

TYPES: Final = frozenset({"image/png", "image/jpeg", "image/webp", "image/gif"})
_HEAD: Final = 64
_CHUNK: Final = MIB
_READY: Final = 2
"""Children that wait for an image, where so many are decoded at once. Each has 8 MB of its own."""
_ADMITTED_PER_SLOT: Final = 4
"""Images that are in memory, being read, waiting or decoded, for each that is decoded."""
_MEMORY: Final = ":".join(
    (
        "glibc.malloc.hugetlb=1",
        f"glibc.malloc.top_pad={2 * MIB}",
        f"glibc.malloc.mmap_threshold={32 * MIB}",
        f"glibc.malloc.trim_threshold={GIB}",
    )
)
"""A child touches tens of megabytes once. It takes them in huge pages and keeps what it frees, or it would spend a
quarter of its time on page faults. Tunables of glibc; other C libraries pass them over."""
_MAX_ANSWER: Final = 4096
_MAX_SAID: Final = 2000
_WALL: Final = 6
"""Seconds that may pass for each second of processor time that an image may take: the machine may be busy."""
_END_SECONDS: Final = 5.0
_PATHS: Final = tuple(os.path.abspath(path) for path in sys.path)  # noqa: PTH100 - "" is where we are
"""Where the process finds what we have found: it is started without any path of its own."""


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What decoding one image may take, and how many are decoded at once."""

    pixels: int = 100_000_000
    side: int = 65_535
    memory: int = GIB
    seconds: int = 10
    at_once: int = 2


class _DecoderChild:
    """A child that has been asked for, and its two sockets (``decoder_process``)."""

    def __init__(self) -> None:
        self.conversation, self._theirs = socket.socketpair()
        self.lifeline, self._its_lifeline = socket.socketpair()
        self.conversation.setblocking(False)
        self.lifeline.setblocking(False)

    def begin(self, control: socket.socket) -> None:
        """Ask for it. Raises OSError; there is no child then."""
        try:
            socket.send_fds(control, [b"1"], [self._theirs.fileno(), self._its_lifeline.fileno()])
        except OSError:
            self.close()
            raise
        finally:
            self._theirs.close()
            self._its_lifeline.close()

    @property
    def has_ended(self) -> bool:
        try:
            self.conversation.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True  # a child that waits says nothing, so this is the end

    def give(self, order: bytes, *memory: int) -> None:
        """Hand an image over. Raises OSError when the child has ended."""
        self.lifeline.send(b"1")  # first: afterwards it may have ended already
        socket.send_fds(self.conversation, [order], memory)

    def close(self) -> None:
        """It is killed, unless it has ended."""
        self.conversation.close()
        self.lifeline.close()


class ImageDecoder:
    """Decodes images inside ``running``."""

    def __init__(self, limits: DecodeLimits | None = None) -> None:
        self._limits = limits or DecodeLimits()
        self._slots = FairSlots(self._limits.at_once)
        self._admission_slots = FairSlots(self._limits.at_once * _ADMITTED_PER_SLOT)
        self._starting = asyncio.Lock()
        self._announced = asyncio.Event()
        self._control: socket.socket | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._ready: deque[_DecoderChild] = deque()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Images are decoded inside the block."""
        try:
            async with asyncio.TaskGroup() as group:
                early = group.create_task(self._start_when_announced())
                try:
                    yield
                finally:
                    early.cancel()
        finally:
            await self._stop()

    def announce(self) -> None:
        """An image will come soon: the process that it needs is started meanwhile."""
        self._announced.set()

    async def decode_to_fill(
        self, image: Source, size: int, width: int, height: int, *, owner: str | None = None
    ) -> Frame:
        """An image of ``size`` bytes, upright, scaled and cut so that it fills the box.

        It is read before it waits for its turn to be decoded. Owners take turns, and none has more than half of the
        places. When the caller is cancelled, the child is killed.

        Raises:
            UnsupportedMedia: it is neither PNG, JPEG, WebP nor GIF, is broken, or goes beyond the limits.
            DeadlineExceeded: this machine is too busy.
            Unavailable: the process that decodes has ended.
            ImageProcessingFailed: a fault of ours.
        """
        async with self._admission_slots.slot(owner):
            head = memoryview(bytearray(min(_HEAD, size)))
            head = head[: await fill(image, head)]
            media_type = sniff(bytes(head)) or ""
            if media_type not in TYPES:
                raise UnsupportedMedia("the image is not PNG, JPEG, WebP or GIF", param="image")
            with _shared(size) as given, _shared(width * height * 3) as pixels:
                await _copy(head, image, given)
                order: dict[str, str | int] = {
                    "type": media_type,
                    "size": size,
                    "width": width,
                    "height": height,
                    "pixels": self._limits.pixels,
                    "side": self._limits.side,
                }
                async with self._slots.slot(owner):
                    await self._decode(order, given, pixels)
                return Frame(width, height, await asyncio.to_thread(_read, pixels, width * height * 3))

    async def _decode(self, order: dict[str, str | int], given: int, pixels: int) -> None:
        """Have a child decode what is in ``given``, a descriptor, into ``pixels``. Raises as ``decode_to_fill``."""
        try:
            answer = await self._answer(order, given, pixels)
        except Unavailable:  # the child ended with the process that forked it, which is no fault of the image
            self._dismiss()
            answer = await self._answer(order, given, pixels)
        if "refused" in answer:
            raise self._refusal(answer["refused"], answer.get("said", ""))
        if "failed" in answer:
            raise ImageProcessingFailed(
                "the image could not be decoded; the server's log has the reason", said=answer["failed"]
            )

    async def _answer(self, order: dict[str, str | int], given: int, pixels: int) -> dict[str, str]:
        """What a child answers. Raises UnsupportedMedia, DeadlineExceeded, Unavailable."""
        child = await self._child()
        try:
            answer = await self._converse(child, order, given, pixels)
            if answer is None:
                raise await self._failure(child.lifeline)
            return answer
        finally:
            child.close()
            self._prepare()

    async def _converse(
        self, child: _DecoderChild, order: dict[str, str | int], given: int, pixels: int
    ) -> dict[str, str] | None:
        """The child's answer; None when it ended without one."""
        loop, seconds = asyncio.get_running_loop(), self._limits.seconds * _WALL
        line = b""
        try:
            child.give(json.dumps(order).encode() + b"\n", given, pixels)
            async with asyncio.timeout(seconds):
                while not line.endswith(b"\n") and len(line) < _MAX_ANSWER:
                    piece = await loop.sock_recv(child.conversation, _MAX_ANSWER)
                    if not piece:
                        return None
                    line += piece
            answer = json.loads(line)
        except (BrokenPipeError, ConnectionResetError, ValueError):
            return None
        except TimeoutError:
            raise DeadlineExceeded(
                f"the image was not decoded within {seconds:g} s: this machine is too busy"
            ) from None
        return answer if isinstance(answer, dict) else None

    def _refusal(self, text: str, said: str) -> UnsupportedMedia:
        if not text:
            text = f"the image takes more than {self._limits.memory} bytes to decode (limits.decode_memory)"
        return UnsupportedMedia(text, param="image", said=said)

    async def _failure(self, lifeline: socket.socket) -> UnsupportedMedia | Unavailable:
        """Why the child ended without an answer."""
        loop = asyncio.get_running_loop()
        said = b""
        with contextlib.suppress(TimeoutError, ConnectionResetError):
            async with asyncio.timeout(_END_SECONDS):
                said = await loop.sock_recv(lifeline, decoder_process.STATUS.size)
        if len(said) < decoder_process.STATUS.size:
            return Unavailable("the image decoder has ended unexpectedly; try again", retry_after=1)
        code = os.waitstatus_to_exitcode(decoder_process.STATUS.unpack(said)[0])
        log.warning("decoder_ended", code=code)
        if code in (-signal.SIGXCPU, -signal.SIGKILL):
            return self._refusal(
                f"the image takes more than {self._limits.seconds} s to decode (limits.decode_seconds)", f"{code}"
            )
        return self._refusal("the image cannot be decoded: it is damaged", f"the decoder ended with {code}")

    async def _child(self) -> _DecoderChild:
        """A child for one image: one that waits, or a new one. Raises Unavailable."""
        while self._ready:
            child = self._ready.popleft()
            if not child.has_ended:
                return child
            child.close()
        for _ in range(2):
            control = await self._started()
            child = _DecoderChild()
            try:
                child.begin(control)
            except OSError:  # it has ended, and another one is started
                if control is self._control:
                    control.close()
                    self._control = None
            else:
                return child
        raise Unavailable("the image decoder has ended unexpectedly; try again", retry_after=1)

    def _prepare(self) -> None:
        """Have children wait for the next images."""
        try:
            while self._control is not None and len(self._ready) < min(_READY, self._limits.at_once):
                child = _DecoderChild()
                child.begin(self._control)
                self._ready.append(child)
        except OSError as exc:  # the next image begins a child of its own, or says why it cannot
            log.warning("decoder_not_prepared", said=str(exc))

    def _dismiss(self) -> None:
        """End the children that wait."""
        while self._ready:
            self._ready.pop().close()

    async def _start_when_announced(self) -> None:
        await self._announced.wait()
        try:
            await self._started()
        except OSError as exc:  # the first image tries again, and says so
            log.warning("decoder_not_started", said=str(exc))
        self._prepare()

    async def _started(self) -> socket.socket:
        """The control socket of a running process. It has started when it answers, not before."""
        async with self._starting:
            if self._control is not None and self._process is not None and self._process.returncode is None:
                return self._control
            await self._stop()
            ours, theirs = socket.socketpair()
            with theirs:
                self._control = ours
                ours.setblocking(False)
                self._process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-I", "-S", decoder_process.__file__, str(os.getpid())),
                    *(str(self._limits.memory), str(self._limits.seconds)),
                    *_PATHS,
                    stdin=theirs.fileno(),
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.PIPE,
                    start_new_session=True,
                    env={
                        "PATH": os.environ.get("PATH", os.defpath),
                        "LC_ALL": "C",
                        "MALLOC_ARENA_MAX": "1",
                        "GLIBC_TUNABLES": _MEMORY,
                    },
                    cwd="/",
                )
            return ours

    async def _stop(self) -> None:
        """End the process and all of its children."""
        control, self._control = self._control, None
        process, self._process = self._process, None
        self._dismiss()
        if control is not None:
            control.close()
        if process is None:
            return
        was_running = process.returncode is None
        if was_running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_SECONDS):
                _, said = await process.communicate()
                if not was_running:
                    words = said[-_MAX_SAID:].decode("utf-8", "replace")
                    log.warning("decoder_process_ended", code=process.returncode, said=words)


@contextmanager
def _shared(size: int) -> Iterator[int]:
    """A descriptor of memory that has no name, to be shared with a child."""
    if sys.platform == "linux":
        descriptor = os.memfd_create("image")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    try:
        os.ftruncate(descriptor, size)
        yield descriptor
    finally:
        os.close(descriptor)


async def _copy(head: memoryview, image: Source, descriptor: int) -> None:
    """The whole image, of which ``head`` has been read. Past its size nothing is asked for."""
    position = os.pwrite(descriptor, head, 0)
    buffer = memoryview(bytearray(_CHUNK))
    left = os.fstat(descriptor).st_size - position
    while left and (count := await image.read_into(buffer[: min(left, _CHUNK)])):
        position += os.pwrite(descriptor, buffer[:count], position)
        left -= count
    if left:
        raise SourceTruncated("the image is shorter than when it was stored")


def _read(descriptor: int, size: int) -> bytearray:
    """Blocks. What a child has cut off stays black."""
    data = bytearray(size)
    view, position = memoryview(data), 0
    while position < size and (count := os.preadv(descriptor, [view[position:]], position)):
        position += count
    return data
