"""The words of the vendors for how far a job is, as one table.

A gateway that passes ``succeeded`` through where ``completed`` was promised must not turn a finished, paid film into a
timeout. A word that nobody knows means that it still runs: the caller's deadline bounds that, and the log says it once.
No word at all, or one that says that there is no such job, tells nothing about how far it is.
"""

from __future__ import annotations

from typing import Final

import structlog

from mediagen.providers.base import Phase

log = structlog.get_logger(__name__)

_WORDS: Final[dict[Phase, str]] = {
    Phase.QUEUED: "queued queueing in_queue pending preparing submitted starting created accepted waiting not_start",
    Phase.RUNNING: "running processing in_progress generating rendering started active requires_continuation",
    Phase.COMPLETED: "completed complete succeeded success successful done finished ready ok",
    Phase.FAILED: "failed failure fail error errored cancelled canceled aborted expired timeout timed_out timedout "
    "rejected incomplete budget_exceeded requires_action deleted moderated",
}
_UNKNOWN: Final = frozenset({"not_found", "unknown_task", "task_not_found", "job_not_found", "task_not_exist"})
_PHASES: Final = {word: phase for phase, words in _WORDS.items() for word in words.split()}


class StatusWords:
    """Reads one provider's words, upper or lower case, with spaces, hyphens or underscores."""

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._said: set[str] = set()

    def phase(self, word: object) -> Phase | None:
        """None: it is no word, or says that there is no such job."""
        plain = _plain(word)
        if not plain or plain in _UNKNOWN:
            return None
        phase = _PHASES.get(plain)
        if phase is not None:
            return phase
        if plain not in self._said and len(self._said) < 100:
            self._said.add(plain)
            log.warning("provider_status_unknown", provider=self._provider, status=plain)
        return Phase.RUNNING

    @staticmethod
    def is_unknown(word: object) -> bool:
        """Whether the word says that there is no such job."""
        return _plain(word) in _UNKNOWN


def _plain(word: object) -> str:
    if isinstance(word, bool) or not isinstance(word, str | int):
        return ""
    return str(word).strip().lower().replace(" ", "_").replace("-", "_")[:64]


def percent_of(value: object) -> int | None:
    """0-100 of a number, or of text like ``42%``; None when it is neither."""
    if isinstance(value, str):
        value = value.strip().removesuffix("%")
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return max(0, min(100, int(number))) if number == number else None
