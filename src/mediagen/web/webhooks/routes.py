"""Routes of webhook deliveries and of the signing secret; and how creating routes take a webhook."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import Field, StringConstraints

from mediagen.core.deliveries import Delivery, DeliveryAttempt, DeliveryQuery, DeliveryStatus
from mediagen.core.errors import Conflict, NotFound
from mediagen.core.keys import Scope
from mediagen.core.redaction import redact_text
from mediagen.core.webhooks import WebhookEvent
from mediagen.events.webhooks.outbox import Outbox
from mediagen.events.webhooks.secrets import SigningSecrets
from mediagen.events.webhooks.sender import WebhookSender
from mediagen.web.api.routing import Call, Empty, route
from mediagen.web.api.schemas import Given, Page, PageSize, Said, TaskId

DAY_SECONDS: Final = 86_400
MAX_OVERLAP: Final = 30 * DAY_SECONDS

DeliveryId: TypeAlias = Annotated[str, StringConstraints(pattern=r"^evt_[0-9a-f]{32}$")]


class DeliveryFilter(Given):
    task: TaskId | None = None
    status: DeliveryStatus | None = None
    limit: PageSize = 20
    after: DeliveryId | None = None


class DeliveryView(Said):
    """One event on its way to one webhook."""

    id: str = Field(description="also the event's id, and the `webhook-id` of every attempt")
    object: Literal["webhook.delivery"] = "webhook.delivery"
    type: WebhookEvent
    task_id: str
    task_attempt: int
    url: str
    status: DeliveryStatus
    tries: int
    created_at: datetime
    next_attempt_at: datetime | None
    ended_at: datetime | None


class AttemptView(Said):
    """One request to a webhook. ``error`` is a stable word; null: the receiver accepted the event."""

    number: int
    at: datetime
    milliseconds: int
    status_code: int | None
    error: str | None


class DeliveryDetail(DeliveryView):
    attempts: list[AttemptView] = Field(description="the latest attempts, at most 50")


class DeliveryPage(Page):
    data: list[DeliveryView]


class SecretRotation(Given):
    """Options for replacing the signing secret."""

    overlap_seconds: Annotated[int, Field(ge=0, le=MAX_OVERLAP)] = Field(
        DAY_SECONDS, description="how long the old secret keeps signing beside the new one"
    )


class MadeSecret(Said):
    """The new signing secret, shown once."""

    object: Literal["webhook.secret"] = "webhook.secret"
    secret: str
    created_at: datetime


class WebhookRoutes:
    """``/v1/webhooks``."""

    def __init__(self, outbox: Outbox, webhook_sender: WebhookSender, secrets: SigningSecrets) -> None:
        self._outbox = outbox
        self._webhook_sender = webhook_sender
        self._secrets = secrets

    @route("GET", "/v1/webhooks/deliveries", "List deliveries", query=DeliveryFilter, answer=DeliveryPage)
    async def list_deliveries(self, call: Call[DeliveryFilter, Empty]) -> DeliveryPage:
        query = call.query
        found, more = await self._outbox.query(
            DeliveryQuery(
                task_id=query.task,
                status=query.status,
                limit=query.limit,
                after=query.after,
                owner=call.caller.sees,
            )
        )
        return DeliveryPage(
            data=[delivery_view(delivery) for delivery in found],
            has_more=more,
            first_id=found[0].id if found else None,
            last_id=found[-1].id if found else None,
        )

    @route(
        "GET",
        "/v1/webhooks/deliveries/{id}",
        "Get a delivery and its attempts",
        answer=DeliveryDetail,
        fails=(NotFound,),
    )
    async def get_delivery(self, call: Call[Empty, Empty]) -> DeliveryDetail:
        return await self._detail(call.id, call.caller.sees)

    @route(
        "POST",
        "/v1/webhooks/deliveries/{id}/redeliver",
        "Redeliver now, with the same id",
        answer=DeliveryDetail,
        status=HTTPStatus.ACCEPTED,
        fails=(NotFound,),
    )
    async def redeliver(self, call: Call[Empty, Empty]) -> DeliveryDetail:
        delivery = await self._outbox.redeliver(call.id, datetime.now(UTC), owner=call.caller.sees)
        if delivery is None:
            raise _unknown(call.id)
        self._webhook_sender.wake()
        return await self._detail(call.id, call.caller.sees)

    @route(
        "POST",
        "/v1/webhooks/secret/rotate",
        "Replace the signing secret with a new one",
        body=SecretRotation,
        body_optional=True,
        answer=MadeSecret,
        fails=(Conflict,),
        needs=Scope.ADMIN,
    )
    async def rotate_secret(self, call: Call[Empty, SecretRotation]) -> MadeSecret:
        return await rotate(self._secrets, call.body)

    async def _detail(self, delivery_id: str, owner: str | None) -> DeliveryDetail:
        found = await self._outbox.get(delivery_id, owner=owner)
        if found is None:
            raise _unknown(delivery_id)
        return delivery_detail(*found)


async def rotate(secrets: SigningSecrets, asked: SecretRotation) -> MadeSecret:
    """The new secret. Raises Conflict, Unavailable."""
    made = await secrets.rotate(overlap=timedelta(seconds=asked.overlap_seconds))
    return MadeSecret(secret=made.text, created_at=made.created_at)


def delivery_view(delivery: Delivery) -> DeliveryView:
    """``delivery`` as it is shown."""
    return DeliveryView(
        id=delivery.id,
        type=delivery.type,
        task_id=delivery.task_id,
        task_attempt=delivery.task_attempt,
        url=redact_text(delivery.url),
        status=delivery.status,
        tries=delivery.tries,
        created_at=delivery.created_at,
        next_attempt_at=delivery.due_at,
        ended_at=delivery.ended_at,
    )


def delivery_detail(delivery: Delivery, attempts: Sequence[DeliveryAttempt]) -> DeliveryDetail:
    """``delivery`` and what was tried."""
    return DeliveryDetail(
        **delivery_view(delivery).model_dump(),
        attempts=[
            AttemptView(
                number=one.number,
                at=one.at,
                milliseconds=one.milliseconds,
                status_code=one.status_code,
                error=one.error,
            )
            for one in attempts
        ],
    )


def _unknown(delivery_id: str) -> NotFound:
    return NotFound(f"no delivery {delivery_id[:100]}")
