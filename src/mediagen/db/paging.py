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
    merged: str = "",
    narrow: str = "",
) -> tuple[list[tuple[Any, ...]], bool]:
    """At most ``limit`` rows after the one with id ``after``, by creation time, then id; and whether there are more.

    Args:
        filters: columns and the values they must have; None does not filter.
        only: one condition more, in SQL.
        merged: a column by which the index is ordered before time: the page is merged from those of its few values.
        narrow: a filter that leaves so few rows that they are sorted; the index of no other one is used then.

    Raises:
        InvalidRequest: there is no row ``after``, or it is another owner's.
    """
    given = {name: value for name, value in filters.items() if value is not None}
    sorted_here = narrow in given
    conditions = [f"{'+' if sorted_here and name != narrow else ''}{name} = ?" for name in given]
    if only:
        conditions.append(only)
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
    branches = [conditions]
    if merged:
        each = _values_of(connection, table, merged)
        branches = [[f"{merged} = ?", *conditions] for _ in each]
        values = [value for one in each for value in (one, *values)]
        if not branches:
            return [], False
    select = " UNION ALL ".join(_select(table, columns, branch) for branch in branches)
    direction = "DESC" if descending else "ASC"
    rows = connection.execute(
        f"{select} ORDER BY created_at {direction}, id {direction} LIMIT ?", (*values, limit + 1)
    ).fetchall()
    return rows[:limit], len(rows) > limit


def _select(table: str, columns: str, conditions: list[str]) -> str:
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    return f"SELECT {columns} FROM {table}{where}"  # noqa: S608 - our names


def _values_of(connection: sqlite3.Connection, table: str, column: str) -> list[str]:
    """The different values of a column that an index begins with: one step in it for each of them."""
    rows = connection.execute(
        f"WITH RECURSIVE found(value) AS (SELECT min({column}) FROM {table} UNION ALL "  # noqa: S608 - our names
        f"SELECT (SELECT min({column}) FROM {table} WHERE {column} > found.value) FROM found "
        "WHERE found.value IS NOT NULL) SELECT value FROM found WHERE value IS NOT NULL"
    )
    return [row[0] for row in rows]
