"""What RFC 9110 says of a request for a file, written a second time: by hand, letter by letter, and with no regard to
how the server does it. ``judge`` compares an answer with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.parser import BytesHeaderParser

MOST = 64
"""More ranges than these are ignored (section 14.2 leaves the number to the server)."""

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Thing:
    """What is asked for: its bytes, its strong tag without quotes, its date to the second."""

    data: bytes
    etag: str
    modified: datetime


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


def judge(method: str, asked: Headers, thing: Thing, answer: Answer) -> None:
    """Raise AssertionError when ``answer`` is not what the standard demands of this server."""
    status = _status(method, asked, thing)
    size = len(thing.data)
    wanted = _ranges(asked, size) if status == 0 else None
    if status == 0 and (method != "GET" or wanted is None or not _if_range(asked, thing)):
        status = 200
    if status:
        assert answer.status == status
        if status in (200, 304):
            assert answer.headers["etag"] == f'"{thing.etag}"'
        if status == 200:
            assert answer.headers["content-length"] == str(size)
            assert answer.body == (thing.data if method == "GET" else b"")
            assert "content-range" not in answer.headers
        return
    assert wanted is not None
    if not wanted:
        assert (answer.status, answer.headers["content-range"]) == (416, f"bytes */{size}")
        return
    assert answer.status == 206
    assert answer.headers["etag"] == f'"{thing.etag}"'
    parts = _parts(answer)
    for start, stop, total, body in parts:
        assert (total, body) == (size, thing.data[start:stop])
    covered = [offset for start, stop, _, _ in parts for offset in range(start, stop)]
    assert len(covered) == len(set(covered)), "a byte is sent twice"
    assert set(covered) == {offset for one in wanted for offset in one}
    first_asked = [min(n for n, one in enumerate(wanted) if start <= one.start < stop) for start, stop, _, _ in parts]
    assert first_asked == sorted(first_asked), "not in the order of the request"
    assert len(answer.body) <= size + MOST * 220


def _parts(answer: Answer) -> list[tuple[int, int, int, bytes]]:
    """First byte, the one behind the last, size of the whole, bytes: of each part."""
    kind, _, parameters = answer.headers["content-type"].partition(";")
    if kind != "multipart/byteranges":
        return [(*_content_range(answer.headers["content-range"]), answer.body)]
    assert "content-range" not in answer.headers
    boundary = parameters.strip().removeprefix("boundary=").encode()
    pieces = (b"\r\n" + answer.body).split(b"\r\n--" + boundary)
    assert pieces[0] == b""
    assert pieces[-1] == b"--\r\n"
    assert len(pieces) > 3, "a single part must not be multipart unless it was asked for so"
    found = []
    for piece in pieces[1:-1]:
        head, _, body = piece.partition(b"\r\n\r\n")
        fields = BytesHeaderParser().parsebytes(head.removeprefix(b"\r\n") + b"\r\n\r\n")
        assert fields["Content-Type"]
        found.append((*_content_range(fields["Content-Range"]), body))
    return found


def _content_range(text: str) -> tuple[int, int, int]:
    unit, rest = text.split(" ")
    span, total = rest.split("/")
    first, last = span.split("-")
    assert unit == "bytes"
    return int(first), int(last) + 1, int(total)


# -- section 13.2.2: which condition decides


def _status(method: str, asked: Headers, thing: Thing) -> int:
    """304, 412, or 0: go on."""
    assert method in ("GET", "HEAD")
    if (match := _lines(asked, "If-Match")) and not _any_tag(match, thing.etag, weak=False):
        return 412
    if not match:
        since = _single_date(asked, "If-Unmodified-Since")
        if since is not None and since < thing.modified:
            return 412
    if none_match := _lines(asked, "If-None-Match"):
        return 304 if _any_tag(none_match, thing.etag, weak=True) else 0
    since = _single_date(asked, "If-Modified-Since")
    return 304 if since is not None and not thing.modified > since else 0


def _if_range(asked: Headers, thing: Thing) -> bool:
    lines = _lines(asked, "If-Range")
    if not lines:
        return True
    if len(lines) > 1:
        return False
    text = lines[0].strip(" \t")
    return text == '"' + thing.etag + '"' or _date(text) == thing.modified


def _lines(asked: Headers, name: str) -> list[str]:
    return [value for key, value in asked if key.lower() == name.lower()]


def _any_tag(lines: list[str], etag: str, *, weak: bool) -> bool:
    """Compare a list of tags, read letter by letter; one that cannot be read names nothing."""
    text = ",".join(lines)
    if text.strip(" \t") == "*":
        return True
    at, found, between = 0, [], True
    while at < len(text):
        if text[at] in " \t":
            at += 1
        elif text[at] == ",":
            between = True
            at += 1
        elif not between:
            return False
        else:
            is_weak = text.startswith("W/", at)
            at += 2 if is_weak else 0
            if text[at : at + 1] != '"':
                return False
            end = text.find('"', at + 1)
            if end < 0 or any(char <= " " or char == "\x7f" for char in text[at + 1 : end]):
                return False
            found.append((is_weak, text[at + 1 : end]))
            at, between = end + 1, False
    return any(value == etag and (weak or not is_weak) for is_weak, value in found)


def _single_date(asked: Headers, name: str) -> datetime | None:
    lines = _lines(asked, name)
    return _date(lines[0].strip(" \t")) if len(lines) == 1 else None


def _date(text: str) -> datetime | None:
    """Section 5.6.7, with the help of the standard library's own reader of dates."""
    for form in ("%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y"):
        try:
            date = datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError:
            continue
        if date.strftime(form) == text or date.strftime(form.replace("%d", "%e")) == text:
            return date
    return None


# -- section 14.1.1 and 14.1.2: which bytes


def _ranges(asked: Headers, size: int) -> list[range] | None:
    """The satisfiable ranges as they were asked for; None: the header is to be ignored."""
    lines = _lines(asked, "Range")
    if len(lines) != 1 or lines[0].strip(" \t")[:6].lower() != "bytes=":
        return None
    found: list[range] = []
    asked_for = 0
    empty_suffix = False
    for element in lines[0].strip(" \t")[6:].split(","):
        spec = element.strip(" \t")
        if not spec:
            continue
        asked_for += 1
        first, dash, last = spec.partition("-")
        if not dash or any(char not in "0123456789" for char in first + last) or not first + last:
            return None
        if not first:
            length = min(int(last), size)
            empty_suffix = empty_suffix or (int(last) > 0 and size == 0)
            found.append(range(size - length, size))
        elif last and int(last) < int(first):
            return None
        else:
            found.append(range(int(first), min(int(last) + 1, size) if last else size))
    if not 1 <= asked_for <= MOST:
        return None
    satisfiable = [one for one in found if len(one)]
    return None if not satisfiable and empty_suffix else satisfiable
