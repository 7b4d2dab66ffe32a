"""Logs hold no secrets, in either form."""

from __future__ import annotations

import base64
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from mediagen import log
from mediagen.core.redaction import redact, redact_text

SECRET = "hunter2hunter2"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where the logs go; afterwards everything is as before."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    text = io.StringIO()
    yield text
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def records(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize(
    "text",
    [
        f"GET https://user:{SECRET}@example.com/a",
        f"https://b.s3.amazonaws.com/k?X-Amz-Credential={SECRET}&X-Amz-Signature={SECRET}&a=1",
        f"https://example.com/?a=1&token={SECRET}",
        f"Authorization: Bearer {SECRET}",
        f"key sk-{SECRET} refused",
        f"whsec_{SECRET}",
        base64.b64encode(SECRET.encode() * 40).decode(),
    ],
)
def test_secrets_in_text(text: str) -> None:
    shown = redact_text(text)

    assert SECRET not in shown
    assert base64.b64encode(SECRET.encode()).decode()[:16] not in shown


@pytest.mark.parametrize(
    "text", ["https://example.com/a?b=1&c=2", "a@b.example", "key: value", "x" * 100, "3 of 4 parts"]
)
def test_other_text_stays(text: str) -> None:
    assert redact_text(text) == text


def test_values_are_redacted_by_name_and_at_every_level() -> None:
    shown = redact(
        {"api_key": SECRET, "deep": [{"password": SECRET, "bytes": b"abc", "n": 1, "none": None}], "keys": 2}
    )

    assert shown == {
        "api_key": "[redacted]",
        "deep": [{"password": "[redacted]", "bytes": "[3 bytes]", "n": 1, "none": None}],
        "keys": 2,
    }


def test_json_lines_of_ours_and_of_libraries(stream: io.StringIO) -> None:
    log.configure("info", "json", stream)

    structlog.get_logger("ours").info("part_stored", number=3, secret_access_key=SECRET, url=f"http://u:{SECRET}@h/")
    logging.getLogger("library").warning("cannot open %s", f"http://u:{SECRET}@h/")
    structlog.get_logger("ours").debug("not shown")
    failure = ValueError(f"bad https://x/?signature={SECRET}")
    structlog.get_logger("ours").error("failed", exc_info=failure)

    first, second, third = records(stream)
    assert (first["event"], first["number"], first["level"]) == ("part_stored", 3, "info")
    assert second["event"] == "cannot open http://[redacted]@h/"
    assert "ValueError" in third["exception"]
    assert SECRET not in stream.getvalue()


def test_context_is_bound_to_every_record(stream: io.StringIO) -> None:
    log.configure("info", "json", stream)

    with structlog.contextvars.bound_contextvars(task_id="task_1"):
        structlog.get_logger("ours").info("one")

    assert records(stream)[0]["task_id"] == "task_1"


def test_lines_for_people(stream: io.StringIO) -> None:
    log.configure("info", "console", stream)

    structlog.get_logger("ours").info("part_stored", number=3)

    assert "part_stored" in stream.getvalue()
    assert "number=3" in stream.getvalue()
    assert "\n{" not in stream.getvalue()
