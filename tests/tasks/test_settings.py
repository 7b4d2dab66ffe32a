from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from mediagen.tasks.settings import TasksSettings


def test_given_lanes_go_over_the_defaults() -> None:
    assert TasksSettings().lanes == {"image": 4, "video": 8, "ingest": 4, "compose": 1, "repurpose": 5, "render": 1}
    assert TasksSettings(lanes={"ingest": 9, "mine": 2}).lanes["ingest"] == 9
    assert TasksSettings(lanes={"ingest": 9, "mine": 2}).lanes["video"] == 8


@pytest.mark.parametrize(
    "wrong",
    [{"lanes": {"ingest": 0}}, {"lanes": 4}, {"max_queued": 0}, {"timeout_seconds": 0}, {"max_attempts": 0}, {"x": 1}],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TasksSettings(**wrong)
