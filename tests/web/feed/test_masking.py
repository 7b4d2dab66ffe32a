from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mediagen.web.feed.masking import MaskCheck

SIZES = st.sampled_from([0, 1, 5, 125, 126, 300, 65_535, 65_536])


def frame(size: int, *, masked: bool = True) -> bytes:
    head = bytes([0x81, masked << 7 | (size if size < 126 else 126 if size < 1 << 16 else 127)])
    if size >= 126:
        head += size.to_bytes(2 if size < 1 << 16 else 8)
    return head + bytes(4 * masked) + bytes(size)


def passes(check: MaskCheck, data: bytes, cuts: list[int]) -> bool:
    at, passed = 0, True
    for cut in (*sorted(cut % (len(data) + 1) for cut in cuts), len(data)):
        passed = check.passes(data[at:cut])
        at = cut
    return passed


@given(st.lists(SIZES, max_size=6), st.lists(st.integers(0, 1 << 20), max_size=8))
def test_masked_frames_pass_however_they_are_cut(sizes: list[int], cuts: list[int]) -> None:
    assert passes(MaskCheck(), b"".join(map(frame, sizes)), cuts)


@given(st.lists(SIZES, max_size=4), SIZES, st.lists(st.integers(0, 1 << 20), max_size=8))
def test_one_that_is_not_masked_is_the_end(before: list[int], size: int, cuts: list[int]) -> None:
    check = MaskCheck()

    assert not passes(check, b"".join(map(frame, before)) + frame(size, masked=False), cuts)
    assert not check.passes(frame(1))


def test_a_frame_is_judged_by_its_second_byte() -> None:
    check = MaskCheck()

    assert check.passes(b"\x81")
    assert not check.passes(b"\x05")
