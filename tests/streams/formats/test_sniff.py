from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediagen.core.files import FileKind
from mediagen.streams.formats.sniff import SNIFF_BYTES, extension_of, kind_of, media_type_of, possible, sniff
from tests.infra.process import need
from tests.streams.formats.files import avif, box, gif, jpeg, mp4, png, webp
from tests.streams.formats.made import made

MAGIC = [
    (png(), "image/png"),
    (jpeg(), "image/jpeg"),
    (gif(), "image/gif"),
    (webp(), "image/webp"),
    (avif(), "image/avif"),
    (mp4(), "video/mp4"),
    (b"\x00\x00\x00\x14ftypqt  \x00\x00\x00\x00qt  ", "video/quicktime"),
    (b"\x00\x00\x00\x18ftypM4A \x00\x00\x00\x00", "audio/mp4"),
    (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00", "image/heic"),
    (b"\x00\x00\x00\x18ftypmif1\x00\x00\x00\x00", "image/heif"),
    (b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00", "video/mp4"),
    (b"BM\x46\x00\x00\x00\x00\x00\x00\x00\x36\x00\x00\x00\x28\x00\x00\x00", "image/bmp"),
    (b"II*\x00\x08\x00\x00\x00", "image/tiff"),
    (b"MM\x00*\x00\x00\x00\x08", "image/tiff"),
    (b"\x00\x00\x01\x00\x01\x00", "image/x-icon"),
    (b"\xff\x0a\xfa\x1f", "image/jxl"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "image/jxl"),
    (b"RIFF\x00\x10\x00\x00WAVEfmt ", "audio/wav"),
    (b"RIFF\x00\x10\x00\x00AVI LIST", "video/x-msvideo"),
    (b"OggS\x00\x02" + bytes(20) + b"\x01\x1e\x01vorbis", "audio/ogg"),
    (b"OggS\x00\x02" + bytes(20) + b"\x01\x2a\x80theora", "video/ogg"),
    (b"fLaC\x00\x00\x00\x22", "audio/flac"),
    (b"ID3\x04\x00\x00", "audio/mpeg"),
    (b"\xff\xfb\x90\x64\x00", "audio/mpeg"),
    (b"\xff\xf3\x40\xc0\x00", "audio/mpeg"),
    (b"\xff\xf1\x50\x80\x00", "audio/aac"),
    (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x84webm", "video/webm"),
    (b"\x1a\x45\xdf\xa3\xa3\x42\x86\x81\x01\x42\x82\x88matroska", "video/x-matroska"),
    (b"FLV\x01\x05", "video/x-flv"),
    (b"\x00\x00\x01\xba\x44", "video/mpeg"),
    ((b"G" + bytes(187)) * 3, "video/mp2t"),
    (b"WEBVTT\n\n00:00.000 --> 00:01.000\nhello", "text/vtt"),
    (b"\xef\xbb\xbfWEBVTT\n", "text/vtt"),
    (b"1\r\n00:00:01,000 --> 00:00:02,000\r\nhello\r\n", "application/x-subrip"),
    (b"%PDF-1.7\n", "application/pdf"),
    (b"PK\x03\x04\x14\x00", "application/zip"),
    (b"\x1f\x8b\x08\x00", "application/gzip"),
]
MADE = {
    "video.mp4": "video/mp4",
    "first.mp4": "video/mp4",
    "fragments.mp4": "video/mp4",
    "video.mov": "video/quicktime",
    "video.3gp": "video/mp4",
    "sound.m4a": "audio/mp4",
    "sound.mp4": "audio/mp4",
    "fragments.m4a": "audio/mp4",
    "video.webm": "video/webm",
    "both.webm": "video/webm",
    "sound.webm": "audio/webm",
    "video.mkv": "video/x-matroska",
    "sound.mka": "audio/x-matroska",
    "pipe/video.webm": "video/webm",
    "pipe/live.mkv": "video/x-matroska",
    "video.avi": "video/x-msvideo",
    "video.flv": "video/x-flv",
    "video.wmv": "video/x-ms-asf",
    "sound.wma": "audio/x-ms-wma",
    "video.ts": "video/mp2t",
    "video.m2ts": "video/mp2t",
    "video.mpg": "video/mpeg",
    "video.mxf": "application/mxf",
    "video.rm": "application/vnd.rn-realmedia",
    "video.ogv": "video/ogg",
    "video.ivf": "video/x-ivf",
    "sound.ogg": "audio/ogg",
    "sound.opus": "audio/ogg",
    "sound.mp3": "audio/mpeg",
    "sound.flac": "audio/flac",
    "sound.wav": "audio/wav",
    "sound.w64": "audio/x-w64",
    "long.wav": "audio/wav",
    "sound.aiff": "audio/aiff",
    "sound.caf": "audio/x-caf",
    "sound.au": "audio/basic",
    "sound.aac": "audio/aac",
    "sound.ac3": "audio/ac3",
    "image.tiff": "image/tiff",
    "image.avif": "image/avif",
    "image.jp2": "image/jp2",
    "image.jxl": "image/jxl",
    "image.ico": "image/x-icon",
}
KINDS = {"video": FileKind.VIDEO, "sound": FileKind.AUDIO, "image": FileKind.IMAGE}
RARER = [
    (box(b"ftyp", b"heim\0\0\0\0mif1heic"), "image/heic", FileKind.IMAGE),
    (box(b"ftyp", b"hevs\0\0\0\0"), "image/heic", FileKind.IMAGE),
    (box(b"ftyp", b"mif1\0\0\0\0mif1avifmiaf"), "image/avif", FileKind.IMAGE),
    (box(b"ftyp", b"mif1\0\0\0\0miafheic"), "image/heic", FileKind.IMAGE),
    (box(b"ftyp", b"msf1\0\0\0\0hevc"), "image/heic", FileKind.IMAGE),
    (box(b"ftyp", b"jpeg\0\0\0\0mif1"), "image/heif", FileKind.IMAGE),
    (box(b"ftyp", b"crx \0\0\0\1crx isom") + box(b"moov"), "image/x-canon-cr3", FileKind.IMAGE),
    (box(b"ftyp", b"M4B \0\0\0\0"), "audio/mp4", FileKind.AUDIO),
    (box(b"styp", b"msdh\0\0\0\0msdh") + box(b"moof", bytes(80)), "video/mp4", FileKind.VIDEO),
    (box(b"sidx", bytes(40)) + box(b"moof"), "video/mp4", FileKind.VIDEO),
    (box(b"moov", box(b"mvhd", bytes(100))), "video/quicktime", FileKind.VIDEO),
    (box(b"wide") + box(b"mdat", bytes(9)), "video/quicktime", FileKind.VIDEO),
    (bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") + bytes(500), "video/x-ms-asf", FileKind.VIDEO),
    (b"#!AMR\n\x3c", "audio/amr", FileKind.AUDIO),
    (b"#!AMR-WB\n\x04", "audio/amr-wb", FileKind.AUDIO),
    (b"BW64\xff\xff\xff\xffWAVEds64", "audio/wav", FileKind.AUDIO),
    (b"FORM\0\0\1\0AIFCFVER", "audio/aiff", FileKind.AUDIO),
    (b"8BPS\0\1", "image/vnd.adobe.photoshop", FileKind.IMAGE),
    (b"II+\0\x08\0\0\0", "image/tiff", FileKind.IMAGE),
    (b"MM\0+\0\x08\0\0", "image/tiff", FileKind.IMAGE),
    (b"II*\0\x10\0\0\0CR\2\0", "image/x-canon-cr2", FileKind.IMAGE),
    (b"\xff\x4f\xff\x51\0", "image/x-j2c", FileKind.IMAGE),
    (b".ra\xfd\0\3", "audio/x-pn-realaudio", FileKind.AUDIO),
    ((b"G" + bytes(203)) * 3, "video/mp2t", FileKind.VIDEO),
]


@pytest.mark.parametrize("name", MADE)
def test_files_of_a_real_program_are_told(name: str) -> None:
    need("ffmpeg")
    head = made(name)[:SNIFF_BYTES]

    assert media_type_of(head) == MADE[name]
    if (stem := name.removeprefix("pipe/").partition(".")[0]) in KINDS:
        assert kind_of(MADE[name]) is KINDS[stem]


@pytest.mark.parametrize(("head", "media_type", "kind"), RARER)
def test_rarer_brands_and_formats(head: bytes, media_type: str, kind: FileKind) -> None:
    assert sniff(head) == media_type
    assert kind_of(media_type) is kind


def _trak(handler: bytes) -> bytes:
    return box(b"trak", box(b"tkhd", bytes(84)) + box(b"mdia", box(b"hdlr", bytes(8) + handler + bytes(13))))


ISOM = box(b"ftyp", b"isom\0\0\2\0isomiso2mp41")


@pytest.mark.parametrize(
    ("head", "declared", "filename", "wanted", "media_type"),
    [
        # the tracks are there: nothing is left to decide
        (ISOM + box(b"moov", _trak(b"soun")), "video/mp4", "a.mp4", FileKind.VIDEO, "audio/mp4"),
        (ISOM + box(b"moov", _trak(b"soun") + _trak(b"vide")), "audio/mp4", "a.m4a", FileKind.AUDIO, "video/mp4"),
        # they come later, or are cut off: a claim decides between what the bytes allow
        (ISOM + box(b"mdat", bytes(99)), "audio/mp4", "", None, "audio/mp4"),
        (ISOM + box(b"mdat", bytes(99)), "audio/x-m4a; x=y", "", None, "audio/mp4"),
        (ISOM + box(b"mdat", bytes(99)), "application/octet-stream", "song.m4a", None, "audio/mp4"),
        (ISOM + box(b"mdat", bytes(99)), None, "", FileKind.AUDIO, "audio/mp4"),
        (ISOM + box(b"mdat", bytes(99)), "image/png", "a.png", FileKind.IMAGE, "video/mp4"),
        (ISOM + box(b"mdat", bytes(99)), None, "", None, "video/mp4"),
        (ISOM + box(b"moov", _trak(b"soun") + bytes(99))[:-50], None, "", None, "video/mp4"),
        (ISOM + box(b"moov", _trak(b"soun") + bytes(99))[:-50], "audio/mp4", "", None, "audio/mp4"),
        (b"\x1a\x45\xdf\xa3\x87\x42\x82\x84webm" + bytes(30), "audio/webm;codecs=opus", "", None, "audio/webm"),
        (b"\x1a\x45\xdf\xa3\x87\x42\x82\x84webm" + bytes(30), None, "a.weba", None, "audio/webm"),
        (b"\x1a\x45\xdf\xa3\x8b\x42\x82\x88matroska", "audio/x-matroska", "", None, "audio/x-matroska"),
        (b"\x1a\x45\xdf\xa3\x8b\x42\x82\x88matroska", "text/html", "", None, "video/x-matroska"),
    ],
)
def test_what_is_declared_decides_between_what_the_bytes_allow(
    head: bytes, declared: str | None, filename: str, wanted: FileKind | None, media_type: str
) -> None:
    assert media_type_of(head, declared=declared, filename=filename, wanted=wanted) == media_type
    assert media_type in possible(head)


HTML = [
    b"<!DOCTYPE html><html></html>",
    b"\n\t <HTML lang=en>",
    b"\xef\xbb\xbf<!doctype  html>",
    b"<!-- a --> <!-- b -->\n<html>",
    b"<?xml version='1.0'?><!DOCTYPE html><html>",
    b"<script>alert(1)</script>",
    b"<title>Sign in</title>",
    b"<meta charset=utf-8>",
    b"<img/src=x onerror=alert(1)>",
    b"<a href=x>",
    b"<!-- " + b"x" * SNIFF_BYTES,
]
SVG = [
    b"<svg xmlns='http://www.w3.org/2000/svg'>",
    b"<?xml version='1.0' encoding='UTF-8'?>\n<!-- made by hand -->\n<svg>",
    b"\xef\xbb\xbf<!DOCTYPE svg PUBLIC '-//W3C//DTD SVG 1.1//EN' 'svg11.dtd'><svg onload=alert(1)>",
    b"<svg/onload=alert(1)>",
    b"<!DOCTYPE svg PUBLIC '-//W3C//DTD SVG 1.1//EN' 'x.dtd' [ <!ENTITY ns '>]'> <!ATTLIST svg a CDATA 'b'> ]>\n<svg>",
    b"<?xml version='1.0'?><?xml-stylesheet href='a.css'?><!-- a --><!DOCTYPE svg><!-- b --><svg xmlns=''>",
    b"<?xml version='1.0'?><svg:svg xmlns:svg='http://www.w3.org/2000/svg'>",
]
SAYS_NOTHING = [
    b"",
    b"\xff",
    b"\xff\xfe",
    b"hello",
    b"BMW is a car, and this is a text about it",
    "Grüße".encode("utf-16"),
    b"<3 is a heart",
    b"<password>",
    b"{}",
    b"RIFF\x00\x00\x00\x00ABCD",
    bytes(64),
    b"\xff\xff\xff\xff",
]


@pytest.mark.parametrize(("head", "media_type"), MAGIC)
def test_bytes_tell_what_they_are_whatever_is_declared(head: bytes, media_type: str) -> None:
    assert sniff(head) == media_type
    for declared in ("text/html", "image/svg+xml", "application/octet-stream", "nonsense", None):
        assert media_type_of(head, declared=declared, filename="page.txt") == media_type


@pytest.mark.parametrize("page", HTML)
def test_a_page_is_a_page_whatever_it_claims_to_be(page: bytes) -> None:
    assert media_type_of(page, declared="image/png", filename="image.png") == "text/html"
    assert kind_of(media_type_of(page, declared="video/mp4")) is FileKind.OTHER


@pytest.mark.parametrize("image", SVG)
def test_svg_is_svg_whatever_it_claims_to_be(image: bytes) -> None:
    assert media_type_of(image, declared="image/png", filename="image.png") == "image/svg+xml"


def test_other_markup_is_xml() -> None:
    assert sniff(b"<?xml version='1.0'?><MPD/>") == "application/xml"


@pytest.mark.parametrize("head", SAYS_NOTHING)
def test_bytes_that_say_nothing_leave_it_to_what_is_declared_then_to_the_name(head: bytes) -> None:
    assert sniff(head) is None
    assert media_type_of(head, declared="Application/JSON; charset=utf-8") == "application/json"
    assert media_type_of(head, declared="text/css", filename="a.mp4") == "text/css"
    assert media_type_of(head, declared="binary/octet-stream", filename="A.MP4") == "video/mp4"
    assert media_type_of(head, declared=None, filename="a.mp3") == "audio/mpeg"
    assert media_type_of(head) == "application/octet-stream"


@pytest.mark.parametrize("declared", ["", ";", "text", "a/b/c", "text/ht ml", "text/\r\nx: y", "x" * 5000, "é/è"])
def test_a_declared_type_that_is_none_is_not_kept(declared: str) -> None:
    assert media_type_of(b"hello", declared=declared, filename="x.bin") == "application/octet-stream"


def test_a_claimed_image_that_its_name_contradicts_is_what_the_name_says() -> None:
    assert media_type_of(b"hello", declared="image/png", filename="x.txt") == "text/plain"


@given(st.binary(max_size=SNIFF_BYTES), st.text(max_size=20), st.text(max_size=20))
def test_any_bytes_give_a_media_type_that_can_be_a_header(head: bytes, declared: str, filename: str) -> None:
    media_type = media_type_of(head, declared=declared, filename=filename)

    assert re.fullmatch(r"[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+", media_type)
    assert isinstance(kind_of(media_type), FileKind)
    assert re.fullmatch(r"(\.[a-z0-9]+)?", extension_of(media_type))


@pytest.mark.parametrize(
    "hostile",
    [
        b"<!---->" * 585,
        b"<!-- --> \n" * 409 + b"<",
        b" " * SNIFF_BYTES,
        b"\n" * 2000 + b"1" * 2000,
        b"<?xml " * 680,
        b"<?xml>" + b"<!DOCTYPE svg" * 300,
        b"1" * SNIFF_BYTES,
        b"<!DOCTYPE svg [" + b"'x'" * 1300,
        b"<?x>" * 1000,
        b"\x1a\x45\xdf\xa3\x80" * 800,
        b"\0\0\0\x08ftyp" * 500,
        b"<!--" * 1024,
    ],
)
def test_no_page_takes_more_time_than_its_length(hostile: bytes) -> None:
    began = time.process_time()
    sniff(hostile[:SNIFF_BYTES])

    # a pattern that tries all ways would take longer than the universe has
    assert time.process_time() - began < 1.0


@pytest.mark.parametrize(
    ("media_type", "kind", "extension"),
    [
        ("image/png", FileKind.IMAGE, ".png"),
        ("image/jpeg", FileKind.IMAGE, ".jpg"),
        ("video/mp4", FileKind.VIDEO, ".mp4"),
        ("audio/mpeg", FileKind.AUDIO, ".mp3"),
        ("text/vtt", FileKind.SUBTITLE, ".vtt"),
        ("application/x-subrip", FileKind.SUBTITLE, ".srt"),
        ("application/json", FileKind.OTHER, ".json"),
        ("application/octet-stream", FileKind.OTHER, ""),
        ("text/html", FileKind.OTHER, ".html"),
    ],
)
def test_kinds_and_extensions(media_type: str, kind: FileKind, extension: str) -> None:
    assert (kind_of(media_type), extension_of(media_type)) == (kind, extension)
