"""Videos that are none, and want something else: nothing of it is read, and nobody is called."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mediagen.core.errors import UnsupportedMedia
from mediagen.media import ffmpeg
from mediagen.media.ffmpeg import VideoUnreadable
from mediagen.media.thumbnails import make_thumbnail
from mediagen.media.vips import VipsPool
from tests.media.videos import FIRST, H264, Shelf, elsewhere
from tests.streams.formats.files import box

Videos = Callable[[str], bytes]


class Trap:
    """A server on loopback that nobody may call."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=8)
        self._socket.setblocking(False)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/video.ts"

    @property
    def was_called(self) -> bool:
        try:
            self._socket.accept()[0].close()
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def trap() -> Iterator[Trap]:
    made = Trap()
    yield made
    made.close()


class Given:
    """Bytes as a source."""

    def __init__(self, data: bytes = b"") -> None:
        self.size: int | None = len(data)
        self._left = memoryview(data)

    async def read_into(self, buffer: memoryview, /) -> int:
        count = min(len(buffer), len(self._left))
        buffer[:count], self._left = self._left[:count], self._left[count:]
        return count


async def all_of(output: asyncio.StreamReader) -> tuple[bytes, bool]:
    return await output.read(), True


def hls(url: str) -> bytes:
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{url}\n#EXT-X-ENDLIST\n".encode()


def dash(url: str) -> bytes:
    return (
        '<?xml version="1.0"?>'
        '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT9S">'
        f'<Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>{url}</BaseURL>'
        "</Representation></AdaptationSet></Period></MPD>"
    ).encode()


def concat(url: str) -> bytes:
    return f"ffconcat version 1.0\nfile '{url}'\n".encode()


def sdp(url: str) -> bytes:
    port = url.rpartition(":")[2].partition("/")[0]
    return f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nm=video {port} RTP/AVP 96\n".encode()


WRAPPED: dict[str, Callable[[bytes], bytes]] = {
    "bare": lambda playlist: playlist,
    "behind the first box of a video": lambda playlist: box(b"ftyp", b"isom\0\0\2\0isom") + playlist,
    "as a video's media": lambda playlist: box(b"ftyp", b"isom") + box(b"moov", bytes(8)) + box(b"mdat", playlist),
    "behind the mark of Matroska": lambda playlist: b"\x1a\x45\xdf\xa3" + playlist,
    "in an AVI": lambda playlist: b"RIFF\xff\0\0\0AVI LIST" + playlist,
}


@pytest.mark.parametrize("media_type", ["video/mp4", "video/webm", "video/x-msvideo"])
@pytest.mark.parametrize("how", WRAPPED)
@pytest.mark.parametrize("playlist", [hls, dash, concat, sdp])
async def test_a_playlist_that_passes_for_a_video_reaches_nothing(
    trap: Trap, pool: VipsPool, video_folder: Path, playlist: Callable[[str], bytes], how: str, media_type: str
) -> None:
    for url in (trap.url, "file:///etc/passwd", "/etc/passwd"):
        with pytest.raises(UnsupportedMedia):
            await make_thumbnail(await Shelf(WRAPPED[how](playlist(url))).looked(media_type), pool)

    assert not trap.was_called


async def test_what_the_trap_is_for(trap: Trap, video_folder: Path, tmp_path: Path) -> None:
    """FFmpeg as it comes does call, so that the tests beside this one can fail."""
    (tmp_path / "video.mp4").write_bytes(hls(trap.url))
    child = await asyncio.create_subprocess_exec(
        *("ffprobe", "-v", "quiet", "-rw_timeout", "1000000", "-protocol_whitelist", "file,http,tcp"),
        str(tmp_path / "video.mp4"),
    )
    async with asyncio.timeout(20):
        while not trap.was_called and child.returncode is None:
            await asyncio.sleep(0.02)
        called = child.returncode is None
        if called:
            child.kill()
        await child.wait()

    assert called


@pytest.mark.parametrize("url", ["{trap}", "file:///etc/passwd", "/etc/passwd"])
async def test_a_video_whose_media_are_elsewhere_is_not_followed(
    trap: Trap, pool: VipsPool, video: Videos, url: str
) -> None:
    """Its own bytes are what is shown, as if the index named no other place."""
    there = elsewhere(video("index_last.mp4"), url.replace("{trap}", trap.url))

    image = await make_thumbnail(await Shelf(there).looked(), pool)

    assert image == await make_thumbnail(await Shelf(video("index_last.mp4")).looked(), pool)
    assert not trap.was_called


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-i", "file:/etc/passwd", "-f", "null", "-"), "denied"),
        (("-f", "concat", "-safe", "0", "-i", "file:{list}", "-f", "null", "-"), "denied"),
        (("-i", "{trap}", "-f", "null", "-"), "permitted"),
        (("-i", "tcp://127.0.0.1:{port}", "-f", "null", "-"), "permitted"),
        (("-i", "udp://127.0.0.1:{port}", "-f", "null", "-"), "permitted"),
        (("-f", "lavfi", "-i", "color=s=16x16:d=1", "-y", "{out}.mkv"), "denied"),
        (("-f", "lavfi", "-i", "color=s=16x16:d=1", "-f", "mpegts", "{trap}"), "permitted"),
    ],
)
async def test_a_child_that_reads_can_do_nothing_else(
    trap: Trap, video_folder: Path, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    """As if a decoder had been talked into it: no file, no socket, whatever the arguments say."""
    (tmp_path / "list").write_text("ffconcat version 1.0\nfile '/etc/passwd'\n")
    places = {"trap": trap.url, "port": trap.url.split(":")[2].split("/")[0]}
    given = [word.format(list=tmp_path / "list", out=tmp_path / "out", **places) for word in words]

    with pytest.raises(VideoUnreadable) as refused:
        await ffmpeg.run_confined("ffmpeg", ["-nostdin", *given], Given(), all_of, limit_seconds=20)

    assert said in str(refused.value.context["said"])
    assert not trap.was_called
    assert [path.name for path in tmp_path.iterdir()] == ["list"]


async def test_a_child_that_reads_has_so_much_memory(video_folder: Path) -> None:
    hungry = ("-f", "lavfi", "-i", "testsrc2=s=8000x8000:r=50:d=2", "-vf", "reverse", "-f", "null", "-")

    with pytest.raises(VideoUnreadable) as refused:
        await ffmpeg.run_confined("ffmpeg", ["-nostdin", "-xerror", *hungry], Given(), all_of, limit_seconds=60)

    assert "allocate" in str(refused.value.context["said"])


async def test_a_child_that_reads_decodes_large_videos(video_folder: Path) -> None:
    large = ("-f", "lavfi", "-i", "color=s=7680x4320:r=4:d=1", *H264, "-g", "2", *FIRST, "-threads", "1", "-y")
    path = video_folder / "large.mp4"
    made = await asyncio.create_subprocess_exec("ffmpeg", "-v", "error", "-nostdin", *large, str(path))
    assert await made.wait() == 0
    pool = VipsPool(1)

    try:
        image = await make_thumbnail(await Shelf(path.read_bytes()).looked(), pool)
    finally:
        pool.close()

    assert (image.width, image.height) == (512, 288)
