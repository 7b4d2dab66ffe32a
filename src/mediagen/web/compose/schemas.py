"""Requests and answers of ``/v1/compositions``."""

from __future__ import annotations

from pydantic import Field

from mediagen.compose.request import Composition
from mediagen.web.api.schemas import Priority, Said
from mediagen.web.api.webhook_targets import Notified


class CompositionRequest(Notified, Composition):
    """A film, and how its task is run."""

    priority: Priority = 50
    timeout_seconds: float | None = Field(None, gt=0, description="limit of one attempt")


class PlannedSceneView(Said):
    """A scene on the timeline. Seconds are those of the film."""

    index: int
    start_frame: int
    frames: int
    overlap_frames: int = Field(description="frames of its transition, which overlap the scene before it")
    start_seconds: float
    seconds: float
    voice_seconds: float | None = Field(description="null: nothing is spoken")


class PlanView(Said):
    """The timeline of a film; nothing is rendered."""

    width: int
    height: int
    fps: int
    frames: int
    seconds: float
    scenes: list[PlannedSceneView]
    warnings: list[str] = Field(description="what was changed, or cannot be had here")
    estimated_render_seconds: float
