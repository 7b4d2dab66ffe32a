"""Content in the JSON body of an ingest request: decoded and stored while it arrives, and gone if it fails."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mediagen.core.errors import InvalidBase64, InvalidRequest, TooLarge
from mediagen.pipelines.saving.placement import StoreContext, remove
from mediagen.pipelines.saving.request_upload import PendingFile, RequestUploads
from mediagen.streams.base import MIB
from mediagen.streams.json.scanner import Rules
from mediagen.web.tasks.ingest import IngestBody
from tests.infra.content import content_bytes
from tests.pipelines.attempts import Debts, files_below
from tests.pipelines.conftest import hashing, store
from tests.streams.formats.files import mp4, png

__all__ = ["hashing", "store"]

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
def uploads(store: StoreContext, debts: Debts) -> RequestUploads:
    return RequestUploads(store, debts, boot=7)


@asynccontextmanager
async def received(uploads: RequestUploads, raw: AsyncIterator[bytes]) -> AsyncIterator[tuple[Any, PendingFile | None]]:
    """What a body has beside its content, and its content."""
    body = IngestBody(raw, RULES)
    if not await body.has_content():
        yield body.document, None
        return
    async with uploads.receive(
        body.content, filename="", declared=body.media_type, owner="me", task_id="task_9", decoded=True
    ) as pending:
        yield body.document, pending


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.mark.parametrize("media", [b"", png(), mp4(), WHOLE])
async def test_content_in_a_body_becomes_a_file(
    uploads: RequestUploads, debts: Debts, folder: Path, media: bytes
) -> None:
    async with received(uploads, arriving(body(media, filename="x"))) as (document, pending):
        assert pending is not None
        assert len(debts.owed) == 1  # a crash now would leave what is recorded
        pending.claim()
    file = pending.file

    assert document == {"kind": None, "data": "", "filename": "x"}
    assert (folder / file.key).read_bytes() == media
    assert (file.task_id, file.owner, file.bytes) == ("task_9", "me", len(media))
    assert files_below(folder) == [file.key]
    assert debts.owed == {}


async def test_a_body_without_content_is_read_whole_and_stores_nothing(
    uploads: RequestUploads, debts: Debts, folder: Path
) -> None:
    async with received(uploads, arriving(b'{"url":"http://h/"}')) as (document, pending):
        assert (document, pending) == ({"url": "http://h/"}, None)

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
    uploads: RequestUploads, debts: Debts, folder: Path, raw: bytes, error: type[Exception]
) -> None:
    with pytest.raises(error):
        async with received(uploads, arriving(raw)):
            raise AssertionError("received")

    assert (debts.owed, files_below(folder)) == ({}, [])


async def test_what_the_block_does_not_claim_is_removed(uploads: RequestUploads, debts: Debts, folder: Path) -> None:
    async with received(uploads, arriving(body(png()))) as (_, pending):
        assert pending is not None
        assert files_below(folder) == [pending.file.key]

    assert (debts.owed, files_below(folder)) == ({}, [])


async def test_a_body_that_breaks_off_leaves_nothing(uploads: RequestUploads, debts: Debts, folder: Path) -> None:
    async def breaking() -> AsyncIterator[bytes]:
        async for chunk in arriving(body(WHOLE)[: 2 * MIB]):
            yield chunk
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        async with received(uploads, breaking()):
            raise AssertionError("received")

    assert (debts.owed, files_below(folder)) == ({}, [])


@pytest.mark.parametrize("turns", [0, 1, 5, 20, 60, 120])
async def test_a_stop_at_any_moment_leaves_what_is_written_down(
    uploads: RequestUploads, store: StoreContext, debts: Debts, folder: Path, turns: int
) -> None:
    """The row may be on its way to the database: only the next start can tell whether the file is to go."""

    async def receive() -> None:
        async with received(uploads, arriving(body(WHOLE))):
            await asyncio.Event().wait()

    running = asyncio.get_running_loop().create_task(receive())
    for _ in range(turns):
        await asyncio.sleep(0.0005)
    running.cancel()
    await asyncio.wait([running])

    assert running.cancelled()
    for _, debt in await debts.owed_aborts(10):
        await remove(store.storage, debt["checkpoint"])
    assert files_below(folder) == []
