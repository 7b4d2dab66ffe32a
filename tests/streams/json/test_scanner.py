from __future__ import annotations

import json
import string
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mediagen.core.errors import InvalidRequest, TooLarge
from mediagen.streams.json.scanner import JsonFieldScanner, Pointer, Rules, parse_pointer
from tests.streams.json.splitting import splits

B64 = string.ascii_letters + string.digits + "+/="
KEYS = st.sampled_from(["data", "b64", "", "0", "1", "a", "ä", 'quo"te', "back\\slash", "~", "/"]) | st.text(max_size=5)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12)
    | st.text('"\\{}[],:', max_size=8)
)
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


def scanned(pieces: list[bytes], pointer: Pointer, rules: Rules | None = None) -> tuple[JsonFieldScanner, str | None]:
    """A scanner that has seen all pieces, and the field's text if it was there."""
    scanner = JsonFieldScanner([pointer], rules, only_first=True)
    text = b"".join(bytes(view) for piece in pieces for view in scanner.feed(piece))
    scanner.finish()
    return scanner, text.decode() if scanner.found else None


def strings_in(value: Any, path: Pointer = ()) -> list[tuple[Pointer, str]]:
    """Every string value of a document with its pointer."""
    if isinstance(value, str):
        return [(path, value)]
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, item in below for found in strings_in(item, (*path, str(key)))]


def put(value: Any, pointer: Pointer, new: Any) -> Any:
    """The document with another value at the pointer."""
    if not pointer:
        return new
    if isinstance(value, list):
        return [put(item, pointer[1:], new) if str(at) == pointer[0] else item for at, item in enumerate(value)]
    return {key: put(item, pointer[1:], new) if key == pointer[0] else item for key, item in value.items()}


@st.composite
def documents_with_a_field(draw: st.DrawFn) -> tuple[Any, Pointer, str]:
    """A document that has text of base64 somewhere, the pointer to it, and the text."""
    text = draw(st.text(B64, max_size=40))
    inner: Any = text
    pointer: Pointer = ()
    for _ in range(draw(st.integers(1, 4))):
        if draw(st.booleans()):
            key = draw(KEYS)
            items = [
                (other, item)
                for other, item in draw(st.dictionaries(KEYS, DOCUMENTS, max_size=3)).items()
                if other != key
            ]
            items.insert(draw(st.integers(0, len(items))), (key, inner))
            inner, pointer = dict(items), (key, *pointer)
        else:
            row = draw(st.lists(DOCUMENTS, max_size=3))
            at = draw(st.integers(0, len(row)))
            row.insert(at, inner)
            inner, pointer = row, (str(at), *pointer)
    return inner, pointer, text


@given(documents_with_a_field(), st.booleans(), st.sampled_from([None, 1, "\t"]), st.data())
def test_the_field_of_any_document_comes_out_wherever_it_is_split(
    made: tuple[Any, Pointer, str], ascii_only: bool, indent: Any, draw: st.DataObject
) -> None:
    document, pointer, text = made
    raw = json.dumps(document, ensure_ascii=ascii_only, indent=indent).encode()

    scanner, found = scanned(draw.draw(splits(raw)), pointer)

    assert found == text
    assert scanner.complete
    assert scanner.document == put(document, pointer, "")


@given(DOCUMENTS, st.lists(KEYS, min_size=1, max_size=3).map(tuple), st.data())
def test_a_document_without_the_field_comes_back_whole(document: Any, pointer: Pointer, draw: st.DataObject) -> None:
    raw = json.dumps(document).encode()
    here = {path: text for path, text in strings_in(document) if path == pointer}

    try:
        scanner, found = scanned(draw.draw(splits(raw)), pointer)
    except InvalidRequest:
        assert here  # a string that base64 cannot be
        return

    assert found == here.get(pointer)
    assert scanner.document == (put(document, pointer, "") if here else document)


@given(st.binary(max_size=60) | st.text('{}[]",:\\ud0a1 ', max_size=60).map(str.encode), st.data())
@example(b'{"a":{"0":"x"},"a":5}', None)
def test_any_bytes_are_a_document_or_an_error_of_ours(raw: bytes, draw: st.DataObject | None) -> None:
    for pointer in ((), ("",), ("a",), ("a", "0"), ("0",)):
        ends = []
        for pieces in ([raw], [raw] if draw is None else draw.draw(splits(raw))):
            try:
                scanner, text = scanned(pieces, pointer)
                ends.append((True, repr(scanner.document), text))
            except InvalidRequest:
                ends.append((False, "", None))

        assert ends[0] == ends[1]


@pytest.mark.parametrize(
    ("escaped", "plain"),
    [
        (r"ab\/cd", "ab/cd"),
        (r"ab\ncd\r\nef\t", "ab\ncd\r\nef\t"),
        (r"\u002b\u002F\u003d", "+/="),
        (r"\/\/\/", "///"),
        (r"QU\u004aD", "QUJD"),
        (r"\\n\"\b\f\u005c\u005Cn", '\\n"\b\f\\\\n'),
        (r"caf\u00e9 \u20AC \ud83d\uDE00 é", "café € 😀 é"),
        (r"\ud83dx\udE00\ud83d\ud83d\ude00", "?x??😀"),
        ("ab\ncd", "ab\ncd"),
        ("", ""),
    ],
)
@settings(max_examples=25)
@given(st.data())
def test_escapes_of_the_field_wherever_they_are_split(escaped: str, plain: str, draw: st.DataObject) -> None:
    raw = f'{{"a": 1, "data": "{escaped}", "z": "\\u0022\\\\"}}'.encode()

    scanner, found = scanned(draw.draw(splits(raw)), ("data",))

    assert found == plain
    assert scanner.document == {"a": 1, "data": "", "z": '"\\'}


@pytest.mark.parametrize("escape", [r"\x41", r"\u12", r"\u12G4", r"\U0041", "\\\n"])
@settings(max_examples=15)
@given(st.data())
def test_escapes_that_json_does_not_have_are_refused(escape: str, draw: st.DataObject) -> None:
    raw = f'{{"data": "QUJD{escape}"}}'.encode()

    with pytest.raises(InvalidRequest):
        scanned(draw.draw(splits(raw)), ("data",))


@pytest.mark.parametrize(
    ("raw", "document"),
    [
        (b'{"data":"QQ==","n":"\\"data\\":\\"no\\""}', {"data": "", "n": '"data":"no"'}),
        (b'{"n":"\\\\","data":"QQ=="}', {"n": "\\", "data": ""}),
        (b'{"n":{"data":"no"},"data":"QQ==","m":["data"]}', {"n": {"data": "no"}, "data": "", "m": ["data"]}),
        (b'{"d\\u0061ta":"QQ=="}', {"data": ""}),
        (b'{"data":null,"x":[1,2]}', {"data": None, "x": [1, 2]}),
        (b' \n{ "data" : "QQ==" } \n', {"data": ""}),
        (b'\xef\xbb\xbf{"data":"QQ=="}', {"data": ""}),
        (b'["data","no"]', ["data", "no"]),
    ],
)
def test_only_the_value_of_the_field_is_taken(raw: bytes, document: Any) -> None:
    scanner, found = scanned([raw], ("data",))

    assert scanner.document == document
    assert found == ("QQ==" if b"QQ==" in raw else None)


@pytest.mark.parametrize(
    ("raw", "pointer"),
    [
        (b'{"data":"QQ==","data":"QUJD"}', "/data"),
        (b'{"data":"QQ==","data":7}', "/data"),
        (b'{"a":{"data":"QQ=="},"a":{}}', "/a/data"),
        (b'{"a":{"data":"QQ=="},"a":5}', "/a/data"),
        (b'{"a":{"data":"QQ=="},"a":"text"}', "/a/data"),
        (b'{"a":{"data":"QQ=="},"a":[]}', "/a/data"),
        (b'{"a":["QQ=="],"a":[]}', "/a/0"),
        (b'{"a":["QQ=="],"a":null}', "/a/0"),
    ],
)
def test_a_field_that_is_there_twice_is_refused(raw: bytes, pointer: str) -> None:
    with pytest.raises(InvalidRequest, match="twice"):
        scanned([raw], parse_pointer(pointer))


def test_a_document_cut_anywhere_is_refused() -> None:
    raw = json.dumps({"a": [1, {"b": "c\n"}], "data": "QUJD+/==", "e": {"f": None}}).encode()

    for end in range(len(raw)):
        with pytest.raises(InvalidRequest, match="not a complete JSON document"):
            scanned([raw[:end]], ("data",))


@pytest.mark.parametrize(
    "raw",
    [
        b'{"data":"QQ=="}}',
        b"]",
        b'{"data":"QQ=="]',
        b'{"data":"QQ==" "x"}',
        b'{"data" "QQ=="}',
        b'{"data":"QQ==",}',
        b'{"data":"QQ=="} {}',
        b'"key":1',
        b'{"\\ud8":1}',
        b'{"n":"\xff","data":"QQ=="}',
        b"\xff\xfe{\x00}\x00",
        b'{"n":' + b"1" * 5000 + b"}",
        b"",
    ],
)
def test_what_is_no_json_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest):
        scanned([raw], ("data",))


@pytest.mark.parametrize("step", [1, 1000, 1 << 20])
def test_depth_keys_and_the_rest_are_bounded(step: int) -> None:
    def cut(raw: bytes) -> list[bytes]:
        return [raw[at : at + step] for at in range(0, len(raw), step)]

    deep = b'{"data":"QQ==","x":' + b"[" * 127 + b"]" * 127 + b"}"
    assert scanned(cut(deep), ("data",))[1] == "QQ=="
    with pytest.raises(InvalidRequest, match="deeper"):
        scanned(cut(deep.replace(b"[[", b"[[[", 1).replace(b"]]", b"]]]", 1)), ("data",))
    assert scanned(cut(b'{"' + b"k" * 4096 + b'":1}'), ("data",))[1] is None
    with pytest.raises(InvalidRequest, match="key longer"):
        scanned(cut(b'{"' + b"k" * 4097 + b'":1}'), ("data",))
    rest = b'{"data":"' + b"QUJD" * 5000 + b'","x":"' + b"y" * 980 + b'"}'
    assert scanned(cut(rest), ("data",), Rules(max_rest=1000))[1] == "QUJD" * 5000
    with pytest.raises(TooLarge):
        scanned(cut(rest), ("data",), Rules(max_rest=990))


@pytest.mark.parametrize(
    ("text", "pointer"),
    [("/data", ("data",)), ("/data/0/b64", ("data", "0", "b64")), ("/", ("",)), ("/a~1b/~0c/~01", ("a/b", "~c", "~1"))],
)
def test_pointers(text: str, pointer: Pointer) -> None:
    assert parse_pointer(text) == pointer


@pytest.mark.parametrize("text", ["", "data", "#/data", " /data"])
def test_a_pointer_begins_with_a_slash(text: str) -> None:
    with pytest.raises(InvalidRequest, match="pointer"):
        parse_pointer(text)
