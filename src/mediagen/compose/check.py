"""Whether a film is what was planned, looked at before anybody gets it. An exit code of 0 proves nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mediagen.compose.plan import Plan
from mediagen.compose.request import ColorBackground
from mediagen.compose.soundtrack import Loudness
from mediagen.core.errors import MediagenError
from mediagen.media import ffmpeg

_NEAR_SECONDS: Final = 0.06
_CLIPPED_DB: Final = 0.0
_PROBE_SECONDS: Final = 120.0


class FilmFaulty(MediagenError):
    """The finished film is not what was planned; ``faults`` of the context says how."""


async def check_film(path: Path, plan: Plan, dark: Mapping[int, int], loudness: Loudness | None) -> dict[str, Any]:
    """The report on a film.

    Args:
        dark: frames that are all but black, by window.
        loudness: of its sound; None: it has none.

    Raises:
        FilmFaulty: frames, size, streams or lengths are not as planned.
    """
    facts = await _probe(path)
    streams = facts.get("streams") or []
    video = next((one for one in streams if one.get("codec_type") == "video"), None)
    audio = next((one for one in streams if one.get("codec_type") == "audio"), None)
    faults = []
    frames = 0
    if video is None:
        faults.append("there is no video")
    else:
        frames = int(video.get("nb_read_packets") or 0)
        if frames != plan.timeline.frames:
            faults.append(f"{frames} frames instead of {plan.timeline.frames}")
        if (video.get("width"), video.get("height")) != (plan.width, plan.height):
            faults.append(f"{video.get('width')}x{video.get('height')} instead of {plan.width}x{plan.height}")
    offset = 0.0
    if (audio is None) != (loudness is None):
        faults.append("the sound is missing" if audio is None else "there is sound where none was planned")
    if audio is not None and video is not None:
        offset = float(audio.get("start_time") or 0) - float(video.get("start_time") or 0)
        if abs(float(audio.get("duration") or 0) - plan.timeline.seconds) > _NEAR_SECONDS:
            faults.append(f"the sound lasts {audio.get('duration')} s instead of {plan.timeline.seconds:.3f} s")
        if abs(offset) > _NEAR_SECONDS:
            faults.append(f"the sound begins {offset:.3f} s off the video")
    if faults:
        raise FilmFaulty(f"the film is not what was planned: {'; '.join(faults)}", faults=faults)
    return {
        "streams": [
            {"type": one.get("codec_type"), "codec": one.get("codec_name"), "seconds": _seconds(one)} for one in streams
        ],
        "width": plan.width,
        "height": plan.height,
        "fps": plan.timeline.fps,
        "frames": frames,
        "seconds": round(plan.timeline.seconds, 3),
        "loudness_lufs": None if loudness is None else loudness.lufs,
        "true_peak_db": None if loudness is None else loudness.peak_db,
        "clipping": bool(loudness and loudness.peak_db is not None and loudness.peak_db > _CLIPPED_DB),
        "av_offset_ms": round(offset * 1000, 1),
        "black": _unasked_black(plan, dark),
    }


async def _probe(path: Path) -> dict[str, Any]:
    words = ("-v", "error", "-count_packets", "-show_streams", "-of", "json", str(path))
    program = await asyncio.to_thread(ffmpeg.find_program, "ffprobe")
    async with ffmpeg.start(program, words, stdin=asyncio.subprocess.DEVNULL, idle=True) as child:
        async with asyncio.timeout(_PROBE_SECONDS):
            said, complaints = await child.communicate()
    if child.returncode != 0:
        raise FilmFaulty("the film cannot be read", faults=[complaints[-500:].decode("utf-8", "replace")])
    return dict(json.loads(said))


def _unasked_black(plan: Plan, dark: Mapping[int, int]) -> list[dict[str, Any]]:
    """Windows with black frames whose scenes did not ask for any."""
    found = []
    for index, frames in sorted(dark.items()):
        background = plan.scenes[index].request.background
        asked = isinstance(background, ColorBackground) or background is None
        if frames and not asked:
            found.append({"scene": index, "frames": frames})
    return found


def _seconds(stream: Mapping[str, Any]) -> float | None:
    value = stream.get("duration")
    return None if value is None else round(float(value), 3)
