"""What a provider says of a call or a job that failed, read out of whatever shape it says it in.

Known shapes: OpenAI ``{"error": {"message", "type", "code", "param"}}``; Google ``google.rpc.Status`` with ``details``
(``RetryInfo``, ``ErrorInfo``, ``BadRequest``); engines that answer ``{"error": "text"}``; FastAPI and fal
``{"detail": text | [{"loc", "msg", "type"}]}``, also as a bare list, and fal's ``error_type``; RFC 9457
``{"title", "detail"}`` with Replicate's ``invalid_fields`` and ``retry_after``; MiniMax ``base_resp``; a gateway that
wraps one of these, as text, in another.
Sources: the vendors' API references, google/rpc/error_details.proto, as read on 2026-11-30.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mediagen.core.redaction import redact_text
from mediagen.providers.calls.lenient_json import as_list, as_object, as_text, as_whole, parsed

_MAX_WORDS: Final = 500
_MAX_REASONS: Final = 300
_MAX_CODE: Final = 80
_MAX_DEPTH: Final = 8
_DELAY: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)s?")
_FIELD_OF_INPUT: Final = re.compile(r"\A-? ?input\.([A-Za-z0-9_.]{1,60}):")
"""How Replicate begins what it says of a field in text."""
_MACHINE_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\- ]*")
_CODE_KEYS: Final = ("code", "error_code", "type", "error_type", "status")
"""From the most exact to the most general."""
_MESSAGE_KEYS: Final = (
    "message",
    "msg",
    "detail",
    "error_message",
    "status_msg",
    "title",
    "description",
    "reason",
    "failure_reason",
    "fail_reason",
    "status_message",
)


@dataclass(frozen=True, slots=True)
class Complaint:
    """A refusal in the provider's own words; empty where it has none."""

    message: str = ""
    codes: tuple[str, ...] = ()
    """Words for machines, from the most exact to the most general: reason, code, type, status."""
    param: str | None = None
    delay: float | None = None
    """Seconds that the answer itself asks us to wait (Google's RetryInfo, Replicate's ``retry_after``)."""

    @property
    def vendor_code(self) -> str | None:
        """For the log."""
        return " ".join(self.codes) or None


def complaint_of(body: bytes) -> Complaint:
    """The complaint in the body of an answer; never fails."""
    try:
        document = parsed(body)
    except ValueError:
        return Complaint()
    return said_in(document)


def said_in(document: object, depth: int = 0) -> Complaint:
    """The complaint in a parsed answer."""
    if isinstance(document, list):
        return _said_in_list(document, depth)
    if not isinstance(document, dict):
        return Complaint(cleaned(document))
    if "loc" in document and "msg" in document:
        return _of_field(document)
    inner = next((document[key] for key in ("error", "errors", "detail") if _says_something(document.get(key))), None)
    if isinstance(inner, dict | list) and depth < _MAX_DEPTH:
        said = said_in(inner, depth + 1)
        return Complaint(
            said.message or _message_in(document),
            (*said.codes, *_codes_in(document)),
            said.param or _param_in(document),
            _delay_in(document) if said.delay is None else said.delay,
        )
    message = inner if isinstance(inner, str) else _message_in(document)
    if message.lstrip().startswith("{") and (wrapped := _wrapped(message, depth)) is not None:
        return Complaint(wrapped.message, (*wrapped.codes, *_codes_in(document)), wrapped.param, wrapped.delay)
    return Complaint(
        cleaned(message or document.get("message")),
        _codes_in(document),
        _param_in(document) or _param_in_text(message),
        _delay_in(document),
    )


def reasons_in(document: object, texts_beside: Iterable[str] = ()) -> Complaint:
    """Why an answer has no result, of all that it says: the codes and texts of fields that hold reasons, at any depth.

    Some answer 200 and put the reason beside the place where the picture should be: Google's ``finishReason``,
    ``blockReason`` and ``raiFilteredReason``, a model's own text, Azure's content filter results, a warning.
    """
    codes: list[str] = []
    texts = list(texts_beside)
    for key, value in _walk(document):
        name = _plain(key)
        if name in _REASON_CODES and isinstance(value, str) and value and value.upper() not in _NO_REASONS:
            codes.append(value[:_MAX_CODE])
            texts.append(value)
        elif name in _REASON_TEXTS and isinstance(value, str) and value.strip():
            texts.append(value)
        elif name in _FILTERED and value:
            codes.append("content_filter")
            said = [value] if isinstance(value, str) else [text for text in as_list(value) if isinstance(text, str)]
            texts += said or [f"{key}: {value}"]
    told = dict.fromkeys(text.strip() for text in texts if text.strip().upper() not in _NO_REASONS)
    words = cleaned("; ".join(told))[:_MAX_REASONS]
    whole = said_in(document) if isinstance(document, dict) and _says_something(document.get("error")) else Complaint()
    return Complaint(words or whole.message, (*whole.codes, *dict.fromkeys(codes)), whole.param, whole.delay)


_REASON_CODES: Final = frozenset({"finishreason", "blockreason", "stopreason", "code", "errortype", "incompletereason"})
_REASON_TEXTS: Final = frozenset(
    {
        "message",
        "msg",
        "error",
        "errormessage",
        "detail",
        "details",
        "reason",
        "reasons",
        "text",
        "content",
        "refusal",
        "warning",
        "description",
        "finishmessage",
        "blockreasonmessage",
        "failurereason",
        "failreason",
        "statusmessage",
        "statusmsg",
        "output",
        "caption",
    }
)
_FILTERED: Final = frozenset(
    {"filtered", "flagged", "raifilteredreason", "raimediafilteredcount", "raimediafilteredreasons"}
)
"""Keys whose value, unless it is empty, says that something was withheld for its content."""
_ECHOES: Final = frozenset({"input", "prompt", "request", "logs"})
"""Keys under which a provider repeats what it was asked, or tells what it did."""
_NO_REASONS: Final = frozenset(
    {"STOP", "END_TURN", "COMPLETE", "COMPLETED", "SUCCESS", "OK", "FINISH_REASON_UNSPECIFIED"}
)


def cleaned(message: object) -> str:
    """A text as it may be shown: in one line, without secrets, bounded."""
    text = message if isinstance(message, str) else json.dumps(message) if message else ""
    return redact_text(" ".join(text.split()))[:_MAX_WORDS]


def _says_something(value: object) -> bool:
    return isinstance(value, str | dict | list) and bool(value)


def _said_in_list(items: Iterable[object], depth: int) -> Complaint:
    """The first of several; of several fields the one with the most exact code is as good as any other."""
    objects = [item for item in items if isinstance(item, dict)]
    if objects and depth < _MAX_DEPTH:
        return said_in(objects[0], depth + 1)
    return Complaint(cleaned("; ".join(item for item in items if isinstance(item, str))))


def _of_field(item: Mapping[str, Any]) -> Complaint:
    place = [str(step) for step in as_list(item.get("loc")) if step != "body" and step is not None]
    kind = as_text(item.get("type"))
    return Complaint(cleaned(item.get("msg")), (kind[:_MAX_CODE],) if kind else (), ".".join(place)[:200] or None)


def _message_in(document: Mapping[str, Any]) -> str:
    base = as_text(as_object(document.get("base_resp")).get("status_msg"))
    base = base if base.upper() not in _NO_REASONS else ""
    return base or next((text for key in _MESSAGE_KEYS if (text := as_text(document.get(key)))), "")


def _codes_in(document: Mapping[str, Any]) -> tuple[str, ...]:
    codes = [as_text(detail.get("reason")) for detail in map(as_object, as_list(document.get("details")))]
    codes += [as_text(document.get(key)) for key in _CODE_KEYS]
    number = as_object(document.get("base_resp")).get("status_code")
    if number not in (None, 0, "", "0"):
        codes.insert(0, f"base_resp.{number}")
    return tuple(dict.fromkeys(code[:_MAX_CODE] for code in codes if _MACHINE_WORD.fullmatch(code)))


def _param_in(document: Mapping[str, Any]) -> str | None:
    if param := as_text(document.get("param")):
        return param[:200]
    for detail in map(as_object, as_list(document.get("details"))):
        for violation in map(as_object, as_list(detail.get("fieldViolations"))):
            if field := as_text(violation.get("field")):
                return field[:200]
    for invalid in map(as_object, as_list(document.get("invalid_fields"))):
        if field := as_text(invalid.get("field")):
            return field.removeprefix("input.")[:200]
    return None


def _param_in_text(message: str) -> str | None:
    found = _FIELD_OF_INPUT.match(message)
    return found[1] if found is not None and message.startswith("-") else None


def _delay_in(document: Mapping[str, Any]) -> float | None:
    for detail in map(as_object, as_list(document.get("details"))):
        if (seconds := _seconds(detail.get("retryDelay"))) is not None:
            return seconds
    return _seconds(document.get("retry_after"))


def _seconds(value: object) -> float | None:
    """Of ``7s``, ``36.4s``, a number, or a ``google.protobuf.Duration`` spelled out."""
    if isinstance(value, dict):
        value = as_whole(value.get("seconds"))
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    found = _DELAY.fullmatch(str(value).strip()[:20])
    return float(found[1]) if found else None


def _wrapped(message: str, depth: int) -> Complaint | None:
    """What a gateway passed on as text."""
    if depth >= _MAX_DEPTH:
        return None
    try:
        inner = parsed(message.encode())
    except ValueError:
        return None
    return said_in(inner, depth + 1) if isinstance(inner, dict) else None


def _walk(value: object, depth: int = 0) -> Iterator[tuple[str, object]]:
    """Every field at any depth, with its name, but for what only repeats the request."""
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, dict):
        if value.get("type") == "user_input":
            return
        for key, item in value.items():
            if key not in _ECHOES:
                yield key, item
                yield from _walk(item, depth + 1)
    elif isinstance(value, list):
        for item in value[:100]:
            yield from _walk(item, depth + 1)


def _plain(word: str) -> str:
    return "".join(char for char in word.lower() if char.isalnum())
