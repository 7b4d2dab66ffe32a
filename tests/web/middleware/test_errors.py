"""Errors in both shapes on every route, headers on every answer, and who may call."""

from __future__ import annotations

import asyncio
import base64
import gzip
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from mediagen.core import errors
from mediagen.core.errors import MediagenError
from mediagen.web.api.routing import declarations
from mediagen.web.compose import routes as compositions
from mediagen.web.docs import routes as documents
from mediagen.web.feed import event_stream as streams
from mediagen.web.feed import websocket as sockets
from mediagen.web.files import routes as files
from mediagen.web.files import signed_routes as media
from mediagen.web.files import uploads
from mediagen.web.http.problems import DO_NOT_RETRY, OPENAI_PREFIXES, STATUS, answer, status_of
from mediagen.web.middleware.rate_limit import RATE_HEADERS
from mediagen.web.openai_compat import images, models, videos
from mediagen.web.openai_compat import legacy as older
from mediagen.web.ops import api_keys, health, metrics, providers
from mediagen.web.tasks import ingest
from mediagen.web.tasks import routes as tasks
from mediagen.web.webhooks import routes as webhooks
from tests.media.bombs import png, png_chunk
from tests.web.conftest import House, Start

OWNERS: tuple[type, ...] = (
    health.HealthRoutes,
    ingest.IngestRoutes,
    streams.EventStreamRoutes,
    tasks.TaskRoutes,
    files.FileRoutes,
    media.SignedUrlRoutes,
    uploads.UploadRoutes,
    sockets.WebSocketRoutes,
    api_keys.KeyRoutes,
    webhooks.WebhookRoutes,
    compositions.CompositionRoutes,
    models.ModelRoutes,
    providers.ProviderRoutes,
    images.ImageRoutes,
    videos.VideoRoutes,
    older.LegacyRoutes,
    metrics.MetricsRoutes,
    documents.DocumentRoutes,
)
ROUTES = [(declared.method.split("|")[0], declared.path) for owner in OWNERS for _, declared in declarations(owner)]
PROBLEM = {"type", "title", "status", "detail", "instance", "code", "retryable", "request_id"}


def families(root: type[MediagenError]) -> list[type[MediagenError]]:
    return [root, *(found for child in root.__subclasses__() for found in families(child))]


def test_every_error_has_a_status() -> None:
    assert all(400 <= status_of(error) < 600 for error in families(MediagenError))
    assert status_of(errors.SourceStalled) == STATUS[errors.FetchFailed]


def test_an_error_of_ours_tells_nothing_of_the_inside() -> None:
    response = answer(MediagenError("secret path /root", where="x"), path="/v1/tasks", request_id="req_1")

    assert response.status == 500
    assert "secret" not in (response.text or "")


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_unknown_ids_fields_and_methods_get_the_shape_of_their_surface(
    house: House, method: str, path: str
) -> None:
    here = path.replace("{id}", "task_" + "0" * 32)
    asked: list[tuple[str, str, dict[str, Any]]] = [("TRACE", here, {})]
    asked.append((method, here, {"headers": {"Content-Encoding": "gzip"}}))
    if "{id}" in path:
        asked.append((method, here, {"json": {"surprise": 1}} if method in {"POST", "PATCH"} else {}))

    for verb, where, options in asked:
        status, problem, headers = await house.ask(verb, where, **options)

        assert 400 <= status < 500, problem
        if path.startswith(OPENAI_PREFIXES):
            assert set(problem) == {"error"}
            assert set(problem["error"]) == {"message", "type", "param", "code"}
            assert headers["Content-Type"].startswith("application/json")
            continue
        assert set(problem) >= PROBLEM
        assert (problem["status"], problem["request_id"]) == (status, headers["x-request-id"])
        assert headers["Content-Type"].startswith("application/problem+json")


@pytest.mark.parametrize("path", ["/v1/images/nothing", "/v1/videos/x/nothing"])
async def test_the_openai_surface_gets_the_openai_shape(house: House, path: str) -> None:
    status, body, _ = await house.ask("GET", path)

    assert status == 404
    assert body == {
        "error": {
            "message": f"there is no {path}; /docs lists the paths of this server",
            "type": "invalid_request_error",
            "param": None,
            "code": "not_found",
        }
    }


async def test_a_wrong_method_says_which_ones_there_are(house: House) -> None:
    status, problem, headers = await house.ask("PUT", "/v1/ingest")

    assert (status, problem["code"], headers["Allow"]) == (405, "method_not_allowed", "POST")


async def test_every_fault_of_a_body_is_listed(house: House) -> None:
    status, problem, _ = await house.ask(
        "POST", "/v1/ingest", json={"url": "http://e.com", "prioritty": 1, "kind": "x"}
    )

    assert (status, problem["code"]) == (400, "invalid_request")
    assert sorted(fault["field"] for fault in problem["errors"]) == ["kind", "prioritty"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "line 1"),
        (b"\xff", "UTF-8"),
        (b"[1]", "object"),
        (b'{"ids": [], "ids": []}', "twice"),
        (b'{"status": NaN}', "NaN"),
        (b"[" * 100 + b"]" * 100, "nested"),
        (b"[" * 10_000, "nested"),
        (b"[" * 100_000, "values"),
        (b"[" + b'{"a":1},' * 30_000 + b"1]", "values"),
        (b"{" + b",".join(b'"k%d":1' % at for at in range(30_000)) + b"}", "values"),
        (b'{"status": ' + b"1" * 5000 + b"}", "digits"),
        (b'{"status": 0.' + b"1" * 5000 + b"}", "digits"),
        (b'{"status": 1e999}', "too large"),
        (b'{"status": "a\nb"}', "control character"),
        (b'{"status": "\\ud800"}', "surrogate"),
        (b'{"\\udc00": 1}', "surrogate"),
        (b"", "ids"),
    ],
)
async def test_what_is_not_json_is_said_to_be_so(house: House, body: bytes, said: str) -> None:
    status, problem, _ = await house.ask(
        "POST", "/v1/tasks/cancel", data=body, headers={"Content-Type": "application/json"}
    )

    assert status == 400
    assert said in problem["detail"]


@pytest.mark.parametrize(
    ("path", "field"), [("/v1/ingest", "data"), ("/v1/images/edits", "image"), ("/v1/images/edits", "mask")]
)
@pytest.mark.parametrize(
    ("beside", "said"),
    [
        (b'"field": "a\nb"', "ontrol character"),
        (b'"prompt": NaN', "NaN"),
        (b'"priority": ' + b"1" * 5000, "digits"),
        (b'"priority": 1e999', "too large"),
        (b'"x": 1, "x": 2', "twice"),
        (b'"prompt": "\\udfff"', "surrogate"),
        (b'"x": [' + b"{}," * 30_000 + b"1]", "values"),
        (b'"x": {' + b",".join(b'"k%d":1' % at for at in range(30_000)) + b"}", "values"),
        (b'"x": ' + b"[" * 100 + b"]" * 100, "nested"),
    ],
)
async def test_what_stands_beside_media_is_held_to_the_same(
    house: House, path: str, field: str, beside: bytes, said: str
) -> None:
    for picture in (png(8, 8), png(8, 8, png_chunk(b"tEXt", bytes(90_000)))):
        text = base64.b64encode(picture)
        body = b'{"' + field.encode() + b'": "' + text + b'", ' + beside + b"}"
        status, problem, _ = await house.ask("POST", path, data=body, headers={"Content-Type": "application/json"})

        assert (status, said in str(problem)) == (400, True), problem
    assert (await house.ask("GET", "/v1/files"))[1]["data"] == []


@pytest.mark.parametrize("path", ["/v1/ingest", "/v1/images/edits"])
@pytest.mark.parametrize("skipped", [b"\n", b"\r\n", b"\t"])
async def test_a_line_end_inside_a_string_of_base64_is_no_json(house: House, path: str, skipped: bytes) -> None:
    field = b"data" if path == "/v1/ingest" else b"image"
    body = b'{"' + field + b'": "' + b"iVBO" * 20 + skipped + b"iVBO" * 20 + b'"}'

    status, problem, _ = await house.ask("POST", path, data=body, headers={"Content-Type": "application/json"})

    assert (status, "control character" in str(problem)) == (400, True), problem


async def test_the_name_of_a_field_has_so_many_levels(house: House) -> None:
    form = aiohttp.FormData({"a" + "[b]" * 1000: "1", "prompt": "x"}, default_to_multipart=True)

    status, problem, _ = await house.ask("POST", "/v1/images/edits", data=form)

    assert (status, "levels" in str(problem)) == (400, True), problem


async def test_a_body_over_the_limit_is_refused_and_the_connection_closed(start: Start) -> None:
    house = await start(server={"max_json_bytes": 2048})

    async def endless() -> Any:
        for _ in range(50):
            yield b" " * 1000

    announced = await house.ask("POST", "/v1/ingest", data=b" " * 4096)
    chunked = await house.ask("POST", "/v1/ingest", data=endless())

    for status, problem, headers in (announced, chunked):
        assert (status, problem["code"], headers["Connection"]) == (413, "too_large", "close")


async def test_a_stalled_body_ends_with_408(start: Start) -> None:
    house = await start(server={"body_idle_seconds": 0.1})

    for path in ("/v1/ingest", "/v1/tasks/cancel"):
        reader, writer = await asyncio.open_connection("127.0.0.1", house.instance.port)
        writer.write(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{{".encode())
        head = await reader.readuntil(b"\r\n\r\n")

        assert head.startswith(b"HTTP/1.1 408 ")
        writer.close()
        await writer.wait_closed()


async def test_a_compressed_body_is_refused(house: House) -> None:
    status, problem, _ = await house.ask(
        "POST",
        "/v1/ingest",
        data=gzip.compress(b'{"url": "http://example.com"}'),
        headers={"Content-Encoding": "gzip", "Content-Type": "application/json"},
    )

    assert (status, problem["code"]) == (415, "unsupported_media")


HEAD = b"Host: localhost\r\nAuthorization: Bearer mg_secret\r\n"


@pytest.mark.parametrize("before", [b"", b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"])
@pytest.mark.parametrize(
    "request_",
    [
        b"BREW /v1/tasks HTTP/1.1\r\n" + HEAD + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",  # TLS on this port
        b"GET /v1/tasks HTTP/9.7\r\n" + HEAD + b"\r\n",
        b"GET /v1/ta\x00sks HTTP/1.1\r\n" + HEAD + b"\r\n",
        b"GET /v1/tasks HTTP/1.1\r\n" + HEAD + b"no colon\r\n\r\n",
        b"GET /v1/tasks HTTP/1.1\r\n" + HEAD + b"Bad\x00Name: 1\r\n\r\n",
        b"GET /v1/tasks HTTP/1.1\r\n" + HEAD + b"A: b\x00c\r\n\r\n",
        b"GET /v1/tasks HTTP/1.1\r\n" + HEAD + b"A: " + b"b" * 9000 + b"\r\n\r\n",
        b"GET /v1/tasks HTTP/1.1\r\n" + HEAD + b"A: b\r\n" * 200 + b"\r\n",
        b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + HEAD + b"\r\n",
        b"POST /v1/ingest HTTP/1.1\r\n" + HEAD + b"Content-Length: ten\r\n\r\n",
        b"POST /v1/ingest HTTP/1.1\r\n" + HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /v1/ingest HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
        b"POST /v1/ingest HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: gzip, identity\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_answered_and_logged_in_one_line(
    house: House, caplog: pytest.LogCaptureFixture, request_: bytes, before: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", house.instance.port)
    with capture_logs() as records:
        writer.write(before + request_)
        answers = await reader.read(-1)
        writer.close()
        await writer.wait_closed()

    assert b" 400 Bad Request\r\n" in answers
    told = [record for record in records if record.get("path") != "/livez"]
    assert [record["event"] for record in told] == ["request_malformed"]
    assert told[0]["reason"]
    assert "mg_secret" not in str(told)
    assert not [record for record in caplog.records if record.exc_info or record.levelname == "ERROR"]


async def test_headers_of_an_answer(house: House) -> None:
    _, _, headers = await house.ask("GET", "/v1/tasks", headers={"x-request-id": "mine-1"})

    assert headers["x-request-id"] == "mine-1"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "Server" not in headers


async def test_an_unsafe_request_id_is_replaced(house: House) -> None:
    _, _, headers = await house.ask("GET", "/livez", headers={"x-request-id": "a b<script>"})

    assert headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost", 200), ("127.0.0.1:1", 200), ("[::1]", 200), ("a.localhost", 200), ("evil.example", 403)],
)
async def test_a_loopback_server_answers_to_local_names_only(house: House, host: str, status: int) -> None:
    assert (await house.ask("GET", "/v1/tasks", headers={"Host": host}))[0] == status
    assert (await house.ask("GET", "/livez", headers={"Host": host}))[0] == 200


async def test_allowed_hosts_are_all(start: Start) -> None:
    house = await start(server={"allowed_hosts": ["media.example"], "public_url": "https://cdn.example"})

    statuses = {
        host: (await house.ask("GET", "/v1/tasks", headers={"Host": host}))[0]
        for host in ("media.example:8080", "cdn.example", "127.0.0.1")
    }

    assert statuses == {"media.example:8080": 200, "cdn.example": 200, "127.0.0.1": 403}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 202),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}, 202),
        ({"Sec-Fetch-Site": "none"}, 202),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:1"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://[::1"}, 403),
        ({"Origin": "https://app.example", "Sec-Fetch-Site": "cross-site"}, 202),
    ],
)
async def test_foreign_pages_may_change_nothing(start: Start, headers: dict[str, str], status: int) -> None:
    house = await start(server={"cors_origins": ["https://app.example"]})

    answered, _, _ = await house.ask("POST", "/v1/ingest", json={"url": "http://example.com/"}, headers=headers)

    assert answered == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, 403),
        ({"Origin": "https://app.example"}, 101),
        ({}, 101),
    ],
)
async def test_foreign_pages_get_no_feed(start: Start, headers: dict[str, str], status: int) -> None:
    house = await start(server={"cors_origins": ["https://app.example"]})
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}

    async with house.client.get(house.url + "/v1/ws", headers={**upgrade, **key, **headers}) as answer:
        assert answer.status == status


async def test_listed_pages_may_read(start: Start) -> None:
    house = await start(server={"cors_origins": ["https://app.example"]})
    ours, theirs = {"Origin": "https://app.example"}, {"Origin": "https://evil.example"}

    async with house.client.options(
        f"{house.url}/v1/ingest", headers={**ours, "Access-Control-Request-Method": "POST"}
    ) as preflight:
        assert preflight.status == 204
        assert preflight.headers["Access-Control-Allow-Origin"] == "https://app.example"
        assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
    _, _, seen = await house.ask("GET", "/v1/tasks", headers=ours)
    _, _, hidden = await house.ask("GET", "/v1/tasks", headers=theirs)

    assert (seen["Access-Control-Allow-Origin"], seen["Vary"]) == ("https://app.example", "Origin")
    assert "Access-Control-Allow-Origin" not in hidden
    assert hidden["Vary"] == "Origin"


async def preflight(house: House, origin: str, asked: str | None) -> tuple[int, Any]:
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    if asked is not None:
        headers["Access-Control-Request-Headers"] = asked
    async with house.client.options(f"{house.url}/v1/images/generations", headers=headers) as answer:
        return answer.status, answer.headers


async def test_a_listed_page_may_send_any_header(start: Start) -> None:
    house = await start(server={"cors_origins": ["https://app.example"]})
    stainless = "authorization,content-type,x-stainless-arch,x-stainless-retry-count,x_odd.name"

    status, said = await preflight(house, "https://app.example", stainless)
    assert (status, said["Access-Control-Allow-Headers"]) == (204, stainless)
    _, said = await preflight(house, "https://app.example", None)
    assert said["Access-Control-Allow-Headers"] == "Authorization, Content-Type"
    _, said = await preflight(house, "https://app.example", "a: b")
    assert said["Access-Control-Allow-Headers"] == "Authorization, Content-Type"
    status, said = await preflight(house, "https://evil.example", stainless)
    assert "Access-Control-Allow-Headers" not in said
    assert status >= 400


async def test_a_listed_page_may_read_what_we_say(start: Start) -> None:
    """All that a route declares, in answers and in errors."""
    house = await start(server={"cors_origins": ["https://app.example"]})
    declared = {name for owner in OWNERS for _, route in declarations(owner) for name in route.gives}
    declared |= {*RATE_HEADERS, "x-request-id", "Retry-After", *DO_NOT_RETRY}

    for path in ("/v1/models", "/v1/models/none"):
        _, _, headers = await house.ask("GET", path, headers={"Origin": "https://app.example"})
        shown = {name.strip().lower() for name in headers["Access-Control-Expose-Headers"].split(",")}
        assert {name.lower() for name in declared} <= shown


async def test_links_follow_the_name_that_the_caller_uses(start: Start) -> None:
    house = await start(server={"trusted_proxies": ["127.0.0.0/8"], "base_path": "/media"})
    task_id = await house.submit()
    stage = await house.pipeline.stage(task_id)
    stage.succeed(await house.pipeline.store(b"x", task_id=task_id, media_type="text/plain", filename="a"))
    await house.instance.service.wait(task_id)

    _, task, _ = await house.ask(
        "GET", f"/v1/tasks/{task_id}", headers={"X-Forwarded-Proto": "https", "X-Forwarded-Host": "localhost"}
    )

    file = task["result"]["file"]
    assert file["url"].startswith(f"https://localhost/media/media/{file['id']}?expires=")
    assert task["links"]["self"] == f"/media/v1/tasks/{task_id}"


async def test_a_cdn_is_named_when_there_is_one(start: Start) -> None:
    house = await start(storage={"public_base_url": "https://cdn.example/m"})
    task_id = await house.submit()
    stage = await house.pipeline.stage(task_id)
    outcome = await house.pipeline.store(b"x", task_id=task_id, media_type="text/plain", filename="a")
    stage.succeed(outcome)

    task = await house.ended(task_id)

    assert task["result"]["file"]["url_expires_at"] is None
    assert task["result"]["file"]["url"] == f"https://cdn.example/m/{outcome.files[0].key}"


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/keys", {"name": "a", "expires_in_seconds": True}, "expires_in_seconds"),
        ("/v1/ingest", {"url": "http://example.com/", "timeout_seconds": True}, "timeout_seconds"),
        ("/v1/ingest", {"url": "http://example.com/", "priority": False}, "priority"),
        ("/v1/images/generations", {"prompt": "a fox", "n": True}, "n"),
    ],
)
async def test_a_boolean_is_no_number(house: House, path: str, body: dict[str, object], field: str) -> None:
    status, answer, _ = await house.ask("POST", path, json=body)

    assert status == 400
    error = answer.get("error", answer)
    assert field in (error.get("param"), error.get("detail", "").partition(":")[0])
