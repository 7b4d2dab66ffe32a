"""Where the formats of sounds say how long they last; Ogg holds videos too."""

from __future__ import annotations

from typing import Final

from mediagen.streams.formats.dimensions import SIZE, TAIL, ByteRequest, Dimensions, HeadParser, be, le


def wav(shape: Dimensions) -> HeadParser:
    """The bytes of the sound by those of a second; where the first are not filled in, all up to the end."""
    at, rate, long_size = 12, 0, 0
    while True:
        head = yield ByteRequest(at, 8)
        size = le(head[4:])
        if head[:4] == b"ds64":
            long_size = le((yield ByteRequest(at + 16, 8)))
        elif head[:4] == b"fmt ":
            rate = le((yield ByteRequest(at + 16, 4)))
        elif head[:4] == b"data":
            break
        at += 8 + size + size % 2
    yield SIZE
    left = shape.size - at - 8
    size = long_size if size == 0xFFFFFFFF and long_size else size
    shape.set_duration(size if 0 < size <= left else left, rate)


def aiff(shape: Dimensions) -> HeadParser:
    at = 12
    while True:
        head = yield ByteRequest(at, 8)
        size = be(head[4:])
        if head[:4] == b"COMM":
            data = yield ByteRequest(at + 10, 16)
            exponent, mantissa = be(data[6:8]) & 0x7FFF, be(data[8:16])
            shape.set_duration(be(data[:4]), mantissa * 2.0 ** (exponent - 16446))
            return
        at += 8 + size + size % 2


def flac(shape: Dimensions) -> HeadParser:
    """STREAMINFO (RFC 9639)."""
    data = yield ByteRequest(18, 8)
    bits = be(data)
    shape.set_duration(bits & 0xFFFFFFFFF, bits >> 44)


_RATES: Final = ((11_025, 12_000, 8_000), (0, 0, 0), (22_050, 24_000, 16_000), (44_100, 48_000, 32_000))
_BITRATES: Final = {
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),
}
_LOOKED_AT: Final = 16


def mp3(shape: Dimensions) -> HeadParser:
    """The number of frames in the first one (Xing, Info, VBRI); else, where all are alike, the bit rate."""
    at = 0
    while (head := (yield ByteRequest(at, 10)))[:3] == b"ID3":
        length = (head[6] & 127) << 21 | (head[7] & 127) << 14 | (head[8] & 127) << 7 | head[9] & 127
        at += 10 + length + (10 if head[5] & 16 else 0)
    start, rates = at, set[int]()
    for number in range(_LOOKED_AT):
        head = yield ByteRequest(at, 4)
        if head[0] != 0xFF or head[1] & 0xE6 != 0xE2:  # layer III
            return
        version, bitrate, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
        hertz = 0 if rate == 3 else _RATES[version][rate]
        kilobits = _BITRATES[3 if version == 3 else 2][bitrate]
        if not hertz or not kilobits:
            return
        samples = 1152 if version == 3 else 576
        if number == 0:
            mono = head[3] >> 6 == 3
            side = ((17 if mono else 32) if version == 3 else (9 if mono else 17)) + (0 if head[1] & 1 else 2)
            first = yield ByteRequest(at + 4, 4 + 32 + 18)
            tag = first[side : side + 4]
            if tag in (b"Xing", b"Info") and first[side + 7] & 1:
                shape.set_duration(be(first[side + 8 : side + 12]) * samples, hertz)
                return
            if first[32:36] == b"VBRI":
                shape.set_duration(be(first[46:50]) * samples, hertz)
                return
        rates.add(kilobits)
        at += samples // 8 * kilobits * 1000 // hertz + (head[2] >> 1 & 1)
    if len(rates) == 1:
        yield SIZE
        shape.set_duration((shape.size - start) * 8, rates.pop() * 1000)


def ogg(shape: Dimensions) -> HeadParser:
    """The position in the last page of a stream, in the units of its codec (RFC 3533, 7845; Vorbis I, Theora)."""
    head = yield ByteRequest(0, 27)
    serial, count = head[14:18], head[26]
    packet = yield ByteRequest(27 + count, 64)
    per_second, skipped, shift = 0.0, 0, 0
    if packet[1:7] == b"vorbis":
        per_second = le(packet[12:16])
    elif packet[:8] == b"OpusHead":
        per_second, skipped = 48_000.0, le(packet[10:12])
    elif packet[1:5] == b"FLAC":
        per_second = be(packet[27:30]) >> 4
    elif packet[:8] == b"Speex   ":
        per_second = le(packet[36:40])
    elif packet[1:7] == b"theora":
        shape.set_size(be(packet[14:17]), be(packet[17:20]))
        per_second = be(packet[22:26]) / max(1, be(packet[26:30]))
        shift = be(packet[40:42]) >> 5 & 31
    tail = yield TAIL
    at = len(tail)
    while (at := tail.rfind(b"OggS", 0, at)) >= 0:
        page = tail[at : at + 27]
        granule = le(page[6:14])
        if len(page) == 27 and page[14:18] == serial and granule != 0xFFFFFFFFFFFFFFFF:
            frames = (granule >> shift) + (granule & (1 << shift) - 1) if shift else granule - skipped
            shape.set_duration(frames, per_second)
            return
