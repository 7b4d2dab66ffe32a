"""Becomes another program that dies with its parent. Run as a script: ``sandbox.py PARENT MEMORY PROGRAM [WORD...]``.

The kernel kills us when the thread that started us ends (prctl(2), PR_SET_PDEATHSIG), and what we become keeps that. A
parent that was killed before we could ask for it is noticed by its process id: it would leave an orphan otherwise. The
program also gives way to the event loop (nice).

``MEMORY`` above 0 confines a program that reads what strangers made: it has that many bytes of address space, writes no
file, opens none but its own libraries (landlock(7)), has no socket and touches no other process (seccomp(2)). What it
needs comes through descriptors that it has already. Kernels that know one of the last two not do without it.

``die_with_parent`` and ``confine`` do the same to a process that goes on running Python (``decoder_process``).
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import struct
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_NICER = 5
_OPEN_FILES = 64

_SECCOMP_FILTER = 2
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050001  # SECCOMP_RET_ALLOW; SECCOMP_RET_ERRNO with EPERM
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06  # linux/bpf_common.h
_OTHER_ABI = 0x40000000
"""Where the numbers of x32 begin; no other machine has calls so high."""
_PIDFD_OPEN, _PIDFD_SEND_SIGNAL, _PIDFD_GETFD, _IO_URING_SETUP = 434, 424, 438, 425  # the same on both machines
_REFUSED = {
    # AUDIT_ARCH_*, then: socket, ptrace, kill, process_vm_readv, process_vm_writev, rt_sigqueueinfo, rt_tgsigqueueinfo
    "x86_64": (0xC000003E, (41, 101, 62, 310, 311, 129, 297)),
    "aarch64": (0xC00000B7, (198, 117, 129, 270, 271, 138, 240)),
}
_EXEC_AND_FORK = {
    # execve, execveat, and where there are any: fork, vfork
    "x86_64": (59, 322, 57, 58),
    "aarch64": (221, 281),
}

_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446  # the same numbers on every machine
_LANDLOCK_VERSION = 1
_PATH_BENEATH = 1
_EXECUTE, _READ_FILE, _READ_DIR = 1, 4, 8
_ALL_OF_FIRST_VERSION = 0x1FFF
_READABLE = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/opt", "/nix", "/etc/ld.so.cache", "/etc/alternatives")
_READABLE_MORE = ("/dev/null", "/dev/urandom", "/sys/devices/system/cpu")


def exec_program(parent: int, memory: int, words: list[str]) -> None:
    """Turn into the program ``words``; exits when ``parent`` is not our parent any more."""
    die_with_parent(parent)
    os.nice(_NICER)
    if memory:
        home = os.path.dirname(os.path.realpath(words[0]))  # noqa: PTH120 - pathlib takes longer to import than this runs
        confine(memory, (*_READABLE, *_READABLE_MORE, home, f"{os.path.dirname(home)}/lib"))  # noqa: PTH120
    os.execv(words[0], words)  # noqa: S606 - the whole purpose; no shell


def die_with_parent(parent: int) -> None:
    """Die with ``parent``. Exits when it is not our parent any more."""
    if sys.platform == "linux":
        _library().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def set_process_name(name: str) -> None:
    """Have the process go by ``name`` where processes are listed (``comm``): 15 bytes at most."""
    if sys.platform == "linux":
        _library().prctl(_PR_SET_NAME, name.encode())


def confine(memory: int, readable: tuple[str, ...] = (), *, seconds: int = 0) -> None:
    """Give up for good what reading a stranger's bytes does not need.

    Args:
        memory: bytes of address space.
        readable: what may still be opened, and what is below it: programs and their libraries. Without any, no file can
            be opened and no program started.
        seconds: of processor time, after which SIGXCPU comes; 0: no end.
    """
    _limit(memory, seconds)
    if sys.platform == "linux":
        library = _library()
        library.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        _deny_files(library, readable)
        _deny_system_calls(library, may_exec=bool(readable))


def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _limit(memory: int, seconds: int) -> None:
    limits = [
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
    ]
    if seconds:
        limits.append((resource.RLIMIT_CPU, seconds))
    for kind, most in limits:
        _, hard = resource.getrlimit(kind)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most + 1 if kind == resource.RLIMIT_CPU and most != hard else most))


def _deny_files(library: ctypes.CDLL, readable: tuple[str, ...]) -> None:
    """No file can be opened from here on but what is ``readable``, and this only to be read."""
    if library.syscall(_LANDLOCK_CREATE, None, 0, _LANDLOCK_VERSION) < 1:
        return
    handled = struct.pack("=Q", _ALL_OF_FIRST_VERSION)
    rules = library.syscall(_LANDLOCK_CREATE, handled, len(handled), 0)
    for path in readable:
        try:
            there = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue  # not on this machine
        access = _EXECUTE | _READ_FILE | (_READ_DIR if os.path.isdir(path) else 0)  # noqa: PTH112
        library.syscall(_LANDLOCK_ADD, rules, _PATH_BENEATH, struct.pack("=Qi", access, there), 0)
        os.close(there)
    library.syscall(_LANDLOCK_RESTRICT, rules, 0)
    os.close(rules)


def _deny_system_calls(library: ctypes.CDLL, *, may_exec: bool) -> None:
    """No socket can be made from here on, no other process looked into or ended; unless it ``becomes`` a program, none
    started."""
    if platform.machine() not in _REFUSED:
        return
    machine, numbers = _REFUSED[platform.machine()]
    refused = [*numbers, _PIDFD_OPEN, _PIDFD_SEND_SIGNAL, _PIDFD_GETFD, _IO_URING_SETUP]
    if not may_exec:
        refused += _EXEC_AND_FORK[platform.machine()]
    steps = [
        (_LOAD, 0, 0, 4),  # seccomp_data.arch
        (_EQUAL, 1, 0, machine),
        (_RETURN, 0, 0, _REFUSE),
        (_LOAD, 0, 0, 0),  # seccomp_data.nr
        (_AT_LEAST, len(refused) + 1, 0, _OTHER_ABI),
        *((_EQUAL, len(refused) - at, 0, number) for at, number in enumerate(refused)),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(steps), ctypes.addressof(code)))
    library.prctl(_PR_SET_SECCOMP, _SECCOMP_FILTER, program, 0, 0)


if __name__ == "__main__":
    exec_program(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
