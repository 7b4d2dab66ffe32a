"""Pages by key instead of by offset: a page costs the same wherever it lies, and new rows never shift it."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any, Literal

from mediagen.core.errors import InvalidRequest


def page(
    connection: sqlite3.Connection,
    table: Literal["tasks", "files", "deliveries"],
    columns: str,
    filters: Mapping[str, str | None],
    *,
    after: str | None,
    limit: int,
    descending: bool,
    only: str = "",
) -> tuple[list[tuple[Any, ...]], bool]:
    """At most ``limit`` rows after the one with id ``after``, by creation time, then id; and whether there are more.

    ``filters`` are columns and the values they must have; None does not filter. ``only``: one condition more, in SQL.

    Raises:
        InvalidRequest: there is no row ``after``, or it is another owner's.
    """
    given = {name: value for name, value in filters.items() if value is not None}
    conditions = [f"{name} = ?" for name in given] + ([only] if only else [])
    values: list[Any] = list(given.values())
    if after is not None:
        mark = connection.execute(
            f"SELECT created_at, id FROM {table} WHERE id = ?1 AND (?2 IS NULL OR owner = ?2)",  # noqa: S608 - our names
            (after, filters.get("owner")),
        ).fetchone()
        if mark is None:
            raise InvalidRequest(f"there is no {after} to go on after", field="after")
        conditions.append(f"(created_at, id) {'<' if descending else '>'} (?, ?)")
        values.extend(mark)
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    order = "DESC" if descending else "ASC"
    rows = connection.execute(
        f"SELECT {columns} FROM {table} {where} ORDER BY created_at {order}, id {order} LIMIT ?",  # noqa: S608 - our names
        (*values, limit + 1),
    ).fetchall()
    return rows[:limit], len(rows) > limit
