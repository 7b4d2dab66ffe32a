"""``/v1/compositions``: films from a script, as tasks; and their timeline alone."""

from __future__ import annotations

from http import HTTPStatus

from mediagen.compose.pipeline import CompositionPipeline
from mediagen.compose.plan import Plan
from mediagen.compose.request import Composition, field_path
from mediagen.core.errors import QueueFull, TooLarge
from mediagen.tasks.service import TaskService
from mediagen.web.api.routing import Answer, Call, Empty, route
from mediagen.web.api.schemas import TaskView
from mediagen.web.api.views import Views
from mediagen.web.api.webhook_targets import WebhookTargets
from mediagen.web.compose.schemas import CompositionRequest, PlannedSceneView, PlanView
from mediagen.web.tasks.routes import TASK_HEADER, task_answer

_OF_THE_TASK = {"priority", "timeout_seconds", "webhook_url", "webhook_events"}


class CompositionRoutes:
    """Films from a script."""

    def __init__(
        self, service: TaskService, pipeline: CompositionPipeline, views: Views, targets: WebhookTargets
    ) -> None:
        self._service = service
        self._pipeline = pipeline
        self._views = views
        self._targets = targets

    @route(
        "POST",
        "/v1/compositions",
        "Make a film from a script",
        body=CompositionRequest,
        name_fields=field_path,
        answer=TaskView,
        status=HTTPStatus.ACCEPTED,
        fails=(QueueFull, TooLarge),
        takes=("Idempotency-Key",),
        gives=("Location", "Retry-After", TASK_HEADER),
    )
    async def compose(self, call: Call[Empty, CompositionRequest]) -> Answer:
        """A queued task. What can be seen to be wrong is refused before it."""
        document = call.body.model_dump(mode="json", exclude=_OF_THE_TASK, exclude_defaults=True)
        composition = Composition.model_validate(document)
        await self._pipeline.check(composition, owner=call.caller.owner)
        task = await self._service.submit(
            "composition",
            composition,
            priority=call.body.priority,
            timeout_seconds=call.body.timeout_seconds,
            owner=call.caller.owner,
            key=call.request.headers.get("Idempotency-Key"),
            webhook=self._targets.of(call.body, call.base),
        )
        view = await self._views.task(task, call.base)
        answer = task_answer(task, view)
        return Answer(view, headers={**answer.headers, "Location": self._views.path(f"/v1/tasks/{task.id}")})

    @route(
        "POST",
        "/v1/compositions/plan",
        "Show the timeline of a film without rendering it",
        body=CompositionRequest,
        name_fields=field_path,
        answer=PlanView,
        fails=(TooLarge,),
    )
    async def plan(self, call: Call[Empty, CompositionRequest]) -> PlanView:
        """The timeline. Voices are spoken for it, since scenes last as long as they do."""
        document = call.body.model_dump(mode="json", exclude=_OF_THE_TASK, exclude_defaults=True)
        return plan_view(await self._pipeline.plan(Composition.model_validate(document), owner=call.caller.owner))


def plan_view(plan: Plan) -> PlanView:
    """``plan`` as it is shown."""
    fps = plan.timeline.fps
    return PlanView(
        width=plan.width,
        height=plan.height,
        fps=fps,
        frames=plan.timeline.frames,
        seconds=round(plan.timeline.seconds, 3),
        scenes=[
            PlannedSceneView(
                index=scene.placed.index,
                start_frame=scene.placed.start,
                frames=scene.placed.frames,
                overlap_frames=scene.placed.overlap,
                start_seconds=round(scene.placed.start / fps, 3),
                seconds=round(scene.placed.frames / fps, 3),
                voice_seconds=None if scene.narration is None else round(scene.narration.seconds, 3),
            )
            for scene in plan.scenes
        ],
        warnings=list(plan.warnings),
        estimated_render_seconds=plan.estimated_seconds,
    )
