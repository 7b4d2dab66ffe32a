"""Rows of files. Fits ``tasks.ports.Files``."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from typing import Any, Final

from mediagen.core.errors import Conflict, IdempotencyMismatch
from mediagen.core.files import Checksum, File, FileKind, FileQuery
from mediagen.db.connection import Database
from mediagen.db.paging import Shown, page
from mediagen.db.rows import json_of, json_text, time_of, time_text

COLUMNS: Final = (
    "id, key, filename, bytes, media_type, kind, checksum_algorithm, checksum_value, created_at, etag, sha256, width, "
    "height, duration_seconds, task_id, owner, metadata, variant_of, variant"
)


class SqliteFiles:
    """Files of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._shown = Shown()

    async def get(self, file_id: str, *, owner: str | None = None) -> File | None:
        """The file, or None, also when it is another owner's; ``owner`` None: whosever it is."""

        def read(connection: sqlite3.Connection) -> File | None:
            row = connection.execute(
                f"SELECT {COLUMNS} FROM files WHERE id = ?1 AND (?2 IS NULL OR owner = ?2)",  # noqa: S608 - our names
                (file_id, owner),
            ).fetchone()
            return None if row is None else _with_variants(connection, [file_of(row)])[0]

        return await self._database.read(read)

    async def query(self, query: FileQuery) -> tuple[list[File], bool]:
        """A page of files that are nobody's variants, and whether there are more.

        Raises:
            InvalidRequest: ``after`` is unknown.
        """
        filters = {"kind": query.kind, "owner": query.owner}

        def read(connection: sqlite3.Connection) -> tuple[list[File], bool]:
            rows, more = page(
                connection,
                "files",
                COLUMNS,
                filters,
                only="variant_of IS NULL",
                after=query.after,
                shown=self._shown,
                limit=query.limit,
                descending=query.descending,
            )
            return _with_variants(connection, [file_of(row) for row in rows]), more

        return await self._database.read(read)

    async def insert(self, file: File, *, key: str | None = None, fingerprint: str = "") -> File:
        """Add a file; gives it, or the file that was added under ``key`` before, and then nothing is written.

        Raises:
            Conflict: its id or key is taken, its task is unknown, or the file that it is a variant of is gone, or has
                this one already.
            IdempotencyMismatch: the key came with another ``fingerprint``.
        """

        def write(connection: sqlite3.Connection) -> File:
            earlier = None if key is None else _made_before(connection, key, fingerprint)
            if earlier is not None:
                return earlier
            insert_file(connection, file)
            if key is not None:
                connection.execute("INSERT INTO upload_idempotency VALUES (?, ?, ?)", (key, fingerprint, file.id))
            return file

        return await self._database.write(write)

    async def delete(self, file_id: str) -> bool:
        """Whether there was such a file; there is none now. Raises Conflict while it has variants."""

        def write(connection: sqlite3.Connection) -> bool:
            try:
                return connection.execute("DELETE FROM files WHERE id = ?", (file_id,)).rowcount == 1
            except sqlite3.IntegrityError as exc:
                raise Conflict("the file has variants; delete these first", file_id=file_id) from exc

        return await self._database.write(write)

    async def stored_bytes(self) -> int:
        """The bytes of all files together; as cheap for many as for few. Raises Unavailable."""
        return int(
            await self._database.read(
                lambda connection: connection.execute("SELECT value FROM totals WHERE name = 'file_bytes'").fetchone()[
                    0
                ]
            )
        )

    async def keys(self, task_id: str) -> list[str]:
        """Where the bytes of a task's files are."""
        return await self._database.read(
            lambda connection: [
                row[0] for row in connection.execute("SELECT key FROM files WHERE task_id = ? ORDER BY key", (task_id,))
            ]
        )


def _made_before(connection: sqlite3.Connection, key: str, fingerprint: str) -> File | None:
    """The file that was made under this key, or None. Raises IdempotencyMismatch."""
    made = connection.execute("SELECT fingerprint, file_id FROM upload_idempotency WHERE key = ?", (key,)).fetchone()
    if made is None:
        return None
    if made[0] != fingerprint:
        raise used_for_another()
    row = connection.execute(f"SELECT {COLUMNS} FROM files WHERE id = ?", (made[1],)).fetchone()  # noqa: S608
    return file_of(row)


def _with_variants(connection: sqlite3.Connection, files: list[File]) -> list[File]:
    """The files, each with its variants."""
    ids = json.dumps([file.id for file in files])
    rows = connection.execute(
        f"SELECT {COLUMNS} FROM files WHERE variant_of IN (SELECT value FROM json_each(?)) ORDER BY variant",  # noqa: S608
        (ids,),
    )
    of_each: dict[str | None, list[File]] = {}
    for row in rows:
        variant = file_of(row)
        of_each.setdefault(variant.variant_of, []).append(variant)
    return [replace(file, variants=tuple(of_each[file.id])) if file.id in of_each else file for file in files]


def used_for_another() -> IdempotencyMismatch:
    """The error for an Idempotency-Key that came before with something else."""
    return IdempotencyMismatch("this Idempotency-Key was used for another request", field="Idempotency-Key")


def insert_file(connection: sqlite3.Connection, file: File) -> None:
    """Add a row inside the caller's transaction. Raises Conflict."""
    try:
        connection.execute(
            f"INSERT INTO files ({COLUMNS}) VALUES ({', '.join('?' * 19)})",  # noqa: S608
            (
                file.id,
                file.key,
                file.filename,
                file.bytes,
                file.media_type,
                file.kind.value,
                file.checksum.algorithm,
                file.checksum.value,
                time_text(file.created_at),
                file.etag,
                file.sha256,
                file.width,
                file.height,
                file.duration_seconds,
                file.task_id,
                file.owner,
                json_text(file.metadata),
                file.variant_of,
                file.variant,
            ),
        )
    except sqlite3.IntegrityError as exc:
        raise Conflict(
            "the file exists already, or the file or task it belongs to does not", file_id=file.id, sqlite=str(exc)
        ) from exc


def file_of(row: tuple[Any, ...]) -> File:
    """The file of a row of ``COLUMNS``."""
    return File(
        id=row[0],
        key=row[1],
        filename=row[2],
        bytes=row[3],
        media_type=row[4],
        kind=FileKind(row[5]),
        checksum=Checksum(row[6], row[7]),
        created_at=time_of(row[8]),
        etag=row[9],
        sha256=row[10],
        width=row[11],
        height=row[12],
        duration_seconds=row[13],
        task_id=row[14],
        owner=row[15],
        metadata=json_of(row[16]),
        variant_of=row[17],
        variant=row[18],
    )
