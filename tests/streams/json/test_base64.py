from __future__ import annotations

import base64
import re
import string
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mediagen.core.errors import InvalidBase64
from mediagen.streams.json.base64 import Base64Decoder, DataUriDecoder
from tests.streams.json.splitting import split_at, splits

STANDARD = string.ascii_letters + string.digits + "+/"
SPACES = st.text(" \t\r\n", max_size=3)


class Decoder(Protocol):
    def feed(self, text: bytes, /) -> bytes: ...
    def finish(self) -> bytes: ...


def decoded(pieces: Sequence[bytes], decoder: Decoder | None = None) -> bytes:
    decoder = decoder or Base64Decoder()
    out = [decoder.feed(piece) for piece in pieces]
    return b"".join([*out, decoder.finish()])


def outcome(pieces: Sequence[bytes], decoder: Decoder | None = None) -> bytes | str:
    """What came out, or the client's text of the error."""
    try:
        return decoded(pieces, decoder)
    except InvalidBase64 as exc:
        return exc.detail


def expected(text: str) -> bytes | str:
    """The rules of the module, character by character, with the standard library's decoder at the end."""
    alphabet, padded, data = "", 0, ""
    for at, char in enumerate(text):
        if char in " \t\r\n":
            continue
        if char in "+/-_":
            alphabet = alphabet or ("+/" if char in "+/" else "-_")
        strange = not char.isascii() or not (char.isalnum() or char == "=" or char in alphabet)
        if strange or (padded and (char != "=" or padded == 2)):
            return f"not a base64 character at offset {at}: {char.encode('latin-1')!r}"
        if char == "=":
            padded += 1
        else:
            data += char
    rest = len(data) % 4
    if rest == 1:
        return f"base64 ends after one character of a group, at offset {len(text)}"
    if padded and rest + padded != 4:
        return f"wrong base64 padding before offset {len(text)}"
    return base64.b64decode(data.replace("-", "+").replace("_", "/") + "=" * (-len(data) % 4), validate=True)


@given(
    st.binary(max_size=200),
    st.sampled_from([base64.b64encode, base64.urlsafe_b64encode]),
    st.booleans(),
    st.lists(SPACES, max_size=60),
    st.data(),
)
def test_every_spelling_of_bytes_comes_back(
    data: bytes, encode: Callable[[bytes], bytes], padded: bool, spaces: list[str], draw: st.DataObject
) -> None:
    text = encode(data).decode()
    if not padded:
        text = text.rstrip("=")
    spread = "".join(char + (spaces[at] if at < len(spaces) else "") for at, char in enumerate(text))

    assert decoded(draw.draw(splits(spread.encode()))) == data


@given(st.text(STANDARD + "-_=\n !\x00é", max_size=24), st.data())
def test_any_text_gives_what_the_rules_say_wherever_it_is_split(text: str, draw: st.DataObject) -> None:
    raw = text.encode("latin-1")
    wanted = expected(text)

    assert outcome([raw]) == wanted
    assert outcome(draw.draw(splits(raw))) == wanted


@given(st.text("AQ+/-_=", max_size=9))
def test_short_texts_give_the_same_whole_and_one_by_one(text: str) -> None:
    raw = text.encode()

    assert outcome([raw]) == outcome([raw[at : at + 1] for at in range(len(raw))]) == expected(text)


def test_views_of_any_kind_are_taken() -> None:
    text = base64.b64encode(bytes(range(256)) * 40)
    cut = split_at(text, [1, 2, 3, 1000, 1001])

    for kind in (bytes, bytearray, memoryview):
        assert decoded([kind(piece) for piece in cut]) == bytes(range(256)) * 40  # type: ignore[misc]  # any view


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ("QUJD*UJD", 4),
        ("QUJDQUJD\x00", 8),
        ("QUI+\nQU-_", 7),
        ("QU-_QUI+", 7),
        ("QQ==QUJD", 4),
        ("QQ===", 4),
        ("QQ=A", 3),
        ("QQ==\n\nA", 6),
        ("é", 0),
        ("QUJD" * 100_000 + "?", 400_000),
        ("QUJD\r\n" * 1000 + "Q\x0bUI", 6001),
    ],
)
@pytest.mark.parametrize("step", [1, 2, 3, 4, 5, 64, 1 << 20])
def test_the_error_names_the_offset_of_the_first_wrong_character(text: str, offset: int, step: int) -> None:
    if step < 64 and len(text) > 10_000:
        step = 4999
    raw = text.encode("latin-1")

    said = outcome([raw[at : at + step] for at in range(0, len(raw), step)])

    assert isinstance(said, str)
    assert re.search(rf"at offset {offset}\b", said)


@pytest.mark.parametrize("text", ["Q", "QUJDQ", "QQ=", "QUI==", "=", "==", "Q==", "QUJD="])
def test_a_text_that_ends_wrongly_names_its_length(text: str) -> None:
    said = outcome([text.encode()])

    assert isinstance(said, str)
    assert said.endswith(f"offset {len(text)}")


def test_empty_text_is_no_bytes() -> None:
    assert decoded([]) == decoded([b"", b" \r\n"]) == b""


def test_a_huge_text_is_decoded_in_the_memory_of_one_piece() -> None:
    piece = base64.b64encode(bytes(range(256)) * 768)  # 256 KiB of text
    broken = piece[:100_000] + b"\r\n" + piece[100_000:]
    decoder, total = Base64Decoder(), 0

    tracemalloc.start()
    try:
        for _ in range(12):
            total += len(decoder.feed(piece)) + len(decoder.feed(broken))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert total + len(decoder.finish()) == 2 * 12 * 256 * 768
    assert peak < 3 << 20


# -- data: URIs


@pytest.mark.parametrize(
    ("text", "media_type"),
    [
        ("data:image/png;base64,QUJD", "image/png"),
        ("DATA:Image/PNG;charset=utf-8;Base64,QUJD", "image/png"),
        (" \r\n\tdata:;base64,QUJD\n", None),
        ("data:video/mp4;codecs=avc1 ; base64 ,QU JD", "video/mp4"),
        ("QUJD", None),
        ("  QU\nJD  ", None),
    ],
)
@settings(max_examples=30)
@given(st.data())
def test_data_uris_wherever_they_are_split(text: str, media_type: str | None, draw: st.DataObject) -> None:
    decoder = DataUriDecoder()

    assert decoded(draw.draw(splits(text.encode())), decoder) == b"ABC"
    assert decoder.media_type == media_type


@pytest.mark.parametrize("plain", ["dataQUJD", "data", "d", "dat", "datA/abc"])
def test_text_that_only_begins_like_a_data_uri_is_base64(plain: str) -> None:
    pieces = [char.encode() for char in plain]

    assert outcome(pieces, DataUriDecoder()) == outcome([plain.encode()], DataUriDecoder()) == expected(plain)


@pytest.mark.parametrize(
    ("text", "media_type", "content"),
    [
        ("data:image/png;base64,Q%55J%44", "image/png", b"ABC"),
        ("data:image%2Fpng;base64,%20QUJDQQ%3D%3D", "image/png", b"ABCA"),
        ("data:;base64,%2B%2Fv7%0A", None, b"\xfb\xfb\xfb"),
        ("data:,QUJD", None, b"QUJD"),
        ("data:text/plain;charset=utf-8,hello%20w%C3%B6rld", "text/plain", "hello wörld".encode()),
        ("data:image/svg+xml,%3Csvg%20fill=%22%23fff%22/%3E", "image/svg+xml", b'<svg fill="#fff"/>'),
        ("data:image/svg+xml;utf8,<svg>100%</svg>", "image/svg+xml", b"<svg>100%</svg>"),
        ("data:,a%2", None, b"a%2"),
        ("data:,%ZZ%%41", None, b"%ZZ%A"),
        ("data:,", None, b""),
        ("data:;base64,", None, b""),
    ],
)
@settings(max_examples=30, deadline=None)
@given(st.data())
def test_percent_encoding_is_undone_wherever_it_is_split(
    text: str, media_type: str | None, content: bytes, draw: st.DataObject
) -> None:
    decoder = DataUriDecoder()

    assert decoded(draw.draw(splits(text.encode())), decoder) == content
    assert decoder.media_type == media_type


@pytest.mark.parametrize("text", ["data:;base64,QUJ%ZZ", "data:;base64,QUJD%", "data:;base64,QUJD%2"])
def test_a_percent_sign_that_begins_no_escape_is_no_base64(text: str) -> None:
    with pytest.raises(InvalidBase64):
        decoded([text.encode()], DataUriDecoder())


def test_clean_text_is_not_taken_while_an_escape_waits_for_its_end() -> None:
    decoder = DataUriDecoder()
    first = decoder.feed(b"data:;base64,QUJD%5")

    assert decoder.feed_clean(b"1UJD") is None
    assert first + decoder.feed(b"1UJD") + decoder.finish() == b"ABCABC"


@pytest.mark.parametrize("text", ["data:", "data:image/png", "data:image/png;base64"])
def test_a_data_uri_without_a_comma_is_refused(text: str) -> None:
    assert outcome([text.encode()], DataUriDecoder()) == "the data: URI has no comma"


def test_the_head_of_a_data_uri_is_bounded_wherever_it_is_split() -> None:
    text = b"data:" + b"x" * 5000 + b";base64,QUJD"

    for pieces in ([text], [text[at : at + 7] for at in range(0, len(text), 7)]):
        assert outcome(pieces, DataUriDecoder()) == "no comma in the first 1024 characters of a data: URI"


def test_space_without_end_before_the_text_takes_no_memory() -> None:
    decoder, space = DataUriDecoder(), b" " * 262_144

    tracemalloc.start()
    try:
        for _ in range(30):
            decoder.feed(space)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 2 << 20
    assert decoder.feed(b"data:;base64,QUJD") + decoder.finish() == b"ABC"


@pytest.mark.parametrize("before", ["", " \n", "data:image/png;base64,", "\tdata:;base64, "])
def test_offsets_count_from_the_beginning_of_the_field(before: str) -> None:
    raw = f"{before}QUJDQUJ!".encode()

    for pieces in ([raw], [bytes([byte]) for byte in raw]):
        assert outcome(pieces, DataUriDecoder()) == f"not a base64 character at offset {len(raw) - 1}: b'!'"
