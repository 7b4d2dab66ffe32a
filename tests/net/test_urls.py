from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediagen.core.errors import InvalidRequest, UrlNotAllowed
from mediagen.net.policy import MAX_URL, check_text
from mediagen.net.urls import decode_url_field, escape, resolve, resolve_dots

SIGNED = "sig=a%2Bb%2Fc%3D%3a%7E%2c&p=%3F%26&q=%zz&r=100%"


@pytest.mark.parametrize(
    ("odd", "sent"),
    [
        ("/plain.png", "/plain.png"),
        ("/f\u00fcr.png", "/f%C3%BCr.png"),
        ("/\U0001f600", "/%F0%9F%98%80"),
        ("/a|b", "/a%7Cb"),
        ("/a[1]", "/a%5B1%5D"),
        ("/{id}", "/%7Bid%7D"),
        ('/a"b<c>`^', "/a%22b%3Cc%3E%60%5E"),
        ("/my file", "/my%20file"),
        ("/100%", "/100%"),
        ("//a//b;c=d,e:f@g!$&'()*+", "//a//b;c=d,e:f@g!$&'()*+"),
    ],
)
def test_odd_characters_alone_are_escaped(odd: str, sent: str) -> None:
    assert check_text(f"http://h{odd}?{SIGNED}").raw_path_qs == f"{sent}?{SIGNED}"
    assert check_text(f"http://h/x?{odd}&{SIGNED}").raw_path_qs == f"/x?{sent}&{SIGNED}"
    assert check_text(f"http://b\u00fccher.example{odd}?{SIGNED}").raw_path_qs == f"{sent}?{SIGNED}"


@given(st.text("ABZabz09._~:/?#@!$&'()*+,;=%-", max_size=80))
def test_every_allowed_character_stays_as_it_is(text: str) -> None:
    assert escape(text) == text


@given(st.text(st.characters(codec="utf-8"), max_size=80))
def test_what_is_escaped_may_stand_in_a_url(text: str) -> None:
    escaped = escape(text)

    assert re.fullmatch(r"[A-Za-z0-9._~:/?#@!$&'()*+,;=%-]*", escaped)
    assert unquote(escaped) == unquote(text)


@pytest.mark.parametrize("text", ["http://h/\ud800", "http://h\ud800/", "http://h/?\udfff"])
def test_a_lone_surrogate_is_no_url(text: str) -> None:
    with pytest.raises(InvalidRequest):
        check_text(text)


@pytest.mark.parametrize("text", ["http://h/a ", " http://h/a", "http://h a/", "http://h/\ta", "http://h/a\\b"])
def test_spaces_around_a_url_or_in_its_host_are_refused(text: str) -> None:
    with pytest.raises(UrlNotAllowed):
        check_text(text)


def test_what_grows_too_long_by_its_escapes_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        check_text("http://h/" + "\u00fc" * (MAX_URL // 2))


@pytest.mark.parametrize(
    ("rest", "becomes"),
    [
        ("/a/../b", "/b"),
        ("/a/./b/.", "/a/b/"),
        ("/a/b/..", "/a/"),
        ("/../../a", "/a"),
        ("/a/..", "/"),
        ("/a//../b", "/a/b"),
        ("/a/../b%2F%2e%2e/c%7E", "/b%2F%2e%2e/c%7E"),
        ("/a?x=/../y", "/a?x=/../y"),
        ("/a#/../y", "/a#/../y"),
        ("/.well-known/..x", "/.well-known/..x"),
        ("", ""),
    ],
)
def test_dots_of_the_path_are_resolved_and_nothing_else(rest: str, becomes: str) -> None:
    assert resolve_dots(rest) == becomes


# RFC 3986 section 5.4, strictly
BASE = "http://a/b/c/d;p?q"
REFERENCES = {
    "g:h": "g:h",
    "g": "http://a/b/c/g",
    "./g": "http://a/b/c/g",
    "g/": "http://a/b/c/g/",
    "/g": "http://a/g",
    "//g": "http://g",
    "?y": "http://a/b/c/d;p?y",
    "g?y": "http://a/b/c/g?y",
    "#s": "http://a/b/c/d;p?q#s",
    "g#s": "http://a/b/c/g#s",
    "g?y#s": "http://a/b/c/g?y#s",
    ";x": "http://a/b/c/;x",
    "g;x": "http://a/b/c/g;x",
    "": "http://a/b/c/d;p?q",
    ".": "http://a/b/c/",
    "./": "http://a/b/c/",
    "..": "http://a/b/",
    "../g": "http://a/b/g",
    "../..": "http://a/",
    "../../g": "http://a/g",
    "../../../g": "http://a/g",
    "/./g": "http://a/g",
    "/../g": "http://a/g",
    "g.": "http://a/b/c/g.",
    "..g": "http://a/b/c/..g",
    "./../g": "http://a/b/g",
    "./g/.": "http://a/b/c/g/",
    "g;x=1/../y": "http://a/b/c/y",
    "g?y/../x": "http://a/b/c/g?y/../x",
    "http:g": "http:g",
    "https://x/y%2F?%7e": "https://x/y%2F?%7e",
}


@pytest.mark.parametrize(("reference", "target"), REFERENCES.items())
def test_references_are_resolved_as_rfc_3986_has_it(reference: str, target: str) -> None:
    assert resolve(BASE, reference) == target


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"/caf\xe9", "/caf%E9"),
        (b"/caf\xc3\xa9?\xff", "/caf%C3%A9?%FF"),
        (b"http://b\xc3\xbccher.example/\xfc", "http://b\u00fccher.example/%FC"),
        (b"//b\xc3\xbccher.example/", "//b\u00fccher.example/"),
        (b"/my file", "/my file"),
    ],
)
def test_raw_bytes_of_a_field_become_escapes_one_by_one(value: bytes, text: str) -> None:
    assert decode_url_field(value.decode("latin-1")) == text
