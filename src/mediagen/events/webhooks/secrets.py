"""The secrets that webhooks are signed with: given by the configuration, or made here and kept in the database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from mediagen.core.clock import utc_now
from mediagen.core.errors import Conflict
from mediagen.core.webhooks import SigningSecret
from mediagen.events.webhooks.signing import MAX_SECRETS, decode_secret, generate_secret

log = structlog.get_logger(__name__)


class SecretRows(Protocol):
    """Where secrets rest."""

    async def all(self) -> list[SigningSecret]: ...

    async def keep(self, secrets: Sequence[SigningSecret]) -> None: ...


class SigningSecrets:
    """Which secrets sign now. ``load`` comes before everything else.

    ``configured``: those of the configuration, which the database's never mix with; empty: there are none.
    """

    def __init__(
        self, rows: SecretRows, *, configured: Sequence[str] = (), now: Callable[[], datetime] = utc_now
    ) -> None:
        self._rows = rows
        self._configured = tuple(configured)
        self._now = now
        self._secrets: tuple[SigningSecret, ...] = ()
        self._changing = asyncio.Lock()

    async def load(self) -> None:
        """Read the secrets of the database; at the first start make one. Raises Unavailable."""
        if self._configured:
            return
        self._secrets = tuple(await self._rows.all())
        if not self._secrets:
            await self._keep((SigningSecret(generate_secret(), self._now()),))
            log.info("webhook_secret_made")

    def keys(self) -> list[bytes]:
        """What signs now, the newest first."""
        texts = self._configured or [secret.text for secret in self._signing()]
        return [decode_secret(text) for text in texts]

    async def rotate(self, *, overlap: timedelta) -> SigningSecret:
        """A new secret, which signs from now on; those before it sign for ``overlap`` more.

        Raises:
            Conflict: the configuration gives the secret, or too many would sign at once.
            Unavailable: the database does not write.
        """
        if self._configured:
            raise Conflict("webhooks.secret is set in the configuration; change it there")
        async with self._changing:
            now = self._now()
            ends = now + overlap
            older = tuple(
                replace(secret, expires_at=min(ends, secret.expires_at or ends)) for secret in self._signing()
            )
            older = tuple(secret for secret in older if secret.signs(now))
            if len(older) >= MAX_SECRETS:
                raise Conflict(f"{MAX_SECRETS} secrets are signing already; rotate without an overlap, or wait")
            new = SigningSecret(generate_secret(), now)
            await self._keep((new, *older))
        log.info("webhook_secret_rotated", older=len(older), ends=ends.isoformat())
        return new

    def _signing(self) -> list[SigningSecret]:
        now = self._now()
        return [secret for secret in self._secrets if secret.signs(now)]

    async def _keep(self, secrets: tuple[SigningSecret, ...]) -> None:
        await self._rows.keep(secrets)
        self._secrets = secrets
