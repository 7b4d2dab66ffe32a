"""The sound of a film: the voice says when its words begin, music gives way to it, and the loudness is reached."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import numpy as np
import pytest

from mediagen.compose.cache import ContentCache
from mediagen.compose.engine.orders import CHANNELS, RATE, Bed, Mix, Voice
from mediagen.compose.engine.sound import duck_curve, mix, resampled
from mediagen.compose.soundtrack import TARGET_LUFS, decode_recording, encode, measure
from mediagen.compose.soundtrack import mix as mix_apart
from mediagen.compose.voices import EmbeddedVoice
from mediagen.core.errors import InvalidRequest
from mediagen.media.ffmpeg import VideoUnreadable
from mediagen.streams.sources import ChunkSource


def tone(path: Path, hertz: float, seconds: float, level: float = 0.3) -> str:
    moments = np.arange(int(seconds * RATE)) / RATE
    wave = np.sin(2 * np.pi * hertz * moments) * level * 32767
    path.write_bytes(np.repeat(wave.astype("<i2"), CHANNELS).tobytes())
    return str(path)


def level(samples: np.ndarray, hertz: float, first: float, last: float) -> float:
    """How loud a frequency is between two moments, in dB."""
    part = samples[int(first * RATE) : int(last * RATE)]
    moments = np.arange(len(part)) / RATE
    power = abs(np.mean(part * np.exp(-2j * np.pi * hertz * moments))) * 2
    return float(20 * np.log10(max(power, 1e-6)))


def read(path: Path) -> np.ndarray:
    return np.frombuffer(path.read_bytes(), "<i2").reshape(-1, CHANNELS)[:, 0] / 32768


def test_music_is_lower_while_somebody_speaks_and_before(tmp_path: Path) -> None:
    voice, music = tone(tmp_path / "voice", 1000, 2), tone(tmp_path / "music", 300, 3)

    mix(
        Mix(
            samples=8 * RATE,
            voices=(Voice(path=voice, start=3 * RATE),),
            music=Bed(path=music, volume=0.5, duck=True),
            out=str(tmp_path / "out"),
        )
    )

    out = read(tmp_path / "out")
    assert len(out) == 8 * RATE
    loud, under, after = level(out, 300, 1, 2.5), level(out, 300, 3.1, 4.9), level(out, 300, 5.6, 5.9)
    assert 11 < loud - under < 13
    assert abs(after - loud) < 1
    assert level(out, 1000, 2, 2.95) < -80
    assert level(out, 1000, 3.05, 4.95) > level(out, 1000, 5.05, 5.9) + 60
    assert level(out, 1000, 3.1, 4.9) - under > 15


def test_short_pauses_do_not_bring_the_music_back() -> None:
    curve = duck_curve([(0, RATE), (round(1.5 * RATE), 2 * RATE), (5 * RATE, 6 * RATE)], 8 * RATE)

    assert curve[125] < 0.3
    assert curve[350] == 1.0


def test_resampling_keeps_pitch_and_level() -> None:
    moments = np.arange(22050 * 2) / 22050
    mono = (np.sin(2 * np.pi * 440 * moments) * 16000).astype(np.int16)

    out = np.frombuffer(resampled(mono, 22050), "<i2").reshape(-1, CHANNELS)[:, 0] / 32768

    assert len(out) == 2 * RATE
    assert abs(level(out, 440, 0.5, 1.5) - 20 * np.log10(16000 / 32768)) < 0.1
    spectrum = np.abs(np.fft.rfft(out[RATE // 2 : RATE // 2 + RATE] * np.hanning(RATE)))
    spectrum[430:451] = 0
    assert spectrum.max() < 0.003 * RATE * 0.25  # no image of the tone stands above -50 dB


@pytest.fixture
def voice(tmp_path: Path) -> EmbeddedVoice:
    return EmbeddedVoice(ContentCache(tmp_path / "cache", 1 << 30))


async def test_the_embedded_voice_speaks_and_says_when_words_begin(voice: EmbeddedVoice) -> None:
    async with voice.open() as speaker:
        speech = await speaker.speak("Our story begins here.", "en-us", 1.0, field="voice")
        again = await speaker.speak("Our story begins here.", "en-us", 1.0, field="voice")
        faster = await speaker.speak("Our story begins here.", "en-us", 2.0, field="voice")

    assert again == speech
    assert [place for _, place in speech.words] == [0, 4, 10, 17]
    assert [at for at, _ in speech.words] == sorted(at for at, _ in speech.words)
    assert 0.8 < speech.seconds < 4
    assert faster.seconds < 0.75 * speech.seconds
    samples = await asyncio.to_thread(read, speech.path)
    assert np.abs(samples).max() > 0.05


async def test_an_unknown_voice_is_refused_by_the_name_of_its_field(voice: EmbeddedVoice) -> None:
    async with voice.open() as speaker:
        with pytest.raises(InvalidRequest, match="klingon9") as refused:
            await speaker.speak("x", "klingon9", 1.0, field="scenes[2].voiceover.voice")

    assert refused.value.context["field"] == "scenes[2].voiceover.voice"


@pytest.mark.parametrize("loud", [0.1, 0.9])
async def test_the_loudness_is_reached_without_clipping(tmp_path: Path, loud: float) -> None:
    rng = np.random.default_rng(1)
    noise = (rng.normal(0, 0.15, (12 * RATE, CHANNELS)) * loud).clip(-1, 1)
    raw = tmp_path / "mix.pcm"
    raw.write_bytes((noise * 32767).astype("<i2").tobytes())

    reached = await encode(raw, tmp_path / "out.m4a")

    assert reached.lufs is not None
    assert abs(reached.lufs - TARGET_LUFS) <= 1
    assert reached.peak_db is not None
    assert reached.peak_db <= -0.5


async def test_encoding_moves_nothing_in_time(tmp_path: Path) -> None:
    wave = np.zeros((4 * RATE, CHANNELS), "<i2")
    wave[2 * RATE : 2 * RATE + RATE // 10] = 12000
    raw, out = tmp_path / "mix.pcm", tmp_path / "out.m4a"
    raw.write_bytes(wave.tobytes())

    await encode(raw, out)

    words = ["ffmpeg", "-v", "error", "-i", str(out), "-f", "s16le", "-ac", "2", "-ar", str(RATE), "-"]
    heard = np.frombuffer(subprocess.run(words, capture_output=True, check=True).stdout, "<i2").reshape(-1, 2)[:, 0]
    begins = int(np.argmax(np.abs(heard.astype(np.int32)) > 4000))
    assert abs(begins - 2 * RATE) < RATE * 0.003


async def test_a_recording_is_decoded_and_what_is_none_is_refused(tmp_path: Path) -> None:
    words = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "sine=440:d=2", "-c:a", "libmp3lame", "-f", "mp3", "-"]
    music = subprocess.run(words, capture_output=True, check=True).stdout

    async def chunks(data: bytes) -> object:
        yield memoryview(data)

    out = tmp_path / "out.pcm"
    await decode_recording(ChunkSource(chunks(music)), out, seconds=1.5)  # type: ignore[arg-type]
    samples = await asyncio.to_thread(read, out)
    assert len(samples) == pytest.approx(1.5 * RATE, abs=10)
    assert level(samples, 440, 0.2, 1.2) > -25

    with pytest.raises(VideoUnreadable):
        await decode_recording(ChunkSource(chunks(b"#EXTM3U\nfile:///etc/passwd\n" * 9)), out, seconds=1.5)  # type: ignore[arg-type]


async def test_mixing_apart_is_the_same(tmp_path: Path) -> None:
    voice = tone(tmp_path / "voice", 1000, 1)
    told = Mix(samples=2 * RATE, voices=(Voice(path=voice, start=0),), out=str(tmp_path / "apart"))

    await mix_apart(told, tmp_path)
    await asyncio.to_thread(mix, told.model_copy(update={"out": str(tmp_path / "here")}))

    assert (tmp_path / "apart").read_bytes() == (tmp_path / "here").read_bytes()
    assert (await measure(tmp_path / "apart", raw=True)).lufs is not None
