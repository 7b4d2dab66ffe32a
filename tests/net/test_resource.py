"""Names and validators that a source gives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediagen.net.download import Fetcher
from mediagen.net.resource import clean_filename
from tests.infra.resource import Resource
from tests.infra.source import SourceServer


async def named(fetcher: Fetcher, source: SourceServer, path: str, disposition: str | None) -> str:
    headers = {} if disposition is None else {"Content-Disposition": disposition}
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
    ],
)
async def test_the_name_of_the_path(fetcher: Fetcher, source: SourceServer, path: str, filename: str) -> None:
    assert await named(fetcher, source, path, None) == filename


@pytest.mark.filterwarnings("ignore::aiohttp.multipart.BadContentDispositionHeader")
@pytest.mark.filterwarnings("ignore::aiohttp.multipart.BadContentDispositionParam")
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
    assert clean.isprintable()
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
        ("x" * 199 + " y", "x" * 199),
    ],
)
def test_cleaned_names(name: str, clean: str) -> None:
    assert clean_filename(name) == clean
