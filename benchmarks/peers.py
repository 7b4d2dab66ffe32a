"""One transfer URL → S3 by somebody else: ``python -m benchmarks.peers NAME --url URL --endpoint S3``.

Prints a line of JSON: seconds, processor seconds and memory growth of the transfer alone, without imports and without
making the client, which a server pays once.

* ``obstore``: the Rust object_store under Python, fed by requests; ``--signed`` hashes the payload as its default does;
* ``boto3``: ``upload_fileobj`` of a requests stream, all defaults;
* ``naive``: what most write first: aiohttp chunks gathered into 8 MiB, ``upload_part`` of aiobotocore, all defaults;
* ``buffered``: the whole download in memory, then one ``put_object``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final

from benchmarks.process import Watch

PART: Final = 8 * 1024 * 1024
BUCKET: Final = "bench"
KEY: Final = "peer.bin"
CREDENTIALS: Final = {"aws_access_key_id": "bench", "aws_secret_access_key": "bench-secret", "region_name": "us-east-1"}


def _print(watch: Watch) -> None:
    usage = watch.stop()
    print(json.dumps({"seconds": usage.seconds, "cpu": usage.cpu, "growth_mb": usage.growth_mb}))


def _raw(url: str, certificate: str | None) -> Any:
    import requests

    reply = requests.get(url, stream=True, verify=certificate or True, timeout=60)
    reply.raise_for_status()
    return reply.raw


def obstore(args: argparse.Namespace) -> None:
    import obstore as library
    from obstore.store import S3Store

    store = S3Store(
        BUCKET,
        endpoint=args.endpoint,
        access_key_id=CREDENTIALS["aws_access_key_id"],
        secret_access_key=CREDENTIALS["aws_secret_access_key"],
        region=CREDENTIALS["region_name"],
        virtual_hosted_style_request=False,
        unsigned_payload=not args.signed,
        client_options={"allow_http": True, "allow_invalid_certificates": args.certificate is not None},
    )
    watch = Watch(os.getpid())
    raw = _raw(args.url, args.certificate)
    chunks = iter(lambda: raw.read(1024 * 1024), b"")
    library.put(store, KEY, chunks, chunk_size=PART, max_concurrency=args.in_flight)
    _print(watch)


def boto3(args: argparse.Namespace) -> None:
    import boto3 as library

    client = library.client("s3", endpoint_url=args.endpoint, verify=args.certificate, **CREDENTIALS)
    watch = Watch(os.getpid())
    client.upload_fileobj(_raw(args.url, args.certificate), BUCKET, KEY)
    _print(watch)


async def _with_aiobotocore(args: argparse.Namespace, transfer: Callable[[Any, Any], Awaitable[None]]) -> None:
    import ssl

    import aiohttp
    from aiobotocore.session import get_session

    context = ssl.create_default_context(cafile=args.certificate) if args.certificate else True
    connector = aiohttp.TCPConnector(ssl=context)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session,
        get_session().create_client("s3", endpoint_url=args.endpoint, verify=args.certificate, **CREDENTIALS) as client,
    ):
        watch = Watch(os.getpid())
        async with session.get(args.url) as reply:
            reply.raise_for_status()
            await transfer(reply, client)
        _print(watch)


def naive(args: argparse.Namespace) -> None:
    async def transfer(reply: Any, client: Any) -> None:
        upload = await client.create_multipart_upload(Bucket=BUCKET, Key=KEY)
        parts: list[dict[str, object]] = []
        slots = asyncio.Semaphore(args.in_flight)

        async def send(number: int, body: bytearray) -> None:
            try:
                stored = await client.upload_part(
                    Bucket=BUCKET, Key=KEY, UploadId=upload["UploadId"], PartNumber=number, Body=body
                )
            finally:
                slots.release()
            parts.append({"PartNumber": number, "ETag": stored["ETag"]})

        async with asyncio.TaskGroup() as group:
            pending = bytearray()
            number = 0
            async for chunk in reply.content.iter_any():
                pending += chunk
                if len(pending) >= PART:
                    number += 1
                    await slots.acquire()
                    group.create_task(send(number, pending))
                    pending = bytearray()
            if pending:
                await slots.acquire()
                group.create_task(send(number + 1, pending))
        parts.sort(key=lambda part: int(str(part["PartNumber"])))
        await client.complete_multipart_upload(
            Bucket=BUCKET, Key=KEY, UploadId=upload["UploadId"], MultipartUpload={"Parts": parts}
        )

    asyncio.run(_with_aiobotocore(args, transfer))


def buffered(args: argparse.Namespace) -> None:
    async def transfer(reply: Any, client: Any) -> None:
        await client.put_object(Bucket=BUCKET, Key=KEY, Body=await reply.read())

    asyncio.run(_with_aiobotocore(args, transfer))


PEERS: Final = {"obstore": obstore, "boto3": boto3, "naive": naive, "buffered": buffered}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("name", choices=PEERS)
    parser.add_argument("--url", required=True)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--certificate", help="trusted certificate of both, when they speak TLS")
    parser.add_argument("--signed", action="store_true", help="obstore: hash the payload for its signature")
    parser.add_argument("--in-flight", type=int, default=4, help="parts on their way at once")
    args = parser.parse_args()
    try:
        PEERS[args.name](args)
    except ImportError as exc:
        sys.exit(f"{exc.name} is missing: pip install --group bench")


if __name__ == "__main__":
    main()
