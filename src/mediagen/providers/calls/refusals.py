"""The errors that providers' refusals become; what a refusal means is said by ``meanings``."""

from __future__ import annotations

import re
from collections.abc import Mapping
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
from mediagen.net.retry import parse_retry_after
from mediagen.providers.calls.error_bodies import Complaint, complaint_of
from mediagen.providers.calls.refusal_kinds import Meaning, is_known, meaning_of

_PERHAPS_DONE: Final = frozenset({408, 499, 502, 504, *range(520, 528)})
"""What stands between gave up waiting; the provider itself may have gone on (520-527 are those of a known CDN)."""
_PAUSE_IN_TEXT: Final = re.compile(
    r"\b(?:try again|retry|retrying|resets?) in ~?([0-9]{1,6}(?:\.[0-9]{1,9})?) ?(m?s)\b", re.I
)
_DECIMAL: Final = re.compile(r"[0-9]{1,9}\.[0-9]{1,9}")


def refusal(
    provider: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    paid: bool,
    of_result: bool = False,
) -> MediagenError:
    """The error for an answer that is no success.

    Args:
        paid: the call was one that begins paid work.
        of_result: the call was one for the result of a job: with 422 that refuses what the job was asked for.
    """
    said = _with_headers(complaint_of(body), headers)
    about_request = paid or (of_result and status == 422)
    about: dict[str, Any] = {"provider": provider, "status": status, "vendor_code": said.vendor_code}
    if 300 <= status < 400:
        return ProviderError(
            f"{provider} redirects ({status}); set its base_url to the target of the redirect", **about
        )
    after = _retry_after(headers, said)
    meaning = meaning_of(status, said, hinted=after is not None)
    tail = f": {said.message}" if said.message else ""
    if status in _PERHAPS_DONE and paid and meaning in (Meaning.FAULT, Meaning.RATE, Meaning.OTHER):
        text = f"{provider} answered {status}: it may be doing the work, and charge for it; it is not asked again"
        return OutcomeUnknown(text, **about)
    if meaning in (Meaning.MODEL, Meaning.REQUEST) and not about_request:
        meaning = Meaning.OTHER
    if meaning is Meaning.REQUEST and not said.message:
        tail = f" ({status})"
    if meaning is Meaning.KEY:
        tail = f" ({status})"  # such texts repeat the key
    if meaning is Meaning.FAULT or (meaning is Meaning.OTHER and status in (408, 409, 425)):
        return ProviderUnavailable(f"{provider} failed ({status}){tail}", retry_after=after, **about)
    return _error(meaning, provider, said, tail, after, about) or ProviderError(
        f"{provider} answered {status}{tail}", **about
    )


def failure(provider: str, said: Complaint, **about: object) -> MediagenError:
    """The error of a job that the provider says has failed, or of an answer with 200 that says so."""
    meaning = meaning_of(None, said)
    tail = f": {said.message}" if said.message else ""
    if meaning is Meaning.KEY:
        tail = ""
    about = {"provider": provider, "vendor_code": said.vendor_code, **about}
    pause = said.delay if said.delay is not None else _pause_in(said.message)
    return _error(meaning, provider, said, tail, pause, about) or ProviderError(
        f"{provider} failed to make it{tail}", **about
    )


def nothing_made(provider: str, what: str, said: Complaint) -> MediagenError:
    """The error of an answer with 200 that has no result, for the reason that it gives. ``what``: ``a picture``."""
    meaning = meaning_of(None, said)
    if meaning is Meaning.CONTENT or any(map(is_known, said.codes)):
        return failure(provider, said)
    tail = f": {said.message}" if said.message else ""
    return ProviderError(f"{provider} answered without {what}{tail}", provider=provider, vendor_code=said.vendor_code)


def _error(
    meaning: Meaning, provider: str, said: Complaint, tail: str, after: float | None, about: Mapping[str, Any]
) -> MediagenError | None:
    match meaning:
        case Meaning.BUDGET:
            return ProviderBudgetSpent(f"the account at {provider} has no budget left{tail}", **about)
        case Meaning.CONTENT:
            return ContentRefused(f"{provider} rejected the content{tail}", param=said.param, **about)
        case Meaning.MODEL:
            return UnknownModel(f"{provider} does not know the model{tail}", param="model", **about)
        case Meaning.REQUEST:
            return InvalidRequest(f"{provider} rejected the request{tail}", param=said.param, **about)
        case Meaning.RATE:
            return ProviderRateLimited(f"{provider} is rate limiting this server{tail}", retry_after=after, **about)
        case Meaning.KEY:
            return ProviderKeyRefused(f"{provider} rejected this server's key{tail}", **about)
        case _:
            return None


def _with_headers(said: Complaint, headers: Mapping[str, str]) -> Complaint:
    """fal says the kind of a fault in a header as well."""
    kind = headers.get("X-Fal-Error-Type", "")
    if not kind or kind in said.codes:
        return said
    return Complaint(said.message, (kind[:80], *said.codes), said.param, said.delay)


def _retry_after(headers: Mapping[str, str], said: Complaint) -> float | None:
    """Seconds to wait: of the headers, else of the body's own field, else of its text."""
    exact = headers.get("retry-after-ms", "")
    if exact.isascii() and exact.isdigit():
        return int(exact[:9]) / 1000
    text = headers.get("Retry-After", "").strip()
    after = float(text) if _DECIMAL.fullmatch(text) else parse_retry_after(text)
    if after is not None:
        return after
    return said.delay if said.delay is not None else _pause_in(said.message)


def _pause_in(message: str) -> float | None:
    found = _PAUSE_IN_TEXT.search(message)
    if found is None:
        return None
    return float(found[1]) / (1000 if found[2].lower() == "ms" else 1)
