"""The commands in ``docs/older.md``: each is run as it stands, by curl, and answered as the page says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.documents import ROOT, answered, must_fit
from tests.infra.process import need
from tests.infra.servers.mediagen import Server

pytestmark = pytest.mark.e2e

PAGE = ROOT / "docs" / "older.md"
UNENDED = {"queued", "running", "pending", "processing"}
PATIENCE = 60.0

# what clients of old may read of a job (the film's own fields are below)
JOB = {
    *("task_id", "status", "progress", "created_at", "updated_at", "completed_at"),
    *("error", "result", "video_response"),
}
METADATA = {
    *("width", "height", "duration", "fps", "codec", "audio_codec"),
    *("file_size_bytes", "bitrate", "mime_type", "format"),
}


def commands(heading: str) -> list[tuple[str, Any]]:
    """The commands under a heading, and the answers that the page shows."""
    _, _, rest = PAGE.read_text().partition(f"\n## {heading}\n")
    found = answered(rest.partition("\n## ")[0])
    assert found
    return found


def test_every_command_of_the_page_is_run() -> None:
    text = PAGE.read_text()
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)

    assert headings == ["Images", "Videos", "Files"]
    assert sum(len(commands(heading)) for heading in headings) == text.count("```sh\n")


class Shell:
    """Runs commands in ``folder``. ``TASK`` and ``FILE`` are of the answer before, as the page says."""

    def __init__(self, server: Server, folder: Path) -> None:
        self._folder = folder
        self._env = {**os.environ, "MEDIAGEN": server.url}

    def run(self, command: str) -> Any:
        """The answer's JSON."""
        done = subprocess.run(
            ["/bin/sh", "-euc", command],
            env=self._env,
            cwd=self._folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
        answer = json.loads(done.stdout)
        if isinstance(answer, dict):
            names = {"TASK": answer.get("task_id") or answer.get("id"), "FILE": answer.get("id")}
            self._env |= {name: str(value) for name, value in names.items() if value}
        return answer

    def until_ended(self, command: str) -> Any:
        """The answer once it is not of something that goes on."""
        end = time.monotonic() + PATIENCE
        while (answer := self.run(command))["status"] in UNENDED:
            assert time.monotonic() < end, answer
            time.sleep(0.05)
        return answer


@pytest.fixture
async def shell(tmp_path: Path) -> AsyncIterator[Shell]:
    need("curl", "ffmpeg")
    async with Server(tmp_path, {}) as server:
        yield Shell(server, tmp_path)


async def test_images(shell: Shell) -> None:
    (snake, camel, later, task) = commands("Images")

    answer = shell.run(snake[0])
    must_fit(snake[1], answer)
    assert len(answer["data"]) == 2
    answer = shell.run(camel[0])
    must_fit(camel[1], answer)
    assert answer["data"][0]["b64_json"].startswith("UklGR")
    answer = shell.run(later[0])
    must_fit(later[1], answer)
    answer = shell.until_ended(task[0])
    must_fit(task[1], answer)
    assert answer["status"] == task[1]["status"]


async def test_videos(shell: Shell) -> None:
    (asked, looked, by_others, seen, cancelled, retried) = commands("Videos")

    begun = shell.run(asked[0])
    must_fit(asked[1], begun)
    assert (set(begun), begun["status"]) == (set(asked[1]), "pending")
    assert shell.run(f"curl -s {begun['check_status_url']}")["task_id"] == begun["task_id"]
    film = shell.until_ended(looked[0])
    must_fit(looked[1], film)
    assert (set(film), set(looked[1])) == (JOB, JOB)
    assert (film["status"], film["progress"]) == ("completed", 100)
    made = film["video_response"]
    (one,) = made["data"]
    assert (set(one), set(one["metadata"])) == ({"url", "b64_json", "metadata", "revised_prompt"}, METADATA)
    about = one["metadata"]
    assert (about["width"], about["height"], about["duration"], about["fps"]) == (320, 180, 1.0, 24)
    assert (about["mime_type"], about["format"]) == ("video/mp4", "mp4")
    assert about["bitrate"] == about["file_size_bytes"] * 8
    assert (made["model"], made["usage"]["total_duration_seconds"]) == ("builtin-clip", 1.0)
    assert shell.run(f"curl -s -o film.mp4 -w '%{{size_download}}' '{one['url']}'") == about["file_size_bytes"]
    assert shell.run(cancelled[0].replace("$TASK", film["task_id"]).replace("-s ", "-s -o refused.json ")) == 409

    begun = shell.run(by_others[0])
    must_fit(by_others[1], begun)
    running = shell.run(seen[0])
    must_fit(seen[1], running)
    assert (set(running), running["status"] in UNENDED) == (JOB, True)
    assert shell.run(cancelled[0]) == cancelled[1]
    assert shell.run(seen[0])["status"] == "cancelled"
    again = shell.run(retried[0])
    must_fit(retried[1], {**again, "progress": int(again["progress"])})
    assert (again["task_id"], again["status"] in UNENDED) == (begun["task_id"], True)
    assert shell.run(cancelled[0]) == cancelled[1]


async def test_files(shell: Shell, tmp_path: Path) -> None:
    content = b"\x89PNG\r\n\x1a\n" + bytes(100)
    (tmp_path / "fox.png").write_bytes(content)
    (stored, read) = commands("Files")

    answer = shell.run(stored[0])
    must_fit(stored[1], answer)
    assert (answer["filename"], answer["bytes"]) == ("fox.png", len(content))
    assert shell.run(read[0]) == read[1]
    assert (tmp_path / "copy.png").read_bytes() == content


async def test_headers_for_a_webhook_are_refused_and_go_to_nobody(shell: Shell) -> None:
    fields = {"prompt": "Waves", "webhookUrl": "http://127.0.0.1:9/", "webhookHeaders": {"Authorization": "secret"}}
    refused = shell.run(f"curl -s $MEDIAGEN/api/videos/generate -d '{json.dumps(fields)}'")

    assert (refused["status"], refused["code"]) == (400, "invalid_request")
    assert "webhook_headers" in refused["detail"]
    assert shell.run("curl -s $MEDIAGEN/v1/tasks")["data"] == []
