"""The fork server of the image decoder: one confined child for each image.

Run as a script: ``decoder_process.py PARENT MEMORY SECONDS PATH...``. The process loads libvips and never touches an
image itself. It forks children before their images arrive. Each child drops its privileges (``sandbox``), warms up,
waits for an image, decodes it, responds and exits. ``MEMORY`` and ``SECONDS`` limit each child.

Over ``CONTROL``, a Unix socket, the server sends one byte with two descriptors for each child:

* the **conversation**: the server sends a line of JSON with the request (``image_decoding``) and two descriptors, one
  of memory that holds the image and one of memory for the pixels. The child responds with a line that is an empty
  object or says what went wrong.
* the **lifeline**: the server sends a byte when the child gets its image. When the server closes the lifeline, the
  child is killed. When the child has ended, its wait status comes back as a 32-bit number.

This process and its children end when the server closes its end of ``CONTROL``, or ends itself (``sandbox``).
"""

from __future__ import annotations

import json
import mmap
import os
import select
import signal
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any, Final

CONTROL: Final = 0
"""The descriptor: standard input."""
_CONVERSATION: Final = 3
STATUS: Final = struct.Struct("=i")
_QUICK_SECONDS: Final = 0.25
_SLOW: Final = 10
"""How nice a child is after that."""
_MOST_LINE: Final = 4096
_MOST_SAID: Final = 500


def main(parent: int, memory: int, seconds: int) -> None:
    """Serve until the other side closes."""
    from mediagen.media import image_decoding, sandbox

    sandbox.die_with_parent(parent)
    image_decoding.configure_vips()
    _ForkServer(socket.socket(fileno=CONTROL), memory, seconds).run()


class _ForkServer:
    """The children: their lifelines by process id, and since when those decode that have not been slowed down."""

    def __init__(self, control: socket.socket, memory: int, seconds: int) -> None:
        self._control = control
        self._memory = memory
        self._seconds = seconds
        self._lifelines: dict[int, socket.socket] = {}
        self._quick: dict[int, float] = {}

    def run(self) -> None:
        """Begin, end and mourn children until the other side closes."""
        woken, waking = os.pipe()
        os.set_blocking(waking, False)
        signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while True:
            poll = select.poll()
            for descriptor in (self._control.fileno(), woken, *(line.fileno() for line in self._lifelines.values())):
                poll.register(descriptor, select.POLLIN)
            ready = {descriptor for descriptor, _ in poll.poll(_QUICK_SECONDS * 1000 if self._quick else None)}
            for pid in [pid for pid, line in self._lifelines.items() if line.fileno() in ready]:
                self._hear(pid)
            if woken in ready:
                os.read(woken, 4096)
                self._reap()
            self._slow_down()
            if self._control.fileno() in ready and not self._begin():
                break
        for pid in self._lifelines:
            os.kill(pid, signal.SIGKILL)

    def _begin(self) -> bool:
        """Begin a child; False: there will be no more."""
        word, descriptors, _, _ = socket.recv_fds(self._control, 1, 2)
        if not word:
            return False
        conversation, lifeline = descriptors
        us = os.getpid()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                _be_child(us, conversation, self._memory, self._seconds)
                status = 0
            finally:
                os._exit(status)
        os.close(conversation)
        self._lifelines[pid] = socket.socket(fileno=lifeline)
        return True

    def _hear(self, pid: int) -> None:
        """A child has its image, or is not wanted any more."""
        try:
            word = self._lifelines[pid].recv(1)
        except OSError:
            word = b""
        if word:
            self._quick[pid] = time.monotonic()
            return
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        self._forget(pid).close()

    def _reap(self) -> None:
        while self._lifelines:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            with self._forget(pid) as line:
                try:
                    line.send(STATUS.pack(status))
                except OSError:
                    continue  # nobody waits for it any more

    def _forget(self, pid: int) -> socket.socket:
        self._quick.pop(pid, None)
        return self._lifelines.pop(pid)

    def _slow_down(self) -> None:
        """An ordinary image is decoded at full speed; one that takes long gives way to everything else."""
        now = time.monotonic()
        for pid in [pid for pid, since in self._quick.items() if now - since >= _QUICK_SECONDS]:
            del self._quick[pid]
            try:
                for thread in Path(f"/proc/{pid}/task").iterdir():  # each has a niceness of its own
                    os.setpriority(os.PRIO_PROCESS, int(thread.name), _SLOW)
            except OSError:
                continue  # it has ended, or there is no /proc


def _be_child(parent: int, conversation: int, memory: int, seconds: int) -> None:
    from mediagen.media import image_decoding, sandbox

    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    silence = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):  # CONTROL among them
        os.dup2(silence, standard)
    os.dup2(conversation, _CONVERSATION)
    os.closerange(_CONVERSATION + 1, os.sysconf("SC_OPEN_MAX"))  # other images' lifelines
    sandbox.die_with_parent(parent)
    sandbox.confine(memory, seconds=seconds)
    image_decoding.warm_up()
    with socket.socket(fileno=_CONVERSATION) as server:
        line, descriptors = _order(server)
        if not line:
            return  # there will be no image
        sandbox.set_process_name("decoding")
        server.sendall(json.dumps(_answer(json.loads(line), *descriptors)).encode() + b"\n")


def _answer(order: dict[str, Any], given: int, pixels: int) -> dict[str, Any]:
    from mediagen.media import image_decoding

    try:
        bounds = image_decoding.Bounds(order["pixels"], order["side"])
        image = memoryview(mmap.mmap(given, order["size"], access=mmap.ACCESS_READ))
        found = image_decoding.decode_to_fill(image, order["type"], order["width"], order["height"], bounds)
        mmap.mmap(pixels, len(found))[:] = found
    except image_decoding.Undecodable as exc:
        return {"refused": exc.text, "said": exc.said}
    except MemoryError:
        return {"refused": "", "said": "out of memory"}
    except Exception as exc:  # noqa: BLE001 - the server says that it is a fault of ours
        return {"failed": f"{type(exc).__name__}: {exc}"[:_MOST_SAID]}
    return {}


def _order(server: socket.socket) -> tuple[bytes, list[int]]:
    """The line that the server sends, and the descriptors with it; nothing when it closes instead."""
    line, descriptors, _, _ = socket.recv_fds(server, _MOST_LINE, 2)
    while line and not line.endswith(b"\n") and len(line) < _MOST_LINE:
        piece = server.recv(_MOST_LINE)
        if not piece:
            return b"", []
        line += piece
    return line, descriptors


if __name__ == "__main__":
    sys.path[:] = sys.argv[4:]
    main(*map(int, sys.argv[1:4]))
