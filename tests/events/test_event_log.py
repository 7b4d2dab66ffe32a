from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mediagen.core.events import Event, EventType
from mediagen.events.event_log import EventLog
from tests.contracts.journal import a_task

TASKS = [a_task(id=f"task_{number}") for number in range(3)]
START = 1 << 32


def fact(seq: int, task: int = 0) -> Event:
    return Event(START + seq, EventType.STATUS, TASKS[task])


def reading(seq: int, task: int = 0) -> Event:
    return Event(START + seq, EventType.PROGRESS, TASKS[task])


@given(
    st.lists(st.tuples(st.sampled_from(["pull", "status", "progress"]), st.integers(0, 2)), max_size=200),
    st.integers(1, 7),
)
def test_whoever_pulls_at_any_pace_gets_all_facts_and_the_latest_readings(
    steps: list[tuple[str, int]], limit: int
) -> None:
    event_log, cursor = EventLog(START, remembered=10_000), START
    facts: list[Event] = []
    latest: dict[str, Event] = {}
    pulled: list[Event] = []

    def pull() -> int:
        found = event_log.since(cursor, limit)
        assert found is not None
        pulled.extend(found)
        return found[-1].seq if found else cursor

    for seq, (step, task) in enumerate(steps, start=1):
        if step == "pull":
            cursor = pull()
            continue
        event = fact(seq, task) if step == "status" else reading(seq, task)
        event_log.add(event)
        if step == "status":
            facts.append(event)
            latest.pop(event.task_id, None)
        else:
            latest[event.task_id] = event
    while (after := pull()) != cursor:
        cursor = after

    assert [event.seq for event in pulled] == sorted(event.seq for event in pulled)
    assert [event for event in pulled if event.type is EventType.STATUS] == facts
    told = {event.task_id: event for event in pulled if event.type is EventType.PROGRESS}
    assert {task_id: told[task_id] for task_id in latest} == latest


def test_it_stays_small_whatever_happens() -> None:
    event_log = EventLog(START, remembered=100)

    for seq in range(1, 50_000):
        event_log.add(fact(seq, seq % 3) if seq % 7 == 0 else reading(seq, seq % 3))

    assert len(event_log._events) == len(event_log._seqs) <= 2 * (125 + 3) + 257
    assert len(event_log._readings) <= 3
    recent = event_log.since(event_log.floor, 1000)
    assert recent is not None
    assert 100 <= sum(event.type is EventType.STATUS for event in recent) <= 125
    assert event_log.since(event_log.floor - 1, 1) is None
