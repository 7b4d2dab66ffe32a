"""Voices: text becomes sound, and where the engine tells, the moment at which each word begins.

The embedded voice needs no key and no network. Speech is kept by what it was made of, so a text is spoken once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from mediagen.compose.cache import ContentCache, key_of
from mediagen.compose.engine.orders import Spoken, Utterance
from mediagen.compose.engine_process import start_module
from mediagen.compose.field_errors import error_at
from mediagen.compose.soundtrack import seconds_of
from mediagen.core.errors import MediagenError

DEFAULT_VOICE: Final = "en-us"
_VERSION: Final = 1
_SPEAK_SECONDS: Final = 60.0


class SpeechFailed(MediagenError):
    """A voice could not speak a text."""


@dataclass(frozen=True, slots=True)
class Speech:
    """``path``: samples in the form of the mix. ``words``: seconds at which words begin, and their places."""

    path: Path
    seconds: float
    words: tuple[tuple[float, int], ...]


class Speaker(Protocol):
    """An engine at work."""

    async def speak(self, text: str, voice: str, speed: float, *, field: str) -> Speech:
        """``text`` as sound. Raises InvalidRequest naming ``field`` for a voice that does not exist, SpeechFailed."""


class Voice(Protocol):
    """A speech engine. ``draft``: it is clear, but sounds like a machine, and answers say so."""

    @property
    def name(self) -> str: ...

    @property
    def draft(self) -> bool: ...

    def open(self) -> AbstractAsyncContextManager[Speaker]:
        """The engine, at work inside the block."""


class EmbeddedVoice:
    """eSpeak NG in a process of its own. Fits ``Voice``."""

    name = "embedded"
    draft = True

    def __init__(self, cache: ContentCache) -> None:
        self._cache = cache

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Speaker]:
        async with AsyncExitStack() as stack:
            yield _EmbeddedSpeaker(self.name, self._cache, stack)


class _EmbeddedSpeaker:
    """Starts the process when a text is not kept from before."""

    def __init__(self, name: str, cache: ContentCache, stack: AsyncExitStack) -> None:
        self._name = name
        self._cache = cache
        self._stack = stack
        self._turn = asyncio.Lock()
        self._child: asyncio.subprocess.Process | None = None

    async def speak(self, text: str, voice: str, speed: float, *, field: str) -> Speech:
        key = key_of("speech", version=_VERSION, engine=self._name, text=text, voice=voice, speed=speed)

        async def make(part: Path) -> None:
            spoken = await self._say(Utterance(text=text, voice=voice, speed=speed, out=str(part)))
            if spoken.error is not None:
                raise error_at(field, f"the voice cannot be used: {spoken.error}")
            await self._cache.note(key, spoken.words)

        path = await self._cache.get(f"{key}.pcm", make)
        words = tuple((float(at), int(place)) for at, place in await self._cache.noted(key) or ())
        return Speech(path, await asyncio.to_thread(seconds_of, path), words)

    async def _say(self, order: Utterance) -> Spoken:
        async with self._turn:
            if self._child is None:
                self._child = await self._stack.enter_async_context(
                    start_module("speaker", stdin=asyncio.subprocess.PIPE)
                )
            child = self._child
            if child.stdin is None or child.stdout is None:
                raise RuntimeError("the voice's process has no pipes")
            try:
                async with asyncio.timeout(_SPEAK_SECONDS):
                    child.stdin.write(order.model_dump_json().encode() + b"\n")
                    await child.stdin.drain()
                    line = await child.stdout.readline()
            except (TimeoutError, ConnectionError):
                line = b""
            if not line:
                self._child = None
                raise SpeechFailed("the embedded voice failed to speak a text")
            return Spoken.model_validate_json(line)
