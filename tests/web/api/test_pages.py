"""Pages of lists whose rows are deleted while somebody reads them."""

from __future__ import annotations

from typing import Any

import pytest

from mediagen.db.paging import Shown
from tests.web.conftest import House, Start, stored


async def ended(house: House, count: int) -> set[str]:
    made = set()
    for _ in range(count):
        task_id = await house.submit()
        (await house.pipeline.stage(task_id)).succeed()
        await house.ended(task_id)
        made.add(task_id)
    return made


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_who_deletes_each_page_gets_to_the_end(house: House, order: str) -> None:
    left, after = await ended(house, 7), ""
    seen: list[str] = []

    for _ in range(4):
        _, page, _ = await house.ask("GET", f"/v1/tasks?limit=2&order={order}&after={after}")
        seen += [task["id"] for task in page["data"]]
        for task in page["data"]:
            assert (await house.ask("DELETE", f"/v1/tasks/{task['id']}"))[0] == 200
        after = page["last_id"]

    assert (set(seen), len(seen), page["has_more"]) == (left, 7, False)


async def test_files_likewise(house: House) -> None:
    files = {(await stored(house)).id for _ in range(3)}
    _, page, _ = await house.ask("GET", "/v1/files?limit=1")
    async with house.client.delete(f"{house.url}/v1/files/{page['last_id']}") as answer:
        assert answer.status == 204

    status, rest, _ = await house.ask("GET", f"/v1/files?after={page['last_id']}")

    assert (status, {file["id"] for file in rest["data"]}) == (200, files - {page["last_id"]})


async def test_what_never_was_is_still_refused(house: House) -> None:
    status, problem, _ = await house.ask("GET", f"/v1/tasks?after=task_{'0' * 32}")

    assert (status, problem["errors"] if "errors" in problem else problem["code"]) == (400, "invalid_request")


def row(number: int, owner: str | None = "a") -> tuple[Any, ...]:
    return (f"task_{number}", number, owner)


def test_places_are_bounded_and_are_their_owners() -> None:
    shown = Shown(most=3)
    shown.remember([row(number) for number in range(5)], "id, created_at, owner")

    assert shown.place("task_1", "a") is None
    assert shown.place("task_4", "a") == (4, "task_4")
    assert shown.place("task_4", None) == (4, "task_4")
    assert shown.place("task_4", "b") is None


async def test_another_owners_deleted_row_is_unknown(start: Start) -> None:
    house = await start(auth={"required": True, "admin_key": "s3cret-enough"})
    admin = {"Authorization": "Bearer s3cret-enough"}
    keys = []
    for name in ("one", "two"):
        _, key, _ = await house.ask("POST", "/v1/keys", json={"name": name}, headers=admin)
        keys.append({"Authorization": f"Bearer {key['key']}"})
    _, task, _ = await house.ask("POST", "/v1/ingest", json={"url": "http://example.com/a"}, headers=keys[0])
    await house.ask("POST", f"/v1/tasks/{task['id']}/cancel", headers=keys[0])
    await house.instance.service.wait(task["id"])
    await house.ask("GET", "/v1/tasks", headers=keys[0])
    await house.ask("DELETE", f"/v1/tasks/{task['id']}", headers=keys[0])

    asked = [(await house.ask("GET", f"/v1/tasks?after={task['id']}", headers=key))[0] for key in keys]

    assert asked == [200, 400]
