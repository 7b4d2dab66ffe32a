"""The source of every transfer: nginx with sendfile, and the files that it serves from memory.

| location       | what a client meets there                                                    |
|----------------|------------------------------------------------------------------------------|
| ``/files/``    | length, Range and validators: the range lane                                 |
| ``/plain/``    | length only, no Range, no validator: the buffer lane                         |
| ``/slow/``     | as ``/files/``, each connection held to 8 MiB/s, sent in pieces of 64 KiB     |
| ``/trickle/``  | as ``/plain/``, held to 2 MiB/s                                               |
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

from benchmarks.process import BenchmarkFailure, Child
from benchmarks.readings import MIB

BLOCK: Final = 16 * MIB
DOCUMENT: Final = "document.json"
DOCUMENT_FIELD: Final = "/data/0/b64_json"
"""Where its text is (JSON pointer, RFC 6901)."""
NGINX_MISSING: Final = (
    "nginx is needed as the source (sendfile, Range, TLS): on Debian or Ubuntu `apt-get install nginx-light`; "
    "a running system service is not needed, the benchmark starts its own on a free port"
)

_CONFIG: Final = """
worker_processes 1; master_process off; pid {root}/nginx.pid; error_log {root}/nginx.log warn; daemon off; {user}
events {{ worker_connections 4096; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_timeout 65; keepalive_requests 1000000;
  client_body_temp_path {root}/tmp; proxy_temp_path {root}/tmp; fastcgi_temp_path {root}/tmp;
  uwsgi_temp_path {root}/tmp; scgi_temp_path {root}/tmp;
  default_type application/octet-stream; types {{ application/json json; }}
  ssl_certificate {root}/cert.pem; ssl_certificate_key {root}/key.pem;
  server {{
    listen 127.0.0.1:{port} backlog=1024; listen 127.0.0.1:{tls_port} ssl backlog=1024;
    location /files/   {{ alias {root}/files/; }}
    location /plain/   {{ alias {root}/files/; max_ranges 0; etag off; add_header Last-Modified ""; }}
    location /slow/    {{ alias {root}/files/; limit_rate 8m; sendfile_max_chunk 64k; }}
    location /trickle/ {{ alias {root}/files/; limit_rate 2m; sendfile_max_chunk 64k;
                         max_ranges 0; etag off; add_header Last-Modified ""; }}
  }}
}}
"""


def free_port() -> int:
    """A TCP port of the loopback interface that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until_open(port: int, child: Child, what: str, seconds: float = 20.0) -> None:
    """Wait until ``port`` takes connections.

    Raises:
        BenchmarkFailure: the process ended or the time ran out.
    """
    end = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end:
        if not child.alive:
            raise BenchmarkFailure(f"{what} ended at once: {child.tail()}")
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.02)  # nothing tells when another process listens
        else:
            writer.close()
            await writer.wait_closed()
            return
    raise BenchmarkFailure(f"{what} does not listen on port {port} after {seconds:g} s")


def _blocks(size: int) -> Iterator[bytes]:
    """Random bytes, ``size`` in all; every block differs, so that no two parts of a file are equal."""
    block = os.urandom(min(BLOCK, size))
    for start in range(0, size, BLOCK):
        number = (start // BLOCK).to_bytes(8, "big")
        yield (number + block[8:])[: size - start]


def _document(size: int) -> Iterator[bytes]:
    """An image answer as vendors give it, with about ``size`` bytes of base64 text in its one long field."""
    yield b'{"created":1720000000,"data":[{"b64_json":"'
    raw = os.urandom(3 * MIB)
    for start in range(0, size, 4 * MIB):
        yield base64.b64encode((start.to_bytes(8, "big") + raw[8:])[: (size - start) // 4 * 3])
    yield b'","revised_prompt":"x"}],"usage":{"total_tokens":1}}'


def _upload(size: int) -> Iterator[bytes]:
    """The same as the body of our own ingest call."""
    yield b'{"filename":"upload.bin","data":"'
    raw = os.urandom(3 * MIB)
    for start in range(0, size, 4 * MIB):
        yield base64.b64encode((start.to_bytes(8, "big") + raw[8:])[: (size - start) // 4 * 3])
    yield b'"}'


class Source:
    """nginx on two free ports (plain and TLS) with the files that were asked for; all gone when left."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._files = root / "files"
        self._child: Child | None = None
        self.port = 0
        self.tls_port = 0

    async def __aenter__(self) -> Self:
        nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
        if nginx is None:
            raise BenchmarkFailure(NGINX_MISSING)
        self._files.mkdir(parents=True)
        (self._root / "tmp").mkdir()
        await asyncio.to_thread(self._certificate)
        self.port, self.tls_port = free_port(), free_port()
        config = self._root / "nginx.conf"
        config.write_text(
            _CONFIG.format(
                root=self._root,
                port=self.port,
                tls_port=self.tls_port,
                user="user root;" if os.geteuid() == 0 else "",
            )
        )
        argv = [nginx, "-c", str(config), "-e", str(self._root / "nginx.log")]
        self._child = await Child(argv, log=self._root / "nginx.out").__aenter__()
        await until_open(self.port, self._child, "nginx")
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._child is not None:
            await self._child.__aexit__(*exc)

    @property
    def pid(self) -> int:
        """Of the nginx that serves the files."""
        if self._child is None:
            raise BenchmarkFailure("nginx was not started")
        return self._child.pid

    @property
    def certificate(self) -> Path:
        """The certificate of localhost, which signs itself; who trusts it trusts source and store."""
        return self._root / "cert.pem"

    @property
    def key(self) -> Path:
        return self._root / "key.pem"

    def url(self, name: str, location: str = "files", *, tls: bool = False) -> str:
        scheme, port = ("https", self.tls_port) if tls else ("http", self.port)
        return f"{scheme}://127.0.0.1:{port}/{location}/{name}"

    async def file(self, mib: int) -> str:
        """Name of a file of ``mib`` MiB of random bytes."""
        return await self._made(f"{mib}m.bin", _blocks(mib * MIB))

    async def document(self, mib: int) -> str:
        """Name of a JSON answer with ``mib`` MiB of base64 in ``DOCUMENT_FIELD``."""
        return await self._made(f"{mib}m-{DOCUMENT}", _document(mib * MIB))

    async def upload(self, mib: int) -> str:
        """Name of a JSON body for ``POST /v1/ingest`` with ``mib`` MiB of base64 in ``data``."""
        return await self._made(f"{mib}m-upload.json", _upload(mib * MIB))

    def path(self, name: str) -> Path:
        return self._files / name

    async def sha256(self, name: str) -> str:
        def digest() -> str:
            with self.path(name).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()

        return await asyncio.to_thread(digest)

    def forget(self, name: str) -> None:
        """Remove a large file that no later case needs."""
        self.path(name).unlink(missing_ok=True)

    async def _made(self, name: str, blocks: Iterator[bytes]) -> str:
        def write() -> None:
            with self.path(name).open("wb") as file:
                for block in blocks:
                    file.write(block)

        if not self.path(name).exists():
            await asyncio.to_thread(write)
        return name

    def _certificate(self) -> None:
        names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
        argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
        argv += ["-addext", names, "-addext", "keyUsage=digitalSignature,keyCertSign"]
        argv += ["-keyout", str(self.key), "-out", str(self.certificate)]
        try:
            subprocess.run(argv, check=True, capture_output=True)
        except (FileNotFoundError, subprocess.CalledProcessError) as exc:
            raise BenchmarkFailure(f"openssl could not make a certificate: {exc}") from exc
