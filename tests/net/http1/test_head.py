"""The head of an answer and the framing of its body, as servers write them and as they should not."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediagen.core.errors import FetchRefused
from mediagen.net.http1.head import (
    MAX_HEAD,
    MAX_LINES,
    Framing,
    Head,
    check_size,
    find_end_of_head,
    parse_framing,
    parse_head,
)


def head_of(*lines: str | bytes, end: bytes = b"\r\n") -> Head:
    encoded = [line if isinstance(line, bytes) else line.encode("latin-1") for line in ("HTTP/1.1 200 OK", *lines)]
    return parse_head(end.join([*encoded, b"", b""]))


@pytest.mark.parametrize(
    ("line", "status", "reason"),
    [
        (b"HTTP/1.1 200 OK", 200, "OK"),
        (b"HTTP/1.0 404 Not Found", 404, "Not Found"),
        (b"HTTP/1.1 206", 206, ""),
        (b"HTTP/1.1 206 ", 206, ""),
        (b"HTTP/1.1  200  fine \t", 200, "fine"),
        (b"http/1.1 503 caf\xe9", 503, "caf\xe9"),
        (b"HTTP/1.1 999 " + b"x" * 500, 999, "x" * 60),
        (b"HTTP/1.1 200 \x1b[2Jred", 200, "[2Jred"),
    ],
)
def test_a_status_line_is_read(line: bytes, status: int, reason: str) -> None:
    head = parse_head(line + b"\r\nA: b\r\n\r\n")

    assert (head.status, head.reason, head.headers["a"]) == (status, reason, "b")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"SSH-2.0-OpenSSH_9.2", "it begins with 'SSH-2.0-OpenSSH_"),
        (b"<html>", "not HTTP/1"),
        (b"\x15\x03\x01\x00\x02\x02F", "not HTTP/1"),
        (b"ICY 200 OK", "not HTTP/1"),
        (b"", "not HTTP/1"),
        (b"HTTP/2.0 200 OK", "not HTTP/1"),
        (b"HTTP/1.1 20 OK", "status line"),
        (b"HTTP/1.1 2000 OK", "status line"),
        (b"HTTP/1.1 -20 OK", "status line"),
        (b"HTTP/1.1200 OK", "status line"),
        (b"HTTP/1 200 OK", "status line"),
        (b"HTTP/1.1", "status line"),
    ],
)
def test_what_is_no_status_line_is_refused_with_its_first_words(line: bytes, says: str) -> None:
    with pytest.raises(FetchRefused, match=says):
        parse_head(line + b"\r\n\r\n")


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
@pytest.mark.parametrize(
    ("lines", "fields"),
    [
        (["A: b"], [("A", "b")]),
        (["A:b", "a:\t c \t"], [("A", "b"), ("a", "c")]),
        (["X-A : b"], [("X-A", "b")]),
        (["X A(1): b", "\xe9: \xe9"], [("X A(1)", "b"), ("\xe9", "\xe9")]),
        (["A: one", " two", "\tthree", "B: c"], [("A", "one two three"), ("B", "c")]),
        (["A:", " b"], [("A", "b")]),
        (["A: b", " "], [("A", "b")]),
        ([" stray", "A: b"], [("A", "b")]),
        (["no colon here", "A: b:c", ": nameless"], [("A", "b:c")]),
        (["A:"], [("A", "")]),
        (["A: " + "b" * 60_000], [("A", "b" * 60_000)]),
        ([f"A{number}: b" for number in range(MAX_LINES)], [(f"A{number}", "b") for number in range(MAX_LINES)]),
    ],
)
def test_fields_are_read_as_curl_reads_them(lines: list[str], fields: list[tuple[str, str]], end: bytes) -> None:
    assert list(head_of(*lines, end=end).headers.items()) == fields


def test_values_are_latin_1_and_all_of_a_name_are_kept() -> None:
    headers = head_of(b"A: caf\xc3\xa9", b"a: \xff").headers

    assert headers.getall("A") == ["caf\xc3\xa9", "\xff"]
    assert headers["A"].encode("latin-1").decode() == "caf\xe9"


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["A: b\rContent-Length: 5"], "a bare CR or a NUL"),
        (["A: b\0c"], "a bare CR or a NUL"),
        (["A: " + "b" * 70_000], "longer than 64 KiB"),
        ([f"A{number}: b" for number in range(MAX_LINES + 1)], "more than 300 lines"),
    ],
)
def test_a_head_that_is_refused_says_why(lines: list[str], says: str) -> None:
    with pytest.raises(FetchRefused, match=says):
        head_of(*lines)


def test_a_head_without_an_end_is_refused_when_it_is_too_large() -> None:
    check_size(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * MAX_LINES)
    with pytest.raises(FetchRefused, match="300 lines"):
        check_size(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * (MAX_LINES + 2))
    with pytest.raises(FetchRefused, match="64 KiB"):
        check_size(b"A" * (MAX_HEAD + 1))


@pytest.mark.parametrize("end", [b"\r\n\r\n", b"\n\n", b"\r\n\n", b"\n\r\n"])
def test_the_end_of_a_head_is_found_wherever_it_is_cut(end: bytes) -> None:
    head, body = b"HTTP/1.1 200 OK\r\nA: b" + end, b"\n\nbody"
    for cut in range(len(head)):
        received = bytearray(head[:cut])
        assert find_end_of_head(received) is None
        received += head[cut:] + body
        assert find_end_of_head(received, cut) == len(head)


@pytest.mark.parametrize(
    ("lines", "framing"),
    [
        (["Content-Length: 5"], Framing(length=5)),
        (["Content-Length: 0"], Framing(length=0)),
        (["Content-Length: 5", "Content-Length: 5"], Framing(length=5)),
        (["Content-Length: 5, 5"], Framing(length=5)),
        (["Content-Length: 5,", "content-length: 05"], Framing(length=5)),
        (["Content-Length :5"], Framing(length=5)),
        (["Content-Length:", " 5"], Framing(length=5)),
        ([], Framing()),
        (["Transfer-Encoding: identity"], Framing()),
        (["Transfer-Encoding:"], Framing()),
        (["Transfer-Encoding: identity", "Content-Length: 5"], Framing(length=5)),
        (["Transfer-Encoding: chunked"], Framing(chunked=True)),
        (["Transfer-Encoding: Chunked "], Framing(chunked=True)),
        (["Transfer-Encoding: identity, chunked"], Framing(chunked=True)),
        (["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], Framing(chunked=True)),
        (["Transfer-Encoding: chunked", "Content-Length: 5"], Framing(chunked=True)),
        (["Content-Length: 5", "Content-Length: 6", "Transfer-Encoding: chunked"], Framing(chunked=True)),
    ],
)
def test_unambiguous_framing_is_taken(lines: list[str], framing: Framing) -> None:
    found = parse_framing(head_of(*lines))

    assert found == framing
    assert found.self_delimiting == (framing.chunked or framing.length is not None)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["Content-Length: 5", "Content-Length: 6"], "two lengths, 5 and 6 bytes"),
        (["Content-Length: 5, 6"], "two lengths"),
        (["Content-Length: x"], "is no number: 'x'"),
        (["Content-Length: -5"], "is no number"),
        (["Content-Length: +5"], "is no number"),
        (["Content-Length: 0x5"], "is no number"),
        (["Content-Length: 5.0"], "is no number"),
        (["Content-Length: 5 5"], "is no number"),
        (["Content-Length: 9999999999999999999"], "is no number"),
        (["Content-Length: \xb2"], "is no number"),
        (["Content-Length:"], "is empty"),
        (["Content-Length: ,"], "is empty"),
        (["Transfer-Encoding: gzip, chunked"], "transfer coding 'gzip'"),
        (["Transfer-Encoding: gzip", "Transfer-Encoding: chunked"], "transfer coding 'gzip'"),
        (["Transfer-Encoding: chunked, gzip"], "transfer coding 'gzip'"),
        (["Transfer-Encoding: deflate;q=1"], "transfer coding 'deflate'"),
        (["Transfer-Encoding: x-gzip", "Content-Length: 5"], "transfer coding 'x-gzip'"),
        (["Transfer-Encoding: aws-chunked"], "transfer coding 'aws-chunked'"),
        (["Transfer-Encoding: chunk\xe9"], "transfer coding"),
    ],
)
def test_contradictory_framing_is_refused_by_its_name(lines: list[str], says: str) -> None:
    with pytest.raises(FetchRefused, match=says):
        parse_framing(head_of(*lines))


@pytest.mark.parametrize("status", [204, 304])
def test_answers_that_have_no_body(status: int) -> None:
    head = parse_head(f"HTTP/1.1 {status} X\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n".encode())

    assert parse_framing(head) == Framing(length=0)


PIECES = [b"HTTP/1.1 ", b"200", b" ", b"OK", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b":", b"Content-Length", b"5"]
MORE = [b"A", b"Transfer-Encoding", b"chunked", b",", b"\t", b"\0", b"\xff"]


@given(st.binary(max_size=300) | st.lists(st.sampled_from(PIECES + MORE), max_size=40).map(b"".join))
def test_any_bytes_are_an_answer_or_an_error_of_ours(data: bytes) -> None:
    end = find_end_of_head(data)
    with suppress(FetchRefused):
        parse_framing(parse_head(data[:end] if end is not None else data + b"\r\n\r\n"))
