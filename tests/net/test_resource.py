"""Names and validators that a source gives."""

from __future__ import annotations

import time
from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediagen.net.content_disposition import parse_filename
from mediagen.net.download import Fetcher
from mediagen.net.resource import clean_filename
from tests.infra.resource import Resource
from tests.infra.servers.source import SourceServer


async def named(fetcher: Fetcher, source: SourceServer, path: str, disposition: str | None) -> str:
    # the source writes Latin-1, so that these bytes are UTF-8
    headers = {} if disposition is None else {"Content-Disposition": disposition.encode().decode("latin-1")}
    url = source.add(path.partition("?")[0], Resource(body=b"x", headers=headers))
    async with fetcher.open(url.removesuffix(path.partition("?")[0]) + path) as download:
        return download.resource.filename


@pytest.mark.parametrize(
    ("disposition", "filename"),
    [
        ('attachment; filename="clip.mp4"', "clip.mp4"),
        ("attachment; filename=clip.mp4", "clip.mp4"),
        ('inline; FileName="a b.mp4"', "a b.mp4"),
        ("attachment; filename*=UTF-8''na%C3%AFve%20clip.mp4", "naïve clip.mp4"),
        ("attachment; filename=\"plain.mp4\"; filename*=utf-8''%E2%82%AC.mp4", "€.mp4"),
        ("attachment; filename*=iso-8859-1'en'%A3.mp4", "£.mp4"),
        (r'attachment; filename="a\"b.mp4"', 'a"b.mp4'),
        ('attachment; filename="../../etc/passwd"', "passwd"),
        ('attachment; filename="C:\\\\Windows\\\\x.mp4"', "x.mp4"),
        ("attachment; filename*=UTF-8''..%2F..%2Fx.mp4", "x.mp4"),
        ("attachment; filename*=UTF-8''a%00b%0D%0Ac.mp4", "abc.mp4"),
        ('attachment; filename=".."', ""),
        ("attachment", "path.bin"),
        ("attachment; filename=my film (1).mp4", "my film (1).mp4"),
        ("attachment; filename=my film.mp4; size=3", "my film.mp4"),
        ("attachment;filename = spaced.mp4 ", "spaced.mp4"),
        ('attachment; filename="naïve.mp4"', "naïve.mp4"),
        ("attachment; filename=映画.mp4", "映画.mp4"),
        ('attachment; filename="C:\\Users\\me\\x.mp4"', "x.mp4"),
        ("attachment; filename=C:\\Users\\me\\x.mp4", "x.mp4"),
        ('attachment; filename="say "hi" twice.mp4"', 'say "hi" twice.mp4'),
        ('attachment; filename="a;b.mp4"; size=3', "a;b.mp4"),
        ('attachment; filename="open.mp4', "open.mp4"),
        ('attachment; filename="%e6%98%a0.mp4"', "映.mp4"),
        ('attachment; filename="100%.mp4"', "100%.mp4"),
        ('attachment; filename="%ff%fe.mp4"', "%ff%fe.mp4"),
        ('attachment; filename="=?UTF-8?B?5pig55S7Lm1wNA==?="', "映画.mp4"),
        ('attachment; filename="=?UTF-8?Q?na=C3=AFve.mp4?="', "naïve.mp4"),
        ('attachment; filename="=?nonsense?="', "=?nonsense?="),
        ("attachment; foo; bar=\"; filename*=UTF-8''good.mp4", "good.mp4"),
        ("attachment; foo@=\"a\"b; filename*=UTF-8''good.mp4; filename=bad", "good.mp4"),
        ("attachment; filename*=UTF-8''%ZZ%; filename=good.mp4", "good.mp4"),
        ("attachment; filename*=UTF-8''100%.mp4", "100%.mp4"),
        ("attachment; filename*=; filename=good.mp4", "good.mp4"),
        ("attachment; filename*=nonsense''%ff; filename=good.mp4", "good.mp4"),
        ("attachment; filename*=nonsense''a%20b.mp4", "a b.mp4"),
        ("attachment; filename*=\"UTF-8''a%20b.mp4\"", "a b.mp4"),
        ("attachment; filename*=a%20b.mp4", "a b.mp4"),
        ("attachment; filename*=windows-1252''%80.mp4", "€.mp4"),
        ('attachment; filename*0="long "; filename*1="name.mp4"', "long name.mp4"),
        ("attachment; filename*0*=UTF-8''%E6%98; filename*1*=%A0.mp4", "映.mp4"),
        ("attachment; filename=first.mp4; filename=second.mp4", "first.mp4"),
        ("filename=bare.mp4", "bare.mp4"),
        ("ATTACHMENT; FILENAME=LOUD.MP4", "LOUD.MP4"),
        ('attachment; filename=""', "path.bin"),
    ],
)
async def test_the_name_of_content_disposition(
    fetcher: Fetcher, source: SourceServer, disposition: str, filename: str
) -> None:
    assert await named(fetcher, source, "/some/path.bin", disposition) == filename


@pytest.mark.parametrize(
    ("path", "filename"),
    [
        ("/film.mp4", "film.mp4"),
        ("/film.mp4?token=/x.exe", "film.mp4"),
        ("/", ""),
        ("/folder/", ""),
        ("/na%C3%AFve%20clip.mp4", "naïve clip.mp4"),
        ("/a%2541.mp4", "a%41.mp4"),
        ("/100%25.mp4", "100%.mp4"),
        ("/x%2F..%2Fy.mp4", "y.mp4"),
        ("/%2e%2e%2fsecret", "secret"),
        ("/%E2%80%AEgpj.exe", "gpj.exe"),
        ("/.hidden", "hidden"),
        ("/na%EFve.mp4", "naïve.mp4"),
        ("/a%20b+c.mp4", "a b+c.mp4"),
    ],
)
async def test_the_name_of_the_path(fetcher: Fetcher, source: SourceServer, path: str, filename: str) -> None:
    assert await named(fetcher, source, path, None) == filename


@pytest.mark.parametrize(
    "disposition",
    [
        "",
        ";",
        "attachment; filename",
        'attachment; filename="open',
        "filename=x.mp4",
        "attachment;;;",
        "attachment; =x",
    ],
)
async def test_a_disposition_that_is_none_leaves_the_name_of_the_path(
    fetcher: Fetcher, source: SourceServer, disposition: str
) -> None:
    assert await named(fetcher, source, "/path.bin", disposition) in ("path.bin", "open", "x.mp4")


@given(st.text(max_size=400))
def test_a_cleaned_name_is_one_piece_of_visible_characters(name: str) -> None:
    clean = clean_filename(name)

    assert "/" not in clean
    assert "\\" not in clean
    assert all(char.isprintable() or char in "\u200c\u200d" or category(char) in ("Zs", "Cn") for char in clean)
    assert len(clean) <= 200
    assert clean not in (".", "..")
    assert not clean.startswith((".", " "))
    assert clean_filename(clean) == clean
    clean.encode()


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("a.mp4", "a.mp4"),
        ("  a.mp4. ", "a.mp4"),
        ("..", ""),
        ("a/b\\c.mp4", "c.mp4"),
        ("a\x00b\nc\x7f.mp4", "abc.mp4"),
        ("safe\u202egpj.exe", "safegpj.exe"),
        ("\ud800x", "x"),
        ("ä€\U0001f3ac.mp4", "ä€\U0001f3ac.mp4"),
        ("x" * 300, "x" * 200),
        ("\U0001f468\u200d\U0001f469\u200d\U0001f467.mp4", "\U0001f468\u200d\U0001f469\u200d\U0001f467.mp4"),
        (
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645.mp4",
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645.mp4",
        ),
        ("a\u00a0b\u202fc\u3000d.mp4", "a\u00a0b\u202fc\u3000d.mp4"),
        ("\U0001fae8.mp4", "\U0001fae8.mp4"),
        ("a\ufffe\U0001ffffb\ufdd0.mp4", "ab.mp4"),
        ("a\u2066b\ufeffc\u200e.mp4", "abc.mp4"),
        ("x" * 199 + " y", "x" * 199),
    ],
)
def test_cleaned_names(name: str, clean: str) -> None:
    assert clean_filename(name) == clean


@pytest.mark.parametrize("raw", [b'attachment; filename="na\xefve.mp4"', 'attachment; filename="naïve.mp4"'.encode()])
def test_raw_bytes_are_utf_8_or_latin_1_however_they_were_read(raw: bytes) -> None:
    assert parse_filename(raw.decode("latin-1")) == "naïve.mp4"
    assert parse_filename(raw.decode("utf-8", "surrogateescape")) == "naïve.mp4"


@given(st.text(max_size=400))
def test_any_header_has_a_name_or_none_that_is_text(value: str) -> None:
    for name in (parse_filename(value), parse_filename("attachment; filename" + value)):
        if name is not None:
            clean_filename(name).encode()


@pytest.mark.parametrize(
    "hostile", ['filename="' + '"' * 8000, 'filename="' + "\\" * 8000, ";" * 8192, "a=" * 4000, '"' * 8192]
)
def test_no_header_takes_more_time_than_its_length(hostile: str) -> None:
    began = time.process_time()
    parse_filename(hostile)

    assert time.process_time() - began < 1.0
