"""What the discarding store remembers: open uploads, sizes and metadata of objects, counters; never their bytes."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from benchmarks.servers.sink_http import Request, Wire

NAMESPACE: Final = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
STAMP: Final = "2026-01-01T00:00:00.000Z"


@dataclass(slots=True)
class Part:
    size: int
    etag: str
    path: Path | None


@dataclass(slots=True)
class Upload:
    path: str
    headers: dict[str, str]
    parts: dict[int, Part] = field(default_factory=dict)


@dataclass(slots=True)
class Stored:
    size: int
    etag: str
    headers: dict[str, str]
    sha256: str | None = None


def _kept_headers(request: Request) -> dict[str, str]:
    """What a HEAD gives back as it was sent."""
    kept = ("content-type", "cache-control", "content-disposition")
    return {k: v for k, v in request.headers.items() if k.startswith("x-amz-meta-") or k in kept}


class Answer(Exception):
    """An error of S3, raised where it is found and written by the connection."""

    def __init__(self, status: str, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code


class Bucket:
    """Objects and open uploads of all connections."""

    def __init__(self, keep: Path | None, give: Path | None = None) -> None:
        self._keep = keep
        self._give = give
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._uploads: dict[str, Upload] = {}
        self._objects: dict[str, Stored] = {}
        self._counts: Counter[str] = Counter()
        self._live = 0
        self._most = 0
        self._aborted_at: float | None = None

    @contextlib.contextmanager
    def connection(self) -> Iterator[None]:
        with self._lock:
            self._live += 1
            self._most = max(self._most, self._live)
        try:
            yield
        finally:
            with self._lock:
                self._live -= 1

    def serve(self, request: Request, wire: Wire) -> bytes:
        """Read the body of ``request`` and give the whole answer."""
        if request.path == "/_stats":
            wire.body(request)
            return answer(self._stats(clear="clear" in request.query))
        operation = _operation(request)
        try:
            reply = self._carry_out(operation, request, wire)
        except Answer as refused:
            text = f"<Error><Code>{refused.code}</Code><Message>{refused.code}</Message></Error>"
            reply = answer("" if request.method == "HEAD" else text, refused.status)
        with self._lock:
            self._counts[operation] += 1
        return reply

    def _carry_out(self, operation: str, request: Request, wire: Wire) -> bytes:
        if operation == "part":
            return self._put_part(request, wire)
        if operation == "put":
            return self._put(request, wire)
        body = bytearray()
        wire.body(request, body.extend)
        match operation:
            case "create":
                return self._create(request)
            case "complete":
                return self._complete(request)
            case "abort":
                return self._abort(request)
            case "list parts":
                return self._list_parts(request)
            case "list uploads":
                return self._list_uploads(request)
            case "head":
                return self._head(request)
            case "get":
                return self._get(request, wire)
            case "delete":
                with self._lock:
                    self._objects.pop(request.path, None)
                return answer(status="204 No Content")
            case "list objects":
                return document("ListBucketResult", "<KeyCount>0</KeyCount><IsTruncated>false</IsTruncated>")
            case "cors":
                raise Answer("404 Not Found", "NoSuchCORSConfiguration")
            case "bucket":
                return answer()
            case _:
                raise Answer("501 Not Implemented", "NotImplemented")

    def _number(self) -> str:
        return f"{next(self._numbers):032x}"

    def _receive(self, request: Request, wire: Wire) -> Part:
        """The body of a part or an object, dropped or written down; its ETag is a number, or the MD5 when kept."""
        if self._keep is None:
            size = wire.body(request)
            with self._lock:
                self._counts["bytes"] += size
            return Part(size, self._number(), None)
        path = self._keep / self._number()
        digest = hashlib.md5(usedforsecurity=False)

        def take(view: memoryview) -> None:
            digest.update(view)
            file.write(view)

        with path.open("wb") as file:
            size = wire.body(request, take)
        with self._lock:
            self._counts["bytes"] += size
        return Part(size, digest.hexdigest(), path)

    def _upload(self, request: Request) -> Upload:
        upload = self._uploads.get(request.query["uploadId"])
        if upload is None or upload.path != request.path:
            raise Answer("404 Not Found", "NoSuchUpload")
        return upload

    def _create(self, request: Request) -> bytes:
        upload_id = f"upload{self._number()}"
        with self._lock:
            self._uploads[upload_id] = Upload(request.path, _kept_headers(request))
        bucket, _, key = request.path[1:].partition("/")
        inner = f"<Bucket>{bucket}</Bucket><Key>{escape(key)}</Key><UploadId>{upload_id}</UploadId>"
        return document("InitiateMultipartUploadResult", inner)

    def _put_part(self, request: Request, wire: Wire) -> bytes:
        part = self._receive(request, wire)
        with self._lock:
            try:
                upload = self._upload(request)
            except Answer:
                if part.path is not None:
                    part.path.unlink()
                raise
            upload.parts[int(request.query["partNumber"])] = part
        sums = {name: value for name, value in request.headers.items() if name.startswith("x-amz-checksum-")}
        return answer(headers={"ETag": f'"{part.etag}"', **sums})

    def _put(self, request: Request, wire: Wire) -> bytes:
        with self._lock:
            if request.headers.get("if-none-match") == "*" and request.path in self._objects:
                raise Answer("412 Precondition Failed", "PreconditionFailed")
        part = self._receive(request, wire)
        self._publish(request.path, [part], part.etag, _kept_headers(request))
        return answer(headers={"ETag": f'"{part.etag}"'})

    def _complete(self, request: Request) -> bytes:
        with self._lock:
            upload = self._upload(request)
            del self._uploads[request.query["uploadId"]]
        parts = [part for _, part in sorted(upload.parts.items())]
        etag = f"{self._number()}-{len(parts)}"
        self._publish(upload.path, parts, etag, upload.headers)
        bucket, _, key = request.path[1:].partition("/")
        inner = f'<Bucket>{bucket}</Bucket><Key>{escape(key)}</Key><ETag>"{etag}"</ETag>'
        return document("CompleteMultipartUploadResult", inner)

    def _publish(self, path: str, parts: list[Part], etag: str, headers: dict[str, str]) -> None:
        digest = hashlib.sha256()
        kept = False
        for part in parts:
            if part.path is not None:
                kept = True
                with part.path.open("rb") as file:
                    while data := file.read(1024 * 1024):
                        digest.update(data)
                part.path.unlink()
        stored = Stored(sum(part.size for part in parts), etag, headers, digest.hexdigest() if kept else None)
        with self._lock:
            self._objects[path] = stored

    def _abort(self, request: Request) -> bytes:
        with self._lock:
            upload = self._upload(request)
            del self._uploads[request.query["uploadId"]]
            self._aborted_at = time.monotonic()
        for part in upload.parts.values():
            if part.path is not None:
                part.path.unlink()
        return answer(status="204 No Content")

    def _list_parts(self, request: Request) -> bytes:
        after, most = int(request.query.get("part-number-marker", "0")), int(request.query.get("max-parts", "1000"))
        with self._lock:
            parts = [(n, part) for n, part in sorted(self._upload(request).parts.items()) if n > after]
        page = "".join(
            f'<Part><PartNumber>{n}</PartNumber><ETag>"{part.etag}"</ETag><Size>{part.size}</Size>'
            f"<LastModified>{STAMP}</LastModified></Part>"
            for n, part in parts[:most]
        )
        more = len(parts) > most
        marker = f"<NextPartNumberMarker>{parts[most - 1][0]}</NextPartNumberMarker>" if more else ""
        return document("ListPartsResult", f"{page}{marker}<IsTruncated>{str(more).lower()}</IsTruncated>")

    def _list_uploads(self, request: Request) -> bytes:
        prefix = request.query.get("prefix", "")
        with self._lock:
            found = [(upload.path[1:].partition("/")[2], name) for name, upload in self._uploads.items()]
        page = "".join(
            f"<Upload><Key>{escape(key)}</Key><UploadId>{name}</UploadId><Initiated>{STAMP}</Initiated></Upload>"
            for key, name in sorted(found)
            if key.startswith(prefix)
        )
        return document("ListMultipartUploadsResult", f"{page}<IsTruncated>false</IsTruncated>")

    def _head(self, request: Request) -> bytes:
        with self._lock:
            stored = self._objects.get(request.path)
        if stored is None:
            raise Answer("404 Not Found", "NoSuchKey")
        lines = {"ETag": f'"{stored.etag}"', "Accept-Ranges": "bytes", "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
        return answer(headers={**lines, **stored.headers}, length=stored.size)

    def _get(self, request: Request, wire: Wire) -> bytes:
        """An object, or one range of it: the bytes of the file that is given for all of them."""
        with self._lock:
            stored = self._objects.get(request.path)
        if stored is None or self._give is None:
            raise Answer("404 Not Found", "NoSuchKey")
        first, _, last = request.headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")
        start, stop = int(first), min(stored.size, int(last) + 1) if last else stored.size
        wire.follow(self._give, start, stop - start)
        lines = {"ETag": f'"{stored.etag}"', **stored.headers}
        if "range" not in request.headers:
            return answer(headers=lines, length=stored.size)
        lines["Content-Range"] = f"bytes {start}-{stop - 1}/{stored.size}"
        return answer(status="206 Partial Content", headers=lines, length=stop - start)

    def _stats(self, *, clear: bool) -> str:
        with self._lock:
            told = {
                "requests": dict(self._counts),
                "connections": self._live,
                "most_connections": self._most,
                "open_uploads": len(self._uploads),
                "open_parts": sum(len(upload.parts) for upload in self._uploads.values()),
                "objects": {path: [stored.size, stored.sha256] for path, stored in self._objects.items()},
                "aborted_at": self._aborted_at,
            }
            if clear:
                self._counts.clear()
                self._objects.clear()
                self._most = self._live
                self._aborted_at = None
        return json.dumps(told)


def _operation(request: Request) -> str:
    """The call of the S3 API that a request is."""
    method, query = request.method, request.query
    if not request.path[1:].partition("/")[2]:
        if method == "GET":
            return "list uploads" if "uploads" in query else "cors" if "cors" in query else "list objects"
        return "bucket" if method == "HEAD" else "other"
    if "uploadId" in query:
        return {"PUT": "part", "POST": "complete", "DELETE": "abort", "GET": "list parts"}.get(method, "other")
    if method == "POST":
        return "create" if "uploads" in query else "other"
    return {"PUT": "put", "GET": "get", "HEAD": "head", "DELETE": "delete"}.get(method, "other")


def answer(
    body: str = "", status: str = "200 OK", *, headers: dict[str, str] | None = None, length: int | None = None
) -> bytes:
    """A response with its head; ``length`` announces the size of an object that a HEAD does not carry."""
    data = body.encode()
    lines = [f"HTTP/1.1 {status}", "Server: AmazonS3", "x-amz-request-id: 0"]
    if status[:3] != "204":
        lines.append(f"Content-Length: {len(data) if length is None else length}")
    if data:
        lines.append("Content-Type: application/xml")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join((*lines, "", "")).encode("latin-1") + data


def document(name: str, inner: str) -> bytes:
    """A response whose body is the XML element ``name`` of S3's namespace."""
    return answer(f"<{name} {NAMESPACE}>{inner}</{name}>")
