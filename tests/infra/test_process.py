"""Child processes end with those who started them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.infra.process import Child, descendants, need, open_descriptors, resident_bytes

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and is not yet waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until_up(log: Path, lines: int = 1) -> None:
    end = time.monotonic() + 10
    while not log.exists() or len(log.read_text().splitlines()) < lines:
        assert time.monotonic() < end
        time.sleep(0.01)


async def test_kill_and_exit_status(tmp_path: Path) -> None:
    with Child(SLEEP, tmp_path / "log") as child:
        wait_until_up(child.log)
        assert child.pid in descendants(os.getpid())
        assert resident_bytes(child.pid) > 1 << 20
        assert resident_bytes(child.pid, peak=True) >= resident_bytes(child.pid)
        assert open_descriptors(child.pid) >= 3
        with pytest.raises(TimeoutError):
            await child.exited(0.05)
        child.send(signal.SIGTERM)
        assert await child.exited(10) == -signal.SIGTERM
        with pytest.raises(RuntimeError, match="up"):
            child.check_running()


def test_kill_ends_grandchildren(tmp_path: Path) -> None:
    script = f"import subprocess; subprocess.run({SLEEP!r})"
    with Child([sys.executable, "-c", script], tmp_path / "log") as child:
        wait_until_up(child.log)
        (grandchild,) = descendants(child.pid)

    end = time.monotonic() + 10
    while alive(grandchild):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_child_dies_with_its_parent(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = f"""
import pathlib, time
from tests.infra.process import Child
child = Child({SLEEP!r}, pathlib.Path({str(log)!r}))
print(child.pid, flush=True)
time.sleep(60)
"""
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=root) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        wait_until_up(log)
        parent.kill()
        parent.wait()

    end = time.monotonic() + 10
    while alive(pid):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_missing_program_fails_in_ci_and_skips_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no-such-program"):
        need("sh", "no-such-program")
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="no-such-program"):
        need("sh", "no-such-program")
    need("sh")
