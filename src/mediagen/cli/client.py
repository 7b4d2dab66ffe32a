"""A small client of our own API, on the standard library: the command line needs nothing to be fast to start."""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing
from http import HTTPStatus
from typing import Any, BinaryIO, Final
from urllib.parse import urlencode, urlsplit

from mediagen import __version__

KEY_VARIABLE: Final = "MEDIAGEN_KEY"
_ANSWER_SECONDS: Final = 30.0
_READY_SECONDS: Final = 10.0
"""The server's own checks end within 5 s."""
_SILENCE_SECONDS: Final = 60.0
"""The server sends something at least every 15 s."""
_MAX_LINE: Final = 4 * 1024 * 1024
_PIECE: Final = 256 * 1024


class CannotReach(Exception):
    """No server at that address, or it went away."""


class Refused(Exception):
    """The server answered with an error."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Client:
    """Calls to the server at ``address`` (``http://host:port`` with a base path, if it has one).

    ``key``: an API key; without one that of the environment (``MEDIAGEN_KEY``) is sent, if there is any.
    """

    def __init__(self, address: str, *, key: str | None = None) -> None:
        self._key = key or os.environ.get(KEY_VARIABLE, "").strip()
        parts = urlsplit(address if "://" in address else f"http://{address}")
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise CannotReach(f"{address} is not the address of a server")
        self.address = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self._secure = parts.scheme == "https"
        self._host = parts.hostname
        self._port = parts.port
        self._base = parts.path.rstrip("/")

    def call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, query: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The JSON object of the answer. Raises CannotReach, Refused."""
        with closing(self._connect(_ANSWER_SECONDS)) as connection:
            answer = self._ask(connection, method, path, body, query)
            return self._document(answer)

    def readiness(self) -> dict[str, Any]:
        """What ``/readyz`` says, whatever its status. Raises CannotReach."""
        with closing(self._connect(_READY_SECONDS)) as connection:
            return self._parsed(self._ask(connection, "GET", "/readyz"))

    def events(self, task_id: str, after: int | None = None) -> Iterator[tuple[int, str, dict[str, Any]]]:
        """Sequence number, type and data of the events of a task, until the server ends the stream.

        Raises:
            CannotReach: the server went away; ask again with the last number.
            Refused: unknown task.
        """
        headers = {"Accept": "text/event-stream"}
        if after is not None:
            headers["Last-Event-ID"] = str(after)
        with closing(self._connect(_SILENCE_SECONDS)) as connection:
            answer = self._ask(connection, "GET", f"/v1/tasks/{task_id}/events", headers=headers)
            if answer.status != HTTPStatus.OK:
                self._document(answer)
            fields: dict[str, str] = {}
            for line in self._lines(answer):
                if line:
                    name, _, value = line.partition(":")
                    fields[name] = value.removeprefix(" ")
                elif "data" in fields:
                    yield int(fields.get("id", "0")), fields.get("event", "message"), json.loads(fields["data"])
                    fields = {}

    def download(self, path: str, out: BinaryIO) -> None:
        """Write the content at ``path`` to ``out``, following a redirect to the store. Raises CannotReach, Refused."""
        with closing(self._connect(_ANSWER_SECONDS)) as connection:
            answer = self._ask(connection, "GET", path)
            if answer.status in {HTTPStatus.FOUND, HTTPStatus.TEMPORARY_REDIRECT}:
                self._copy_from_store(answer.headers.get("Location", ""), out)
                return
            if answer.status != HTTPStatus.OK:
                self._document(answer)
            self._copy(answer, out)

    def _copy_from_store(self, location: str, out: BinaryIO) -> None:
        parts = urlsplit(location)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        with closing(kind(parts.hostname or "", parts.port, timeout=_ANSWER_SECONDS)) as connection:
            try:
                connection.request("GET", f"{parts.path}?{parts.query}")
                answer = connection.getresponse()
            except (OSError, http.client.HTTPException) as exc:
                raise CannotReach(f"the store does not answer ({_reason(exc)})") from None
            if answer.status != HTTPStatus.OK:
                raise CannotReach(f"the store answered {answer.status}")
            self._copy(answer, out)

    def _copy(self, answer: http.client.HTTPResponse, out: BinaryIO) -> None:
        try:
            while piece := answer.read(_PIECE):
                out.write(piece)
        except http.client.HTTPException as exc:
            raise CannotReach(f"the server at {self.address} went away ({_reason(exc)})") from None
        if answer.length:
            raise CannotReach(f"the server at {self.address} went away in the middle of the file")

    def _connect(self, seconds: float) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        return kind(self._host, self._port, timeout=seconds)

    def _ask(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> http.client.HTTPResponse:
        given = {name: value for name, value in (query or {}).items() if value is not None}
        target = f"{self._base}{path}{'?' if given else ''}{urlencode(given)}"
        sent = {"User-Agent": f"mediagen/{__version__}", **(headers or {})}
        if self._key:
            sent["Authorization"] = f"Bearer {self._key}"
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        try:
            connection.request(method, target, body=data, headers=sent)
            return connection.getresponse()
        except (OSError, http.client.HTTPException) as exc:
            raise CannotReach(f"no mediagen server answers at {self.address} ({_reason(exc)})") from None

    def _document(self, answer: http.client.HTTPResponse) -> dict[str, Any]:
        document = self._parsed(answer)
        if answer.status >= HTTPStatus.BAD_REQUEST:
            raise Refused(
                answer.status, str(document.get("code", "internal")), str(document.get("detail", "no reason given"))
            )
        return document

    def _parsed(self, answer: http.client.HTTPResponse) -> dict[str, Any]:
        try:
            data = answer.read()
        except (OSError, http.client.HTTPException) as exc:
            raise CannotReach(f"the server at {self.address} went away ({_reason(exc)})") from None
        try:
            document = json.loads(data)
        except ValueError:
            raise CannotReach(f"what answers at {self.address} is no mediagen server") from None
        if not isinstance(document, dict):
            raise CannotReach(f"what answers at {self.address} is no mediagen server")
        return document

    def _lines(self, answer: http.client.HTTPResponse) -> Iterator[str]:
        while True:
            try:
                line = answer.readline(_MAX_LINE)
            except (OSError, http.client.HTTPException) as exc:
                raise CannotReach(f"the server at {self.address} went away ({_reason(exc)})") from None
            if not line:
                return
            yield line.decode().rstrip("\r\n")


def _reason(exc: BaseException) -> str:
    if isinstance(exc, ConnectionRefusedError):
        return "connection refused: is it running? mediagen serve"
    if isinstance(exc, TimeoutError | socket.timeout):
        return "no answer in time"
    return str(exc) or type(exc).__name__
