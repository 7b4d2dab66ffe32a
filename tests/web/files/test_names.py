"""Names that would lead elsewhere, in every field that takes one: they stay words."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.web.conftest import House, Start

NAMES = [
    "../../etc/passwd",
    "..\\..\\windows\\system.ini",
    "/etc/passwd",
    "C:\\boot.ini",
    "....//....//a",
    "%2e%2e%2fa",
    "..%c0%afa",
    "a\x00.png",
    "a/../../b.png",
    ".",
    "..",
    "~root/a",
    "-rf",
    "$(touch canary)",
    "`touch canary`",
    "a\r\nX-Injected: yes",
    "‮gnp.exe",
    "con.txt",
    "a" * 300 + ".png",
    "file:///etc/passwd",
]
PNG = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\0\0\0\0" + bytes(40)


@pytest.fixture
async def real(start: Start) -> House:
    return await start(real=True)


def tree(folder: Path) -> set[str]:
    """Every file below; the folders of the store are made when they are first needed."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


async def sent(house: House, name: str, how: str) -> tuple[int, Any]:
    """Status and file of an upload under that name."""
    url = house.url
    if how == "header":
        call = house.client.post(f"{url}/v1/files", data=PNG, headers={"X-Filename": quote(name)})
    elif how == "form":
        head = (
            b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename*=UTF-8''" + quote(name, safe="").encode()
        )
        body = head + b"\r\n\r\n" + PNG + b"\r\n--b--\r\n"
        call = house.client.post(
            f"{url}/v1/files", data=body, headers={"Content-Type": "multipart/form-data; boundary=b"}
        )
    else:
        document = {"data": base64.b64encode(PNG).decode(), "filename": name}
        call = house.client.post(f"{url}/v1/ingest", json=document)
    async with call as answer:
        document = await answer.json(content_type=None)
    return answer.status, document["result"]["file"] if how == "json" and answer.status == 202 else document


@pytest.mark.parametrize("how", ["header", "form", "json"])
@pytest.mark.parametrize("name", NAMES)
async def test_a_name_is_only_ever_a_word(real: House, tmp_path: Path, name: str, how: str) -> None:
    before = await asyncio.to_thread(tree, tmp_path)

    status, file = await sent(real, name, how)

    assert status in {201, 202, 400}, file
    made = await asyncio.to_thread(tree, tmp_path) - before
    if status == 400:
        assert made == set()
        return
    assert not set(file["filename"]) & set("/\\\x00\r\n"), file["filename"]
    assert file["filename"] not in {"", ".", ".."}
    assert {Path(path).name for path in made if "." in Path(path).name} == {f"{file['id']}.png"}
    async with real.client.get(f"{real.url}/v1/files/{file['id']}/content?download=true") as answer:
        assert await answer.read() == PNG
        assert "X-Injected" not in answer.headers
        disposition = answer.headers["Content-Disposition"]
    assert disposition.startswith('attachment; filename="')
    assert ".." + "/" not in disposition


@pytest.mark.parametrize(
    "path",
    [
        "/v1/files/../../etc/passwd",
        "/v1/files/..%2f..%2fmediagen.db/content",
        "/v1/files/%2e%2e/content",
        "/files/..%2f..%2fmediagen.db",
        "/v1/tasks/..%2f..%2fetc",
        "/v1/files/file_00000000000000000000000000000000%00/content",
        "//etc/passwd",
    ],
)
async def test_a_path_leads_nowhere_else(real: House, path: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", real.instance.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()

    assert answer.split(b" ", 2)[1] in {b"400", b"404"}
    assert b"SQLite" not in answer
    assert b"root:" not in answer


async def test_a_planted_link_is_not_followed(real: House, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    await asyncio.to_thread(secret.write_bytes, PNG)
    _, file, _ = await real.ask("POST", "/v1/files", data=PNG)
    (stored,) = await asyncio.to_thread(lambda: list(tmp_path.rglob(f"{file['id']}.png")))
    await asyncio.to_thread(stored.unlink)
    await asyncio.to_thread(stored.symlink_to, secret)

    async with real.client.get(f"{real.url}/v1/files/{file['id']}/content") as answer:
        status, body = answer.status, await answer.read()

    assert status >= 400
    assert PNG not in body
