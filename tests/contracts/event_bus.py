"""What every event bus must do. An implementation gives the ``bus`` fixture, which remembers 8 facts, or up to 10."""

from __future__ import annotations

from dataclasses import replace

from structlog.testing import capture_logs

from mediagen.core.events import Event, EventType
from mediagen.core.progress import Progress
from mediagen.tasks.ports import EventBus, Listening
from tests.contracts.journal import a_task

TASK = a_task(id="task_one")
OTHER = a_task(id="task_two")


def status(bus: EventBus, task_id: str = TASK.id) -> Event:
    return Event(bus.next_seq(), EventType.STATUS, replace(TASK, id=task_id))


def progress(bus: EventBus, percent: int, task_id: str = TASK.id) -> Event:
    task = replace(TASK, id=task_id, progress=Progress("transferring", percent))
    return Event(bus.next_seq(), EventType.PROGRESS, task)


class EventBusContract:
    """Inherit, and give ``bus``."""

    def test_numbers_grow_and_stay_exact_in_javascript(self, bus: EventBus) -> None:
        before = bus.last_seq
        assert before < bus.next_seq() < bus.next_seq() == bus.last_seq < 2**53

    def test_what_came_after_a_number_is_remembered_in_order(self, bus: EventBus) -> None:
        start = bus.last_seq
        events = [status(bus), progress(bus, 1, "task_three"), status(bus, OTHER.id)]
        for event in events:
            bus.publish(event)

        assert bus.since(start, 10) == events
        assert bus.since(start, 2) == events[:2]
        assert bus.since(events[0].seq, 10) == events[1:]
        assert bus.since(bus.last_seq, 10) == []
        assert bus.last_fact == events[2].seq

    def test_a_reading_is_replaced_by_a_later_one_and_moves_to_the_back(self, bus: EventBus) -> None:
        start = bus.last_seq
        old, fact, foreign, new = progress(bus, 1), status(bus), progress(bus, 5, OTHER.id), progress(bus, 2)
        for event in (old, fact, foreign, new):
            bus.publish(event)

        assert bus.since(start, 10) == [fact, foreign, new]
        assert bus.since(old.seq, 10) == [fact, foreign, new]
        newer = progress(bus, 3)
        bus.publish(newer)
        assert bus.since(start, 10) == [fact, foreign, newer]
        assert bus.last_fact == fact.seq

    def test_the_last_reading_before_a_fact_is_told_to_those_who_follow_closely(self, bus: EventBus) -> None:
        start = bus.last_seq
        reading, fact, later, latest = progress(bus, 99), status(bus), progress(bus, 1), progress(bus, 2)
        for event in (reading, fact, later, latest):
            bus.publish(event)

        assert bus.since(start, 10, settled=True) == [reading, fact, latest]
        assert bus.since(start, 10) == [fact, latest]

    def test_readings_make_no_fact_forgotten(self, bus: EventBus) -> None:
        start = bus.last_seq
        fact = status(bus)
        bus.publish(fact)
        for number in range(2_000):
            bus.publish(progress(bus, number % 100, f"task_{number % 3}"))

        remembered = bus.since(start, 10)

        assert remembered is not None
        assert remembered[0] is fact
        assert len(remembered) == 4

    def test_it_says_when_something_may_be_missing(self, bus: EventBus) -> None:
        start = bus.last_seq
        events = [status(bus) for _ in range(30)]
        for event in events:
            bus.publish(event)

        assert bus.since(start, 100) is None  # the first are forgotten
        assert bus.since(events[-9].seq, 100) == events[-8:]
        assert bus.since(events[-12].seq, 100) is None
        assert bus.since(start - 1, 100) is None  # of an earlier start
        assert bus.since(bus.last_seq + 1, 100) is None  # of no start of ours

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
