"""What every store must do. An implementation gives the ``place`` fixture and inherits the tests.

All bytes are real: they go through the bodies and the pumps of ``streams``, and come back from the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol

import pytest

from mediagen.core.errors import FetchFailed, MediagenError, NotFound, UploadLost
from mediagen.storage.base import Storage
from mediagen.streams.base import MIB, PartReceipt, Sink, StoredPart
from mediagen.streams.digest import crc32
from mediagen.streams.parts import BufferBody, RangeBody
from mediagen.streams.range_lane import move_ranges
from mediagen.streams.transfer import still_stored
from tests.contracts.uploads import (
    ABOUT,
    KEY,
    ODD,
    TOKEN,
    BytesReader,
    BytesSource,
    Readings,
    buffered,
    cancelled,
    commit,
    put,
    put_parts,
    ranged,
    read,
    the_bytes,
)
from tests.streams.targets import THREADS

BAD_KEYS: Final = [
    "",
    "/",
    "/etc/passwd",
    "../outside",
    "a/../../outside",
    "a/..",
    "a/./b",
    ".",
    "..",
    ".uploads/x.part",
    "a/.hidden",
    "a//b",
    "a/",
    "a b",
    "a\\b",
    "a\nb",
    "a\0b",
    "a%2e%2e/b",
    "ä",
    "a?b",
    "a#b",
]
BAD_TOKENS: Final = ["", "short", "../../../etc/x", "has space", "a" * 65, "line\nbreak", "tökentöken"]


class Place(Protocol):
    """A store, and what can be seen of it from outside."""

    @property
    def storage(self) -> Storage: ...

    @property
    def part_size(self) -> int:
        """Bytes of a part of the objects used here."""

    async def keys(self) -> list[str]:
        """Everything that is visible, sorted."""

    async def unfinished(self) -> list[str]:
        """Whatever takes room without being an object."""

    def reopened(self) -> AbstractAsyncContextManager[Storage]:
        """The same store as another process sees it."""


class StorageContract:
    """Inherit, and give ``place``."""

    # -- what is stored is what was given

    async def test_a_small_object_comes_back_as_it_was_put(self, place: Place) -> None:
        for size in (0, 1, 65_537, MIB, MIB + ODD):
            data = the_bytes(size)

            async with place.storage.open_sink(KEY, **ABOUT, size=size) as sink:
                await sink.put_whole(BufferBody(memoryview(data)))
                await sink.commit([], size=size, crc32=crc32(data))
                assert sink.committed

            assert await read(place.storage, KEY) == data
            found = await place.storage.head(KEY)
            assert found is not None
            assert (found.key, found.size) == (KEY, size)
            assert (await place.keys(), await place.unfinished()) == ([KEY], [])
            await place.storage.delete(KEY)

    @pytest.mark.parametrize("announced", [True, False])
    async def test_the_buffer_lane_stores_every_length(self, place: Place, announced: bool) -> None:
        for parts, more in [(0, 0), (0, 1), (1, -1), (1, 0), (1, 1), (2, 0), (2, ODD)]:
            data = the_bytes(parts * place.part_size + more)
            size = len(data) if announced else None

            async with place.storage.open_sink(KEY, **ABOUT, size=size) as sink:
                moved = await buffered(sink, data, announced=announced)

            assert (moved.size, moved.crc32) == (len(data), crc32(data))
            assert await read(place.storage, KEY) == data
            assert (await place.keys(), await place.unfinished()) == ([KEY], [])
            await place.storage.delete(KEY)

    async def test_the_range_lane_stores_every_length(self, place: Place) -> None:
        for parts, more in [(1, 0), (2, 0), (2, 1), (2, ODD)]:
            data = the_bytes(parts * place.part_size + more)
            recorded: list[StoredPart] = []
            readings = Readings(len(data))

            async def record(part: StoredPart, into: list[StoredPart] = recorded) -> None:
                into.append(part)

            async with place.storage.open_sink(KEY, **ABOUT, size=len(data), parallel=True) as sink:
                assert sink.accepts_ranges
                await sink.begin()
                moved = await move_ranges(
                    BytesSource(data),
                    sink,
                    readers=[],
                    meter=readings.meter,
                    done=[],
                    record=record,
                    workers=3,
                    threads=THREADS,
                )
                await sink.commit(moved.parts, size=moved.size, crc32=moved.crc32)

            assert (moved.size, moved.crc32) == (len(data), crc32(data))
            assert sorted(recorded, key=lambda part: part.number) == moved.parts
            assert await read(place.storage, KEY) == data
            assert (await place.keys(), await place.unfinished()) == ([KEY], [])
            assert (readings.seen[-1].downloaded, readings.seen[-1].uploaded) == (len(data), len(data))
            await place.storage.delete(KEY)

    async def test_parts_may_come_in_any_order_and_at_once(self, place: Place) -> None:
        data = the_bytes(3 * place.part_size + ODD)

        async with place.storage.open_sink(KEY, **ABOUT, size=len(data), parallel=True) as sink:
            await sink.begin()
            parts = await put_parts(sink, data, [4, 2])
            parts += await asyncio.gather(
                *(sink.put_part(number, ranged(data, number, sink.part_size)) for number in (3, 1))
            )
            assert await place.keys() == []
            await commit(sink, parts)

        assert await read(place.storage, KEY) == data

    async def test_a_part_sent_again_replaces_the_first(self, place: Place) -> None:
        data, other = the_bytes(2 * place.part_size), the_bytes(2 * place.part_size, 2)

        async with place.storage.open_sink(KEY, **ABOUT, size=len(data), parallel=True) as sink:
            await sink.begin()
            await put_parts(sink, other, [1, 2])
            await commit(sink, await put_parts(sink, data, [1, 2]))

        assert await read(place.storage, KEY) == data

    async def test_the_part_size_stays_and_the_state_is_plain(self, place: Place) -> None:
        size = 2 * place.part_size + 1

        async with place.storage.open_sink(KEY, **ABOUT, size=size, parallel=True) as sink:
            before = sink.part_size
            await sink.begin()
            state = dict(sink.state)
            assert (sink.part_size, state["part_size"]) == (before, before)
            assert (state["key"], state["token"]) == (KEY, TOKEN)
            assert all(isinstance(value, str | int | None) for value in state.values())
            assert sink.parts_in_flight >= 1
            assert sink.chunk_size > 0

    # -- nothing half-made is seen, nothing unwanted stays

    async def test_nothing_is_visible_before_the_commit(self, place: Place) -> None:
        data = the_bytes(2 * place.part_size)

        async with place.storage.open_sink(KEY, **ABOUT, size=len(data), parallel=True) as sink:
            await sink.begin()
            parts = await put_parts(sink, data, [1, 2])
            assert await place.keys() == []
            assert await place.storage.head(KEY) is None
            assert not sink.committed
            assert len(await place.unfinished()) == 1
            await commit(sink, parts)

        assert (await place.keys(), await place.unfinished()) == ([KEY], [])

    @pytest.mark.parametrize("stage", ["nothing", "begun", "part", "whole"])
    @pytest.mark.parametrize("leaving", ["quietly", "exception"])
    async def test_left_without_a_commit_nothing_stays(self, place: Place, stage: str, leaving: str) -> None:
        data = the_bytes(place.part_size + 1)
        small = the_bytes(1000)

        async def leave() -> None:
            async with place.storage.open_sink(KEY, **ABOUT, size=len(data), parallel=True) as sink:
                if stage == "whole":
                    await sink.put_whole(BufferBody(memoryview(small)))
                elif stage != "nothing":
                    await sink.begin()
                if stage == "part":
                    await put_parts(sink, data, [1])
                if leaving == "exception":
                    raise LookupError
            assert not sink.left_behind

        if leaving == "exception":
            with pytest.raises(LookupError):
                await leave()
        else:
            await leave()

        assert (await place.keys(), await place.unfinished()) == ([], [])

    @pytest.mark.parametrize("twice", [False, True])
    async def test_cancelled_in_the_middle_of_parts_nothing_stays(self, place: Place, twice: bool) -> None:
        data = the_bytes(2 * place.part_size)
        reader = BytesReader(data, stall_at=MIB)
        sinks: list[Sink] = []

        async def run() -> None:
            async with place.storage.open_sink(KEY, **ABOUT, size=len(data), parallel=True) as sink:
                sinks.append(sink)
                await sink.begin()
                async with asyncio.TaskGroup() as group:
                    group.create_task(sink.put_part(2, ranged(data, 2, sink.part_size)))
                    group.create_task(sink.put_part(1, ranged(data, 1, sink.part_size, reader)))

        async with asyncio.TaskGroup() as group:
            work = group.create_task(run())
            await reader.stalled.wait()
            work.cancel()
            if twice:
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            await cancelled(work)

        assert (await place.keys(), await place.unfinished()) == ([], [])
        assert not sinks[0].left_behind

    async def test_cancelled_at_any_moment_nothing_stays(self, place: Place) -> None:
        """Cancelled after ever more turns of the loop, until it is through."""
        data = the_bytes(1000)

        async def run() -> None:
            async with place.storage.open_sink(KEY, **ABOUT, size=len(data), parallel=True) as sink:
                await sink.begin()
                await sink.put_part(1, BufferBody(memoryview(data)))
                await asyncio.Event().wait()

        async with asyncio.TaskGroup() as group:
            for turns in range(0, 60, 3):
                work = group.create_task(run())
                for _ in range(turns):
                    await asyncio.sleep(0.0005 if turns > 20 else 0)
                await cancelled(work)
                assert (turns, await place.keys(), await place.unfinished()) == (turns, [], [])

    # -- resume

    async def left_for_later(
        self, place: Place, data: bytes, numbers: Sequence[int]
    ) -> tuple[Mapping[str, Any], list[StoredPart]]:
        async with place.storage.open_sink(KEY, **ABOUT, size=len(data), parallel=True) as sink:
            await sink.begin()
            recorded = await put_parts(sink, data, numbers)
            sink.detach()
        assert len(await place.unfinished()) == 1
        return dict(sink.state), recorded

    async def test_a_detached_upload_goes_on_where_it_was(self, place: Place) -> None:
        data = the_bytes(3 * place.part_size + ODD)
        state, recorded = await self.left_for_later(place, data, [4, 2])

        async with (
            place.reopened() as storage,
            storage.open_sink(KEY, **ABOUT, size=len(data), parallel=True, resume=state, recorded=recorded) as sink,
        ):
            stored = dict(sink.stored)
            assert (sink.committed, sink.part_size) == (False, state["part_size"])
            await sink.begin()
            assert dict(sink.state) == state
            done = still_stored(recorded, sink)
            await commit(sink, done + await put_parts(sink, data, [1, 3]))

        assert stored == {part.number: PartReceipt(part.size, part.token) for part in recorded}
        assert await read(place.storage, KEY) == data
        assert (await place.keys(), await place.unfinished()) == ([KEY], [])

    async def test_parts_of_the_earlier_run_may_be_sent_again(self, place: Place) -> None:
        data, other = the_bytes(2 * place.part_size), the_bytes(2 * place.part_size, 2)
        state, recorded = await self.left_for_later(place, other, [1])

        async with place.storage.open_sink(
            KEY, **ABOUT, size=len(data), parallel=True, resume=state, recorded=recorded
        ) as sink:
            await commit(sink, await put_parts(sink, data, [2, 1]))

        assert await read(place.storage, KEY) == data

    async def test_a_resumed_upload_left_without_a_commit_is_removed(self, place: Place) -> None:
        data = the_bytes(2 * place.part_size)
        state, recorded = await self.left_for_later(place, data, [1])

        async with place.storage.open_sink(
            KEY, **ABOUT, size=len(data), parallel=True, resume=state, recorded=recorded
        ):
            pass

        assert (await place.keys(), await place.unfinished()) == ([], [])

    async def test_an_upload_may_be_detached_again_and_again(self, place: Place) -> None:
        data = the_bytes(2 * place.part_size + 1)
        state, recorded = await self.left_for_later(place, data, [1])

        for number in (2, 3):
            async with place.storage.open_sink(
                KEY, **ABOUT, size=len(data), parallel=True, resume=state, recorded=recorded
            ) as sink:
                assert set(sink.stored) == {part.number for part in recorded}
                recorded += await put_parts(sink, data, [number])
                sink.detach()
        async with place.storage.open_sink(
            KEY, **ABOUT, size=len(data), parallel=True, resume=state, recorded=recorded
        ) as sink:
            await commit(sink, recorded)

        assert await read(place.storage, KEY) == data

    async def test_a_lost_upload_cannot_be_resumed(self, place: Place) -> None:
        data = the_bytes(2 * place.part_size)
        state, recorded = await self.left_for_later(place, data, [1])
        await place.storage.abort(state)

        with pytest.raises(UploadLost):
            async with place.storage.open_sink(
                KEY, **ABOUT, size=len(data), parallel=True, resume=state, recorded=recorded
            ):
                pass

        assert (await place.keys(), await place.unfinished()) == ([], [])

    async def test_a_crash_after_the_commit_is_found_out(self, place: Place) -> None:
        data = the_bytes(2 * place.part_size)
        async with place.storage.open_sink(KEY, **ABOUT, size=len(data), parallel=True) as sink:
            await sink.begin()
            recorded = await put_parts(sink, data, [1, 2])
            await commit(sink, recorded)
        state = dict(sink.state)

        async with (
            place.reopened() as storage,
            storage.open_sink(KEY, **ABOUT, size=len(data), parallel=True, resume=state, recorded=recorded) as again,
        ):
            assert again.committed
            await commit(again, recorded)

        assert await read(place.storage, KEY) == data
        assert (await place.keys(), await place.unfinished()) == ([KEY], [])

    async def test_an_object_of_another_length_is_not_the_one_that_was_lost(self, place: Place) -> None:
        data = the_bytes(2 * place.part_size)
        state, recorded = await self.left_for_later(place, data, [1])
        await place.storage.abort(state)
        await put(place.storage, b"somebody else's")

        with pytest.raises(UploadLost):
            async with place.storage.open_sink(
                KEY, **ABOUT, size=len(data), parallel=True, resume=state, recorded=recorded
            ):
                pass

        assert await read(place.storage, KEY) == b"somebody else's"

    # -- abort, delete, head, sweep

    async def test_abort_by_state_may_be_repeated(self, place: Place) -> None:
        data = the_bytes(2 * place.part_size)
        state, _ = await self.left_for_later(place, data, [1])

        async with place.reopened() as storage:
            await storage.abort(state)
            assert await place.unfinished() == []
            await storage.abort(state)

    async def test_abort_without_an_upload_id_removes_what_the_key_has(self, place: Place) -> None:
        data = the_bytes(2 * place.part_size)
        await self.left_for_later(place, data, [1])

        await place.storage.abort({"key": KEY, "token": TOKEN})
        await place.storage.abort({"key": KEY, "token": TOKEN})

        assert await place.unfinished() == []

    async def test_abort_leaves_other_uploads_alone(self, place: Place) -> None:
        data = the_bytes(2 * place.part_size)
        await self.left_for_later(place, data, [1])

        await place.storage.abort({"key": KEY[:-1], "token": "file_somebody_elses"})
        await place.storage.abort({"key": KEY + "0", "token": "file_somebody_elses"})

        assert len(await place.unfinished()) == 1

    async def test_abort_leaves_an_object_alone(self, place: Place) -> None:
        await put(place.storage, b"kept")

        await place.storage.abort({"key": KEY, "token": TOKEN})

        assert await read(place.storage, KEY) == b"kept"

    async def test_delete_may_be_repeated(self, place: Place) -> None:
        await put(place.storage, b"to go")

        await place.storage.delete(KEY)
        await place.storage.delete(KEY)

        assert await place.keys() == []
        assert await place.storage.head(KEY) is None

    async def test_what_is_not_there(self, place: Place) -> None:
        assert await place.storage.head(KEY) is None
        with pytest.raises(NotFound):
            async with place.storage.open_source(KEY):
                pass

    async def test_sweep_keeps_what_is_to_be_resumed(self, place: Place) -> None:
        data = the_bytes(2 * place.part_size)
        state, recorded = await self.left_for_later(place, data, [1])
        await put(place.storage, b"an object", key="videos/other.mp4")

        async with place.reopened() as storage:
            assert await storage.sweep([state]) == 0
            async with storage.open_sink(
                KEY, **ABOUT, size=len(data), parallel=True, resume=state, recorded=recorded
            ) as sink:
                assert set(sink.stored) == {1}
                sink.detach()

        assert (await place.keys(), len(await place.unfinished())) == (["videos/other.mp4"], 1)

    async def test_the_store_answers(self, place: Place) -> None:
        await place.storage.check()

    # -- reading

    async def test_a_piece_of_an_object_is_read(self, place: Place) -> None:
        data = the_bytes(1000)
        await put(place.storage, data)

        for offset in (0, 5, 400, 999, 1000, 2000):
            for length in (None, 0, 1, 100, 1000, 5000):
                wanted = data[offset:] if length is None else data[offset : offset + length]
                assert await read(place.storage, KEY, offset=offset, length=length) == wanted, (offset, length)

    async def test_a_piece_of_an_empty_object_is_empty(self, place: Place) -> None:
        await put(place.storage, b"")

        for offset, length in [(0, None), (0, 0), (0, 9), (3, None), (3, 9)]:
            assert await read(place.storage, KEY, offset=offset, length=length) == b""

    async def test_nothing_of_what_is_not_there_is_missing_too(self, place: Place) -> None:
        with pytest.raises(NotFound):
            await read(place.storage, KEY, offset=3, length=0)

    # -- one key, two uploads

    @pytest.mark.parametrize("whole", [True, False])
    async def test_of_two_uploads_to_one_key_one_whole_object_wins(self, place: Place, whole: bool) -> None:
        size = 200_000 if whole else 2 * place.part_size
        both = [the_bytes(size, seed) for seed in (1, 2)]
        ready = asyncio.Barrier(2)

        async def upload(data: bytes, token: str) -> bool:
            about = {**ABOUT, "token": token}
            async with place.storage.open_sink(KEY, **about, size=size, parallel=not whole) as sink:
                parts: list[StoredPart] = []
                if not whole:
                    await sink.begin()
                    parts = await put_parts(sink, data, [1, 2])
                await ready.wait()
                try:
                    if whole:
                        await sink.put_whole(BufferBody(memoryview(data)))
                    await sink.commit(parts, size=size, crc32=crc32(data))
                except MediagenError:
                    return False
            return True

        won = await asyncio.gather(upload(both[0], "token-of-one"), upload(both[1], "token-of-two"))

        assert any(won)
        stored = await read(place.storage, KEY)
        assert stored in [data for data, has_won in zip(both, won, strict=True) if has_won]
        assert (await place.keys(), await place.unfinished()) == ([KEY], [])

    async def test_an_upload_that_fails_leaves_the_object_of_another_alone(self, place: Place) -> None:
        data = the_bytes(1000)

        async with place.storage.open_sink(KEY, **ABOUT, size=9, parallel=True) as sink:
            await put(place.storage, data)
            with pytest.raises(FetchFailed):
                await sink.put_whole(RangeBody(BytesReader(b"123456789", fail_at=5), 0, 9, meter=Readings(9).meter))

        assert await read(place.storage, KEY) == data
        assert await place.unfinished() == []

    # -- names

    async def test_a_key_that_is_not_ours_is_refused(self, place: Place) -> None:
        storage = place.storage
        taken: list[tuple[str, int]] = []

        for key in BAD_KEYS:
            calls: list[Coroutine[Any, Any, Any]] = [
                put(storage, b"x", key=key),
                read(storage, key),
                storage.head(key),
                storage.delete(key),
                storage.abort({"key": key, "token": TOKEN}),
            ]
            for number, call in enumerate(calls):
                try:
                    await call
                except ValueError:
                    continue
                taken.append((key, number))

        assert taken == []
        assert (await place.keys(), await place.unfinished()) == ([], [])

    async def test_a_token_that_is_not_ours_is_refused(self, place: Place) -> None:
        taken: list[str] = []

        for token in BAD_TOKENS:
            try:
                async with place.storage.open_sink(KEY, media_type="video/mp4", token=token, size=1):
                    taken.append(token)
            except ValueError:
                continue

        assert taken == []
        assert (await place.keys(), await place.unfinished()) == ([], [])
