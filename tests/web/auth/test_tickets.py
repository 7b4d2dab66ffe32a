"""How long a ticket is good, and for what."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from mediagen.core.errors import RateLimited
from mediagen.core.keys import ANYBODY
from mediagen.web.auth import tickets
from mediagen.web.auth.tickets import TICKET_SECONDS, Tickets


class Clock:
    """Time as a test says it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def given(clock: Clock) -> Tickets:
    return Tickets(clock)


def test_a_ticket_is_used_up_by_a_socket(given: Tickets) -> None:
    ticket = given.issue(ANYBODY)

    assert [given.take(ticket), given.take(ticket), given.take_for("/a", ticket)] == [ANYBODY, None, None]


def test_a_ticket_is_kept_for_the_stream_that_it_opened(given: Tickets) -> None:
    ticket = given.issue(ANYBODY)

    assert [given.take_for(path, ticket) for path in ("/a", "/a", "/b", "/a")] == [ANYBODY, ANYBODY, None, ANYBODY]
    assert given.take(ticket) is None


def test_an_unused_ticket_ends(given: Tickets, clock: Clock) -> None:
    ticket, other = given.issue(ANYBODY), given.issue(ANYBODY)
    clock.now = TICKET_SECONDS

    assert (given.take(ticket), given.take_for("/a", other)) == (None, None)


def test_a_ticket_does_not_end_while_its_stream_is_read(given: Tickets, clock: Clock) -> None:
    ticket = given.issue(ANYBODY)
    given.take_for("/a", ticket)
    with ExitStack() as readers:
        readers.enter_context(given.reading(ticket))
        with given.reading(ticket):  # the page came back before the broken connection was noticed
            clock.now = 1000.0
        clock.now = 2000.0
        assert given.take_for("/a", ticket) == ANYBODY
    clock.now += TICKET_SECONDS - 1
    assert given.take_for("/a", ticket) == ANYBODY
    clock.now += 1
    assert given.take_for("/a", ticket) is None


def test_so_many_streams_and_no_more(given: Tickets, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tickets, "MAX_TICKETS", 2)
    for path in ("/a", "/b"):
        given.take_for(path, given.issue(ANYBODY))
    ticket = given.issue(ANYBODY)
    with pytest.raises(RateLimited):
        given.take_for("/c", ticket)
    clock.now = 1.0
    assert given.take(ticket) == ANYBODY  # it was not used up by that

    clock.now = TICKET_SECONDS
    assert given.take_for("/c", given.issue(ANYBODY)) == ANYBODY
