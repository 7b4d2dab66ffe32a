from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mediagen.core.errors import InvalidBase64, InvalidRequest, TooLarge, UnsupportedMedia
from mediagen.core.files import File, FileKind
from mediagen.pipelines.saving.inline_base64 import BodyIntake
from mediagen.pipelines.saving.placement import StoreContext, remove
from mediagen.pipelines.saving.request_upload import RequestUploads
from mediagen.streams.base import MIB
from mediagen.streams.json.scanner import Rules
from tests.infra.content import content_bytes
from tests.pipelines.attempts import Debts, files_below
from tests.streams.formats.files import mp4, png

WHOLE = content_bytes(3 * MIB + 7, 4)

RULES = Rules(max_rest=1000, strict=True)


async def arriving(raw: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(raw), 65_536):
        await asyncio.sleep(0)
        yield raw[start : start + 65_536]


def body(media: bytes, **around: Any) -> bytes:
    return json.dumps({"kind": None, "data": base64.b64encode(media).decode(), **around}).encode()


@pytest.fixture
def debts() -> Debts:
    return Debts()


@pytest.fixture
def intake(store: StoreContext, debts: Debts) -> BodyIntake:
    return BodyIntake(RequestUploads(store, debts, boot=7))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.mark.parametrize("media", [b"", png(), mp4(), WHOLE])
async def test_media_in_a_body_becomes_a_file(intake: BodyIntake, debts: Debts, folder: Path, media: bytes) -> None:
    async with intake.receive(
        arriving(body(media, filename="x")), task_id="task_9", rules=RULES, owner="me"
    ) as received:
        file = received.named("../my file.bin", None)
        assert len(debts.owed) == 1  # a crash now would leave what is written down
    assert received.document == {"kind": None, "data": "", "filename": "x"}

    assert (folder / file.key).read_bytes() == media
    assert (file.filename, file.task_id, file.owner, file.bytes) == ("my file.bin", "task_9", "me", len(media))
    assert files_below(folder) == [file.key]
    assert debts.owed == {}


async def test_a_body_without_media_is_just_a_document(intake: BodyIntake, debts: Debts, folder: Path) -> None:
    async with intake.receive(arriving(b'{"url":"http://h/"}'), task_id="task_9", rules=RULES) as received:
        assert (received.document, received.file) == ({"url": "http://h/"}, None)

    assert (debts.count, files_below(folder)) == (0, [])


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b'{"data":"QUJD*"}', InvalidBase64),
        (body(WHOLE)[:-9] + b'*"}', InvalidBase64),
        (body(WHOLE)[:-1], InvalidRequest),
        (body(WHOLE)[:100_000], InvalidRequest),
        (body(WHOLE) + b"x", InvalidRequest),
        (body(b"abc", data2="y" * 2000), TooLarge),
        (b"", InvalidRequest),
        (b"not json", InvalidRequest),
        (b'{"data":"data:image/png;base64"}', InvalidBase64),
        (body(png(text=b"x" * 60 * MIB)), TooLarge),
    ],
    ids=range(10),
)
async def test_a_wrong_body_leaves_nothing(
    intake: BodyIntake, debts: Debts, folder: Path, raw: bytes, error: type[Exception]
) -> None:
    with pytest.raises(error):
        async with intake.receive(arriving(raw), task_id="task_9", rules=RULES):
            raise AssertionError("received")

    assert (debts.owed, files_below(folder)) == ({}, [])


async def test_what_the_block_refuses_is_removed(intake: BodyIntake, debts: Debts, folder: Path) -> None:
    with pytest.raises(UnsupportedMedia, match="video was announced"):
        async with intake.receive(arriving(body(png())), task_id="task_9", rules=RULES) as received:
            received.named(None, FileKind.VIDEO)

    assert (debts.owed, files_below(folder)) == ({}, [])


async def test_a_body_that_breaks_off_leaves_nothing(intake: BodyIntake, debts: Debts, folder: Path) -> None:
    async def breaking() -> AsyncIterator[bytes]:
        async for chunk in arriving(body(WHOLE)[: 2 * MIB]):
            yield chunk
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        async with intake.receive(breaking(), task_id="task_9", rules=RULES):
            raise AssertionError("received")

    assert (debts.owed, files_below(folder)) == ({}, [])


@pytest.mark.parametrize("turns", [0, 1, 5, 20, 60, 120])
async def test_a_stop_at_any_moment_leaves_what_is_written_down(
    intake: BodyIntake, store: StoreContext, debts: Debts, folder: Path, turns: int
) -> None:
    """The row may be on its way to the database: only the next start can tell whether the file is to go."""

    async def receive() -> File | None:
        async with intake.receive(arriving(body(WHOLE)), task_id="task_9", rules=RULES) as received:
            await asyncio.Event().wait()
            return received.file

    running = asyncio.get_running_loop().create_task(receive())
    for _ in range(turns):
        await asyncio.sleep(0.0005)
    running.cancel()
    await asyncio.wait([running])

    assert running.cancelled()
    for _, debt in await debts.owed_aborts(10):
        await remove(store.storage, debt["checkpoint"])
    assert files_below(folder) == []
