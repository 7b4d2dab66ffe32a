"""Settings of servers under test."""

from __future__ import annotations

from typing import Any

from tests.infra.s3 import Bucket


def s3(store: Bucket, /, endpoint: str = "", **more: Any) -> dict[str, Any]:
    """A server that keeps its files in ``store``, reached at ``endpoint`` (radosgw's own when empty)."""
    user = store.store.admin
    place = {
        "bucket": store.name,
        "endpoint_url": endpoint or store.store.endpoint,
        "region": store.store.region,
        "access_key_id": user.access_key,
        "secret_access_key": user.secret_key,
        "ca_file": str(store.store.certificate),
    }
    return {"storage": {"backend": "s3", "s3": {**place, **more}}}
