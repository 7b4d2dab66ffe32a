"""An origin that the operator has configured: it may be where no other URL may lead, and gets its credentials.

The dialer for it lets every address through that ``fetch.deny_cidrs`` does not forbid, since a local engine is a
usual provider. It is used for its one origin alone: ``TrustedOrigin.covers`` is asked before every request.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Final

from yarl import URL

from mediagen.net.http1.dialer import Dialer
from mediagen.net.session import Lookup, guarded_dialer, system_lookup
from mediagen.net.settings import FetchSettings

_EVERYWHERE: Final = (ip_network("0.0.0.0/0"), ip_network("::/0"))


@dataclass(frozen=True, slots=True)
class TrustedOrigin:
    """Scheme, host and port of ``base_url``, with what is sent there and nowhere else."""

    base_url: URL
    dialer: Dialer = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def covers(self, url: URL) -> bool:
        """Whether ``url`` has the same origin (RFC 6454)."""
        return url.origin() == self.base_url.origin()


@asynccontextmanager
async def trusted_dialer(settings: FetchSettings, *, lookup: Lookup = system_lookup) -> AsyncIterator[Dialer]:
    """As ``guarded_dialer``, for configured origins."""
    async with guarded_dialer(settings.model_copy(update={"allow_cidrs": _EVERYWHERE}), lookup=lookup) as dialer:
        yield dialer
