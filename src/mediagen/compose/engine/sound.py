"""The sound of a film, mixed in a process of its own: ``python -m mediagen.compose.engine.sound MIX_JSON``.

Inputs are raw samples (signed 16 bit, 48 kHz, two channels) that FFmpeg made. They are read and written a second at a
time, so memory does not grow with the film. Where somebody speaks is known, so music is lowered by a curve that is
computed, which begins before the voice does; a compressor would react too late and pump.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mediagen.compose.engine.orders import CHANNELS, RATE, Mix

_VOICE_DB: Final = -20.0
_MUSIC_DB: Final = -20.0
"""Mean level of what sounds, in dB below full scale; a music's ``volume`` of 1 stands for this."""
_LOUDEST_GAIN: Final = 12.0
_DUCKED: Final = 0.25
_LEAD: Final = 0.12
_RELEASE: Final = 0.45
_GAP: Final = 0.7
"""Seconds between two voices for which the music does not come back."""
_STEP: Final = RATE // 100
_FADE_OUT: Final = 2.0
_FADE_IN: Final = 0.3
_TAPS: Final = 32
_SILENT: Final = 10 ** (-50 / 20)


Samples = NDArray[np.float32]


def mix(told: Mix) -> None:
    """Write the mix. Raises OSError, ValueError."""
    voices = [(voice.start, _opened(voice.path), _gain(_opened(voice.path), _VOICE_DB)) for voice in told.voices]
    spans = [(start, start + len(samples)) for start, samples, _ in voices]
    music = None if told.music is None else _opened(told.music.path)
    level = 0.0
    curve = np.ones(told.samples // _STEP + 2, np.float32)
    if music is not None and told.music is not None:
        level = _gain(music, _MUSIC_DB) * told.music.volume
        if told.music.duck:
            curve = duck_curve(spans, told.samples)
    with Path(told.out).open("wb") as out:
        for start in range(0, told.samples, RATE):
            count = min(RATE, told.samples - start)
            block = np.zeros((count, CHANNELS), np.float32)
            if music is not None:
                block += _repeated(music, start, count) * (_faded(curve, start, count, told.samples) * level)[:, None]
            for first, samples, gain in voices:
                _add(block, start, first, samples, gain)
            out.write((np.clip(block, -1, 1) * 32767).astype("<i2").tobytes())


def duck_curve(spans: list[tuple[int, int]], samples: int) -> Samples:
    """Gains in steps of 10 ms: 1 without a voice, less under one, with soft edges before and behind it.

    ``spans``: first and last sample of each voice.
    """
    merged: list[list[int]] = []
    for first, last in sorted(spans):
        if merged and first - merged[-1][1] < _GAP * RATE:
            merged[-1][1] = max(merged[-1][1], last)
        else:
            merged.append([first, last])
    moments = np.arange(samples // _STEP + 2, dtype=np.float32) * (_STEP / RATE)
    curve = np.ones_like(moments)
    for first, last in merged:
        begins, ends = first / RATE, last / RATE
        into = np.clip((moments - (begins - _LEAD)) / _LEAD, 0, 1)
        out_of = np.clip((ends + _RELEASE - moments) / _RELEASE, 0, 1)
        depth = np.minimum(into, out_of)
        depth = depth * depth * (3 - 2 * depth)
        curve = np.minimum(curve, 1 - (1 - _DUCKED) * depth).astype(np.float32)
    return curve


def resampled(mono: NDArray[np.int16], rate: int) -> bytes:
    """One channel at ``rate`` in the form of the mix: a polyphase filter of windowed sincs, band-limited."""
    step = math.gcd(RATE, rate)
    up, down = RATE // step, rate // step
    cutoff = min(1.0, up / down)
    offsets = np.arange(-_TAPS // 2 + 1, _TAPS // 2 + 1, dtype=np.float64)
    phases = np.arange(up)[:, None] / up
    distance = offsets[None, :] - phases
    bank = cutoff * np.sinc(cutoff * distance) * (0.5 + 0.5 * np.cos(np.pi * np.clip(distance / (_TAPS / 2), -1, 1)))
    bank = (bank / bank.sum(axis=1, keepdims=True)).astype(np.float32)
    padded = np.pad(mono.astype(np.float32), (_TAPS // 2 - 1, _TAPS // 2 + 1))
    pieces = []
    for start in range(0, len(mono) * up // down, RATE):
        places = np.arange(start, min(start + RATE, len(mono) * up // down)) * down
        taken = padded[(places // up)[:, None] + np.arange(_TAPS)[None, :]]
        values = np.einsum("ij,ij->i", taken, bank[places % up])
        whole = np.clip(np.round(values), -32768, 32767).astype("<i2")
        pieces.append(np.repeat(whole, CHANNELS).tobytes())
    return b"".join(pieces)


def _opened(path: str) -> Any:
    """The samples of a file, mapped: what is not read costs no memory."""
    if Path(path).stat().st_size < 2 * CHANNELS:
        return np.zeros((0, CHANNELS), np.int16)
    raw = np.memmap(path, dtype="<i2", mode="r")
    return raw[: len(raw) // CHANNELS * CHANNELS].reshape(-1, CHANNELS)


def _gain(samples: Any, target_db: float) -> float:
    """The factor that brings what sounds, without its pauses, to a level."""
    power, count = 0.0, 0
    for start in range(0, len(samples), RATE):
        block = samples[start : start + RATE].astype(np.float32) / 32768
        pieces = len(block) // _STEP
        if not pieces:
            continue
        means = np.square(block[: pieces * _STEP]).reshape(pieces, -1).mean(axis=1)
        loud = means[means > _SILENT**2]
        power += float(loud.sum())
        count += len(loud)
    if not count:
        return 1.0
    level_db = 10 * math.log10(power / count)
    return float(10 ** (min(_LOUDEST_GAIN, target_db - level_db) / 20))


def _repeated(samples: Any, start: int, count: int) -> Samples:
    if not len(samples):
        return np.zeros((count, CHANNELS), np.float32)
    places = (np.arange(start, start + count)) % len(samples)
    return samples[places].astype(np.float32) / 32768  # type: ignore[no-any-return]


def _faded(curve: Samples, start: int, count: int, samples: int) -> Samples:
    at = np.arange(start, start + count, dtype=np.float32)
    gains = np.interp(at, np.arange(len(curve)) * _STEP, curve)
    fade_out = min(_FADE_OUT * RATE, samples / 4)
    gains *= np.clip(at / (_FADE_IN * RATE), 0, 1) * np.clip((samples - at) / fade_out, 0, 1)
    return gains.astype(np.float32)


def _add(block: Samples, start: int, first: int, samples: Any, gain: float) -> None:
    """Add the part of a voice that lies in the block."""
    begin, end = max(start, first), min(start + len(block), first + len(samples))
    if begin < end:
        part = samples[begin - first : end - first].astype(np.float32) / 32768
        block[begin - start : end - start] += part * gain


if __name__ == "__main__":
    mix(Mix.model_validate_json(Path(sys.argv[1]).read_bytes()))
