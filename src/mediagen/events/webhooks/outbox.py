"""What the courier and the edge need of the rows of deliveries. The rows are added where a task's end is written."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Protocol

from mediagen.core.deliveries import Delivery, DeliveryAttempt, DeliveryQuery, DeliverySnapshot, DeliveryStatus


class Outbox(Protocol):
    """Deliveries. Every call that writes is one transaction, durable when it returns. All raise Unavailable."""

    async def due(
        self, now: datetime, *, without: Collection[str], not_to: Collection[str], limit: int
    ) -> list[Delivery]:
        """At most ``limit`` that are due, the longest due first; none of these ids, none to these targets."""

    async def load_snapshot(self, delivery: Delivery) -> DeliverySnapshot | None:
        """The delivery with the task as it ended; None when it is gone."""

    async def next_due(self, *, without: Collection[str], not_to: Collection[str]) -> datetime | None:
        """When the next of the others is due; None: there is none."""

    async def shift(self, step: timedelta) -> None:
        """Everything that waits is due by so much later, or earlier when ``step`` is negative."""

    async def pull(self, now: datetime, *, longest: timedelta) -> None:
        """Put right what waits since a moment that is yet to come: the clock went back. No wait is over ``longest``."""

    async def waiting(self) -> int:
        """How many wait."""

    async def attempted(
        self, delivery: Delivery, attempt: DeliveryAttempt, status: DeliveryStatus, due_at: datetime | None
    ) -> DeliveryStatus | None:
        """Record an attempt and what follows from it; gives where the delivery stands now, None when it is gone."""

    async def get(self, delivery_id: str, *, owner: str | None = None) -> tuple[Delivery, list[DeliveryAttempt]] | None:
        """The delivery and its latest attempts in order; None: unknown, or another owner's."""

    async def query(self, query: DeliveryQuery) -> tuple[list[Delivery], bool]:
        """A page, and whether there are more."""

    async def redeliver(self, delivery_id: str, now: datetime, *, owner: str | None = None) -> Delivery | None:
        """The delivery, due now, its schedule begun anew; None: unknown, or another owner's."""
