"""How far a job is, in the words of vendors and gateways."""

from __future__ import annotations

import pytest

from mediagen.core.errors import ProviderUnavailable
from mediagen.providers.base import Phase
from mediagen.providers.words import Words


@pytest.mark.parametrize("word", [None, ""])
def test_an_answer_without_a_status_is_no_job_that_runs(word: object) -> None:
    with pytest.raises(ProviderUnavailable, match="no status") as odd:
        Words("gateway").phase(word)

    assert odd.value.retryable  # one is asked about again


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
    assert Words("gateway").phase(word) is phase
