"""The embedded voice, eSpeak NG, in a process of its own: ``python -m mediagen.compose.engine.speaker``.

It reads orders (``Utterance``) from its input, a JSON line each, writes samples in the form of the mix (``sound``) to
the order's file, and answers with a line (``Spoken``) that says when each word begins. The library is
GPL-3 and not safe to be called from threads, so nothing else lives in this process.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np

from mediagen.compose.engine.orders import Spoken, Utterance
from mediagen.compose.engine.sound import resampled

_SYNCHRONOUS: Final = 2  # AUDIO_OUTPUT_SYNCHRONOUS
_UTF8: Final = 1  # espeakCHARS_UTF8
_BY_CHARACTER: Final = 1  # POS_CHARACTER
_WORD: Final = 1  # espeakEVENT_WORD
_RATE_PARAMETER: Final = 1  # espeakRATE
_WORDS_A_MINUTE: Final = 165
_SLOWEST, _FASTEST = 80, 450


class _Union(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    """``espeak_EVENT`` (speak_lib.h)."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Union),
    )


class Speaker:
    """eSpeak NG, loaded once."""

    def __init__(self) -> None:
        import espeakng_loader  # type: ignore[import-untyped] # it ships no types

        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        self._rate = self._library.espeak_Initialize(_SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), 0)
        if self._rate <= 0:
            raise RuntimeError("eSpeak NG does not start")
        self._wave = bytearray()
        self._events: list[tuple[float, int]] = []
        prototype = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))
        self._callback = prototype(self._take)  # kept: the library holds a bare pointer to it
        self._library.espeak_SetSynthCallback(self._callback)

    def speak(self, order: Utterance) -> Spoken:
        """Raises OSError."""
        if self._library.espeak_SetVoiceByName(order.voice.encode()) != 0:
            return Spoken(error=f"there is no voice {order.voice!r}")
        rate = max(_SLOWEST, min(_FASTEST, round(_WORDS_A_MINUTE * order.speed)))
        self._library.espeak_SetParameter(_RATE_PARAMETER, rate, 0)
        self._wave.clear()
        self._events.clear()
        text = order.text.encode()
        self._library.espeak_Synth(text, len(text) + 1, 0, _BY_CHARACTER, 0, _UTF8, None, None)
        self._library.espeak_Synchronize()
        Path(order.out).write_bytes(resampled(np.frombuffer(bytes(self._wave), np.int16), self._rate))
        return Spoken(words=list(self._events))

    def _take(self, wave: Any, count: int, events: Any) -> int:
        if count > 0 and wave:
            self._wave += ctypes.string_at(wave, count * 2)
        index = 0
        while events and events[index].type != 0:
            event = events[index]
            if event.type == _WORD:
                self._events.append((event.audio_position / 1000, max(0, event.text_position - 1)))
            index += 1
        return 0


def main() -> None:
    speaker = Speaker()
    for line in sys.stdin:
        try:
            spoken = speaker.speak(Utterance.model_validate_json(line))
        except OSError as exc:
            spoken = Spoken(error=str(exc))
        sys.stdout.write(spoken.model_dump_json() + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
