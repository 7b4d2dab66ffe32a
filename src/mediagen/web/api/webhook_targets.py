"""Webhooks in requests: the fields that creating routes share, and how they become a task's webhook."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import Field, StringConstraints

from mediagen.core.errors import InvalidRequest, UrlNotAllowed
from mediagen.core.webhooks import TASK_EVENTS, Webhook, WebhookEvent
from mediagen.net.policy import MAX_URL, AddressPolicy
from mediagen.web.api.schemas import Given

_USER: Final = re.compile(r"[^/]*//[^/?#\\]*@")
"""A URL with something before its host."""


class Notified(Given):
    """What a request may say of webhooks: every creating route's model inherits it."""

    webhook_url: Annotated[str, StringConstraints(min_length=1, max_length=MAX_URL)] | None = Field(
        None, description="http(s) URL to POST to when the task ends; signed as in Standard Webhooks"
    )
    webhook_events: Annotated[tuple[WebhookEvent, ...], Field(min_length=1, max_length=len(WebhookEvent))] | None = (
        Field(
            None, description="events to send; null: all. video.* apply to videos only and cannot be mixed with task.*"
        )
    )


class WebhookTargets:
    """Makes the webhook of a task of what its request says."""

    def __init__(self, policy: AddressPolicy) -> None:
        self._policy = policy

    def of(self, wanted: Notified, base: str, *, usual: tuple[WebhookEvent, ...] = TASK_EVENTS) -> Webhook | None:
        """The webhook; None: there is to be none. ``base``: by which the caller reaches us, kept for the URLs that
        the webhook is told. ``usual``: what is told unless the request says otherwise.

        Raises:
            InvalidRequest, UrlNotAllowed: its URL can lead nowhere, events come without one, or headers are given.
        """
        headers = (wanted.model_extra or {}).get("webhook_headers")
        if headers is not None:  # secrets as a rule: not for a provider's eyes
            words = "webhook_headers are not sent; what a webhook is told is signed instead"
            raise InvalidRequest(words, field="webhook_headers")
        if wanted.webhook_url is None:
            if wanted.webhook_events is not None:
                raise InvalidRequest("webhook_events can only be used with webhook_url", field="webhook_events")
            return None
        if _USER.match(wanted.webhook_url):
            raise UrlNotAllowed(
                "webhook_url: a user and password in the URL are not accepted, as they would be stored with the task; "
                "let the receiver check the signature of Standard Webhooks instead",
                field="webhook_url",
            )
        try:
            self._policy.check(wanted.webhook_url)
        except InvalidRequest as exc:
            raise type(exc)(f"webhook_url: {exc.detail}", field="webhook_url") from None
        events = usual if wanted.webhook_events is None else tuple(dict.fromkeys(wanted.webhook_events))
        films = sum(event.of_films for event in events)
        if films and (usual == TASK_EVENTS or films < len(events)):
            raise InvalidRequest(
                "webhook_events: video.* apply to videos only and cannot be mixed with task.*", field="webhook_events"
            )
        return Webhook(wanted.webhook_url, base, events)
