"""Local disk when the process dies, or the disk fails, in any system call of an upload."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mediagen.streams.base import StoredPart
from mediagen.streams.transfer import still_stored
from tests.contracts.uploads import ABOUT, KEY, commit, put_parts, read, the_bytes
from tests.infra.process import need
from tests.storage.places import local_place
from tests.storage.storing_process import SIZE

CALLS = "openat,pwrite64,fsync,link,linkat,unlink,unlinkat,mkdir,mkdirat"


def traced(root: Path, *arguments: str) -> tuple[list[Any], list[str], int]:
    """What the process printed, the calls that concern the store in their order, and how it ended."""
    need("strace")
    trace = root.parent / "trace"
    argv: list[str | Path] = ["strace", "-f", "-qq", "-y", "-o", trace, "-e", f"trace={CALLS}"]
    argv += [*arguments, sys.executable, "-m", "tests.storage.storing_process", root]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=50)
    calls = [line.partition(" ")[2].strip() for line in trace.read_text().splitlines()] if trace.exists() else []
    trace.unlink(missing_ok=True)
    if not done.stdout and "PTRACE" in done.stderr:
        pytest.skip("this machine lets nobody trace processes")
    printed = [json.loads(line) for line in done.stdout.splitlines() if line.startswith(("{", '"'))]
    return printed, [call for call in calls if str(root) in call], done.returncode


def test_durable_before_visible(tmp_path: Path) -> None:
    root = tmp_path / "media"

    _, calls, code = traced(root)
    assert code == 0

    names = [re.split(r"\W", call)[0] for call in calls]
    end = max(index for index, name in enumerate(names) if name == "pwrite64")
    after = [(name, call) for name, call in zip(names, calls, strict=True)][end + 1 :]
    wanted = [
        ("fsync", ".part>"),
        ("mkdir", "videos"),
        ("fsync", f"{root}>"),
        ("link", KEY),
        ("fsync", "videos>"),
        ("unlink", ".part"),
    ]
    seen = [(name, call) for name, call in after if name != "openat"]
    assert [name for name, _ in seen] == [name for name, _ in wanted], after
    assert all(part in call for (_, part), (_, call) in zip(wanted, seen, strict=True)), after


# each with the number of its occurrence from which on the fault strikes; the threads of the store make all of them
KILLED_IN = ["pwrite64:when=20", "fsync:when=3", "link", "fsync:when=5", "unlink"]
FAILS_IN = [
    ("pwrite64:when=1", "ENOSPC"),
    ("pwrite64:when=9", "EIO"),
    ("fsync:when=3", "EIO"),
    ("mkdir:when=4", "ENOSPC"),
    ("link", "EDQUOT"),
    ("fsync:when=5", "EIO"),
    ("unlink:when=1..3+2", "EIO"),  # the first and the third: the object itself can be taken back
]


@pytest.mark.parametrize("where", KILLED_IN)
async def test_killed_in_any_call_the_upload_goes_on(tmp_path: Path, where: str) -> None:
    root = tmp_path / "media"
    data = the_bytes(SIZE)
    call, _, when = where.partition(":")

    printed, _, code = traced(root, "-e", f"inject={call}:signal=KILL" + (f":{when}" if when else ""))
    assert code == -signal.SIGKILL
    state = next(line for line in printed if isinstance(line, dict) and "token" in line and "key" in line)
    recorded = [StoredPart(**line) for line in printed if isinstance(line, dict) and "number" in line]

    async with local_place(root) as place:
        assert await place.keys() in ([], [KEY])
        await place.storage.sweep([state])
        async with place.storage.open_sink(
            KEY, **ABOUT, size=SIZE, parallel=True, resume=state, recorded=recorded
        ) as sink:
            done = recorded if sink.committed else still_stored(recorded, sink)
            assert done == recorded, "what was stored before the crash is not sent again"
            missing = sorted({1, 2, 3, 4} - {part.number for part in done})
            await commit(sink, done + await put_parts(sink, data, missing))
        assert await read(place.storage, KEY) == data
        assert (await place.keys(), await place.unfinished()) == ([KEY], [])


@pytest.mark.parametrize(("where", "fault"), FAILS_IN)
async def test_a_disk_that_fails_in_any_call_leaves_nothing(tmp_path: Path, where: str, fault: str) -> None:
    root = tmp_path / "media"
    call, _, when = where.partition(":")

    printed, _, _ = traced(root, "-e", f"inject={call}:error={fault}" + (f":{when}" if when else ""))

    assert printed[-1] == ("StorageUnavailable" if fault == "EIO" else "StorageFull")
    async with local_place(root) as place:
        if call == "unlink":
            assert await place.storage.sweep([]) == 1
        assert (await place.keys(), await place.unfinished()) == ([], [])
