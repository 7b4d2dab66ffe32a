"""``mediagen webhooks rotate``: with a running server and without one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import standardwebhooks

from mediagen.events.webhooks.signing import decode_secret, generate_secret
from tests.cli.test_commands import mediagen
from tests.cli.test_keys import config
from tests.e2e.api import Api
from tests.infra.servers.mediagen import Server
from tests.infra.servers.receiver import Receiver


async def test_the_new_secret_is_printed_once_and_signs_at_once(tmp_path: Path) -> None:
    async with Receiver() as receiver, Server(tmp_path) as server, Api(server.url) as api:
        done = await mediagen("webhooks", "rotate", *config(server))
        secret = done.out.strip()
        assert (done.status, len(decode_secret(secret))) == (0, 32)

        await api.call("POST", "/v1/ingest", json={"data": "aGVsbG8=", "webhook_url": receiver.url()})
        await receiver.reaches(lambda: len(receiver.events) == 1)

        standardwebhooks.Webhook(secret).verify(receiver.events[0].body, receiver.events[0].headers)
        assert secret not in server.log.read_text()


async def test_without_a_server_and_before_the_first_start(tmp_path: Path) -> None:
    server = Server(tmp_path)
    done = await mediagen("webhooks", "rotate", "--overlap-hours", "0", "--json", "--init", *config(server))
    secret = json.loads(done.out)["secret"]

    async with Receiver() as receiver, server, Api(server.url) as api:
        await api.call("POST", "/v1/ingest", json={"data": "aGVsbG8=", "webhook_url": receiver.url()})
        await receiver.reaches(lambda: len(receiver.events) == 1)

        standardwebhooks.Webhook(secret).verify(receiver.events[0].body, receiver.events[0].headers)


@pytest.mark.parametrize("broken", [False, True])
async def test_a_secret_of_the_configuration_is_changed_there(tmp_path: Path, broken: bool) -> None:
    secret = "whsec_thisisnobase64@" if broken else generate_secret()
    server = Server(tmp_path, {"webhooks": {"secret": secret}})

    done = await mediagen("webhooks", "rotate", "--init", *config(server))

    assert (done.status, done.out) == ((2 if broken else 1), "")
    assert "webhooks.secret" in done.err
    assert secret not in done.err
