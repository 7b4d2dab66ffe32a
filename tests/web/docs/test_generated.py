"""Requests made from ``/openapi.json``, right ones and wrong ones, against the server as an operator starts it.

No answer is a 5xx, and each is one that the document has: status, media type, headers, schema.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi import checks

from tests.infra.servers.mediagen import Server

EXAMPLES = 4
CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    checks.allow_header_conformance,
]

LENIENT = [check for check in CHECKS if check is not schemathesis.checks.negative_data_rejection]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with Server(tmp_path) as started:
        yield started


def _generate(url: str) -> dict[str, int]:
    """Ask for every operation what can be asked; how often each status was answered."""
    statuses: dict[str, int] = {}
    with requests.Session() as session:
        document: dict[str, Any] = session.get(f"{url}/openapi.json", timeout=10).json()
        sent = {"data": b64encode(b"a fox").decode(), "filename": "fox.txt", "webhook_url": f"{url}/livez"}
        task = session.post(f"{url}/v1/ingest", json=sent, timeout=10).json()
        key = session.post(f"{url}/v1/keys", json={"name": "generated"}, timeout=10).json()
        told = session.get(f"{url}/v1/webhooks/deliveries", timeout=10).json()["last_id"]
        file_id = task["result"]["file"]["id"]
        small = {"prompt": "a fox", "seconds": "1", "size": "64x64"}
        video = session.post(f"{url}/v1/videos", json=small, timeout=10).json()
        real = {
            "tasks": task["id"],
            "files": file_id,
            "media": file_id,
            "keys": key["id"],
            "generations": video["task_id"],
            "videos": video["id"],
            "models": "builtin-poster",
            "deliveries": told,
        }
        for result in schemathesis.openapi.from_dict(document).get_all_operations():
            assert isinstance(result, Ok), result
            operation = result.ok()
            # ids that are made up are unknown; with those that there are, the rest is reached
            known = {"id": real[operation.path.split("/{")[0].rpartition("/")[2]]} if "{id}" in operation.path else None
            # HEAD is the handler of GET: once is enough
            for mode in (GenerationMode.POSITIVE,) if operation.method == "head" else GenerationMode:
                for path_parameters in (None, known) if known else (None,):

                    @settings(
                        max_examples=EXAMPLES,
                        derandomize=True,
                        database=None,
                        phases=[Phase.generate],
                        suppress_health_check=list(HealthCheck),
                    )
                    @given(case=operation.as_strategy(generation_mode=mode, path_parameters=path_parameters))
                    def ask(case: Case[Any]) -> None:
                        answer = case.call(base_url=url, session=session, timeout=10)
                        statuses[str(answer.status_code)] = statuses.get(str(answer.status_code), 0) + 1
                        # an empty parameter counts as one that was left out, so it is no wrong one
                        empty = "" in (case.query or {}).values()
                        case.validate_response(answer, checks=LENIENT if empty else CHECKS)

                    # where nothing is taken, nothing can be wrong
                    with suppress(Unsatisfiable) if mode is GenerationMode.NEGATIVE else nullcontext():
                        ask()
    return statuses


@pytest.mark.timeout(180)  # a quarter of a minute on an idle machine
async def test_generated_requests_are_answered_as_documented(server: Server) -> None:
    statuses = await asyncio.to_thread(_generate, server.url)

    assert {"200", "202", "400", "404"} <= set(statuses)
    assert sum(statuses.values()) > 100
