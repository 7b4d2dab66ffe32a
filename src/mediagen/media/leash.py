"""Becomes another program that dies with its parent. Run as a script: ``leash.py PARENT PROGRAM [WORD...]``.

The kernel kills us when the thread that started us ends (prctl(2), PR_SET_PDEATHSIG), and what we become keeps that. A
parent that was killed before we could ask for it is noticed by its process id: it would leave an orphan otherwise. The
program also gives way to the event loop (nice).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_NICER = 5


def become(parent: int, words: list[str]) -> None:
    """Turn into the program ``words``; exits when ``parent`` is not our parent any more."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)
    os.nice(_NICER)
    os.execv(words[0], words)  # noqa: S606 - the whole purpose; no shell


if __name__ == "__main__":
    become(int(sys.argv[1]), sys.argv[2:])
