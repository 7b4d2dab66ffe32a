"""FFmpeg's arguments for films: windows, the join, the sound. Pure functions over ffmpeg-python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import ffmpeg

VERSION: Final = 1
"""Part of the key of a window: another one when frames or arguments change."""
_RAW: Final = {"f": "s16le", "ar": 48000, "ac": 2}
_COLOUR: Final = {"color_range": "tv", "colorspace": "bt709", "color_primaries": "bt709", "color_trc": "bt709"}


@dataclass(frozen=True, slots=True)
class Preset:
    """How frames are encoded. ``height``: of frames at most; ``cost``: processor time against standard."""

    name: str
    options: Mapping[str, Any]
    height: int | None = None
    cost: float = 1.0


PRESETS: Final = {
    preset.name: preset
    for preset in (
        Preset("draft", {"c:v": "libx264", "preset": "ultrafast", "crf": 26}, height=360, cost=0.6),
        # superfast has no macroblock tree, and slow pans and zooms are where it pays: the size and look of veryfast
        Preset(
            "standard",
            {"c:v": "libx264", "preset": "superfast", "crf": 22, "x264-params": "mbtree=1:rc-lookahead=20"},
        ),
        Preset("small", {"c:v": "libsvtav1", "preset": 12, "crf": 38}, cost=1.1),
        Preset("archive", {"c:v": "libx264", "preset": "medium", "crf": 18}, cost=4.0),
    )
}


def window_arguments(
    pipe: str, out: str, *, preset: Preset, width: int, height: int, fps: int, frames: int, threads: int
) -> list[str]:
    """Encode raw frames from a pipe into a window: an MP4 that begins with a key frame."""
    frames_in = ffmpeg.input(
        pipe, f="rawvideo", pix_fmt="yuv420p", s=f"{width}x{height}", framerate=fps, **_COLOUR, thread_queue_size=4
    )
    out_stream = frames_in.output(
        out,
        **preset.options,
        **_COLOUR,
        **{"frames:v": frames, "threads": threads},
        g=fps * 8,
        pix_fmt="yuv420p",
        video_track_timescale=fps * 512,
        f="mp4",
    )
    return list(out_stream.overwrite_output().get_args())


def join_arguments(
    listing: str, sound: str | None, subtitles: str | None, out: str, *, language: str, title: str
) -> list[str]:
    """Join windows without encoding them again, with sound and a subtitle track. ``listing``: a file for ``concat``."""
    streams = [ffmpeg.input(listing, f="concat", safe=0)["v"]]
    options: dict[str, Any] = {"c:v": "copy", "movflags": "+faststart", "map_metadata": -1, "f": "mp4"}
    if sound is not None:
        streams.append(ffmpeg.input(sound)["a"])
        options["c:a"] = "copy"
    if subtitles is not None:
        streams.append(ffmpeg.input(subtitles, f="webvtt")["s"])
        options |= {"c:s": "mov_text", "metadata:s:s:0": f"language={language}"}
    if title:
        options["metadata"] = f"title={title}"
    return list(ffmpeg.output(*streams, out, **options).overwrite_output().get_args())


def normalise_arguments(path: str, *, width: int, height: int, fps: int, frames: int) -> list[str]:
    """Encode raw frames from the standard input into a clip that decodes fast and looks the same."""
    raw = ffmpeg.input("pipe:0", f="rawvideo", pix_fmt="yuv420p", s=f"{width}x{height}", framerate=fps, **_COLOUR)
    options = {"c:v": "libx264", "preset": "ultrafast", "crf": 12, "frames:v": frames, "bf": 0, "f": "mp4"}
    return list(raw.output(path, **options, **_COLOUR, g=fps, pix_fmt="yuv420p").overwrite_output().get_args())


def clip_arguments(path: str, pipe: str, *, first: int, last: int) -> list[str]:
    """Decode frames ``first`` to ``last`` of a normalised clip into a pipe, as raw planes."""
    frames = ffmpeg.input(path)["v"].filter("trim", start_frame=first, end_frame=last)
    return list(frames.output(pipe, f="rawvideo", pix_fmt="yuv420p", vsync="passthrough").overwrite_output().get_args())


def listing_of(windows: list[Path]) -> str:
    """What FFmpeg's ``concat`` demuxer reads; our names hold no quotes."""
    return "ffconcat version 1.0\n" + "".join(f"file '{path}'\n" for path in windows)


def sound_arguments(raw: str, out: str, *, gain_db: float) -> list[str]:
    """Encode the mix: one gain, then a limiter whose look-ahead is given back (``latency``): nothing moves in time."""
    mix = ffmpeg.input(raw, **_RAW).filter("volume", f"{gain_db:.2f}dB")
    mix = mix.filter("alimiter", limit=0.84, level="disabled", attack=5, release=60, latency=1)
    options = {"c:a": "aac", "b:a": "160k", "aac_coder": "fast", "ar": 48000, "ac": 2, "f": "mp4"}
    return list(mix.output(out, **options).overwrite_output().get_args())


def loudness_arguments(sound: str, *, raw: bool) -> list[str]:
    """Measure loudness and true peak (EBU R 128); the summary is among FFmpeg's last words."""
    source = ffmpeg.input(sound, **(_RAW if raw else {}))["a"]
    measured = source.filter("ebur128", framelog="verbose", peak="true")
    return ["-loglevel", "info", *measured.output("-", f="null").get_args()]


def recording_arguments(seconds: float) -> list[str]:
    """Decode a recording from the standard input into the form of the mix, at most ``seconds`` of it."""
    recording = ffmpeg.input("pipe:0")["a:0"]
    return list(recording.output("pipe:1", f="s16le", ar=48000, ac=2, t=f"{seconds:.3f}").get_args())
