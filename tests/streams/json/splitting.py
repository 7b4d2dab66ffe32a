"""Bytes cut into pieces as a network would."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from hypothesis import strategies as st


def split_at(data: bytes, borders: Iterable[int]) -> list[bytes]:
    """``data`` cut at these offsets; empty pieces among them when offsets repeat."""
    cuts = [0, *sorted(borders), len(data)]
    return [data[start:stop] for start, stop in pairwise(cuts)]


def splits(data: bytes) -> st.SearchStrategy[list[bytes]]:
    """Any way to cut ``data``, one byte at a time included."""
    return st.one_of(
        st.lists(st.integers(0, len(data)), max_size=8).map(lambda borders: split_at(data, borders)),
        st.just([data[at : at + 1] for at in range(len(data))]),
    )
