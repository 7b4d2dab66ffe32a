from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
import standardwebhooks
from openai import InvalidWebhookSignatureError, OpenAI

from mediagen.events.webhooks.signing import decode_secret, generate_secret, sign

BODY = json.dumps({"id": "evt_1", "object": "event", "type": "task.completed", "data": {"id": "task_1", "ü": "\u2028"}})


def headers(body: bytes, *secrets: str, timestamp: int | None = None) -> dict[str, str]:
    keys = [decode_secret(secret) for secret in secrets]
    moment = int(time.time()) if timestamp is None else timestamp
    return sign(body, message_id="evt_1", timestamp=moment, keys=keys)


@pytest.mark.parametrize("secrets", [1, 3])
def test_the_reference_verifier_takes_what_is_signed(secrets: int) -> None:
    written = [generate_secret() for _ in range(secrets)]
    proof = headers(BODY.encode(), *written)

    for secret in written:
        assert standardwebhooks.Webhook(secret).verify(BODY, proof)["data"]["id"] == "task_1"


def test_openais_verifier_takes_it() -> None:
    old, new = generate_secret(), generate_secret()
    client = OpenAI(api_key="none", webhook_secret=new)

    event: Any = client.webhooks.unwrap(BODY.encode(), headers(BODY.encode(), new, old))

    assert (event.id, str(event.type), event.data.id) == ("evt_1", "task.completed", "task_1")
    client.close()


def test_verifiers_refuse_what_is_tampered_stale_or_signed_with_another_secret() -> None:
    secret, body = generate_secret(), BODY.encode()
    proof = headers(body, secret)
    wrong = [
        (body.replace(b"task_1", b"task_2"), proof),
        (body, {**proof, "webhook-id": "evt_2"}),
        (body, headers(body, secret, timestamp=int(time.time()) - 400)),
        (body, headers(body, secret, timestamp=int(time.time()) + 400)),
        (body, headers(body, generate_secret())),
    ]
    client = OpenAI(api_key="none", webhook_secret=secret)

    for sent, said in wrong:
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            standardwebhooks.Webhook(secret).verify(sent, said)
        with pytest.raises(InvalidWebhookSignatureError):
            client.webhooks.unwrap(sent, said)
    client.close()


def test_a_secret_is_standard_base64_of_32_random_bytes() -> None:
    secrets = {generate_secret() for _ in range(100)}

    assert len(secrets) == 100
    assert all(len(decode_secret(secret)) == 32 and not set(secret[6:]) & set("-_") for secret in secrets)


@pytest.mark.parametrize(
    "text",
    ["", "whsec_", "secretword", "whsec_@@@@", "whsec_" + base64.b64encode(b"x" * 23).decode(), "whsec_" + "A" * 200],
)
def test_what_is_no_secret_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ValueError) as refused:
        decode_secret(text)

    assert not text or text.removeprefix("whsec_") == "" or text not in str(refused.value)
