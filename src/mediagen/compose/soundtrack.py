"""The sound of a film: recordings decoded, voices and music mixed, the mix encoded at a set loudness."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mediagen.compose.encoding import loudness_arguments, recording_arguments, sound_arguments
from mediagen.compose.engine.orders import CHANNELS, RATE, Mix
from mediagen.compose.engine_process import start_module
from mediagen.core.errors import MediagenError
from mediagen.media import ffmpeg
from mediagen.streams.base import Source

TARGET_LUFS: Final = -14.0
"""Integrated loudness (ITU-R BS.1770) to which streaming services normalise."""
_NEAR: Final = 0.5
_ROUNDS: Final = 2
_MOST_GAIN_DB: Final = 24.0
_CHUNK: Final = 1 << 18
_LOUDNESS: Final = re.compile(r"Integrated loudness:\s+I:\s+(-?[\d.]+|-inf|nan) LUFS")
_PEAK: Final = re.compile(r"True peak:\s+Peak:\s+(-?[\d.]+|-inf) dBFS")
_SECONDS_A_SECOND: Final = 5.0


class MixFailed(MediagenError):
    """The sound could not be mixed; the task's log has the reason."""


@dataclass(frozen=True, slots=True)
class Loudness:
    """``lufs``: integrated loudness, None for silence. ``peak_db``: true peak in dB below full scale."""

    lufs: float | None
    peak_db: float | None


def seconds_of(path: Path) -> float:
    """The length of a file in the form of the mix. Blocks."""
    return path.stat().st_size / (2 * CHANNELS * RATE)


async def decode_recording(source: Source, out: Path, *, seconds: float) -> None:
    """The sound of a file that a stranger made, in the form of the mix; the decoder is confined.

    Raises:
        VideoUnreadable: there is no sound in it, or it cannot be read.
        FfmpegMissing, DeadlineExceeded, and what ``source`` raises.
    """

    async def keep(output: asyncio.StreamReader) -> tuple[None, bool]:
        file = await asyncio.to_thread(out.open, "wb")
        try:
            while chunk := await output.read(_CHUNK):
                await asyncio.to_thread(file.write, chunk)
        finally:
            await asyncio.to_thread(file.close)
        return None, True

    limit = 60 + seconds * _SECONDS_A_SECOND
    await ffmpeg.run_confined("ffmpeg", recording_arguments(seconds), source, keep, limit_seconds=limit)


async def mix(told: Mix, folder: Path) -> None:
    """Mix in a process of its own. Raises MixFailed."""
    path = folder / "mix.json"
    await asyncio.to_thread(path.write_text, told.model_dump_json(), "utf-8")
    async with start_module("sound", str(path), stdin=asyncio.subprocess.DEVNULL) as child:
        _, said = await child.communicate()
    if child.returncode != 0:
        raise MixFailed("the sound could not be mixed", said=said[-4096:].decode("utf-8", "replace"))


async def encode(raw: Path, out: Path) -> Loudness:
    """Encode a mix at ``TARGET_LUFS``; gives what was reached. Raises EncodingFailed."""
    limit = 60 + await asyncio.to_thread(seconds_of, raw) * _SECONDS_A_SECOND
    before = await measure(raw, raw=True)
    gain = 0.0 if before.lufs is None else min(_MOST_GAIN_DB, TARGET_LUFS - before.lufs)
    for _ in range(_ROUNDS):
        await ffmpeg.run(sound_arguments(str(raw), str(out), gain_db=gain), limit_seconds=limit, idle=True)
        reached = await measure(out, raw=False)
        if reached.lufs is None or abs(reached.lufs - TARGET_LUFS) <= _NEAR or gain >= _MOST_GAIN_DB:
            break
        gain = min(_MOST_GAIN_DB, gain + TARGET_LUFS - reached.lufs)  # the limiter took some of it
    return reached


async def measure(sound: Path, *, raw: bool) -> Loudness:
    """The loudness of a file. Raises EncodingFailed, MixFailed."""
    said = await ffmpeg.run(loudness_arguments(str(sound), raw=raw), limit_seconds=600, idle=True)
    loudness, peaks = _LOUDNESS.findall(said), _PEAK.findall(said)
    if not loudness:
        raise MixFailed("FFmpeg did not say how loud the sound is", said=said)
    lufs = float(loudness[-1])  # FFmpeg sets its graph up twice, and the first summary is of nothing
    level = float(peaks[-1]) if peaks else float("-inf")
    return Loudness(lufs if lufs > -70 else None, level if level > -120 else None)
