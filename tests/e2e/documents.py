"""Commands, programs and answers in the pages of the documentation, taken out to be run against a real server."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from tests.infra.servers.mediagen import Server

ROOT: Final = Path(__file__).parents[2]
_SHELL: Final = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PYTHON: Final = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ANSWERED: Final = re.compile(r"^```sh\n(.*?)^```\n```json\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PATIENCE: Final = 200.0


def commands(text: str) -> list[str]:
    """The shell commands of a page, in order, without those that install or start the server."""
    return [block for block in _SHELL.findall(text) if not block.startswith("make ")]


def programs(text: str) -> list[str]:
    """The Python programs of a page."""
    return _PYTHON.findall(text)


def answered(text: str) -> list[tuple[str, Any]]:
    """The commands directly above an answer, and the answers."""
    return [(command, json.loads(shown)) for command, shown in _ANSWERED.findall(text)]


def paste(blocks: list[str], server: Server, folder: Path, *, example: str) -> str:
    """Run ``blocks`` in one shell, as a reader would, and return what they print; the first failure ends it.

    ``.venv/bin/mediagen`` is this environment's. ``https://example.com/`` becomes the URL ``example``, and the address
    of ``make serve`` that of ``server``.
    """
    (folder / ".venv" / "bin").mkdir(parents=True)
    mediagen = folder / ".venv" / "bin" / "mediagen"
    mediagen.write_text(f'#!/bin/sh\nexec {sys.executable} -m mediagen "$@"\n')
    mediagen.chmod(0o755)
    script = at(server, "set -eu\n" + "\n".join(blocks)).replace("https://example.com/", example)

    done = subprocess.run(
        ["/bin/bash", "-c", script],
        cwd=folder,
        env=without_settings(),
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
    )

    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def at(server: Server, text: str) -> str:
    """``text`` with the address of ``make serve`` replaced by that of ``server``."""
    return text.replace("http://127.0.0.1:8080", server.url)


def without_settings() -> dict[str, str]:
    """This process's environment without settings of mediagen."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MEDIAGEN_")}


def must_fit(shown: Any, answer: Any, place: str = "answer") -> None:
    """Every field that the page shows is there, of the kind that it shows; null only where it shows null."""
    if isinstance(shown, dict):
        assert isinstance(answer, dict), place
        for name, value in shown.items():
            assert name in answer, f"{place}.{name}"
            must_fit(value, answer[name], f"{place}.{name}")
    elif isinstance(shown, list):
        assert isinstance(answer, list), place
        assert answer, place
        for each in answer:
            must_fit(shown[0], each, f"{place}[]")
    else:
        assert type(answer) is type(shown), f"{place}: {answer!r}"
