"""Pictures of films over HTTP, from both stores; and films of a provider that are none."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from tests.infra.process import need
from tests.infra.s3 import Bucket
from tests.infra.servers.radosgw import RadosGW
from tests.infra.servers.vendor import Say, VendorServer
from tests.pipelines.attempts import files_below
from tests.web.conftest import House, Start, in_bucket
from tests.web.openai_compat.test_videos import create, done

pytestmark = pytest.mark.usefixtures("ffmpeg")

PICTURES = {"thumbnail": ("image/webp", b"WEBP", ".webp"), "spritesheet": ("image/jpeg", b"\xff\xd8\xff", ".jpg")}


@pytest.fixture
def ffmpeg() -> None:
    need("ffmpeg", "ffprobe")


async def made(house: House) -> str:
    """Path of the content of a film."""
    return f"/v1/videos/{(await done(house, (await create(house))['id']))['id']}/content"


async def fetched(house: House, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes, dict[str, str]]:
    async with house.client.request(method, house.url + path, headers=headers) as answer:
        return answer.status, await answer.read(), {name.lower(): value for name, value in answer.headers.items()}


@pytest.mark.parametrize("name", PICTURES)
async def test_a_picture_is_content_like_any_other(start: Start, tmp_path: Path, name: str) -> None:
    house = await start(real=True)
    content = await made(house)
    path = f"{content}?variant={name}"
    media_type, magic, extension = PICTURES[name]

    status, nothing, first = await fetched(house, path, "HEAD")  # makes it as well: it knows how long it is
    _, data, headers = await fetched(house, path)

    assert (status, nothing) == (200, b"")
    assert magic in data[:16]
    assert int(first["content-length"]) == len(data)
    assert (headers["content-type"], headers["etag"]) == (media_type, first["etag"])
    assert headers["content-disposition"].startswith("inline")
    assert f"-{name}{extension}" in headers["content-disposition"]
    assert (await fetched(house, path, **{"If-None-Match": headers["etag"]}))[:2] == (304, b"")
    part = await fetched(house, path, Range="bytes=2-9")
    assert part[:2] == (206, data[2:10])
    assert part[2]["content-range"] == f"bytes 2-9/{len(data)}"
    assert (await fetched(house, path, Range=f"bytes={len(data)}-"))[0] == 416
    assert (await fetched(house, path, **{"If-Match": '"other"'}))[0] == 412
    folder = tmp_path / "data" / "media"
    assert len([key for key in files_below(folder) if key.startswith("thumbnails/")]) == 1


async def test_a_film_lists_its_pictures_and_takes_them_along(start: Start, tmp_path: Path) -> None:
    house = await start(real=True)
    content = await made(house)
    assert (await house.ask("GET", "/v1/files"))[1]["data"][0]["variants"] == []
    for name in PICTURES:
        await fetched(house, f"{content}?variant={name}")

    _, listed, _ = await house.ask("GET", "/v1/files")

    (film,) = listed["data"]
    assert (film["media_type"], [each["name"] for each in film["variants"]]) == (
        "video/mp4",
        ["spritesheet", "thumbnail"],
    )
    sheet, picture = film["variants"]
    assert (picture["media_type"], picture["width"], picture["height"]) == ("image/webp", 160, 96)
    assert (sheet["media_type"], sheet["width"], sheet["height"]) == ("image/jpeg", 800, 480)
    for each in film["variants"]:
        assert set(each) == {"name", "media_type", "bytes", "width", "height", "url"}
        async with house.client.get(each["url"]) as shown:
            assert (shown.status, len(await shown.read())) == (200, each["bytes"])
    assert (await house.ask("GET", f"/v1/files/{film['id']}"))[1]["variants"][0]["name"] == "spritesheet"
    _, task, _ = await house.ask("GET", f"/v1/tasks/{film['task_id']}")
    assert len(task["result"]["file"]["variants"]) == 2

    assert (await house.ask("DELETE", content.removesuffix("/content")))[0] == 200

    assert files_below(tmp_path / "data" / "media") == []
    for each in film["variants"]:
        async with house.client.get(each["url"]) as gone:
            assert gone.status == 404


@pytest.mark.parametrize("by", ["file", "task"])
async def test_however_a_film_is_deleted(start: Start, tmp_path: Path, by: str) -> None:
    house = await start(real=True)
    await fetched(house, f"{await made(house)}?variant=thumbnail")
    _, listed, _ = await house.ask("GET", "/v1/files")
    (film,) = listed["data"]
    paths = {"file": f"/v1/files/{film['id']}", "task": f"/v1/tasks/{film['task_id']}?media=true"}

    status, _, _ = await house.ask("DELETE", paths[by])

    assert status in {200, 204}
    assert files_below(tmp_path / "data" / "media") == []


async def test_two_who_ask_first_get_the_same(start: Start, tmp_path: Path) -> None:
    house = await start(real=True)
    path = f"{await made(house)}?variant=thumbnail"

    answers = await asyncio.gather(*(fetched(house, path) for _ in range(6)))

    assert {(status, headers["etag"]) for status, _, headers in answers} == {(200, answers[0][2]["etag"])}
    assert len(files_below(tmp_path / "data" / "media" / "thumbnails")) == 1


@pytest.mark.parametrize("serve", ["redirect", "stream"])
async def test_pictures_of_films_in_a_bucket(start: Start, radosgw: RadosGW, bucket: Bucket, serve: str) -> None:
    house = await start(real=True, storage=in_bucket(radosgw, bucket, serve=serve))
    content = await made(house)

    for name, (media_type, magic, _) in PICTURES.items():
        status, data, headers = await fetched(house, f"{content}?variant={name}")
        assert (status, headers["content-type"]) == (200, media_type)
        assert magic in data[:16]
        head = await fetched(house, f"{content}?variant={name}", "HEAD")
        assert int(head[2]["content-length"]) == len(data)

    keys = await bucket.keys()
    assert (len(keys), len([key for key in keys if key.startswith("thumbnails/")])) == (3, 2)
    await house.ask("DELETE", content.removesuffix("/content"))
    assert await bucket.keys() == []
    assert await bucket.uploads() == []


@pytest.mark.parametrize("what", ["playlist", "sound"])
async def test_a_providers_film_that_is_none_reaches_nothing(start: Start, tmp_path: Path, what: str) -> None:
    """A playlist that passes for a film, and asks for a file and for a server here."""
    trap = socket.create_server(("127.0.0.1", 0))
    trap.setblocking(False)
    url = f"http://127.0.0.1:{trap.getsockname()[1]}/a.ts"
    playlist = f"#EXTM3U\n#EXTINF:9,\n{url}\n#EXTINF:9,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n".encode()
    sound = tmp_path / "sound.mp4"
    words = ("-v", "error", "-f", "lavfi", "-i", "sine=d=1", "-c:a", "aac", str(sound))
    assert await (await asyncio.create_subprocess_exec("ffmpeg", *words)).wait() == 0
    with VendorServer() as vendor, trap:
        film = playlist if what == "playlist" else sound.read_bytes()
        vendor.on("POST", "/v1/videos", Say({"id": "v1", "status": "queued"}))
        vendor.on("GET", "/v1/videos/v1", Say({"id": "v1", "status": "completed"}))
        vendor.on("GET", "/v1/videos/v1/content", Say(film, media_type="video/mp4"))
        paid = {"type": "openai", "engine": "generic", "base_url": f"{vendor.url}/v1", "models": ["m"]}
        house = await start(real=True, providers={"paid": paid})
        status, video, _ = await house.ask("POST", "/v1/videos", json={"prompt": "x", "model": "m"})
        assert status == 200, video
        video = await done(house, video["id"])
        assert video["status"] == "completed", video

        for name in PICTURES:
            status, answer, _ = await house.ask("GET", f"/v1/videos/{video['id']}/content?variant={name}")
            assert (status, answer["error"]["code"]) == (415, "unsupported_media"), answer

        with pytest.raises(BlockingIOError):
            trap.accept()
        assert [key for key in files_below(tmp_path / "data" / "media") if key.startswith("thumb")] == []


async def test_a_film_that_is_not_there_yet_has_no_picture(start: Start) -> None:
    house = await start(real=True)
    video = await create(house, seconds="30", size="1280x720")

    status, answer, _ = await house.ask("GET", f"/v1/videos/{video['id']}/content?variant=thumbnail")

    assert (status, answer["error"]["code"]) == (404, "not_found")
    assert (await house.ask("DELETE", f"/v1/videos/{video['id']}"))[0] == 200
