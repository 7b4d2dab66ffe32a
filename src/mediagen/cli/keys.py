"""``mediagen keys``."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel

from mediagen.cli.operating import Place, operate
from mediagen.core.clock import Clock
from mediagen.db.clock_record import last_known
from mediagen.db.connection import Database
from mediagen.db.keys import SqliteKeys
from mediagen.settings import Settings
from mediagen.web.api.routing import validate
from mediagen.web.auth.keyring import Keyring
from mediagen.web.ops import api_keys as verbs
from mediagen.web.ops.api_keys import NewKey, Rotation


def create(place: Place, *, name: str, owner: str | None, scopes: str | None, days: float | None, as_json: bool) -> int:
    """Make a key and print it, this once; the exit status."""
    asked: dict[str, Any] = {"name": name, "owner": owner}
    if scopes is not None:
        asked["scopes"] = [word for word in scopes.replace(",", " ").split() if word]
    if days is not None:
        asked["expires_in_seconds"] = round(days * 86_400)
    return _do(place, "create", asked, as_json=as_json)


def rotate(place: Place, which: str, *, overlap_hours: float, as_json: bool) -> int:
    """Put a new key in the place of one and print it, this once; the exit status."""
    return _do(place, "rotate", {"overlap_seconds": round(overlap_hours * 3600)}, which=which, as_json=as_json)


def revoke(place: Place, which: str, *, as_json: bool) -> int:
    """End a key now; the exit status."""
    return _do(place, "revoke", {}, which=which, as_json=as_json)


def list_keys(place: Place, *, as_json: bool) -> int:
    """Print all keys, without what opens anything; the exit status."""
    return _do(place, "list", {}, as_json=as_json)


def _do(place: Place, verb: str, asked: dict[str, Any], *, which: str = "", as_json: bool) -> int:
    path = f"/v1/keys/{quote(which, safe='')}" if which else "/v1/keys"
    calls = {
        "create": ("POST", path, asked),
        "list": ("GET", path, None),
        "rotate": ("POST", f"{path}/rotate", asked),
        "revoke": ("DELETE", path, None),
    }

    async def in_database(database: Database, _settings: Settings) -> BaseModel:
        keyring = Keyring(SqliteKeys(database), now=Clock(known=await last_known(database)).latest)
        await keyring.load()
        return await _carried_out(keyring, verb, asked, which)

    def show(answer: dict[str, Any]) -> None:
        for key in answer.get("data", [answer]):
            print(json.dumps(key) if as_json else _line(key))
        if "key" in answer and not as_json:
            print("Write the key down: it is not kept and cannot be shown again.", file=sys.stderr)

    return operate(place, calls[verb], in_database, show)


async def _carried_out(keyring: Keyring, verb: str, asked: Mapping[str, Any], which: str) -> BaseModel:
    match verb:
        case "create":
            return await verbs.create(keyring, validate(NewKey, dict(asked)))
        case "rotate":
            return await verbs.rotate(keyring, which, validate(Rotation, dict(asked)))
        case "revoke":
            return await verbs.revoke(keyring, which)
        case _:
            return verbs.listed(keyring)


def _line(key: Mapping[str, Any]) -> str:
    if "key" in key:
        return str(key["key"])
    used = (key["last_used_at"] or "never used")[:16]
    ends = f"  until {key['expires_at'][:16]}" if key["expires_at"] else ""
    whose = f"{key['name']:<20}  {key['owner']:<20}  {','.join(key['scopes'])}"
    return f"{key['id']}  {key['status']:<8}  {whose}  {used}{ends}"
