"""Rows of keys."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mediagen.core.errors import Conflict
from mediagen.core.keys import Key, Scope, digest_of, new_key_id
from mediagen.db.connection import Database
from mediagen.db.keys import SqliteKeys

NOW = datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def key(name: str = "alice") -> Key:
    return Key(new_key_id(), name, "acme", frozenset({Scope.READ}), digest_of(name), NOW, NOW + timedelta(days=1))


async def test_a_key_is_read_back_as_it_was(tmp_path: Path) -> None:
    async with Database(tmp_path / "a.db") as database:
        keys, made = SqliteKeys(database), key()
        await keys.insert(made)

        assert await keys.all() == [made]


async def test_a_name_in_use_is_refused_until_it_is_free(tmp_path: Path) -> None:
    async with Database(tmp_path / "a.db") as database:
        keys, made = SqliteKeys(database), key()
        await keys.insert(made)
        with pytest.raises(Conflict, match="alice"):
            await keys.insert(key())

        await keys.update(replace(made, revoked_at=NOW))
        await keys.insert(key())

        assert len(await keys.all()) == 2


async def test_a_rotation_is_all_or_nothing(tmp_path: Path) -> None:
    async with Database(tmp_path / "a.db") as database:
        keys, old, other = SqliteKeys(database), key(), key("bob")
        await keys.insert(old)
        await keys.insert(other)
        new = key("bob")
        with pytest.raises(Conflict):
            await keys.replace(replace(old, replaced_by=new.id), new)
        assert {row.id: row for row in await keys.all()} == {old.id: old, other.id: other}

        new = key()
        gone = replace(old, replaced_by=new.id, expires_at=NOW)
        await keys.replace(gone, new)

        assert {row.id: row for row in await keys.all()} == {old.id: gone, other.id: other, new.id: new}


async def test_the_last_use_is_kept(tmp_path: Path) -> None:
    async with Database(tmp_path / "a.db") as database:
        keys, made = SqliteKeys(database), key()
        await keys.insert(made)

        await keys.used({made.id: NOW, "key_unknown": NOW})

        assert await keys.all() == [replace(made, last_used_at=NOW)]
