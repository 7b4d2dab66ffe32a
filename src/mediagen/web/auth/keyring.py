"""The keys that open this server: in memory to be checked, in the database to last.

A change counts at once: nothing has to be started again, and what a key holds open is cut when the key ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, Protocol

import structlog

from mediagen.core.clock import utc_now
from mediagen.core.errors import Conflict, NotFound, Unavailable
from mediagen.core.keys import Caller, Key, Scope, digest_of, new_key_id, new_secret, parsed, same, written

log = structlog.get_logger(__name__)

MAX_KEYS: Final = 10_000
_LOOK_SECONDS: Final = 1.0
"""How long after its end a key may hold something open."""
_NOTE_SECONDS: Final = 60.0
_NO_DIGEST: Final = digest_of("")


class Keys(Protocol):
    """Where keys rest."""

    async def all(self) -> list[Key]: ...

    async def insert(self, key: Key) -> None: ...

    async def replace(self, old: Key, new: Key) -> None: ...

    async def update(self, key: Key) -> None: ...

    async def used(self, moments: Mapping[str, datetime]) -> None: ...


class Keyring:
    """All keys of the server. ``load`` comes before everything else."""

    def __init__(self, keys: Keys, *, now: Callable[[], datetime] = utc_now) -> None:
        self._rows = keys
        self._now = now
        self._keys: dict[str, Key] = {}
        self._used: dict[str, datetime] = {}
        self._held: dict[str, set[Callable[[], None]]] = {}
        self._changing = asyncio.Lock()

    async def load(self) -> None:
        """Read what the database has."""
        self._keys = {key.id: key for key in await self._rows.all()}

    def caller(self, text: str) -> Caller | None:
        """Who sends this key; None: it opens nothing. An unknown id takes as long as a wrong secret."""
        parts = parsed(text)
        if parts is None:
            return None
        key = self._keys.get(parts[0])
        right = same(_NO_DIGEST if key is None else key.digest, parts[1])
        if key is None or not right or not key.usable(self._now()):
            return None
        self._used[key.id] = self._now()
        return Caller(key.owner, key.scopes, key.id)

    def usable(self, key_id: str) -> bool:
        """Whether the key still opens something."""
        key = self._keys.get(key_id)
        return key is not None and key.usable(self._now())

    def now(self) -> datetime:
        """The time by which keys end."""
        return self._now()

    @property
    def empty(self) -> bool:
        """Whether no key opens anything."""
        now = self._now()
        return not any(key.usable(now) for key in self._keys.values())

    def listed(self) -> list[Key]:
        """All keys, the oldest first, with their last use."""
        return [replace(key, last_used_at=self._used.get(key.id, key.last_used_at)) for key in self._keys.values()]

    async def create(
        self, name: str, *, owner: str | None, scopes: Collection[Scope], lifetime: timedelta | None
    ) -> tuple[Key, str]:
        """A new key and its text, which is never seen again. ``owner`` None: as the name.

        Raises:
            Conflict: the name is in use, or there are too many keys.
            Unavailable: the database does not write.
        """
        now = self._now()
        secret = new_secret()
        key = Key(
            id=new_key_id(),
            name=name,
            owner=owner or name,
            scopes=frozenset(scopes),
            digest=digest_of(secret),
            created_at=now,
            expires_at=None if lifetime is None else now + lifetime,
        )
        async with self._changing:
            if len(self._keys) >= MAX_KEYS:
                raise Conflict(f"there are {MAX_KEYS} keys already")
            await self._rows.insert(key)
            self._keys[key.id] = key
        log.info("key_created", key_id=key.id, name=name, owner=key.owner, scopes=sorted(key.scopes))
        return key, written(key.id, secret)

    async def rotate(self, which: str, *, overlap: timedelta) -> tuple[Key, str]:
        """A new key in the place of ``which`` (id or name), and its text. The old one works for ``overlap`` more.

        Raises:
            NotFound
            Conflict: it is revoked, has expired or was rotated before.
        """
        async with self._changing:
            old = self._find(which)
            now = self._now()
            if old.replaced_by is not None:
                raise Conflict(f"{old.id} was already replaced by {old.replaced_by}")
            if not old.usable(now):
                raise Conflict(f"{old.id} is revoked or expired; create a new key")
            secret = new_secret()
            lifetime = None if old.expires_at is None else old.expires_at - old.created_at
            new = replace(
                old,
                id=new_key_id(),
                digest=digest_of(secret),
                created_at=now,
                expires_at=None if lifetime is None else now + lifetime,
                last_used_at=None,
            )
            ends = now + overlap if old.expires_at is None else min(old.expires_at, now + overlap)
            old = replace(old, expires_at=ends, replaced_by=new.id)
            await self._rows.replace(old, new)
            self._keys[old.id] = old
            self._keys[new.id] = new
        log.info("key_rotated", key_id=old.id, replaced_by=new.id, ends=ends.isoformat())
        self._cut_ended()
        return new, written(new.id, secret)

    async def revoke(self, which: str) -> list[Key]:
        """The key of this id, or all of this name: they open nothing any more, and what they hold open is cut.

        Again gives the same. Raises NotFound.
        """
        async with self._changing:
            ended: list[Key] = []
            for key in self._all_of(which):
                if key.revoked_at is None:
                    key = replace(key, revoked_at=self._now())
                    await self._rows.update(key)
                    self._keys[key.id] = key
                    log.info("key_revoked", key_id=key.id, name=key.name)
                ended.append(key)
        self._cut_ended()
        return ended

    @contextmanager
    def holding(self, key_id: str, cut: Callable[[], None]) -> Iterator[None]:
        """Inside, ``cut`` is called when the key ends, once. It must not wait."""
        cuts = self._held.setdefault(key_id, set())
        cuts.add(cut)
        try:
            yield
        finally:
            cuts.discard(cut)
            if not cuts and self._held.get(key_id) is cuts:
                del self._held[key_id]

    async def run(self) -> None:
        """Cut what keys hold that have expired, and note when keys were used; until cancelled."""
        noted = time.monotonic()
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            self._cut_ended()
            if time.monotonic() - noted >= _NOTE_SECONDS:
                noted = time.monotonic()
                await self.note()

    async def note(self) -> None:
        """Write down when keys were last used."""
        fresh = {key_id: moment for key_id, moment in self._used.items() if self._keys[key_id].last_used_at != moment}
        if not fresh:
            return
        try:
            await self._rows.used(fresh)
        except Unavailable:
            return  # it says so itself, and the next minute comes
        for key_id, moment in fresh.items():
            self._keys[key_id] = replace(self._keys[key_id], last_used_at=moment)

    def _cut_ended(self) -> None:
        for key_id in [key_id for key_id in self._held if not self.usable(key_id)]:
            cuts = self._held.pop(key_id)
            log.info("key_ended", key_id=key_id, cut=len(cuts))
            for cut in tuple(cuts):
                cut()

    def _find(self, which: str) -> Key:
        """By id; or by name, then the one that was neither rotated nor revoked."""
        found = self._all_of(which)
        return next((key for key in found if key.revoked_at is None and key.replaced_by is None), found[-1])

    def _all_of(self, which: str) -> list[Key]:
        """The key of this id, or those of this name. Raises NotFound."""
        key = self._keys.get(which)
        found = [key] if key is not None else [key for key in self._keys.values() if key.name == which]
        if not found:
            raise NotFound(f"there is no key {which[:100]}")
        return found
