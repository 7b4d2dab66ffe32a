"""The API document is valid, says what the declarations say, and its page is safe to look at."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

import pytest
from openapi_spec_validator import validate

from mediagen.web.api.routing import declarations
from mediagen.web.docs.html import page
from mediagen.web.docs.openapi import HEADERS, document
from mediagen.web.docs.routes import PAGE_POLICY
from mediagen.web.middleware.rate_limit import RATE_HEADERS
from tests.web.conftest import House, Start
from tests.web.middleware.test_errors import OWNERS

DOCUMENT = document(OWNERS)
OPERATIONS = {
    (method.upper(), path): operation for path, item in DOCUMENT["paths"].items() for method, operation in item.items()
}


def test_the_document_is_valid() -> None:
    validate(DOCUMENT)


def test_every_method_of_every_route_is_in_it() -> None:
    declared = {
        (method, route.path) for owner in OWNERS for _, route in declarations(owner) for method in route.methods
    }

    assert set(OPERATIONS) == declared
    assert ("HEAD", "/v1/files/{id}/content") in declared


def test_operation_ids_are_unique_and_stable() -> None:
    ids = [operation["operationId"] for operation in OPERATIONS.values()]

    assert len(set(ids)) == len(ids)
    # generated clients name their functions by these: a changed one breaks them
    assert {name for name in ids if not name.startswith("head_")} >= {
        "ingest",
        "list_tasks",
        "get_task",
        "cancel_task",
        "retry_task",
        "set_priority",
        "delete_task",
        "cancel_tasks",
        "retry_tasks",
        "events",
        "feed",
        "list_files",
        "get_file",
        "get_content",
    }


def test_parameters_come_from_the_query_model() -> None:
    parameters = {parameter["name"]: parameter for parameter in OPERATIONS["GET", "/v1/tasks"]["parameters"]}

    assert parameters["limit"]["schema"] == {
        "maximum": 100,
        "minimum": 1,
        "type": "integer",
        "default": 20,
        "title": "Limit",
    }
    assert parameters["limit"]["description"] == "items per page"
    assert parameters["status"]["schema"]["$ref"] == "#/components/schemas/TaskStatus"
    assert not any(parameter["required"] for parameter in parameters.values())


def test_a_streamed_body_is_described_by_its_model() -> None:
    ingest = OPERATIONS["POST", "/v1/ingest"]

    assert ingest["requestBody"]["required"]
    assert ingest["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/IngestRequest")
    assert set(ingest["responses"]["202"]["headers"]) == {"x-request-id", "Location", "Retry-After", "x-mediagen-task"}
    assert {parameter["name"] for parameter in ingest["parameters"]} == {"Idempotency-Key"}


@pytest.mark.parametrize("path", ["/v1/files", "/files"])
def test_an_upload_is_the_file_itself_or_a_form(path: str) -> None:
    upload = OPERATIONS["POST", path]

    assert set(upload["requestBody"]["content"]) == {"multipart/form-data", "application/octet-stream"}
    assert upload["requestBody"]["content"]["multipart/form-data"]["schema"]["required"] == ["file"]
    assert {"name": "X-Filename", "in": "header"}.items() <= upload["parameters"][0].items()
    assert upload["tags"] == ["files"]
    assert "<code>multipart/form-data</code>" in page(DOCUMENT)


def test_what_has_no_body_is_described_without_one() -> None:
    assert "content" not in OPERATIONS["DELETE", "/v1/files/{id}"]["responses"]["204"]


def test_errors_are_problems_with_the_codes_of_the_declaration() -> None:
    reference = OPERATIONS["POST", "/v1/tasks/{id}/retry"]["responses"]["409"]["$ref"]
    conflict = DOCUMENT["components"]["responses"][reference.rpartition("/")[2]]
    busy = DOCUMENT["components"]["responses"]["429.queue_full.rate_limited"]

    schema = conflict["content"]["application/problem+json"]["schema"]
    assert schema["allOf"][0] == {"$ref": "#/components/schemas/Problem"}
    assert schema["allOf"][1]["properties"]["code"]["enum"] == ["attempts_exhausted", "conflict"]
    assert {"Retry-After", *RATE_HEADERS} <= set(busy["headers"])


@pytest.mark.parametrize("method", ["get", "post"])
def test_every_call_can_be_one_too_many(method: str) -> None:
    assert all("429" in operation["responses"] for (verb, _), operation in OPERATIONS.items() if verb == method.upper())


def test_every_declared_header_has_its_sentence() -> None:
    named = {
        name
        for owner in OWNERS
        for _, route in declarations(owner)
        for name in (*route.takes, *route.gives, *(given for reply in route.also for given in reply.gives))
    }

    assert named | {"x-request-id", "WWW-Authenticate", *RATE_HEADERS} == set(HEADERS)


@pytest.mark.parametrize(("path", "media_type"), [("/openapi.json", "application/json"), ("/docs", "text/html")])
async def test_it_is_served_once_and_then_known(start: Start, path: str, media_type: str) -> None:
    house = await start(server={"base_path": "/media"})
    async with house.client.get(house.url + path) as first:
        body = await first.text()
    async with house.client.get(house.url + path, headers={"If-None-Match": first.headers["ETag"]}) as again:
        assert (again.status, await again.read()) == (304, b"")
    async with house.client.get(house.url + path, headers={"If-None-Match": '"other"'}) as other:
        assert (other.status, await other.text()) == (200, body)
    async with house.client.head(house.url + path) as head:
        assert head.headers["ETag"] == first.headers["ETag"]

    assert (first.status, first.content_type, first.headers["Cache-Control"]) == (200, media_type, "no-cache")
    assert "/media" in body
    if path == "/openapi.json":
        assert set(json.loads(body)["paths"]) == set(DOCUMENT["paths"])


class Elements(HTMLParser):
    """What a page holds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            assert not name.startswith("on"), "a handler is a script"
            assert name != "style", "our policy allows the style sheet alone"
            if name == "id":
                self.ids.append(value or "")
            elif name == "href":
                self.links.append(value or "")
            elif name == "src":
                self.loaded.append(value or "")


def test_the_page_needs_no_script_and_nothing_from_elsewhere() -> None:
    found = Elements(page(DOCUMENT))

    assert not found.tags & {"script", "link", "img", "iframe", "object", "embed", "form"}
    assert found.loaded == []
    assert all(link.startswith(("#", "/openapi.json")) for link in found.links)
    assert "url(" not in page(DOCUMENT)
    assert "@import" not in page(DOCUMENT)


def test_every_link_in_the_page_leads_somewhere() -> None:
    found = Elements(page(DOCUMENT))

    assert len(set(found.ids)) == len(found.ids)
    assert {link[1:] for link in found.links if link.startswith("#")} <= set(found.ids)
    assert {operation["operationId"] for operation in OPERATIONS.values()} <= set(found.ids)


async def test_the_policy_names_the_one_style_sheet(house: House) -> None:
    async with house.client.get(house.url + "/docs") as answer:
        policy = answer.headers["Content-Security-Policy"]

    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy


def _hostile(value: Any) -> Any:
    """The document with markup in every text."""
    if isinstance(value, dict):
        return {key: item if key in {"$ref", "operationId", "in"} else _hostile(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_hostile(item) for item in value]
    return f'{value}<script>"&' if isinstance(value, str) else value


def test_code_in_descriptions_is_shown_as_code() -> None:
    made = page(DOCUMENT)

    assert "exactly one of <code>url</code> and <code>data</code>" in made
    assert "``" not in made


def test_the_page_escapes_everything() -> None:
    document = _hostile(DOCUMENT)
    for item in document["paths"].values():
        for operation in item.values():
            operation["tags"] = ["tag<script>"]
    document["tags"] = [{"name": "tag<script>"}]

    assert "<script" not in page(document)


@pytest.mark.parametrize("base_path", ["", "/media"])
async def test_a_missing_path_leads_a_browser_to_the_documents(start: Start, base_path: str) -> None:
    house = await start(server={"base_path": base_path})
    browser = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
    async with house.client.get(house.url + "/nothing/<b>here", headers=browser) as answer:
        shown = await answer.text()
    async with house.client.get(house.url + "/nothing") as for_programs:
        problem = await for_programs.json()

    assert (answer.status, answer.content_type) == (404, "text/html")
    assert answer.headers["Content-Security-Policy"] == PAGE_POLICY
    found = Elements(shown)
    assert set(found.links) == {f"{base_path}/docs", f"{base_path}/openapi.json"}
    assert "<b>" not in shown
    for link in found.links:
        async with house.client.get(str(answer.url.origin()) + link) as there:
            assert there.status == 200
    assert (for_programs.status, for_programs.content_type) == (404, "application/problem+json")
    assert f"{base_path}/docs lists the paths" in problem["detail"]
