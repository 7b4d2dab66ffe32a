"""API keys: how one is written, what it allows, and who calls with it."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

_TEXT: Final = re.compile(r"mg_(?P<id>[0-9a-f]{16})_(?P<secret>[A-Za-z0-9_-]{43})")
_SECRET_BYTES: Final = 32


class Scope(StrEnum):
    """What a key allows. ``admin`` covers everything of every owner; the other scopes only the key's own owner."""

    READ = "read"
    WRITE = "write"
    METRICS = "metrics"
    ADMIN = "admin"


USUAL: Final = frozenset({Scope.READ, Scope.WRITE})


@dataclass(frozen=True, slots=True)
class Key:
    """An API key as it is kept: never its secret, only the SHA-256 of that (hex).

    Keys of one ``owner`` share tasks and files. ``replaced_by`` is the key that a rotation put in its place.
    """

    id: str
    name: str
    owner: str
    scopes: frozenset[Scope]
    digest: str
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    replaced_by: str | None = None
    last_used_at: datetime | None = None

    def usable(self, now: datetime) -> bool:
        """Whether it opens anything at that moment."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request.

    ``owner``: whose is what the caller makes; None: nobody's, which only admins see. ``key_id`` None: it came without
    a key of the key ring.
    """

    owner: str | None
    scopes: frozenset[Scope]
    key_id: str | None = None

    @property
    def sees(self) -> str | None:
        """The owner of what it can see; None: it sees everything."""
        return None if Scope.ADMIN in self.scopes else self.owner

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or Scope.ADMIN in self.scopes


ANYBODY: Final = Caller(None, frozenset(Scope))
"""The caller of a server that requires no keys."""


def new_secret() -> str:
    """256 random bits as 43 letters, digits, ``-`` and ``_``."""
    return secrets.token_urlsafe(_SECRET_BYTES)


def written(key_id: str, secret: str) -> str:
    """The text that a client sends: ``mg_<id>_<secret>``."""
    return f"mg_{key_id.removeprefix('key_')}_{secret}"


def parsed(text: str) -> tuple[str, str] | None:
    """The id and the secret of a written key; None: it is none of ours."""
    match = _TEXT.fullmatch(text)
    return None if match is None else (f"key_{match['id']}", match["secret"])


def new_key_id() -> str:
    return f"key_{secrets.token_hex(8)}"


def digest_of(secret: str) -> str:
    """SHA-256 in hex. A secret of 256 random bits needs no salt and no slow hash: there is nothing to guess."""
    return hashlib.sha256(secret.encode()).hexdigest()


def same(digest: str, secret: str) -> bool:
    """Whether ``secret`` has that digest; takes the same time whatever differs."""
    return hmac.compare_digest(digest, digest_of(secret))
