"""Many base64 fields of one JSON document, decoded while it arrives."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mediagen.core.errors import InvalidBase64, InvalidRequest, TooLarge
from mediagen.streams.json.media_fields import MediaFields
from tests.infra.content import content_bytes

PATTERNS = [("data", "*", "b64_json"), ("data", "*", "url")]


async def pieces(document: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(document), size):
        yield document[start : start + size]


async def read(document: bytes, size: int) -> tuple[list[tuple[tuple[str, ...], bytes]], Any]:
    fields = MediaFields(pieces(document, size), PATTERNS)
    found = []
    async for field in fields.fields():
        is_url = field.place[-1] == "url" and await field.peek(5) != b"data:"
        data = (await field.text()).encode() if is_url else b"".join([bytes(chunk) async for chunk in field.chunks()])
        found.append((field.place, data))
    return found, fields.document


@settings(max_examples=60)
@given(
    items=st.lists(
        st.tuples(st.sampled_from(["b64_json", "url", "datauri", "other"]), st.binary(max_size=200)), max_size=5
    ),
    size=st.integers(1, 64),
)
async def test_every_field_comes_out_whatever_the_pieces(items: list[tuple[str, bytes]], size: int) -> None:
    made: list[dict[str, str]] = []
    expected = []
    for number, (kind, data) in enumerate(items):
        text = base64.b64encode(data).decode()
        match kind:
            case "b64_json":
                made.append({"revised_prompt": 'a "quoted" one', "b64_json": text})
                expected += [(("data", str(number), "b64_json"), data)] if data else []
            case "url":
                made.append({"url": f"http://h/{number}?a=1&b=2"})
                expected.append((("data", str(number), "url"), f"http://h/{number}?a=1&b=2".encode()))
            case "datauri":
                made.append({"url": f"data:image/png;base64,{text}"})
                expected.append((("data", str(number), "url"), data))
            case _:
                made.append({"b64_jsonx": text})
    document = json.dumps({"created": 1, "data": made, "usage": {"b64_json": "x"}}).encode()

    found, rest = await read(document, size)

    assert found == expected
    assert rest["usage"] == {"b64_json": "x"}
    assert len(rest["data"]) == len(items)


async def test_what_nobody_takes_is_skipped() -> None:
    document = json.dumps({"data": [{"b64_json": "AAAA" * 99}, {"b64_json": "AQID"}]}).encode()
    fields = MediaFields(pieces(document, 7), PATTERNS)
    iterator = fields.fields()

    await anext(iterator)
    second = await anext(iterator)

    assert b"".join([bytes(chunk) async for chunk in second.chunks()]) == b"\x01\x02\x03"
    await fields.aclose()


@pytest.mark.parametrize(
    ("document", "error"),
    [
        (b'{"data":[{"b64_json":"AA*A"}]}', InvalidBase64),
        (b'{"data":[{"b64_json":"AAAA', InvalidRequest),
        (b"<html>", InvalidRequest),
        (b'{"data":[{"url":"' + b"h" * 20_000 + b'"}]}', TooLarge),
    ],
)
async def test_what_is_wrong_is_said(document: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        await read(document, 4096)


@pytest.mark.parametrize("escaped", [False, True])
@pytest.mark.parametrize("spaced", [False, True])
@pytest.mark.parametrize("size", [65_535, 262_144, 262_145, 700_001])
async def test_long_fields_come_whole_however_they_are_written(size: int, escaped: bool, spaced: bool) -> None:
    data = content_bytes(600_001)
    text = base64.encodebytes(data).replace(b"\n", rb"\n") if spaced else base64.b64encode(data)
    text = text.replace(b"/", rb"\/") if escaped else text
    document = (
        b'{"data": [{"b64_json": "' + text + b'"}, {"b64_json": "' + text + b'", "x": 1}], "end": "' + text + b'"}'
    )

    found, rest = await read(document, size)

    assert [data for _, data in found] == [data, data]
    assert rest["data"] == [{"b64_json": ""}, {"b64_json": "", "x": 1}]
    assert len(rest["end"]) > len(data)
