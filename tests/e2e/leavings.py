"""What must not be there afterwards."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.api import File
from tests.infra.s3 import Bucket
from tests.infra.servers.mediagen import Server


async def only(bucket: Bucket, *files: File) -> None:
    """The bucket has these files and nothing else: no other object, no open upload."""
    keys = await bucket.keys()
    assert sorted(key.rpartition("/")[2].partition(".")[0] for key in keys) == sorted(file["id"] for file in files)
    assert await bucket.uploads() == []


def media(server: Server) -> list[Path]:
    """Every file below the local store, unfinished ones as well."""
    return sorted(path for path in (server.data_dir / "media").rglob("*") if path.is_file())


def only_here(server: Server, *files: File) -> None:
    """The local store has these files and nothing else, no unfinished one among them."""
    assert sorted(path.name.partition(".")[0] for path in media(server)) == sorted(file["id"] for file in files)


def nothing_beside_the_database(server: Server) -> None:
    """The data folder holds the database, the way in for the operator's commands, and no file else."""
    names = [path.name for path in server.data_dir.rglob("*") if path.is_file()]
    assert all(name.startswith("mediagen.db") or name == "operator.json" for name in names), names


def no_child(server: Server) -> None:
    """The server has no process under it."""
    assert server.children == []
