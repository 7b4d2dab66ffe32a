"""Decodes pictures in children of its own, one each. Run as a script: ``forks.py PARENT PATH...``.

It has libvips loaded and never touches a picture itself: a child is forked for each, gives up all that it does not need
(``leash``), decodes, answers and ends. A fork takes 2 ms, a new Python with libvips 70.

Over ``CONTROL``, a Unix socket, the server sends a byte with four descriptors for each picture:

* the **conversation** with the child: a line of JSON with what is wanted (``pictures``), and back another one, which is
  empty or says why not;
* the **lifeline**: when the server closes it the child is killed; when the child has ended, its wait status comes over
  it as a 32-bit number;
* memory that holds the picture, and memory for the pixels.

The server's end of ``CONTROL`` closed is the end of this process and of its children. So is the server's (``leash``).
"""

from __future__ import annotations

import fcntl
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
_CONVERSATION, _GIVEN, _PIXELS = 3, 4, 5
_OUT_OF_THE_WAY: Final = 64
STATUS: Final = struct.Struct("=i")
_QUICK_SECONDS: Final = 0.25
_SLOW: Final = 10
"""How nice a child is after that."""
_MOST_LINE: Final = 4096
_MOST_SAID: Final = 500


def main(parent: int) -> None:
    """Serve until the other side closes."""
    from mediagen.media import decoding, leash

    leash.follow(parent)
    decoding.settle()
    _Nursery(socket.socket(fileno=CONTROL)).run()


class _Nursery:
    """The children: their lifelines by process id, and when those began that have not been slowed down."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
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
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                self._forget(pid).close()
            if woken in ready:
                os.read(woken, 4096)
                self._reap()
            self._slow_down()
            if self._control.fileno() in ready and not self._begin():
                break
        for pid in self._lifelines:
            os.kill(pid, signal.SIGKILL)

    def _begin(self) -> bool:
        """Begin a picture; False: there will be no more."""
        word, descriptors, _, _ = socket.recv_fds(self._control, 1, 4)
        if not word:
            return False
        conversation, lifeline, given, pixels = descriptors
        us = os.getpid()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                _be_child(us, conversation, given, pixels)
                status = 0
            finally:
                os._exit(status)
        for descriptor in (conversation, given, pixels):
            os.close(descriptor)
        self._lifelines[pid] = socket.socket(fileno=lifeline)
        self._quick[pid] = time.monotonic()
        return True

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
        """An ordinary picture is decoded at full speed; one that takes long gives way to everything else."""
        now = time.monotonic()
        for pid in [pid for pid, since in self._quick.items() if now - since >= _QUICK_SECONDS]:
            del self._quick[pid]
            try:
                for thread in Path(f"/proc/{pid}/task").iterdir():  # each has a niceness of its own
                    os.setpriority(os.PRIO_PROCESS, int(thread.name), _SLOW)
            except OSError:
                continue  # it has ended, or there is no /proc


def _be_child(parent: int, *descriptors: int) -> None:
    from mediagen.media import decoding, leash

    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    silence = os.open(os.devnull, os.O_RDWR)
    held = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, _OUT_OF_THE_WAY) for descriptor in descriptors]
    for standard in (0, 1, 2):  # CONTROL among them
        os.dup2(silence, standard)
    for number, descriptor in enumerate(held, start=_CONVERSATION):
        os.dup2(descriptor, number)
    os.closerange(_PIXELS + 1, os.sysconf("SC_OPEN_MAX"))  # other pictures' lifelines
    conversation = socket.socket(fileno=_CONVERSATION)
    order = json.loads(_line(conversation))
    leash.follow(parent)
    leash.confine(order["memory"], seconds=order["seconds"])
    answer: dict[str, Any] = {}
    try:
        bounds = decoding.Bounds(order["pixels"], order["side"])
        given = memoryview(mmap.mmap(_GIVEN, order["size"], access=mmap.ACCESS_READ))
        pixels = decoding.covering(given, order["type"], order["width"], order["height"], bounds)
        mmap.mmap(_PIXELS, len(pixels))[:] = pixels
    except decoding.Undecodable as exc:
        answer = {"refused": exc.text, "said": exc.said}
    except MemoryError:
        answer = {"refused": "", "said": "out of memory"}
    except Exception as exc:  # noqa: BLE001 - the server says that it is a fault of ours
        answer = {"failed": f"{type(exc).__name__}: {exc}"[:_MOST_SAID]}
    conversation.sendall(json.dumps(answer).encode() + b"\n")


def _line(conversation: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n") and len(line) < _MOST_LINE:
        piece = conversation.recv(1)
        if not piece:
            break
        line += piece
    return line


if __name__ == "__main__":
    sys.path[:] = sys.argv[2:]
    main(int(sys.argv[1]))
