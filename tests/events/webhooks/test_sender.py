"""Real receivers on loopback, in every mood; the clock is the test's, so that nothing waits for the schedule."""

from __future__ import annotations

import asyncio
import socket
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks
from structlog.testing import capture_logs

from mediagen.core.deliveries import DeliveryStatus
from mediagen.core.tasks import Task
from mediagen.events.webhooks import sender as module
from mediagen.events.webhooks.sender import AT_ONCE, AT_ONCE_PER_TARGET
from mediagen.events.webhooks.settings import WebhooksSettings
from tests.core.clocks import Times
from tests.events.webhooks.sending import Sending, at_work, sending
from tests.infra.resource import Answer, redirect_to
from tests.infra.servers.radosgw import free_ports
from tests.infra.servers.receiver import Receiver, Reply

DELIVERED, WAITING = DeliveryStatus.DELIVERED, DeliveryStatus.WAITING
FAILED, DISABLED = DeliveryStatus.FAILED, DeliveryStatus.DISABLED


async def test_what_ended_is_told_once_and_signed(tmp_path: Path) -> None:
    async with Receiver() as receiver, sending(tmp_path) as room:
        secret = (await room.secrets.rotate(overlap=timedelta(hours=1))).text
        task = await room.end_task(receiver.url())

        (attempt,) = await room.stands(task, DELIVERED, tries=1)

        (event,) = receiver.events
        delivery, _ = await room.delivery(task)
        assert standardwebhooks.Webhook(secret).verify(event.body, event.headers) == {
            "id": delivery.id,
            "task": task.id,
        }
        assert event.headers["webhook-signature"].count("v1,") == 2, "the old secret still signs"
        assert (event.id, event.headers["content-type"]) == (delivery.id, "application/json")
        assert (attempt.status_code, attempt.error, attempt.number) == (200, None, 1)
        assert attempt.milliseconds >= 0
        assert delivery.due_at is None
        await room.rests()
        assert room.webhook_sender.outcomes == {DELIVERED: 1}


async def test_each_try_has_its_own_time_and_the_same_id(tmp_path: Path) -> None:
    async with Receiver() as receiver, sending(tmp_path) as room:
        task = await room.end_task(receiver.replies(Answer(500), Answer(503)))
        await room.stands(task, WAITING, tries=1)
        await room.forward(5)
        await room.stands(task, WAITING, tries=2)
        await room.forward(300)
        attempts = await room.stands(task, DELIVERED, tries=3)

        assert len({event.id for event in receiver.events}) == 1
        assert len({event.body for event in receiver.events}) == 1
        times = [int(event.headers["webhook-timestamp"]) for event in receiver.events]
        assert [times[1] - times[0], times[2] - times[1]] == [5, 300]
        assert [one.error for one in attempts] == ["refused", "refused", None]
        assert [one.status_code for one in attempts] == [500, 503, 200]


async def test_nothing_is_tried_before_its_time_and_nothing_after_the_schedule(tmp_path: Path) -> None:
    async with Receiver() as receiver, sending(tmp_path) as room:
        task = await room.end_task(receiver.replies(always=Answer(500)))
        await room.stands(task, WAITING, tries=1)
        await room.forward(4.9)
        other = await room.end_task(receiver.url("/other"))
        await room.stands(other, DELIVERED, tries=1)
        assert len(receiver.at()) == 1
        for tries, seconds, status in ((2, 1, WAITING), (3, 300, FAILED)):
            await room.forward(seconds)
            await room.stands(task, status, tries=tries)
        await room.forward(10**6)
        await room.stands(await room.end_task(receiver.url("/other")), DELIVERED, tries=1)

        assert len(receiver.at()) == 3
        await room.rests()
        assert room.webhook_sender.outcomes == {WAITING: 2, FAILED: 1, DELIVERED: 2}


BODY = b"x" * 10_000_000


@pytest.mark.parametrize(
    ("reply", "status_code", "error"),
    [
        (Answer(302, {"Location": "/other"}), 302, "redirected"),
        (redirect_to("http://169.254.169.254/", 307), 307, "redirected"),
        (Answer(404), 404, "refused"),
        (Answer(500, {}, BODY), 500, "refused"),
        ("reset", None, "connection_failed"),
        ("hang", None, "timeout"),
    ],
)
async def test_what_is_no_success_is_tried_again(
    tmp_path: Path, reply: Reply, status_code: int | None, error: str
) -> None:
    async with Receiver() as receiver, sending(tmp_path, timeout_seconds=1) as room:
        task = await room.end_task(receiver.replies(reply))

        (attempt,) = await room.stands(task, WAITING, tries=1)

        assert (attempt.status_code, attempt.error) == (status_code, error)
        await room.forward(5)
        await room.stands(task, DELIVERED, tries=2)
        assert receiver.at("/other") == []
        assert len({event.id for event in receiver.events}) == 1


async def test_a_receiver_that_is_down(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    async with sending(tmp_path) as room:
        task = await room.end_task(f"http://127.0.0.1:{port}/")

        (attempt,) = await room.stands(task, WAITING, tries=1)

        assert (attempt.status_code, attempt.error) == (None, "connection_failed")


@pytest.mark.parametrize("reply", [Answer(200, {}, BODY), "stall", Answer(204)])
async def test_the_body_of_an_answer_changes_nothing(
    tmp_path: Path, reply: Reply, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mediagen.net.post._BODY_SECONDS", 0.1)
    async with Receiver() as receiver, sending(tmp_path) as room:
        task = await room.end_task(receiver.replies(reply))

        await room.stands(task, DELIVERED, tries=1)


async def test_gone_ends_all_that_waits_for_that_url_and_owner(tmp_path: Path) -> None:
    async with Receiver() as receiver, sending(tmp_path) as room:
        url = receiver.replies(Answer(500), Answer(500), Answer(410))
        hers = await room.end_task(url, owner="alice")
        await room.stands(hers, WAITING, tries=1)
        his = await room.end_task(url, owner="bob")
        await room.stands(his, WAITING, tries=1)

        last = await room.end_task(url, owner="alice")
        await room.stands(last, DISABLED, tries=1)

        await room.stands(hers, DISABLED, tries=1)
        later = await room.end_task(url, owner="alice")
        await room.stands(later, DISABLED, tries=0)
        elsewhere = await room.end_task(receiver.url("/other"), owner="alice")
        await room.stands(elsewhere, DELIVERED, tries=1)
        await room.forward(5)
        await room.stands(his, DELIVERED, tries=2)  # what somebody else is told there is not hers
        assert len(receiver.at()) == 4


async def test_a_redelivery_that_is_taken_enables_the_url_again(tmp_path: Path) -> None:
    async with Receiver() as receiver, sending(tmp_path) as room:
        url = receiver.replies(Answer(410), Answer(500))
        task = await room.end_task(url, owner="alice")
        await room.stands(task, DISABLED, tries=1)
        delivery, _ = await room.delivery(task)

        for tries, status in ((2, DISABLED), (3, DELIVERED)):  # while it is disabled there is no second try
            room.clock.forward(1)
            assert await room.outbox.redeliver(delivery.id, room.clock(), owner="alice") is not None
            room.webhook_sender.wake()
            await room.stands(task, status, tries=tries)

        assert len({event.id for event in receiver.events}) == 1
        room.clock.forward(1)
        await room.stands(await room.end_task(url, owner="alice"), DELIVERED, tries=1)


async def test_a_receiver_that_is_busy_is_left_alone_for_as_long_as_it_asks(tmp_path: Path) -> None:
    async with Receiver() as receiver, sending(tmp_path) as room:
        task = await room.end_task(receiver.replies(Answer(429, {"Retry-After": "60"})))
        await room.stands(task, WAITING, tries=1)

        delivery, _ = await room.delivery(task)
        assert delivery.due_at == room.clock() + timedelta(seconds=60)
        await room.forward(59)
        await room.stands(await room.end_task(receiver.url("/other")), DELIVERED, tries=1)
        assert len(receiver.at()) == 1
        await room.forward(1)
        await room.stands(task, DELIVERED, tries=2)


async def test_a_receiver_that_hangs_holds_up_its_own_alone(tmp_path: Path) -> None:
    async with Receiver() as slow, Receiver() as quick, sending(tmp_path) as room:
        url = slow.replies(always="hang")
        hanging = [await room.end_task(url) for _ in range(3 * AT_ONCE)]
        await slow.reaches(lambda: slow.most_at_once() == AT_ONCE_PER_TARGET)

        for _ in range(2 * AT_ONCE_PER_TARGET):
            await room.stands(await room.end_task(quick.url()), DELIVERED, tries=1)

        assert len(slow.events) == AT_ONCE_PER_TARGET
        slow.release()
        for task in hanging:
            await room.stands(task, DELIVERED, tries=1)
        await room.rests()
        assert room.webhook_sender.waiting == 0
        assert slow.most_at_once() == AT_ONCE_PER_TARGET
        arrived = [event.json["task"] for event in slow.events]
        places = [arrived.index(task.id) for task in hanging]
        assert all(abs(place - number) <= AT_ONCE_PER_TARGET for number, place in enumerate(places)), "order of due"


async def test_so_many_are_on_their_way_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 6)
    async with Receiver() as one, Receiver() as two, sending(tmp_path) as room:
        for receiver in (one, two):
            receiver.replies(always="hang")
            for _ in range(5):
                await room.end_task(receiver.url())
        await two.reaches(lambda: len(one.events) + len(two.events) == 6)
        assert (len(one.events), len(two.events)) == (4, 2)
        one.release()
        two.release()
        await two.reaches(lambda: len(two.events) == 5)


async def test_many_that_hang_leave_room_for_those_that_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 8)
    monkeypatch.setattr(module, "AT_ONCE_TO_SLOW", 4)
    schedule, hanging = (0.0,) * 20, []
    async with (
        Receiver() as one,
        Receiver() as two,
        Receiver() as quick,
        sending(tmp_path, timeout_seconds=1, schedule_seconds=schedule) as room,
    ):
        for receiver in (one, two):
            receiver.replies(always="hang")
            hanging += [await room.end_task(receiver.url()) for _ in range(8)]
        for task in hanging[:4], hanging[8:12]:
            await asyncio.gather(*(room.stands(one_of, WAITING, tries=1) for one_of in task))
        room.webhook_sender._settings = WebhooksSettings(timeout_seconds=60)

        for _ in range(10):
            await room.stands(await room.end_task(quick.url()), DELIVERED, tries=1)
        one.release()
        two.release()


@pytest.mark.parametrize(
    "url", ["http://10.0.0.1/", "http://169.254.169.254/latest", "http://[::1]/", "http://127.0.0.2:1/"]
)
async def test_what_the_policy_refuses_is_not_connected_to(tmp_path: Path, url: str) -> None:
    async with sending(tmp_path) as room:
        task = await room.end_task(url)

        (attempt,) = await room.stands(task, WAITING, tries=1)

        assert (attempt.status_code, attempt.error) == (None, "url_not_allowed")


async def test_a_name_that_leads_inside_later_is_refused_then(tmp_path: Path) -> None:
    answers = ["127.0.0.1"]

    def lookup(host: str, port: int, family: int) -> list[tuple[Any, Any, int, str, Any]]:
        assert host == "rebinding.test"
        return socket.getaddrinfo(answers[0], port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)

    async with Receiver() as allowed, Receiver("127.0.0.2") as inside, sending(tmp_path, lookup=lookup) as room:
        allowed.replies(always=Answer(500, {"Connection": "close"}))
        task = await room.end_task(f"http://rebinding.test:{allowed.port}/hook")
        await room.stands(task, WAITING, tries=1)
        room.webhook_sender._session.client.connector.clear_dns_cache()  # type: ignore[union-attr]
        answers[0] = "127.0.0.2"
        other = await room.end_task(f"http://rebinding.test:{inside.port}/hook")

        (attempt,) = await room.stands(other, WAITING, tries=1)
        await room.forward(5)
        (_, again) = await room.stands(task, WAITING, tries=2)

        assert (attempt.error, again.error) == ("url_not_allowed", "url_not_allowed")
        assert inside.events == []


async def test_a_courier_that_stops_lets_what_is_on_its_way_arrive(tmp_path: Path) -> None:
    async with Receiver() as receiver, sending(tmp_path, running=False) as room:
        url = receiver.replies("hang")
        async with at_work(room.webhook_sender):
            task = await room.end_task(url)
            await receiver.reaches(lambda: len(receiver.events) == 1)
            asyncio.get_running_loop().call_later(0.1, receiver.release)

        delivery, _ = await room.delivery(task)
        assert (delivery.status, delivery.tries) == (DELIVERED, 1)


async def test_a_receiver_that_hangs_does_not_hold_up_the_stop_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STOP_SECONDS", 0.2)
    async with Receiver() as receiver, sending(tmp_path, running=False) as room:
        url = receiver.replies("hang")
        async with at_work(room.webhook_sender):
            task = await room.end_task(url)
            await receiver.reaches(lambda: len(receiver.events) == 1)
            began = time.monotonic()

        assert time.monotonic() - began < 5
        delivery, _ = await room.delivery(task)
        assert (delivery.status, delivery.tries) == (WAITING, 0)
        async with at_work(room.webhook_sender):  # the next start sends it again
            await room.stands(task, DELIVERED, tries=1)
        assert len({event.id for event in receiver.events}) == 1
        assert len(receiver.events) == 2


async def test_a_fault_of_ours_costs_one_delivery_a_try_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Receiver() as receiver, sending(tmp_path) as room:
        working, broken = room.webhook_sender._render, []

        async def render(snapshot: Any) -> bytes:
            if snapshot.task.owner == "unlucky":
                broken.append(snapshot)
                raise ZeroDivisionError
            return await working(snapshot)

        monkeypatch.setattr(room.webhook_sender, "_render", render)
        with capture_logs() as logs:
            task = await room.end_task(receiver.url(), owner="unlucky")
            (attempt,) = await room.stands(task, WAITING, tries=1)
            await room.stands(await room.end_task(receiver.url()), DELIVERED, tries=1)

        assert attempt.error == "internal"
        assert [line["log_level"] for line in logs if line["event"] == "webhook_not_sent"] == ["error"]


async def test_neither_secret_nor_signature_nor_url_is_logged(tmp_path: Path) -> None:
    with capture_logs() as logs:
        async with Receiver() as receiver, sending(tmp_path) as room:
            secret = (await room.secrets.rotate(overlap=timedelta(0))).text
            for reply in (Answer(200), Answer(500), "reset"):
                receiver.replies(reply, path="/services/T0KEN?sig=CANARY")
                task = await room.end_task(receiver.url("/services/T0KEN?sig=CANARY"))
                await room.stands(task, DELIVERED if reply == Answer(200) else WAITING, tries=1)
            signature = receiver.events[0].headers["webhook-signature"]

    text = repr(logs)
    assert "webhook_attempted" in text
    assert not any(word in text for word in (secret, secret[6:], signature, "T0KEN", "CANARY"))


async def test_a_row_that_cannot_be_read_costs_its_own_delivery(tmp_path: Path) -> None:
    async with Receiver() as receiver, sending(tmp_path, running=False) as room:
        bad = await room.end_task(receiver.url())
        await room.database.write(lambda connection: connection.execute("UPDATE deliveries SET task = '{}'").rowcount)
        good = await room.end_task(receiver.url())
        with capture_logs():
            async with at_work(room.webhook_sender):
                (attempt,) = await room.stands(bad, WAITING, tries=1)
                await room.stands(good, DELIVERED, tries=1)

    assert attempt.error == "internal"


@pytest.mark.parametrize("days", [3, 4000])
async def test_a_clock_that_goes_back_makes_nobody_wait(tmp_path: Path, days: int) -> None:
    times = Times()
    clock = times.clock()
    async with Receiver() as receiver, sending(tmp_path, running=False) as room:
        room.webhook_sender._now = clock.now
        clock.on_step(room.webhook_sender.clock_stepped)
        room.clock.time = times.wall
        async with at_work(room.webhook_sender):
            task = await room.end_task(receiver.replies(Answer(503)))
            await room.stands(task, WAITING, tries=1)
            await room.rests()

            times.set(days=-days)
            times.pass_by(seconds=4)
            clock.now()
            await room.rests()
            assert (await room.delivery(task))[0].tries == 1, "it is due five seconds after the first attempt"
            times.pass_by(seconds=1.1)
            room.webhook_sender.wake()
            await room.stands(task, DELIVERED, tries=2)


async def test_a_clock_that_was_set_back_while_no_server_ran(tmp_path: Path) -> None:
    async with Receiver() as receiver, sending(tmp_path, running=False) as room:
        room.clock.forward(10 * 365 * 86_400)
        async with at_work(room.webhook_sender):
            task = await room.end_task(receiver.replies(Answer(503)))
            await room.stands(task, WAITING, tries=1)
        room.clock.forward(-10 * 365 * 86_400)

        room.webhook_sender._pulled = False  # as another start begins
        async with at_work(room.webhook_sender):
            async with asyncio.timeout(10):
                while not (room.clock() < await _due(room, task) < room.clock() + timedelta(seconds=6)):
                    await asyncio.sleep(0.01)
            await room.forward(6)
            await room.stands(task, DELIVERED, tries=2)


async def _due(room: Sending, task: Task) -> datetime:
    due_at = (await room.delivery(task))[0].due_at
    assert due_at is not None
    return due_at
