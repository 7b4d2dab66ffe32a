"""Small real files of many formats, made once a run by the installed FFmpeg."""

from __future__ import annotations

import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Final

FILM: Final = ("-f", "lavfi", "-i", "testsrc2=s=96x64:r=10:d=2")
SOUND: Final = ("-f", "lavfi", "-i", "sine=r=8000:d=2")
TONE: Final = ("-f", "lavfi", "-i", "sine=r=48000:d=2")
PICTURE: Final = (*FILM, "-frames:v", "1")
H264: Final = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")

RECIPES: Final[dict[str, tuple[str, ...]]] = {
    "video.mp4": (*FILM, *TONE, *H264, "-c:a", "aac"),
    "first.mp4": (*FILM, *H264, "-movflags", "+faststart"),
    "fragments.mp4": (*FILM, *H264, "-g", "5", "-movflags", "frag_keyframe+empty_moov"),
    "video.mov": (*FILM, *H264),
    "video.3gp": (*FILM, *H264, "-f", "3gp"),
    "sound.m4a": (*TONE, "-c:a", "aac"),
    "sound.mp4": (*TONE, "-c:a", "aac", "-movflags", "+faststart"),
    "fragments.m4a": (*TONE, "-c:a", "aac", "-movflags", "frag_keyframe+empty_moov", "-f", "mp4"),
    "video.webm": (*FILM, "-c:v", "libvpx", "-deadline", "realtime", "-b:v", "100k"),
    "both.webm": (*FILM, *TONE, "-c:v", "libvpx", "-deadline", "realtime", "-b:v", "100k", "-c:a", "libopus"),
    "sound.webm": (*TONE, "-c:a", "libopus"),
    "video.mkv": (*FILM, *H264),
    "sound.mka": (*TONE, "-c:a", "libvorbis", "-f", "matroska"),
    "video.avi": (*FILM, "-c:v", "mpeg4"),
    "video.flv": (*FILM, "-c:v", "flv"),
    "video.wmv": (*FILM, "-c:v", "wmv2", "-f", "asf"),
    "sound.wma": (*TONE, "-c:a", "wmav2", "-f", "asf"),
    "video.ts": (*FILM, "-c:v", "mpeg2video", "-f", "mpegts"),
    "video.m2ts": (*FILM, "-c:v", "mpeg2video", "-f", "mpegts", "-mpegts_m2ts_mode", "1"),
    "video.mpg": (*FILM, "-r", "25", "-c:v", "mpeg2video", "-f", "vob"),
    "video.mxf": (*FILM, "-r", "25", "-c:v", "mpeg2video"),
    "video.rm": (*FILM, "-c:v", "rv10"),
    "video.ogv": (*FILM, "-c:v", "libtheora"),
    "video.ivf": (*FILM, "-c:v", "libvpx", "-deadline", "realtime"),
    "sound.ogg": (*TONE, "-c:a", "libvorbis"),
    "sound.opus": (*TONE, "-c:a", "libopus"),
    "sound.mp3": (*TONE, "-c:a", "libmp3lame"),
    "sound.flac": (*TONE, "-c:a", "flac"),
    "sound.wav": SOUND,
    "sound.w64": SOUND,
    "long.wav": (*SOUND, "-rf64", "always"),
    "sound.aiff": SOUND,
    "sound.caf": SOUND,
    "sound.au": SOUND,
    "sound.aac": (*TONE, "-c:a", "aac"),
    "sound.ac3": (*TONE, "-c:a", "ac3"),
    "image.png": PICTURE,
    "image.jpg": PICTURE,
    "image.gif": FILM,
    "image.bmp": PICTURE,
    "image.tiff": PICTURE,
    "image.webp": PICTURE,
    "lossless.webp": (*PICTURE, "-lossless", "1"),
    "moving.webp": (*FILM, "-c:v", "libwebp_anim"),
    "image.avif": (*PICTURE, "-c:v", "libaom-av1", "-still-picture", "1", "-cpu-used", "8"),
    "image.jp2": PICTURE,
    "image.jxl": PICTURE,
    "image.ico": (*PICTURE, "-vf", "scale=32:32"),
    "pipe/video.webm": (*FILM, "-c:v", "libvpx", "-deadline", "realtime", "-b:v", "100k"),
    "pipe/video.mkv": (*FILM, *H264),
    "pipe/live.mkv": (*FILM, *H264, "-live", "1", "-cluster_time_limit", "500"),
    "pipe/sound.wav": SOUND,
    "pipe/sound.aiff": SOUND,
    "pipe/sound.caf": SOUND,
    "pipe/sound.au": SOUND,
    "pipe/sound.flac": (*TONE, "-c:a", "flac"),
    "pipe/video.flv": (*FILM, "-c:v", "flv"),
    "pipe/video.wmv": (*FILM, "-c:v", "wmv2"),
    "pipe/video.avi": (*FILM, "-c:v", "mpeg4"),
}
"""Arguments by file name; below ``pipe/`` FFmpeg writes to a pipe, where no length can be filled in afterwards."""

_MUXERS: Final = {".mkv": "matroska", ".wmv": "asf"}


@lru_cache(maxsize=len(RECIPES))
def made(name: str) -> bytes:
    """The file of a recipe."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name.rpartition("/")[2]
        output = [str(path)]
        if name.startswith("pipe/"):
            output = ["-f", _MUXERS.get(path.suffix, path.suffix[1:]), "pipe:1"]
        command = ["ffmpeg", "-v", "error", "-nostdin", "-threads", "1", *RECIPES[name], "-flags", "+bitexact", *output]
        done = subprocess.run(command, check=True, capture_output=True, timeout=60)
        return done.stdout if name.startswith("pipe/") else path.read_bytes()
