"""Compositions over HTTP: films by the real engine, and scripts that are refused by the name of a field."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.compose.films import image, pixels, probed
from tests.web.conftest import House, Start

SMALL = {"size": "320x180", "fps": 10}
RED = "#c02020"


@pytest.fixture
async def real(start: Start) -> House:
    return await start(real=True)


async def compose(house: House, **film: Any) -> dict[str, Any]:
    status, task, headers = await house.ask("POST", "/v1/compositions", json={**SMALL, **film})
    assert status == 202, task
    assert headers["Location"].endswith(task["id"])
    ended: dict[str, Any] = await house.ended(task["id"])
    return ended


async def download(house: House, file: dict[str, Any], path: Path) -> Path:
    async with house.client.get(file["url"]) as answer:
        await asyncio.to_thread(path.write_bytes, await answer.read())
    return path


async def upload(house: House, path: Path, media_type: str) -> str:
    data = await asyncio.to_thread(path.read_bytes)
    _, file, _ = await house.ask("POST", "/v1/files", data=data, headers={"Content-Type": media_type})
    return str(file["id"])


async def test_a_script_becomes_a_film_with_a_voice_and_captions(real: House, tmp_path: Path) -> None:
    task = await compose(
        real,
        title="Two words",
        scenes=[
            {"text": "Hello there, world.", "voiceover": True, "background": {"type": "color", "color": RED}},
            {
                "text": "Good bye.",
                "voiceover": True,
                "background": {"type": "gradient"},
                "overlays": [{"text": "The end"}],
                "transition": {"type": "crossfade", "duration": 0.5},
            },
        ],
    )

    assert task["status"] == "completed", task["error"]
    result = task["result"]
    report, film = result["report"], result["file"]
    assert (film["kind"], film["media_type"], film["filename"]) == ("video", "video/mp4", "Two words.mp4")
    assert (film["width"], film["height"]) == (320, 180)
    assert [file["filename"] for file in result["subtitles"]] == ["Two words.srt", "Two words.vtt"]
    facts = probed(await download(real, film, tmp_path / "film.mp4"))
    assert [stream["codec_name"] for stream in facts["streams"]] == ["h264", "aac", "mov_text"]
    assert int(facts["streams"][0]["nb_read_packets"]) == report["frames"]
    assert abs(report["loudness_lufs"] + 14) <= 1
    assert report["black"] == []
    assert result["warnings"] == ["the embedded voice is a draft voice: clear, but not natural"]
    srt = (await download(real, result["subtitles"][0], tmp_path / "film.srt")).read_text()
    assert "Hello there, world." in srt
    assert "Good bye." in srt


async def test_an_edit_renders_only_what_changed(real: House) -> None:
    scenes = [
        {"duration": 1, "background": {"type": "color", "color": colour}} for colour in (RED, "#204080", "#208040")
    ]
    first = await compose(real, scenes=scenes)
    scenes[2] = {"duration": 1, "background": {"type": "color", "color": "#808080"}}

    second = await compose(real, scenes=scenes)

    assert first["result"]["report"]["windows_reused"] == 0
    assert second["result"]["report"]["windows_reused"] == 2
    assert first["result"]["report"]["loudness_lufs"] is None


async def test_the_plan_renders_nothing(real: House) -> None:
    film = {**SMALL, "scenes": [{"text": "Hello there.", "voiceover": True}, {"duration": 2.5, "text": "Silent."}]}

    status, plan, _ = await real.ask("POST", "/v1/compositions/plan", json=film)

    assert status == 200
    assert plan["frames"] == sum(scene["frames"] for scene in plan["scenes"])
    assert plan["scenes"][0]["voice_seconds"] > 0.5
    assert plan["scenes"][1]["seconds"] == 2.5
    assert plan["estimated_render_seconds"] > 0
    _, tasks, _ = await real.ask("GET", "/v1/tasks")
    assert tasks["data"] == []


async def test_uploaded_media_become_backgrounds_and_music(real: House, tmp_path: Path) -> None:
    picture = await upload(real, Path(image(tmp_path, "#20a040")), "image/png")
    clip, music = tmp_path / "clip.mp4", tmp_path / "music.mp3"
    words = ["ffmpeg", "-v", "error", "-f", "lavfi"]
    colour = ["-i", "color=0x2040c0:s=640x480:r=25:d=1", "-pix_fmt", "yuv420p", str(clip)]
    await asyncio.to_thread(subprocess.run, [*words, *colour], check=True)
    await asyncio.to_thread(subprocess.run, [*words, "-i", "sine=440:d=2", str(music)], check=True)

    task = await compose(
        real,
        scenes=[
            {"duration": 1, "background": {"type": "image", "file_id": picture}},
            {"duration": 2, "background": {"type": "video", "file_id": await upload(real, clip, "video/mp4")}},
        ],
        music={"file_id": await upload(real, music, "audio/mpeg")},
    )

    assert task["status"] == "completed", task["error"]
    frames = await asyncio.to_thread(pixels, await download(real, task["result"]["file"], tmp_path / "film.mp4"))
    assert len(frames) == 30
    assert max(range(3), key=frames[5].__getitem__) == 1
    assert all(max(range(3), key=frame.__getitem__) == 2 for frame in frames[11:])
    assert abs(task["result"]["report"]["loudness_lufs"] + 14) <= 1


BAD = [
    ({"scenes": []}, "scenes"),
    ({"scenes": [{}]}, "scenes[0]"),
    ({"scenes": [{"text": "x"}] * 400}, "scenes"),
    ({"scenes": [{"text": "x", "duration": -1}]}, "scenes[0].duration"),
    ({"scenes": [{"text": "x", "duration": "soon"}]}, "scenes[0].duration"),
    ({"scenes": [{"text": "x", "colour": "red"}]}, "scenes[0].colour"),
    ({"scenes": [{"text": "x", "background": {"type": "image"}}]}, "scenes[0].background.file_id"),
    (
        {"scenes": [{"text": "x"}, {"background": {"type": "image", "file_id": "file_gone"}}]},
        "scenes[1].background.file_id",
    ),
    ({"scenes": [{"text": "x", "voiceover": {"file_id": "file_gone"}}]}, "scenes[0].voiceover.file_id"),
    ({"scenes": [{"text": "x"}], "music": {"file_id": "file_gone"}}, "music.file_id"),
    ({"scenes": [{"text": "x"}], "size": "321x180"}, "size"),
    ({"scenes": [{"text": "x"}], "style": {"font": "None such"}}, "style.font"),
    ({"scenes": [{"text": "x \U0001fae8\U00012000"}]}, "scenes[0].text"),
]


@pytest.mark.parametrize(("film", "field"), BAD)
async def test_what_is_wrong_is_refused_by_the_name_of_its_field(real: House, film: dict[str, Any], field: str) -> None:
    status, problem, _ = await real.ask("POST", "/v1/compositions", json={**SMALL, **film})

    assert (status, problem["code"]) == (400, "invalid_request")
    assert field in {problem.get("field"), problem.get("param"), *(error["field"] for error in problem["errors"])}
    _, tasks, _ = await real.ask("GET", "/v1/tasks")
    assert tasks["data"] == []


async def test_text_with_markup_and_control_characters_is_text(real: House) -> None:
    task = await compose(
        real,
        scenes=[
            {"text": "a <b>%{pts}</b> & \\N{x} : ' \u202e", "duration": 0.5, "overlays": [{"text": "<i>&amp;'\\"}]}
        ],
    )

    assert task["status"] == "completed", task["error"]


async def test_a_cancelled_film_leaves_nothing(real: House) -> None:
    film = {"scenes": [{"duration": 60, "background": {"type": "gradient", "motion": "zoom_in"}}]}
    _, task, _ = await real.ask("POST", "/v1/compositions", json=film)
    async with asyncio.timeout(20):
        while True:
            _, now, _ = await real.ask("GET", f"/v1/tasks/{task['id']}")
            if now["phase"] == "rendering" and now["progress"] > 6:
                break
            await asyncio.sleep(0.05)

    status, _, _ = await real.ask("POST", f"/v1/tasks/{task['id']}/cancel")
    ended = await real.ended(task["id"])

    assert (status, ended["status"]) == (200, "cancelled")
    data = Path(real.instance.storage.path_of("x")).parent.parent  # type: ignore[attr-defined]
    left = [path for path in (data / "work").rglob("*") if path.is_file()]
    left += [path for path in (data / "cache").rglob("*") if "part" in path.name or path.is_fifo()]
    assert left == []
