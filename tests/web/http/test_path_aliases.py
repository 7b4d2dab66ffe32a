"""Other spellings of paths and queries, as clients are configured in practice."""

from __future__ import annotations

from typing import Any

import pytest

from mediagen.web.http.path_aliases import usual
from tests.web.conftest import House, Start

PICTURE = {"prompt": "A fox", "size": "64x64"}
AZURE = "?api-version=2025-04-01-preview"


@pytest.fixture
async def real(start: Start) -> House:
    return await start(real=True)


@pytest.mark.parametrize("base_path", ["", "/media"])
@pytest.mark.parametrize(
    "path",
    [
        "/v1//images/generations",
        "//v1/images/generations",
        "/v1/images/generations/",
        "//v1//images///generations//",
        f"/v1/images/generations{AZURE}",
        "/images/generations/",
        "//images/generations",
        f"/openai/deployments/builtin-poster/images/generations{AZURE}",
        f"/openai//deployments/builtin-poster/images/generations/{AZURE}",
        f"/v1/openai/deployments/builtin-poster/images/generations{AZURE}",
        "/openai/v1/images/generations",
        "/openai/images/generations",
        "/v1/images/generations?_=1&_=2",
    ],
)
async def test_pictures_are_made_by_other_spellings(start: Start, path: str, base_path: str) -> None:
    house = await start(real=True, server={"base_path": base_path})

    status, answer, _ = await house.ask("POST", path, json=PICTURE)

    assert status == 200, answer
    assert answer["model"] == "builtin-poster"


async def test_the_deployment_is_the_model_unless_the_body_names_one(real: House) -> None:
    path = "/openai/deployments/my%20gpt/images/generations"

    status, refused, _ = await real.ask("POST", path, json=PICTURE)
    assert (status, refused["error"]["param"], "my gpt" in refused["error"]["message"]) == (400, "model", True)
    status, _, _ = await real.ask("POST", path, json={**PICTURE, "model": "builtin-poster"})
    assert status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1//tasks/", 200),
        ("GET", "/v1/tasks/?limit=5&cursor=x", 200),
        ("GET", "/livez/", 200),
        ("DELETE", "/v1//tasks", 405),
        ("GET", "/v1/openai/v1/models/", 200),
        ("GET", "/v1/openai/v1/tasks", 404),
        ("GET", "/v1//nothing", 404),
        ("GET", "/openai/deployments/x", 404),
        ("GET", "/openai/chat/completions", 404),
        ("GET", "/openai/imagesque", 404),
        ("GET", "/v1/%2Ftasks", 404),
    ],
)
async def test_other_spellings_lead_where_the_usual_one_does(house: House, method: str, path: str, status: int) -> None:
    assert (await house.ask(method, path))[0] == status


async def test_errors_have_the_shape_of_their_surface(house: House) -> None:
    _, problem, _ = await house.ask("POST", "/v1//images/generations/", json={})
    assert problem["error"]["type"] == "invalid_request_error"
    _, problem, _ = await house.ask("GET", "/openai/deployments/x/images/nothing")
    assert problem["error"]["code"] == "not_found"


async def test_metrics_count_them_under_the_usual_path(house: House) -> None:
    await house.ask("GET", "/v1//tasks/")

    async with house.client.get(f"{house.url}/metrics") as answer:
        counted = [line for line in (await answer.text()).splitlines() if line.startswith("mediagen_http_requests")]
    assert len(counted) == 1
    assert 'route="/v1/tasks"' in counted[0]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/tasks", ("/v1/tasks", None)),
        ("/", ("/", None)),
        ("//", ("/", None)),
        ("/openai/deployments/a%2Fb/images/edits", ("/v1/images/edits", "a/b")),
        ("/openai/models", ("/v1/models", None)),
        ("/openai/v1/videos/video_1/content", ("/v1/videos/video_1/content", None)),
    ],
)
def test_what_a_path_is_called(path: str, expected: Any) -> None:
    assert usual(path, "") == expected


async def test_models_are_found_by_every_name(start: Start) -> None:
    house = await start(
        real=True,
        providers={"rep": {"type": "replicate", "api_key": "k", "models": ["black-forest-labs/flux-schnell"]}},
    )

    for name in ("black-forest-labs/flux-schnell", "rep/black-forest-labs/flux-schnell", "builtin/builtin-poster"):
        for spelled in (name, name.replace("/", "%2F"), f"{name}/"):
            for prefix in ("/v1", "", "/openai"):
                status, model, _ = await house.ask("GET", f"{prefix}/models/{spelled}")
                assert (status, model.get("id") in {name, name.partition("/")[2]}) == (200, True), spelled
    assert (await house.ask("GET", "/v1/models/"))[1]["object"] == "list"
    status, problem, _ = await house.ask("GET", "/v1/models/black-forest-labs/none")
    assert (status, problem["error"]["code"]) == (404, "not_found")


async def test_a_key_may_come_as_azures_clients_send_it(start: Start) -> None:
    house = await start(auth={"required": True, "admin_key": "s3cret-enough"})

    asked = [
        {"api-key": "s3cret-enough"},
        {"api-key": "wrong-and-long"},
        {"Authorization": "Bearer wrong-and-long", "api-key": "s3cret-enough"},
        {"Authorization": "Bearer s3cret-enough", "api-key": "wrong"},
        {"api-key": ""},
    ]

    assert [(await house.ask("GET", "/v1/models", headers=headers))[0] for headers in asked] == [
        200,
        401,
        401,
        200,
        401,
    ]
