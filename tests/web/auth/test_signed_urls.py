"""Signed links: what they open, for how long, and that nothing of them can be altered or is written down."""

from __future__ import annotations

import asyncio
import io
import logging
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import pytest
import structlog

from mediagen import log
from mediagen.core.files import FileKind
from mediagen.core.redaction import redact_text
from mediagen.web.auth.signed_urls import Links
from mediagen.web.http.problems import Forbidden, LinkExpired
from tests.infra.s3 import Bucket
from tests.infra.servers.radosgw import RadosGW
from tests.web.conftest import DATA, House, Start, in_bucket, stored

NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)


async def link_to(house: House, file_id: str, query: str = "") -> tuple[str, dict[str, Any]]:
    _, view, _ = await house.ask("GET", f"/v1/files/{file_id}{query}")
    return view["url"], view


async def opened(house: House, url: str, method: str = "GET") -> tuple[int, bytes, Any]:
    async with house.client.request(method, url) as answer:
        return answer.status, await answer.read(), answer.headers


def altered(url: str, **changes: str | None) -> str:
    """``url`` with other words in its query; None leaves one out."""
    parts = urlsplit(url)
    query = {**dict(parse_qsl(parts.query)), **changes}
    return parts._replace(query=urlencode({name: value for name, value in query.items() if value is not None})).geturl()


async def test_the_link_opens_the_file_until_it_ends(start: Start) -> None:
    house = await start(storage={"url_ttl_seconds": 100})
    file = await stored(house)
    before = datetime.now(UTC)

    url, view = await link_to(house, file.id)

    ends = datetime.fromisoformat(view["url_expires_at"])
    assert timedelta(seconds=98) < ends - before <= timedelta(seconds=101)
    assert url.startswith(f"{house.url}/media/{file.id}?")
    status, body, headers = await opened(house, url)
    assert (status, body, headers["Content-Type"]) == (200, DATA, "video/mp4")
    assert headers["ETag"] == f'"{file.etag}"'
    assert headers["Content-Disposition"].startswith("inline;")
    assert headers["Referrer-Policy"] == "no-referrer"
    kept, _, seconds = headers["Cache-Control"].rpartition("=")
    assert kept == "private, max-age"
    assert 95 <= int(seconds) <= 100
    assert (await opened(house, url, "HEAD"))[0] == 200
    async with house.client.get(url, headers={"Range": "bytes=3-5"}) as answer:
        assert (answer.status, await answer.read()) == (206, DATA[3:6])


async def test_a_link_to_a_download_saves_the_file_by_its_name(house: House) -> None:
    file = await stored(house, name="Größe 1.mp4")

    url, _ = await link_to(house, file.id, "?download=true")

    _, _, headers = await opened(house, url)
    assert headers["Content-Disposition"].startswith("attachment;")
    assert "filename*=UTF-8''Gr%C3%B6%C3%9Fe%201.mp4" in headers["Content-Disposition"]
    assert (await opened(house, altered(url, download=None)))[0] == 403
    plain, _ = await link_to(house, file.id)
    assert (await opened(house, f"{plain}&download=true"))[0] == 403


async def test_an_altered_link_is_refused_before_anything_is_looked_up(house: House) -> None:
    file, other = await stored(house), await stored(house)
    url, _ = await link_to(house, file.id)
    signature = parse_qs(urlsplit(url).query)["signature"][0]
    turned = ("B" if signature[0] == "A" else "A") + signature[1:]
    wrong = [
        altered(url, signature=turned),
        altered(url, signature=None),
        altered(url, signature=""),
        altered(url, signature="ü" * 43),
        altered(url, expires="99999999999"),
        altered(url, expires="-1"),
        altered(url, expires="x"),
        altered(url, expires=None),
        altered(url, download="1"),
        urlsplit(url)._replace(query="").geturl(),
        url.replace(file.id, other.id),
        url.replace(file.id, file.id.upper()),
    ]
    unknown = [link.replace(file.id, "file_" + "0" * 32) for link in (url, *wrong)]

    said = set()
    for link in wrong + unknown:
        async with house.client.get(link) as answer:
            problem = await answer.json(content_type=None)
            said.add((answer.status, problem["code"], problem["detail"]))

    assert len(said) == 1
    assert [(status, code) for status, code, _ in said] == [(403, "forbidden")]
    assert (await opened(house, f"{url}&utm_source=x"))[0] == 200  # what mail programs add


async def test_an_ended_link_says_so(start: Start) -> None:
    house = await start(storage={"url_ttl_seconds": 1})
    file = await stored(house)
    url, _ = await link_to(house, file.id)

    await asyncio.sleep(1.1)

    async with house.client.get(url) as answer:
        assert (answer.status, (await answer.json(content_type=None))["code"]) == (403, "link_expired")


async def test_a_good_link_to_what_is_gone_is_not_found(house: House) -> None:
    deleted, lost = await stored(house), await stored(house)
    links = [(await link_to(house, file.id))[0] for file in (deleted, lost)]
    async with house.client.delete(f"{house.url}/v1/files/{deleted.id}") as answer:
        assert answer.status == 204
    Path(house.instance.storage.path_of(lost.key)).unlink()  # type: ignore[attr-defined]

    assert [(await opened(house, link))[0] for link in links] == [404, 404]


async def test_links_stay_good_over_a_restart_and_are_no_other_servers(start: Start, tmp_path: Path) -> None:
    house = await start()
    file = await stored(house)
    url, _ = await link_to(house, file.id)
    await house.stop()
    with sqlite3.connect(tmp_path / "data" / "mediagen.db") as connection:
        (secret,) = connection.execute("SELECT value FROM meta WHERE key = 'link_secret'").fetchone()
    connection.close()

    again = await start()

    moved = urlsplit(url)._replace(netloc=urlsplit(again.url).netloc).geturl()
    assert (await opened(again, moved))[:2] == (200, DATA)
    await again.stop()
    assert len(secret) == 32
    with sqlite3.connect(tmp_path / "data" / "mediagen.db") as connection:
        connection.execute("UPDATE meta SET value = x'' WHERE key = 'link_secret'")
    connection.close()
    new = await start()
    assert (await opened(new, moved.replace(urlsplit(again.url).netloc, urlsplit(new.url).netloc)))[0] == 403


async def test_a_link_to_a_bucket_leads_to_a_short_one(start: Start, radosgw: RadosGW, bucket: Bucket) -> None:
    house = await start(storage={**in_bucket(radosgw, bucket), "url_ttl_seconds": 77})
    file, page = await stored(house, name="f.mp4"), await stored(house, b"<p>", "text/html", FileKind.OTHER, "a.html")

    url, _ = await link_to(house, file.id)

    async with house.client.get(url, allow_redirects=False) as answer:
        assert answer.status == 302
        assert answer.headers["Cache-Control"] == "private, no-store"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        location = answer.headers["Location"]
    assert location.startswith(radosgw.endpoint)
    assert parse_qs(urlsplit(location).query)["X-Amz-Expires"] == ["77"]
    status, body, headers = await opened(house, url)
    assert (status, body, headers["Content-Type"]) == (200, DATA, "video/mp4")
    assert headers["Content-Disposition"].startswith("inline;")
    assert headers["Cache-Control"] == "private, max-age=3600"
    download, _ = await link_to(house, file.id, "?download=true")
    assert (await opened(house, download))[2]["Content-Disposition"].startswith('attachment; filename="f.mp4"')
    _, _, headers = await opened(house, (await link_to(house, page.id))[0])
    assert headers["Content-Type"] == "application/octet-stream"
    assert headers["Content-Disposition"].startswith("attachment;")


async def test_the_buckets_own_link_is_given_on_request(start: Start, radosgw: RadosGW, bucket: Bucket) -> None:
    house = await start(storage={**in_bucket(radosgw, bucket), "url_ttl_seconds": 77})
    file = await stored(house, name="f.mp4")
    _, view, _ = await house.ask("GET", f"/v1/files/{file.id}?url_mode=presigned")

    assert view["url"].startswith(radosgw.endpoint)
    assert 60 < (datetime.fromisoformat(view["url_expires_at"]) - datetime.now(UTC)).total_seconds() <= 77
    status, body, headers = await opened(house, view["url"])
    assert (status, body, headers["Content-Type"]) == (200, DATA, "video/mp4")


async def test_a_disk_has_no_links_of_its_own(house: House) -> None:
    file = await stored(house)
    status, problem, _ = await house.ask("GET", f"/v1/files/{file.id}?url_mode=presigned")

    assert (status, problem["errors"] if "errors" in problem else problem["code"]) == (400, "invalid_request")
    assert "url_mode" in problem["detail"]


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """All that is logged, down to the last detail."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    text = io.StringIO()
    log.configure("debug", "json", text)
    yield text
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


async def test_no_link_is_written_down(
    start: Start, radosgw: RadosGW, bucket: Bucket, written: io.StringIO, tmp_path: Path
) -> None:
    house = await start(storage=in_bucket(radosgw, bucket))
    file = await stored(house)
    url, _ = await link_to(house, file.id)
    async with house.client.get(url, allow_redirects=False) as answer:
        location = answer.headers["Location"]
    await opened(house, url)
    await opened(house, altered(url, expires="1"))
    rows = b"".join(path.read_bytes() for path in (tmp_path / "data").glob("mediagen.db*"))

    assert file.id in written.getvalue()
    assert file.id.encode() in rows
    for link, word in ((url, "signature"), (location, "X-Amz-Signature")):
        (secret,) = parse_qs(urlsplit(link).query)[word]
        assert secret not in written.getvalue()
        assert secret.encode() not in rows
        assert secret not in redact_text(f"GET {link} failed")


def links(at: datetime, secret: bytes = bytes(32)) -> Links:
    return Links(secret, ttl_seconds=60, base_path="/x", now=lambda: at)


def test_a_link_is_good_until_its_second(house_file: Any) -> None:
    url, ends = links(NOW).of(house_file, "https://a.example")
    words = {name: value for name, value in parse_qsl(urlsplit(url).query) if name != "download"}

    assert url.startswith(f"https://a.example/x/media/{house_file.id}?")
    assert ends == NOW + timedelta(seconds=60)
    assert links(NOW + timedelta(seconds=59)).check(house_file.id, **words, download="") == 1
    with pytest.raises(LinkExpired):
        links(NOW + timedelta(seconds=60)).check(house_file.id, **words, download="")
    with pytest.raises(Forbidden, match="not from this server"):
        links(NOW, bytes(31) + b"\1").check(house_file.id, **words, download="")


def test_words_cannot_be_moved_from_one_place_to_another() -> None:
    made = links(NOW)
    seen = {made._sign(*words) for words in (("a", "12", ""), ("a1", "2", ""), ("a", "1", "2"), ("", "a12", ""))}

    assert len(seen) == 4
