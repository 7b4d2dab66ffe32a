"""What a provider's refusal means, told by its status and its words.

Known shapes: OpenAI ``{"error": {"message", "type", "code", "param"}}``, Google the same with a number as code and a
``status``, engines that answer ``{"error": "text"}``, FastAPI ``{"detail": text | [{"loc", "msg"}]}``, RFC 9457
``{"title", "detail"}``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from mediagen.core.errors import (
    ContentRefused,
    InvalidRequest,
    MediagenError,
    OutcomeUnknown,
    ProviderBudgetSpent,
    ProviderError,
    ProviderKeyRefused,
    ProviderRateLimited,
    ProviderUnavailable,
    UnknownModel,
)
from mediagen.core.redaction import redact_text
from mediagen.net.retry import parse_retry_after
from mediagen.providers.foreign import parsed

_MAX_WORDS: Final = 500
_PERHAPS_DONE: Final = frozenset({408, 499, 502, 504, *range(520, 528)})
"""What stands between gave up waiting; the provider itself may have gone on (520-527 are those of a known CDN)."""
_CONTENT: Final = re.compile(
    r"moderation|content.?(policy|filter)|safety|sensitive|nsfw|prohibited|responsible.?ai", re.I
)
_BUDGET: Final = re.compile(r"insufficient.?(quota|balance|credit|funds)|billing|budget|payment|out of credit", re.I)
_MODEL: Final = re.compile(
    r"model.{0,60}(not.{0,5}(found|exist|supported)|does not exist|unknown)|model_not_found", re.I
)
_DELAY: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)s")


@dataclass(frozen=True, slots=True)
class Complaint:
    """A refusal in the provider's own words; empty where it has none."""

    message: str = ""
    code: str = ""
    param: str | None = None
    delay: float | None = None
    """Seconds that the text itself asks us to wait (Google's RetryInfo)."""

    @property
    def words(self) -> str:
        return f"{self.code} {self.message}"


def complaint_of(body: bytes) -> Complaint:
    """The complaint in the body of an answer; never fails."""
    try:
        document = parsed(body)
    except ValueError:
        return Complaint()
    if isinstance(document, list) and document:
        document = document[0]
    return said_in(document) if isinstance(document, dict) else Complaint(message=_clean(document))


def said_in(document: Mapping[str, Any]) -> Complaint:
    """The complaint in a parsed answer."""
    error = document.get("error", document.get("detail"))
    if isinstance(error, list) and error and isinstance(error[0], dict):
        first = error[0]
        place = [str(step) for step in first.get("loc", ()) if step != "body"]
        return Complaint(_clean(first.get("msg")), str(first.get("type", "")), ".".join(place) or None)
    if isinstance(error, dict):
        code = " ".join(str(error[key]) for key in ("code", "status", "type") if isinstance(error.get(key), str))
        param = error.get("param")
        return Complaint(
            _clean(error.get("message", error.get("msg", ""))),
            code,
            param if isinstance(param, str) else None,
            _retry_info(error.get("details")),
        )
    message = error if isinstance(error, str) else document.get("message") or document.get("title") or ""
    return Complaint(_clean(message), str(document.get("error_type") or document.get("code") or ""))


def _retry_info(details: object) -> float | None:
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict) and (found := _DELAY.fullmatch(str(detail.get("retryDelay", "")))):
            return float(found[1])
    return None


def _clean(message: object) -> str:
    text = message if isinstance(message, str) else json.dumps(message) if message else ""
    return redact_text(" ".join(text.split()))[:_MAX_WORDS]


def refusal(provider: str, status: int, headers: Mapping[str, str], body: bytes, *, paid: bool) -> MediagenError:
    """The error for an answer that is no success. ``paid``: the call was one that begins paid work.

    Only of such a call a refusal is about the caller's request; of one that looks it is ours.
    """
    said = complaint_of(body)
    tail = f": {said.message}" if said.message else ""
    about: dict[str, Any] = {"provider": provider, "status": status, "vendor_code": said.code.strip() or None}
    if 300 <= status < 400:
        return ProviderError(f"{provider} redirects ({status}); its base_url should be where that leads", **about)
    if status == 402 or (_BUDGET.search(said.code) or (status in (403, 429) and _BUDGET.search(said.message))):
        return ProviderBudgetSpent(f"the account at {provider} has no budget left{tail}", **about)
    if status in (400, 403, 422, 451) and _CONTENT.search(said.words):
        return ContentRefused(f"{provider} refuses the content{tail}", **about)
    if status in (401, 403):
        return ProviderKeyRefused(f"{provider} does not take the key of this server ({status})", **about)
    if status == 429:
        after = _retry_after(headers, said)
        return ProviderRateLimited(f"{provider} wants to be asked later{tail}", retry_after=after, **about)
    if paid and status in (400, 404) and _MODEL.search(said.words):
        return UnknownModel(f"{provider} does not know the model{tail}", param="model", **about)
    if paid and status in (400, 405, 413, 415, 422):
        return InvalidRequest(
            f"{provider} does not take the request{tail or f' ({status})'}", param=said.param, **about
        )
    if status in _PERHAPS_DONE and paid:
        text = f"{provider} answered {status}: it may be doing the work, and charge for it; it is not asked again"
        return OutcomeUnknown(text, **about)
    if status >= 500 or status in (408, 409, 425):
        return ProviderUnavailable(
            f"{provider} failed ({status}){tail}", retry_after=_retry_after(headers, said), **about
        )
    return ProviderError(f"{provider} answered {status}{tail}", **about)


def failure(provider: str, said: Complaint, **about: object) -> MediagenError:
    """The error of an operation that the provider says has failed."""
    tail = f": {said.message}" if said.message else ""
    about = {"provider": provider, "vendor_code": said.code.strip() or None, **about}
    if _CONTENT.search(said.words):
        return ContentRefused(f"{provider} refuses the content{tail}", **about)
    if _BUDGET.search(said.words):
        return ProviderBudgetSpent(f"the account at {provider} has no budget left{tail}", **about)
    return ProviderError(f"{provider} could not make it{tail}", **about)


def _retry_after(headers: Mapping[str, str], said: Complaint) -> float | None:
    exact = headers.get("retry-after-ms", "")
    if exact.isascii() and exact.isdigit():
        return int(exact[:9]) / 1000
    after = parse_retry_after(headers.get("Retry-After"))
    return said.delay if after is None else after
