"""The chunked transfer coding, cut at every byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediagen.core.errors import FetchRefused
from mediagen.net.http1.chunked import ChunkDecoder


def decoded(data: bytes, sizes: list[int]) -> tuple[bytes, bool]:
    """The payload of ``data`` when it comes in pieces of ``sizes`` bytes, the last size again and again."""
    decoder, out, at = ChunkDecoder(), bytearray(), 0
    sizes = list(sizes)
    while at < len(data):
        size = max(1, sizes.pop(0) if len(sizes) > 1 else sizes[0])
        piece = bytearray(data[at : at + size])
        filled, used = decoder.decode(memoryview(piece))
        out += piece[:filled]
        at += used
    return bytes(out), decoder.ended


PLAIN = b"5\r\nhello\r\n1\r\n \r\n6\r\nworld!\r\n0\r\n\r\n"
GOOD = [
    (PLAIN, b"hello world!"),
    (PLAIN.replace(b"\r\n", b"\n"), b"hello world!"),
    (b"0\r\n\r\n", b""),
    (b"0\r\n", b""),
    (b"5;name=value\r\nhello\r\n0;last\r\n\r\n", b"hello"),
    (b'5 ; q="a;b"\r\nhello\r\n000\r\n\r\n', b"hello"),
    (b"5   \r\nhello\r\n0  \r\n\r\n", b"hello"),
    (b"0000000000000005\r\nhello\r\n0\r\n\r\n", b"hello"),
    (b"a\r\n\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n\r\n\r\n\r\n"),
    (b"5\r\nhello\r\n0\r\nX: y\r\nZ: w\r\n\r\n", b"hello"),
    (b"5\r\nhello\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", b"hello"),
    (b"C\r\nhello world!\r\n0\r\n\r\n", b"hello world!"),
    (b"5;" + b"x" * 5000 + b"\r\nhello\r\n0\r\n\r\n", b"hello"),
]


@pytest.mark.parametrize(("data", "payload"), GOOD)
def test_a_body_comes_out_the_same_wherever_it_is_cut(data: bytes, payload: bytes) -> None:
    assert decoded(data, [len(data)]) == (payload, True)
    assert decoded(data, [1]) == (payload, True)
    for cut in range(1, min(len(data), 200)):
        assert decoded(data, [cut, len(data)]) == (payload, True)


def test_a_body_without_its_last_chunk_has_not_ended() -> None:
    for cut in range(1, PLAIN.rindex(b"\r\n\r\n") + 2):
        assert decoded(PLAIN[:cut], [7])[1] is False


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"hello", None),
        (b"\r\n5\r\nhello", "size of a chunk"),
        (b"x\r\n", "size of a chunk cannot be read: 'x'"),
        (b"-5\r\nhello", "size of a chunk"),
        (b"+5\r\nhello", "size of a chunk"),
        (b"0x5\r\nhello", "size of a chunk"),
        (b"5_0\r\nhello", "size of a chunk"),
        (b"5 5\r\nhello", "size of a chunk"),
        (b"fffffffffffffffff\r\n", "size of a chunk"),
        (b"\xb2\r\n", "size of a chunk"),
        (b"5\r\nhello!\r\n0\r\n\r\n", "longer than its size"),
        (b"5\r\nhello0\r\n\r\n", "longer than its size"),
        (b"5\r\nhello\rx\n0\r\n\r\n", "longer than its size"),
        (b"5;" + b"x" * 20_000, "does not end"),
        (b"\x1f\x8b\x08\x00\n", "size of a chunk"),
    ],
)
def test_what_is_not_the_chunked_coding_is_refused_wherever_it_is_cut(data: bytes, says: str | None) -> None:
    for size in (1, 3, len(data)):
        if says is None:
            assert decoded(data, [size]) == (b"", False)
        else:
            with pytest.raises(FetchRefused, match=says):
                decoded(data, [size])


def test_tiny_chunks_are_decoded_some_at_a_time() -> None:
    data = bytearray(b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n")

    filled, used = ChunkDecoder().decode(memoryview(data))

    assert 0 < filled == used // 6 < 5000
    assert decoded(bytes(b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n"), [1 << 20]) == (b"x" * 10_000, True)


@given(
    st.lists(st.binary(min_size=1, max_size=300), max_size=12),
    st.lists(st.integers(1, 70), min_size=1, max_size=30),
    st.sampled_from([b"\r\n", b"\n"]),
    st.binary(max_size=20),
)
def test_any_chunks_in_any_pieces(chunks: list[bytes], sizes: list[int], end: bytes, behind: bytes) -> None:
    data = b"".join(b"%x" % len(chunk) + end + chunk + end for chunk in chunks) + b"0" + end + behind

    assert decoded(data, sizes) == (b"".join(chunks), True)


@given(st.binary(max_size=200), st.lists(st.integers(1, 50), min_size=1, max_size=10))
def test_any_bytes_decode_alike_in_all_pieces(data: bytes, sizes: list[int]) -> None:
    def outcome(sizes: list[int]) -> object:
        try:
            return decoded(data, sizes)
        except FetchRefused:
            return None

    assert outcome(sizes) == outcome([max(1, len(data))])
