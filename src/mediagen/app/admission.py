"""Who may call: addresses, rates, keys, tickets."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass

from mediagen.app.stores import Stores
from mediagen.core.keys import new_secret
from mediagen.db.keys import SqliteKeys
from mediagen.settings import Settings
from mediagen.web.auth.authenticator import Authenticator
from mediagen.web.auth.keyring import Keyring
from mediagen.web.auth.tickets import Tickets
from mediagen.web.http.connection_limits import Door
from mediagen.web.http.forwarded import Forwarded
from mediagen.web.middleware.rate_limit import Rates


@dataclass(frozen=True, slots=True)
class Admission:
    """``opened``: somebody has a key, or none is needed. ``operator_key``: for commands on this machine."""

    forwarded: Forwarded
    door: Door
    rates: Rates
    keyring: Keyring
    tickets: Tickets
    authenticator: Authenticator
    operator_key: str
    opened: bool


async def open_admission(settings: Settings, stores: Stores, stack: AsyncExitStack) -> Admission:
    """Load the keys; when ``stack`` is left, note when each was last used."""
    forwarded = Forwarded(settings.server)
    keyring, tickets = Keyring(SqliteKeys(stores.database), now=stores.clock.latest), Tickets()
    await keyring.load()
    stack.push_async_callback(keyring.note)
    rates = Rates(settings.limits, forwarded, base_path=settings.server.base_path)
    needs_keys = settings.auth.needs_keys(settings.server)
    admin_key = settings.auth.admin_key.get_secret_value()
    operator_key = f"mg_operator_{new_secret()}"
    authenticator = Authenticator(
        keyring, tickets, forwarded, rates, required=needs_keys, admin_key=admin_key, operator_key=operator_key
    )
    return Admission(
        forwarded=forwarded,
        door=Door(settings.server, forwarded),
        rates=rates,
        keyring=keyring,
        tickets=tickets,
        authenticator=authenticator,
        operator_key=operator_key,
        opened=bool(admin_key) or not needs_keys or not keyring.empty,
    )
