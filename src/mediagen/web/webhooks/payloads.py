"""What webhooks are told."""

from __future__ import annotations

from typing import Literal

from mediagen.core.deliveries import DeliverySnapshot
from mediagen.core.webhooks import WebhookEvent
from mediagen.web.api.schemas import Said, TaskView
from mediagen.web.api.views import Views
from mediagen.web.http.json_output import as_json
from mediagen.web.openai_compat.video_schemas import VideoView
from mediagen.web.openai_compat.video_views import VideoViews


class EventBody(Said):
    """An event. ``omitted``: fields of the task that were too large for it; the task has them."""

    id: str
    object: Literal["event"] = "event"
    created_at: int
    type: WebhookEvent
    data: TaskView | VideoView
    omitted: tuple[str, ...] = ()


class PayloadBuilder:
    """Writes the bodies of deliveries. ``public_url``: what links begin with; empty: see ``Webhook.base``."""

    def __init__(self, views: Views, films: VideoViews, public_url: str) -> None:
        self._views = views
        self._films = films
        self._public_url = public_url

    async def body(self, snapshot: DeliverySnapshot) -> bytes:
        """The body, with links as of now."""
        delivery, task = snapshot.delivery, snapshot.task
        base = self._public_url or ("" if task.webhook is None else task.webhook.base)
        made = self._films.view(task, base) if delivery.type.of_films else self._views.task(task, base)
        view = EventBody(
            id=delivery.id,
            created_at=int(delivery.created_at.timestamp()),
            type=delivery.type,
            data=await made,
            omitted=snapshot.omitted,
        )
        return as_json(view)
