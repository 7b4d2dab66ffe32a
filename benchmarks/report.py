"""What a case reports: side-by-side tables, and rows that are held against a limit and a goal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.readings import Reading, Rounds, median, median_of, ratio, worst_of


@dataclass(frozen=True, slots=True)
class Row:
    """A figure and what it must not exceed. ``limit`` None: only told. ``goal``: what we aim at beyond the limit."""

    what: str
    figure: float
    unit: str
    limit: float | None = None
    goal: float | None = None

    @property
    def missed(self) -> bool:
        return self.limit is not None and self.figure > self.limit

    @property
    def word(self) -> str:
        if self.limit is None:
            return ""
        if self.missed:
            return "MISS"
        return "PASS, goal" if self.goal is not None and self.figure <= self.goal else "PASS"


@dataclass(slots=True)
class Report:
    """All that a case has to say."""

    case: str
    title: str
    rows: list[Row] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failure: str | None = None

    def add(
        self,
        what: str,
        figure: float | None,
        unit: str,
        *,
        limit: float | None = None,
        goal: float | None = None,
    ) -> None:
        """Add a row; a figure that could not be had is a note, and a miss when it was to be held against a limit."""
        if figure is not None:
            self.rows.append(Row(what, figure, unit, limit, goal))
        elif limit is not None:
            self.rows.append(Row(f"{what} (not measured)", float("inf"), unit, limit, goal))
        else:
            self.notes.append(f"{what}: not measured")

    def stalls(self, of: str, found: Sequence[float], *, limit: float) -> None:
        """What a run stalls the event loop: the median of the worst of each run counts, for a neighbour spoils some."""
        self.add(f"stall of the event loop, {of}", median(found), "ms", limit=limit)
        self.add(f"stall of the event loop, {of}, worst of {len(found)} runs", max(found), "ms")

    @property
    def missed(self) -> bool:
        return self.failure is not None or any(row.missed for row in self.rows)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def grid(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, padded so that it reads well on a terminal too."""
    widths = [max(len(line[i]) for line in (head, *lines)) for i in range(len(head))]

    def join(cells: Sequence[str]) -> str:
        first = cells[0].ljust(widths[0])
        rest = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        return "| " + " | ".join((first, *rest)) + " |"

    rule = "|" + "|".join("-" * (width + 1) + (":" if i else "-") for i, width in enumerate(widths)) + "|"
    return "\n".join((join(head), rule, *(join(line) for line in lines)))


def side_by_side(rounds: Rounds, base: str) -> str:
    """Medians of all contenders of a table, with wall time also as pairwise ratio to ``base``."""

    def cpu(reading: Reading) -> float | None:
        return reading.cpu

    def growth(reading: Reading) -> float | None:
        return reading.growth_mb

    lines = [
        (
            name,
            f"{median([reading.seconds for reading in readings]):.3f}",
            f"{ratio(rounds, name, base):.2f}",
            _number(median_of(readings, cpu), 2),
            _number(worst_of(readings, growth), 1),
        )
        for name, readings in rounds.items()
    ]
    return grid(("", "s", f"x {base}", "CPU s", "growth MB"), lines)


def verdicts(rows: Sequence[Row]) -> str:
    """The rows that are held against something, and those that are only told."""
    lines = [
        (row.what, f"{row.figure:.2f}", row.unit, _number(row.limit, 2), _number(row.goal, 2), row.word) for row in rows
    ]
    return grid(("", "figure", "unit", "limit", "goal", ""), lines)
