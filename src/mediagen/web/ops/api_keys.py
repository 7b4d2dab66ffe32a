"""Routes of API keys, and of the tickets that stand in for one."""

from __future__ import annotations

from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import Field, StringConstraints

from mediagen.core.errors import Conflict, NotFound, RateLimited
from mediagen.core.keys import USUAL, Key, Scope
from mediagen.web.api.routing import Answer, Call, Empty, route
from mediagen.web.api.schemas import Given, Said
from mediagen.web.auth.keyring import Keyring
from mediagen.web.auth.tickets import TICKET_SECONDS, Tickets

KEY_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9 ._@+-]{0,99}$"
DAY_SECONDS: Final = 86_400
MAX_SECONDS: Final = 10 * 366 * DAY_SECONDS

Name: TypeAlias = Annotated[str, StringConstraints(pattern=KEY_NAME)]
Seconds: TypeAlias = Annotated[int, Field(ge=0, le=MAX_SECONDS)]


class NewKey(Given):
    """A key to create."""

    name: Name = Field(description="unique name of the key")
    owner: Name | None = Field(None, description="keys with the same owner share tasks and files; null: the key's name")
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=len(Scope))] = Field(
        default=sorted(USUAL), description="what the key allows"
    )
    expires_in_seconds: Annotated[int, Field(ge=1, le=MAX_SECONDS)] | None = Field(
        None, description="lifetime in seconds; null: no expiry"
    )


class Rotation(Given):
    """Options for replacing a key."""

    overlap_seconds: Seconds = Field(DAY_SECONDS, description="how long the old key keeps working")


class KeyView(Said):
    """A key, without its secret text."""

    id: str
    object: Literal["key"] = "key"
    name: str
    owner: str
    scopes: list[Scope]
    status: Literal["active", "replaced", "expired", "revoked"]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    replaced_by: str | None
    last_used_at: datetime | None = Field(description="accurate to about a minute")


class MadeKey(KeyView):
    """A new key with its text, which is shown once and not stored."""

    key: str


class KeyList(Said):
    object: Literal["list"] = "list"
    data: list[KeyView]


class TicketView(Said):
    """A ticket, for ``/v1/ws?ticket=…`` or ``/v1/tasks/{id}/events?ticket=…``."""

    object: Literal["ticket"] = "ticket"
    ticket: str
    expires_in_seconds: int


class KeyRoutes:
    """``/v1/keys`` and ``/v1/ws/tickets``."""

    def __init__(self, keyring: Keyring, tickets: Tickets) -> None:
        self._keyring = keyring
        self._tickets = tickets

    @route("GET", "/v1/keys", "List keys", answer=KeyList, needs=Scope.ADMIN)
    async def list_keys(self, _call: Call[Empty, Empty]) -> KeyList:
        return listed(self._keyring)

    @route(
        "POST",
        "/v1/keys",
        "Create a key",
        body=NewKey,
        answer=MadeKey,
        status=HTTPStatus.CREATED,
        fails=(Conflict,),
        needs=Scope.ADMIN,
    )
    async def create_key(self, call: Call[Empty, NewKey]) -> MadeKey:
        return await create(self._keyring, call.body)

    @route(
        "POST",
        "/v1/keys/{id}/rotate",
        "Replace a key, given by id or name, with a new one",
        body=Rotation,
        body_optional=True,
        answer=MadeKey,
        fails=(NotFound, Conflict),
        needs=Scope.ADMIN,
    )
    async def rotate_key(self, call: Call[Empty, Rotation]) -> MadeKey:
        return await rotate(self._keyring, call.id, call.body)

    @route(
        "DELETE",
        "/v1/keys/{id}",
        "Revoke a key by id, or all keys with a name",
        answer=KeyList,
        fails=(NotFound,),
        needs=Scope.ADMIN,
    )
    async def revoke_key(self, call: Call[Empty, Empty]) -> KeyList:
        return await revoke(self._keyring, call.id)

    @route(
        "POST",
        "/v1/ws/tickets",
        "Get a ticket that opens one WebSocket, or the events of one task, instead of your key",
        answer=TicketView,
        status=HTTPStatus.CREATED,
        fails=(RateLimited,),
        needs=Scope.READ,
    )
    async def issue_ticket(self, call: Call[Empty, Empty]) -> Answer:
        ticket = self._tickets.issue(call.caller)
        return Answer(TicketView(ticket=ticket, expires_in_seconds=TICKET_SECONDS))


def listed(keyring: Keyring) -> KeyList:
    """All keys."""
    return KeyList(data=[key_view(key, keyring.now()) for key in keyring.listed()])


async def create(keyring: Keyring, asked: NewKey) -> MadeKey:
    """The new key. Raises Conflict, Unavailable."""
    lifetime = None if asked.expires_in_seconds is None else timedelta(seconds=asked.expires_in_seconds)
    key, text = await keyring.create(asked.name, owner=asked.owner, scopes=asked.scopes, lifetime=lifetime)
    return MadeKey(**key_view(key, keyring.now()).model_dump(), key=text)


async def rotate(keyring: Keyring, which: str, asked: Rotation) -> MadeKey:
    """The key in the place of ``which``. Raises NotFound, Conflict, Unavailable."""
    key, text = await keyring.rotate(which, overlap=timedelta(seconds=asked.overlap_seconds))
    return MadeKey(**key_view(key, keyring.now()).model_dump(), key=text)


async def revoke(keyring: Keyring, which: str) -> KeyList:
    """The ended keys. Raises NotFound, Unavailable."""
    return KeyList(data=[key_view(key, keyring.now()) for key in await keyring.revoke(which)])


def key_view(key: Key, now: datetime) -> KeyView:
    """``key`` as it is shown; ``now``: the time by which keys end."""
    status: Literal["active", "replaced", "expired", "revoked"] = "active"
    if key.revoked_at is not None:
        status = "revoked"
    elif not key.usable(now):
        status = "expired"
    elif key.replaced_by is not None:
        status = "replaced"
    return KeyView(
        id=key.id,
        name=key.name,
        owner=key.owner,
        scopes=sorted(key.scopes),
        status=status,
        created_at=key.created_at,
        expires_at=key.expires_at,
        revoked_at=key.revoked_at,
        replaced_by=key.replaced_by,
        last_used_at=key.last_used_at,
    )
