"""Signatures of webhooks, as Standard Webhooks 1.0 has them (github.com/standard-webhooks/standard-webhooks, spec/).

Signed is ``{id}.{timestamp}.{body}`` by HMAC-SHA256. A secret is ``whsec_`` and 24 to 64 bytes in standard base64.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Iterable
from typing import Final

PREFIX: Final = "whsec_"
MAX_SECRETS: Final = 4
"""Secrets that sign at once, during rotations."""
_KEY_BYTES: Final = 32
_ALLOWED: Final = range(24, 65)


def generate_secret() -> str:
    """A secret of 256 random bits."""
    return PREFIX + base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()


def decode_secret(secret: str) -> bytes:
    """The key in a written secret. Raises ValueError, whose text does not have the secret in it."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"must be {PREFIX} and standard base64") from None
    if not secret.startswith(PREFIX) or len(key) not in _ALLOWED:
        raise ValueError(f"must be {PREFIX} and {_ALLOWED.start} to {_ALLOWED.stop - 1} bytes in standard base64")
    return key


def sign(body: bytes, *, message_id: str, timestamp: int, keys: Iterable[bytes]) -> dict[str, str]:
    """The headers that prove ``body``: one signature for each key. ``timestamp``: Unix time in seconds, of this try."""
    text = f"{message_id}.{timestamp}.".encode() + body
    digests = (hmac.digest(key, text, hashlib.sha256) for key in keys)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests),
    }
