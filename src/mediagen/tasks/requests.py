"""What a client asks for: checked against the model of its kind, and edited for another attempt."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from mediagen.core.errors import InvalidRequest
from mediagen.core.text import refuse_invalid
from mediagen.core.webhooks import Webhook
from mediagen.pipelines.base import Pipeline

PRIORITIES: Final = range(101)


def validated(pipeline: Pipeline, request: Mapping[str, Any]) -> BaseModel:
    """The request as the pipeline's model.

    Raises:
        InvalidRequest: it does not fit; ``context["errors"]`` lists ``{field, message}``, ``field`` the first.
    """
    refuse_invalid(request)
    try:
        return pipeline.spec.model_validate(request)
    except ValidationError as exc:
        errors = [
            {"field": ".".join(str(part) for part in error["loc"]), "message": error["msg"]}
            for error in exc.errors(include_url=False, include_context=False, include_input=False)
        ]
        said = "; ".join(f"{one['field']}: {one['message']}" if one["field"] else one["message"] for one in errors)
        raise InvalidRequest(said, errors=errors, field=errors[0]["field"] or None) from exc


def stored_form(spec: BaseModel) -> dict[str, Any]:
    """A request as its row keeps it, which ``validated`` reads back: JSON values, defaults left out."""
    return spec.model_dump(mode="json", exclude_defaults=True)


def check_priority(priority: int) -> None:
    """Raise InvalidRequest unless it is 0-100."""
    if priority not in PRIORITIES:
        raise InvalidRequest("priority must be 0 to 100", field="priority")


def scoped(key: str | None, kind: str, owner: str | None) -> str | None:
    """An Idempotency-Key as it is kept: one caller's keys for one kind of task are apart from all others.

    Raises:
        InvalidRequest: it is empty, longer than 255 characters, or not valid Unicode.
    """
    if key is None:
        return None
    if not 0 < len(key) <= 255:
        raise InvalidRequest("an Idempotency-Key must have 1 to 255 characters", field="Idempotency-Key")
    refuse_invalid(key, "Idempotency-Key")
    return json.dumps([owner, kind, key])


def fingerprint_of(asked: Mapping[str, Any]) -> str:
    """A digest of what was asked for; equal values give equal digests."""
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def asked_of_webhook(webhook: Webhook | None) -> dict[str, Any]:
    """What a webhook adds to what was asked for; nothing when there is none."""
    return {} if webhook is None else {"webhook": [webhook.url, *sorted(webhook.events)]}


def merge_patch(target: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """JSON Merge Patch (RFC 7396) of an object."""
    merged = dict(target)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, Mapping):
            below = merged.get(name)
            merged[name] = merge_patch(below if isinstance(below, Mapping) else {}, value)
        else:
            merged[name] = value
    return merged
