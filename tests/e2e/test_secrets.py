"""Secrets sent along every way, then searched for wherever somebody could find them."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.e2e import configuration
from tests.e2e.api import Api, Refused
from tests.infra.resource import Resource
from tests.infra.s3 import Bucket
from tests.infra.servers.mediagen import Server
from tests.infra.servers.source import SourceServer

pytestmark = pytest.mark.e2e

ADMIN = "admin-canary-0f1e2d3c4b5a"
SIGNATURE = "signaturecanary0123456789abcdef"
PASSWORD = "passwordcanary9876"
WRONG = "mg_0123456789abcdef_wrongcanary" + "x" * 32
FIXED = (ADMIN, SIGNATURE, PASSWORD, WRONG)


async def test_no_secret_is_where_it_could_be_found(tmp_path: Path, source: SourceServer, bucket: Bucket) -> None:
    settings = {
        **configuration.s3(bucket),
        "auth": {"required": True, "admin_key": ADMIN},
        "log": {"level": "debug", "format": "json"},
    }
    plain = source.add("/film.mp4", Resource(size=20_000_000))
    gone = source.add("/gone", Resource(size=1)).replace("/gone", "/nothing-here")
    host = urlsplit(plain).netloc
    urls = {
        "signed": f"{plain}?X-Amz-Signature={SIGNATURE}&X-Amz-Expires=900",
        "with a password": plain.replace(host, f"somebody:{PASSWORD}@{host}"),
        "that fails": f"{gone}?sig={SIGNATURE}&token={PASSWORD}",
        "nowhere": f"http://127.0.0.1:1/?signature={SIGNATURE}",
    }
    seen: list[str] = []  # all that a client or a monitor is told
    async with Server(tmp_path, settings) as server, Api(server.url) as api:
        admin = {"Authorization": f"Bearer {ADMIN}"}
        api.session.headers.update(admin)
        key = (await api.call("POST", "/v1/keys", json={"name": "app"}))["key"]
        operator = json.loads((server.data_dir / "operator.json").read_text())["key"]
        api.session.headers.update({"Authorization": f"Bearer {key}"})
        ticket = (await api.call("POST", "/v1/ws/tickets"))["ticket"]

        async with api.session.ws_connect(f"/v1/ws?ticket={ticket}") as socket:
            await socket.send_json({"type": "subscribe", "tasks": "all"})
            tasks = []
            for url in urls.values():
                try:
                    tasks.append((await api.ingest(url))["id"])
                except Refused as refused:
                    seen.append(json.dumps(refused.problem))
            for task_id in tasks:
                seen.append(json.dumps(await api.ended(task_id)))
            async with asyncio.timeout(10):
                ended = 0
                while ended < len(tasks):
                    text = (await socket.receive()).data
                    seen.append(text)
                    ended += json.loads(text).get("task", {}).get("ended_at") is not None
        file = await api.call("POST", "/v1/files", data=io.BytesIO(b"x" * 6_000_000), headers={"X-Filename": "a.mp4"})
        async with api.session.get(f"/v1/files/{file['id']}/content", allow_redirects=False) as answer:
            location = answer.headers["Location"]
        presigned = parse_qs(urlsplit(location).query)["X-Amz-Signature"][0]
        for wrong in (f"Bearer {WRONG}", f"Basic {WRONG}"):
            with pytest.raises(Refused):
                await api.call("GET", "/v1/tasks", headers={"Authorization": wrong})
        with pytest.raises(Refused):
            await api.call("POST", f"/v1/ingest?key={key}", json={"url": plain, "api_key": key})
        with pytest.raises(Refused):
            await api.call("POST", "/v1/ingest", data=b'{"url": "' + key.encode() + b'"', headers=admin)
        seen += [json.dumps(page) for page in (await api.tasks(), await api.files())]
        for path in ("/metrics", "/healthz", "/openapi.json"):
            async with api.session.get(path, headers=admin) as answer:
                seen.append(await answer.text())
        resting = {path.name: path.read_bytes() for path in server.data_dir.rglob("*") if path.is_file()}
        assert await server.stop() == 0
        resting |= {f"{path.name}, stopped": path.read_bytes() for path in server.data_dir.rglob("*") if path.is_file()}
        log = server.log.read_text()

    assert "mediagen.db-wal" in resting
    ours = (ADMIN, WRONG, key, operator, ticket, presigned, bucket.store.admin.secret_key)
    # what a source's URL carries must be kept, or the task could not be taken up after a crash: there, and nowhere else
    for name, data in resting.items():
        assert [secret for secret in ours if secret.encode() in data and name != "operator.json"] == [], name
    for text in (log, *seen):
        assert [secret for secret in (*FIXED, *ours) if secret in text] == []
    assert any("[redacted]" in text for text in seen)
