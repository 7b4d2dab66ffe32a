"""What may be shown of text and values that can hold secrets: logs, and requests that are read back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

REDACTED: Final = "[redacted]"

_SECRET_NAME: Final = re.compile(
    r"(?:^|[_\-.])(?:secret|password|passwd|token|signature|authorization|cookie|credentials?|api_?key|access_?key"
    r"|admin_?key|private_?key|session_?key)(?:$|[_\-.])",
    re.IGNORECASE,
)
_USER_INFO: Final = re.compile(r"(?P<scheme>\b[a-z][a-z0-9+.\-]*://)[^\s/@?#\"']+@", re.IGNORECASE)
_QUERY_SECRET: Final = re.compile(
    r"(?P<name>[?&;](?:x-amz-signature|x-amz-credential|x-amz-security-token|x-goog-signature|x-goog-credential"
    r"|awsaccesskeyid|signature|sig|token|access_token|api_?key|key|secret|password|auth|policy|key-pair-id)=)[^&\s\"'#]*",
    re.IGNORECASE,
)
_BEARER: Final = re.compile(r"\b(?P<scheme>bearer|basic)\s+[A-Za-z0-9._~+/=\-]{8,}", re.IGNORECASE)
_KEY_WORD: Final = re.compile(r"\b(?:whsec_|sk-|mg_)[A-Za-z0-9_\-+/=]{8,}")
_BASE64_RUN: Final = re.compile(r"[A-Za-z0-9+/_\-]{256,}={0,2}")
_MAX_TEXT: Final = 16_384
_MAX_DEPTH: Final = 8


def redact_text(text: str) -> str:
    """``text`` without URL credentials, signatures, bearer tokens, keys and long base64 runs; at most 16 Ki long."""
    if len(text) > _MAX_TEXT:
        text = f"{text[:_MAX_TEXT]}[{len(text) - _MAX_TEXT} characters more]"
    text = _BASE64_RUN.sub(lambda match: f"[base64, {len(match[0])} characters]", text)
    text = _USER_INFO.sub(rf"\g<scheme>{REDACTED}@", text)
    text = _QUERY_SECRET.sub(rf"\g<name>{REDACTED}", text)
    text = _BEARER.sub(rf"\g<scheme> {REDACTED}", text)
    return _KEY_WORD.sub(REDACTED, text)


def redact_named(name: str, value: object, depth: int = 0) -> object:
    """``value`` as it may be shown under ``name``: nothing of it when the name is that of a secret."""
    if value is not None and not isinstance(value, bool) and _SECRET_NAME.search(name):
        return REDACTED
    return redact(value, depth)


def redact(value: object, depth: int = 0) -> object:
    """``value`` made of plain JSON types, redacted at every level."""
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return f"[{len(value)} bytes]"
    if depth >= _MAX_DEPTH:
        return "[deeply nested]"
    if isinstance(value, Mapping):
        return {str(name): redact_named(str(name), item, depth + 1) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(item, depth + 1) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return redact_text(str(value))
