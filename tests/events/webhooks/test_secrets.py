from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from mediagen.core.errors import Conflict
from mediagen.db.connection import Database
from mediagen.db.secrets import SqliteSecrets
from mediagen.events.webhooks.secrets import SigningSecrets
from mediagen.events.webhooks.signing import MAX_SECRETS, decode_secret, generate_secret
from tests.events.clock import Clock


async def test_the_first_start_makes_a_secret_that_lasts(tmp_path: Path) -> None:
    made = []
    for _ in range(2):
        async with Database(tmp_path / "mediagen.db") as database:
            secrets = SigningSecrets(SqliteSecrets(database))
            await secrets.load()
            made.append(secrets.keys())

    assert made[0] == made[1]
    assert len(made[0]) == 1


async def test_after_a_rotation_both_sign_for_a_while(tmp_path: Path) -> None:
    clock = Clock()
    async with Database(tmp_path / "mediagen.db") as database:
        secrets = SigningSecrets(SqliteSecrets(database), now=clock)
        await secrets.load()
        (old,) = secrets.keys()

        new = await secrets.rotate(overlap=timedelta(hours=1))

        assert secrets.keys() == [decode_secret(new.text), old]
        again = SigningSecrets(SqliteSecrets(database), now=clock)
        await again.load()
        assert again.keys() == secrets.keys()
        clock.forward(3600)
        assert secrets.keys() == again.keys() == [decode_secret(new.text)]


async def test_without_an_overlap_the_old_ones_end_at_once(tmp_path: Path) -> None:
    async with Database(tmp_path / "mediagen.db") as database:
        secrets = SigningSecrets(SqliteSecrets(database))
        await secrets.load()
        await secrets.rotate(overlap=timedelta(days=1))

        new = await secrets.rotate(overlap=timedelta(0))

        assert secrets.keys() == [decode_secret(new.text)]
        assert [one.text for one in await SqliteSecrets(database).all()] == [new.text]


async def test_so_many_sign_at_once_and_no_more(tmp_path: Path) -> None:
    async with Database(tmp_path / "mediagen.db") as database:
        secrets = SigningSecrets(SqliteSecrets(database))
        await secrets.load()
        for _ in range(MAX_SECRETS - 1):
            await secrets.rotate(overlap=timedelta(days=1))

        with pytest.raises(Conflict, match="without an overlap"):
            await secrets.rotate(overlap=timedelta(days=1))

        assert len(secrets.keys()) == MAX_SECRETS


async def test_those_of_the_configuration_are_not_rotated_here(tmp_path: Path) -> None:
    given = [generate_secret(), generate_secret()]
    async with Database(tmp_path / "mediagen.db") as database:
        secrets = SigningSecrets(SqliteSecrets(database), configured=given)
        await secrets.load()

        with pytest.raises(Conflict, match=r"webhooks\.secret"):
            await secrets.rotate(overlap=timedelta(0))

        assert secrets.keys() == [decode_secret(text) for text in given]
        assert await SqliteSecrets(database).all() == []


async def test_a_secret_is_neither_logged_nor_shown_by_accident(tmp_path: Path) -> None:
    with capture_logs() as logs:
        async with Database(tmp_path / "mediagen.db") as database:
            secrets = SigningSecrets(SqliteSecrets(database))
            await secrets.load()
            new = await secrets.rotate(overlap=timedelta(days=1))

    assert "whsec_" not in repr(logs)
    assert "whsec_" not in repr(new)
