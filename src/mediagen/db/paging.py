"""Pages by key instead of by offset: a page costs the same wherever it lies, and new rows never shift it."""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

from mediagen.core.errors import InvalidRequest

MAX_SHOWN: Final = 20_000
"""Rows of pages whose places are remembered; some 5 MB."""

Mark: TypeAlias = tuple[Any, str]
"""The place of a row in its list: when it was made, and its id."""


class Shown:
    """Where the rows of the latest pages stood: who deletes what a page holds, and goes on after it, names rows that
    are gone. Kept in memory, so that after a restart such a caller begins anew."""

    def __init__(self, most: int = MAX_SHOWN) -> None:
        self._most = most
        self._places: OrderedDict[str, tuple[Mark, str | None]] = OrderedDict()
        self._lock = threading.Lock()  # pages are read in several threads

    def remember(self, rows: Sequence[tuple[Any, ...]], columns: str) -> None:
        names = [name.strip() for name in columns.split(",")]
        made, owner = names.index("created_at"), names.index("owner")
        with self._lock:
            for row in rows:
                self._places[row[0]] = ((row[made], row[0]), row[owner])
                self._places.move_to_end(row[0])
            while len(self._places) > self._most:
                self._places.popitem(last=False)

    def place(self, row_id: str, owner: str | None) -> Mark | None:
        """Of a row that was shown, to callers who may see it; None: not known."""
        with self._lock:
            mark, whose = self._places.get(row_id, (None, None))
        return mark if owner is None or whose == owner else None


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
    shown: Shown,
) -> tuple[list[tuple[Any, ...]], bool]:
    """At most ``limit`` rows after the one with id ``after``, by creation time, then id; and whether there are more.

    Args:
        filters: columns and the values they must have; None does not filter.
        only: one condition more, in SQL.
        merged: a column by which the index is ordered before time: the page is merged from those of its few values.
        shown: where rows stood that are deleted by now; ``after`` may be one of them.
        narrow: a filter that leaves so few rows that they are sorted; the index of no other one is used then.

    Raises:
        InvalidRequest: there is and was no row ``after``, or it is another owner's.
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
        ).fetchone() or shown.place(after, filters.get("owner"))
        if mark is None:
            raise InvalidRequest(f"after: there is no item {after}", field="after")
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
    shown.remember(rows[:limit], columns)
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
