"""Settings of the tasks room."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, field_validator

LANES: Final[Mapping[str, int]] = {"image": 4, "video": 8, "ingest": 4, "compose": 1, "repurpose": 5, "render": 1}


class TasksSettings(BaseModel):
    """How much runs at once, how long, how often."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lanes: dict[str, Annotated[int, Field(ge=1, le=1000)]] = Field(
        default_factory=lambda: dict(LANES),
        validate_default=True,
        description="tasks that run at once in each lane; lanes that are not named keep their default",
    )
    max_queued: int = Field(1000, ge=1, le=100_000, description="tasks that may wait; more are rejected with 429")
    max_attempts: int = Field(3, ge=1, le=100, description="attempts of a task, the first included")
    timeout_seconds: float = Field(1800, gt=0, le=7 * 86_400, description="longest run of one attempt")
    history_days: float = Field(30, ge=0, description="days to keep ended tasks; 0 keeps them forever")

    @field_validator("lanes", mode="before")
    @classmethod
    def _over_the_defaults(cls, given: Any) -> Any:
        return {**LANES, **given} if isinstance(given, Mapping) else given
