"""One transfer URL → S3 by somebody else: ``python -m benchmarks.peers.transfers NAME --url URL --endpoint S3``.

Prints a line of JSON: seconds, processor seconds and memory growth of the transfer alone, without imports and without
making the client, which a server pays once.

* ``obstore``: the Rust object_store under Python, fed by requests; ``--signed`` hashes the payload as its default does;
* ``boto3``: ``upload_fileobj`` of a requests stream, all defaults;
* ``naive``: what most write first: aiohttp chunks gathered into 8 MiB, ``upload_part`` of aiobotocore, all defaults;
* ``buffered``: the whole download in memory, then one ``put_object``;
* ``relay``: bare sockets in threads, ``recv`` and ``send`` and nothing else: no HTTP library, no signature, no
  progress, no retry; with ``--crc`` the CRC-32 of every part as well. Not a peer but the floor: what any program pays
  on this machine that has the bytes in its hands.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import socket
import sys
import urllib.request
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final
from urllib.parse import urlsplit

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


def _head(sock: socket.socket) -> tuple[bytes, bytes]:
    """The head of an HTTP answer, and what came after it."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(4096)
        if not more:
            raise ConnectionError("the server closed the connection")
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 206")):
        raise ConnectionError(head.decode("latin-1"))
    return head, rest


def relay(args: argparse.Namespace) -> None:
    from isal.isal_zlib import crc32 as counted

    part_size = 32 * 1024 * 1024
    crc32 = counted if args.crc else None
    source, store = urlsplit(args.url), urlsplit(args.endpoint)
    watch = Watch(os.getpid())
    with urllib.request.urlopen(urllib.request.Request(args.url, method="HEAD"), timeout=60) as reply:
        size = int(reply.headers["Content-Length"])
    place = f"{args.endpoint}/{BUCKET}/{KEY}"
    with urllib.request.urlopen(urllib.request.Request(f"{place}?uploads", method="POST"), timeout=60) as reply:
        upload = re.search(rb"<UploadId>(.+?)</UploadId>", reply.read())
    if upload is None:
        raise ConnectionError("the store announced no upload")
    upload_id = upload[1].decode()

    def move(number: int) -> str:
        crc = 0
        start = (number - 1) * part_size
        left = min(part_size, size - start)
        buffer = memoryview(bytearray(512 * 1024))
        with (
            socket.create_connection((source.hostname or "", source.port or 80), 60) as here,
            socket.create_connection((store.hostname or "", store.port or 80), 60) as there,
        ):
            here.sendall(
                f"GET {source.path} HTTP/1.1\r\nHost: {source.netloc}\r\nConnection: close\r\n"
                f"Range: bytes={start}-{start + left - 1}\r\n\r\n".encode()
            )
            there.sendall(
                f"PUT /{BUCKET}/{KEY}?partNumber={number}&uploadId={upload_id} HTTP/1.1\r\n"
                f"Host: {store.netloc}\r\nContent-Length: {left}\r\n\r\n".encode()
            )
            rest = _head(here)[1]
            there.sendall(rest)
            left -= len(rest)
            while left:
                count = here.recv_into(buffer[: min(left, len(buffer))])
                if not count:
                    raise ConnectionError("the source closed the connection")
                if crc32 is not None:
                    crc = crc32(buffer[:count], crc)
                there.sendall(buffer[:count])
                left -= count
            etag = re.search(rb"(?im)^etag: *(\S+)", _head(there)[0])
            if etag is None:
                raise ConnectionError("the store gave no ETag")
            return etag[1].decode()

    with ThreadPoolExecutor(args.in_flight) as threads:
        etags = list(threads.map(move, range(1, -(-size // part_size) + 1)))
    listed = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>" for number, etag in enumerate(etags, 1)
    )
    body = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
    complete = urllib.request.Request(f"{place}?uploadId={upload_id}", data=body, method="POST")
    with urllib.request.urlopen(complete, timeout=60) as reply:
        reply.read()
    _print(watch)


PEERS: Final = {"obstore": obstore, "boto3": boto3, "naive": naive, "buffered": buffered, "relay": relay}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.transfers", description=__doc__)
    parser.add_argument("name", choices=PEERS)
    parser.add_argument("--url", required=True)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--certificate", help="trusted certificate of both, when they speak TLS")
    parser.add_argument("--signed", action="store_true", help="obstore: hash the payload for its signature")
    parser.add_argument("--crc", action="store_true", help="relay: count the CRC-32 of every part")
    parser.add_argument("--in-flight", type=int, default=4, help="parts on their way at once")
    args = parser.parse_args()
    try:
        PEERS[args.name](args)
    except ImportError as exc:
        sys.exit(f"{exc.name} is missing: pip install --group bench")


if __name__ == "__main__":
    main()
