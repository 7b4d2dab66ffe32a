from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediagen.core.events import Event, EventType
from mediagen.events.mailbox import Mailbox, ReaderTooSlow
from tests.contracts.journal import a_task

TASKS = [a_task(id=f"task_{number}") for number in range(3)]


@given(st.lists(st.tuples(st.sampled_from(["take", "status", "progress"]), st.sampled_from(TASKS))))
def test_facts_all_arrive_readings_are_the_latest_and_order_is_true(steps: list[tuple[str, object]]) -> None:
    mailbox = Mailbox(max_facts=10_000)
    facts: list[int] = []
    latest: dict[str, int] = {}
    taken: list[Event] = []
    for seq, (step, task) in enumerate(steps):
        if step == "take":
            event = mailbox.take()
            if event is not None:
                taken.append(event)
            continue
        event = Event(seq, EventType.STATUS if step == "status" else EventType.PROGRESS, task)  # type: ignore[arg-type]
        mailbox.put(event)
        if step == "status":
            facts.append(seq)
        else:
            latest[event.task_id] = seq
    while (event := mailbox.take()) is not None:
        taken.append(event)

    seqs = [event.seq for event in taken]
    assert seqs == sorted(seqs)
    assert [event.seq for event in taken if event.type is EventType.STATUS] == facts
    assert {event.task_id: event.seq for event in taken if event.type is EventType.PROGRESS} == latest
    assert len(mailbox) == 0


def test_too_many_facts_empty_it_and_say_so() -> None:
    mailbox = Mailbox(max_facts=2)
    for seq in range(2):
        mailbox.put(Event(seq, EventType.STATUS, TASKS[0]))
    mailbox.put(Event(2, EventType.PROGRESS, TASKS[0]))

    with pytest.raises(ReaderTooSlow):
        mailbox.put(Event(3, EventType.STATUS, TASKS[0]))

    assert len(mailbox) == 0
    assert mailbox.take() is None
