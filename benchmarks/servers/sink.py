"""A neutral S3 endpoint that throws bodies away, so that the store costs next to nothing and favours nobody.

``python -m benchmarks.servers.sink --port N`` runs it: one process, one thread per connection, standard
library only. It speaks what an uploader needs (multipart calls, put, head, delete, the listings) and does not verify
signatures.

* ``--latency-ms`` and ``--conn-mbps`` make it behave like a store far away: each answer late, each connection slow;
* ``--keep DIR`` writes bodies down until they are complete and remembers the SHA-256 of each object;
* ``--give FILE`` answers a GET of any object with the bytes of that file, whole or a range, sent by the kernel;
* ``GET /_stats`` tells counters, open uploads and when the last upload was aborted (CLOCK_MONOTONIC).
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import ssl
import threading
import time
from pathlib import Path

from benchmarks.servers.sink_bucket import Bucket
from benchmarks.servers.sink_http import Wire


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.servers.sink", description="S3 endpoint that discards")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--keep", type=Path, help="folder for bodies; without it they are dropped")
    parser.add_argument("--give", type=Path, help="file whose bytes a GET of any object gives")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="each answer comes that much later")
    parser.add_argument("--conn-mbps", type=float, default=0.0, help="MB/s of each connection; 0: no limit")
    parser.add_argument("--certificate", type=Path, help="serve https with this certificate")
    parser.add_argument("--key", type=Path)
    args = parser.parse_args()

    context: ssl.SSLContext | None = None
    if args.certificate is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(args.certificate, args.key)
    bucket = Bucket(args.keep, args.give)
    rate = args.conn_mbps * 1e6 or None

    def connection(plain: socket.socket) -> None:
        # a client may leave at any point; that ends its connection and concerns nobody else
        with bucket.connection(), contextlib.suppress(OSError), plain:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock = context.wrap_socket(plain, server_side=True) if context is not None else plain
            with sock:
                wire = Wire(sock, rate)
                for request in wire.requests():
                    reply = bucket.serve(request, wire)
                    if args.latency_ms and not request.path.startswith("/_"):
                        time.sleep(args.latency_ms / 1000)
                    wire.send(reply)

    with socket.create_server(("127.0.0.1", args.port), backlog=1024) as listener:
        while True:
            accepted, _ = listener.accept()
            threading.Thread(target=connection, args=(accepted,), daemon=True).start()


if __name__ == "__main__":
    main()
