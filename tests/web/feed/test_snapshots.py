"""What the feed says of tasks is what their model says, however it is put together."""

from __future__ import annotations

import asyncio

from mediagen.core.errors import FetchFailed
from mediagen.core.events import Event, EventType
from mediagen.web.feed.schemas import EventView, SnapshotView
from tests.web.conftest import House, Start

STEADY = {"elapsed_seconds"}


async def test_a_task_in_every_state_is_told_as_its_model_says(start: Start) -> None:
    house = await start(tasks={"lanes": {"ingest": 1}})
    ids = [await house.submit(filename='a "elapsed_seconds":1, "queue_position":2,.txt') for _ in range(4)]
    await house.pipeline.stage(ids[0])
    first = await house.pipeline.stage(ids[0])
    first.report(40)
    hub, service = house.instance.hub, house.instance.service

    async def agrees() -> None:
        snapshot = await hub._snapshots.of(ids, house.url, owner=None)
        (_, body) = snapshot.message(seq=snapshot.seq, reset=False).parts
        told = SnapshotView.model_validate_json(b"".join(snapshot.message(seq=7, reset=True).parts), strict=False)
        assert (told.seq, told.reset, told.missing, told.has_more) == (7, True, [], False)
        for view in told.tasks:
            _, shown, _ = await house.ask("GET", f"/v1/tasks/{view.id}")
            assert view.model_dump(mode="json", exclude=STEADY) == {
                name: value for name, value in shown.items() if name not in STEADY
            }
            assert abs(view.elapsed_seconds - shown["elapsed_seconds"]) < 5
            event = Event(9, EventType.STATUS, await service.get(view.id))
            message = await hub._renderer.event(event, house.url)
            again = EventView.model_validate_json(b"".join(message.parts))
            assert (again.type, again.seq, again.task_id) == ("task.status", 9, view.id)
            assert again.task.model_dump(exclude=STEADY) == view.model_dump(exclude=STEADY)
        assert body.endswith(b'"missing":[],"has_more":false}')

    await agrees()
    await service.set_priority(ids[3], 90)  # the places of the others change, they themselves do not
    await agrees()
    first.fail(FetchFailed("no"))
    await house.ended(ids[0])
    stage = await house.pipeline.stage(ids[3])
    await agrees()
    stage.succeed(await house.pipeline.store(b"abc", task_id=ids[3], media_type="text/plain", filename="a"))
    await house.ended(ids[3])
    await house.pipeline.stage(ids[1])
    await agrees()


async def test_a_task_is_rendered_once_for_each_of_its_values(house: House) -> None:
    task_id = await house.submit()
    stage = await house.pipeline.stage(task_id)
    renderer, service = house.instance.hub._renderer, house.instance.service
    before = renderer.rendered
    for _ in range(5):
        await renderer.of(await service.get(task_id), house.url)
    assert renderer.rendered == before + 1

    stage.report(10)
    await renderer.of(await service.get(task_id), house.url)
    await renderer.of(await service.get(task_id), "https://elsewhere.example")
    assert renderer.rendered == before + 3


async def test_a_snapshot_and_what_follows_it_are_one_cut(house: House) -> None:
    """Whatever happens while it is taken is either in it or told after it, once."""
    ids = [await house.submit() for _ in range(4)]
    for task_id in ids:
        await house.pipeline.stage(task_id)
    service, hub = house.instance.service, house.instance.hub
    changing = True

    async def change() -> None:
        number = 0
        while changing:
            number += 1
            for task_id in ids:
                await service.set_priority(task_id, number % 101)

    async with asyncio.TaskGroup() as group:
        group.create_task(change())
        for wanted in (ids, None) * 20:
            taken = (
                await hub._snapshots.of_all(house.url, owner=None)
                if wanted is None
                else await hub._snapshots.of(wanted, house.url, owner=None)
            )
            told = SnapshotView.model_validate_json(b"".join(taken.message(seq=taken.seq, reset=False).parts))
            facts = hub._bus.since(1 << 32, 1 << 20) or []
            latest = {event.task_id: event.task.priority for event in facts if event.seq <= taken.seq}
            assert {task.id: task.priority for task in told.tasks} == latest
        changing = False
