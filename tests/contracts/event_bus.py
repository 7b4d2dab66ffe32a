"""What every event bus must do. An implementation gives the ``bus`` fixture, which remembers 8 facts and cuts at 5."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from mediagen.core.events import Event, EventType
from mediagen.core.progress import Progress
from mediagen.events.mailbox import ReaderTooSlow
from mediagen.tasks.ports import EventBus, Listening, Subscription
from tests.contracts.journal import a_task

TASK = a_task(id="task_one")
OTHER = a_task(id="task_two")


def status(bus: EventBus, task_id: str = TASK.id) -> Event:
    return Event(bus.next_seq(), EventType.STATUS, replace(TASK, id=task_id))


def progress(bus: EventBus, percent: int, task_id: str = TASK.id) -> Event:
    task = replace(TASK, id=task_id, progress=Progress("transferring", percent))
    return Event(bus.next_seq(), EventType.PROGRESS, task)


async def waiting(reader: Subscription) -> list[Event]:
    """What the reader can have without waiting."""
    found: list[Event] = []
    while True:
        try:
            async with asyncio.timeout(0.01):
                found.append(await anext(reader))
        except TimeoutError:
            return found


class EventBusContract:
    """Inherit, and give ``bus``."""

    def test_numbers_grow_and_stay_exact_in_javascript(self, bus: EventBus) -> None:
        before = bus.last_seq
        assert before < bus.next_seq() < bus.next_seq() == bus.last_seq < 2**53

    async def test_a_reader_gets_the_events_of_its_tasks_in_order(self, bus: EventBus) -> None:
        async with bus.subscribe(frozenset({TASK.id})) as reader, bus.subscribe(None) as everything:
            first, foreign, second = status(bus), status(bus, OTHER.id), status(bus)
            for event in (first, foreign, second):
                bus.publish(event)

            assert await waiting(reader) == [first, second]
            assert await waiting(everything) == [first, foreign, second]

    async def test_a_waiting_reader_is_woken(self, bus: EventBus) -> None:
        async with bus.subscribe(None) as reader, asyncio.TaskGroup() as group:
            reading = group.create_task(anext(reader))
            await asyncio.sleep(0)
            event = status(bus)
            bus.publish(event)
            assert await reading is event

    async def test_a_reading_is_replaced_by_the_latest_and_moves_to_the_back(self, bus: EventBus) -> None:
        async with bus.subscribe(None) as reader:
            old, fact, foreign, new = progress(bus, 1), status(bus), progress(bus, 5, OTHER.id), progress(bus, 2)
            for event in (old, fact, foreign, new):
                bus.publish(event)

            found = await waiting(reader)

            assert found == [fact, foreign, new]
            assert [event.seq for event in found] == sorted(event.seq for event in found)

    async def test_readings_never_cut_a_reader_off(self, bus: EventBus) -> None:
        async with bus.subscribe(None) as reader:
            for percent in range(100):
                bus.publish(progress(bus, percent))

            (last,) = await waiting(reader)

            assert last.task.progress == Progress("transferring", 99)

    async def test_a_reader_that_owes_too_many_facts_is_cut_off_and_the_others_are_not(self, bus: EventBus) -> None:
        async with bus.subscribe(None) as dead, bus.subscribe(None) as alive:
            for _ in range(6):
                bus.publish(status(bus))
                assert len(await waiting(alive)) == 1

            with pytest.raises(ReaderTooSlow):
                await anext(dead)
            with pytest.raises(ReaderTooSlow):
                await anext(dead)

    async def test_a_reader_that_takes_makes_room(self, bus: EventBus) -> None:
        async with bus.subscribe(None) as reader:
            for _ in range(4):
                for _ in range(4):
                    bus.publish(status(bus))
                assert len(await waiting(reader)) == 4

    async def test_replay_gives_the_facts_after_a_number(self, bus: EventBus) -> None:
        start = bus.last_seq
        first, _, foreign, last = events = [status(bus), progress(bus, 1), status(bus, OTHER.id), status(bus)]
        for event in events:
            bus.publish(event)

        assert bus.replay(start, None) == [first, foreign, last]
        assert bus.replay(first.seq, frozenset({TASK.id})) == [last]
        assert bus.replay(bus.last_seq, None) == []

    async def test_replay_says_when_something_may_be_missing(self, bus: EventBus) -> None:
        start = bus.last_seq
        events = [status(bus) for _ in range(9)]
        for event in events:
            bus.publish(event)

        assert bus.replay(start, None) is None  # the first is forgotten
        assert bus.replay(events[0].seq, None) == events[1:]
        assert bus.replay(start - 1, None) is None  # of an earlier start
        assert bus.replay(bus.last_seq + 1, None) is None  # of no start of ours

    async def test_listeners_are_told_at_once_with_one_object(self, bus: EventBus) -> None:
        told: list[Event] = []
        one, all_ = bus.listen({TASK.id}, told.append), bus.listen(None, told.append)
        event = status(bus)

        bus.publish(event)
        bus.publish(status(bus, OTHER.id))

        assert len(told) == 3
        assert sum(each is event for each in told) == 2
        one.close()
        all_.close()
        one.close()
        bus.publish(status(bus))
        assert len(told) == 3

    async def test_a_listener_changes_its_tasks(self, bus: EventBus) -> None:
        told: list[str] = []
        listening = bus.listen((), lambda event: told.append(event.task_id))

        bus.publish(status(bus))
        listening.watch(TASK.id)
        listening.watch(OTHER.id)
        listening.unwatch(OTHER.id)
        bus.publish(status(bus))
        bus.publish(status(bus, OTHER.id))

        assert told == [TASK.id]
        listening.close()
        listening.watch(OTHER.id)
        bus.publish(status(bus, OTHER.id))
        assert told == [TASK.id]

    async def test_a_listener_that_raises_is_closed_and_hurts_nobody(self, bus: EventBus) -> None:
        told: list[Event] = []

        def broken(event: Event) -> None:
            raise ValueError(event)

        bus.listen(None, broken)
        bus.listen(None, told.append)

        with capture_logs() as logs:
            bus.publish(status(bus))
            bus.publish(status(bus))

        assert len(told) == 2
        assert [entry["event"] for entry in logs] == ["listener_failed"]

    async def test_a_listener_may_close_others_while_it_is_told(self, bus: EventBus) -> None:
        told: list[Event] = []
        closed: list[Listening] = []
        first = bus.listen(None, lambda _event: closed[0].close())
        closed.append(bus.listen(None, told.append))

        bus.publish(status(bus))

        assert told == []
        first.close()
