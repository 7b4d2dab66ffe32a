"""How far a job is, in the words of vendors and gateways."""

from __future__ import annotations

import pytest

from mediagen.providers.base import Phase
from mediagen.providers.vendors.status_words import StatusWords


@pytest.mark.parametrize("word", [None, "", " ", True, {}, [], 1.5, "not_found", "Task not found"])
def test_what_is_no_word_is_no_state(word: object) -> None:
    assert StatusWords("gateway").phase(word) is None


@pytest.mark.parametrize(
    ("word", "phase"),
    [
        ("Succeeded", Phase.COMPLETED),
        ("IN-QUEUE", Phase.QUEUED),
        (" in progress ", Phase.RUNNING),
        ("odd", Phase.RUNNING),
    ],
)
def test_words_are_known_in_any_spelling(word: str, phase: Phase) -> None:
    assert StatusWords("gateway").phase(word) is phase
