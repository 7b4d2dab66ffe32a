"""Captions: a text cut into cards that can be read, with their times, and as SRT and WebVTT.

Cards are cut at sentences first, then where words fit, measured by the caller with the font that draws them. Times come
from the voice where it gives a time for each word; else they are shared out by how long a word takes to say.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

_SENTENCE: Final = re.compile(r"(?<=[.!?\u2026\u3002\uff01\uff1f])[\"'\u201d\u2019)\]]*\s+|\n+")
_NO_START: Final = re.compile(r"^[,.;:!?\u2026)\]}\u00bb\u201d\u2019%\u3002\uff0c\u3001\uff01\uff1f\uff1a\uff1b]")
WORDS_PER_SECOND: Final = 2.6
_LEAST_SECONDS: Final = 1.4
_PAUSE: Final = 0.35
"""What a sentence's end takes, in seconds of the reading time."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word and when it is said, in seconds from the beginning of its scene's voice."""

    text: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Card:
    """What stands on the screen at one time: words on lines."""

    lines: tuple[tuple[Word, ...], ...]
    start: float
    end: float

    @property
    def words(self) -> tuple[Word, ...]:
        return tuple(word for line in self.lines for word in line)

    @property
    def text(self) -> str:
        return "\n".join(" ".join(word.text for word in line) for line in self.lines)


def reading_seconds(text: str) -> float:
    """How long a text should stand to be read: by its words, or by its characters where it has no spaces."""
    words = max(len(text.split()), len(text) / 14)
    return max(_LEAST_SECONDS, 0.5 + words / WORDS_PER_SECOND)


def timed_words(text: str, seconds: float, spoken: Sequence[tuple[float, int]] = ()) -> list[Word]:
    """The words of ``text`` over ``seconds``.

    ``spoken``: when the voice began a word, in seconds, and the place of that word in ``text``. Between two that are
    known, time is shared out by how long a word takes to say.
    """
    found = list(re.finditer(r"\S+", text))
    if not found:
        return []
    known: dict[int, float] = {0: 0.0}
    for start, place in sorted(spoken):
        index = next((number for number, word in enumerate(found) if word.start() <= place < word.end()), None)
        if index is not None and index not in known and start >= max(known.values()) and index > max(known):
            known[index] = min(start, seconds)
    starts: list[float] = []
    marks = [*known.items(), (len(found), seconds)]
    for (first, begins), (last, ends) in pairwise(marks):
        weights = [_weight(word[0]) for word in found[first:last]]
        passed = begins
        for weight in weights:
            starts.append(passed)
            passed += weight * (ends - begins) / sum(weights)
    ends_at = [*starts[1:], seconds]
    return [Word(word[0], start, max(start, end)) for word, start, end in zip(found, starts, ends_at, strict=True)]


def _weight(word: str) -> float:
    """How long a word takes to say, against others: its vowels and consonants, and the pause behind it."""
    weight = 1.0 + 0.35 * len(word)
    if re.search(r"[.!?…]$", word):
        weight += 2.0
    elif re.search(r"[,;:\u2013\u2014]$", word):
        weight += 1.0
    return weight


def cards_of(
    text: str,
    words: Sequence[Word],
    *,
    fits: Callable[[str], bool],
    max_lines: int = 2,
    end: float | None = None,
) -> list[Card]:
    """The cards for ``words``, which are those of ``text``. ``fits``: whether a line is narrow enough.

    ``end``: until when the last card stands.
    """
    cards: list[Card] = []
    place = 0
    for sentence in _SENTENCE.split(text):
        count = len(sentence.split())
        part = list(words[place : place + count])
        place += count
        lines = _lines(part, fits)
        for first in range(0, len(lines), max_lines):
            chunk = _balanced(lines[first : first + max_lines], fits)
            cards.append(Card(tuple(tuple(line) for line in chunk), chunk[0][0].start, chunk[-1][-1].end))
    if not cards:
        return []
    ends = [*(card.start for card in cards[1:]), cards[-1].end if end is None else end]
    return [Card(card.lines, card.start, max(until, card.start)) for card, until in zip(cards, ends, strict=True)]


def _lines(words: list[Word], fits: Callable[[str], bool]) -> list[list[Word]]:
    lines: list[list[Word]] = []
    for word in (piece for whole in words for piece in _broken(whole, fits)):
        if lines and (fits(_joined([*lines[-1], word])) or _NO_START.match(word.text)):
            lines[-1].append(word)
        else:
            lines.append([word])
    return lines


def _broken(word: Word, fits: Callable[[str], bool]) -> list[Word]:
    """A word that is wider than a line, cut by characters; languages without spaces come as one such word."""
    if fits(word.text) or len(word.text) < 2:
        return [word]
    pieces, rest = [], word.text
    while rest:
        count = next((size for size in range(len(rest), 1, -1) if fits(rest[:size])), 1)
        pieces.append(rest[:count])
        rest = rest[count:]
    step = (word.end - word.start) / len(word.text)
    cut, at = [], word.start
    for piece in pieces:
        cut.append(Word(piece, at, at + step * len(piece)))
        at += step * len(piece)
    return cut


def _balanced(lines: list[list[Word]], fits: Callable[[str], bool]) -> list[list[Word]]:
    """Two lines of about equal length instead of a long one and a single word."""
    if len(lines) != 2:
        return lines
    words = [*lines[0], *lines[1]]
    best = lines
    for at in range(1, len(words)):
        first, second = words[:at], words[at:]
        if _NO_START.match(second[0].text) or not (fits(_joined(first)) and fits(_joined(second))):
            continue
        if _unevenness([first, second]) < _unevenness(best):
            best = [first, second]
    return best


def _unevenness(lines: list[list[Word]]) -> int:
    return abs(len(_joined(lines[0])) - len(_joined(lines[1])))


def _joined(words: Sequence[Word]) -> str:
    return " ".join(word.text for word in words)


def srt(cards: Sequence[Card]) -> str:
    """SubRip text."""
    blocks = (
        f"{number}\n{_stamp(card.start, ',')} --> {_stamp(card.end, ',')}\n{card.text}\n"
        for number, card in enumerate(cards, 1)
    )
    return "\n".join(blocks)


def webvtt(cards: Sequence[Card]) -> str:
    """WebVTT text (W3C WebVTT, section 4): ``&``, ``<`` and ``>`` are escaped, so no word is read as markup."""
    blocks = (
        f"{_stamp(card.start, '.')} --> {_stamp(card.end, '.')}\n{html.escape(card.text, quote=False)}\n"
        for card in cards
    )
    return "WEBVTT\n\n" + "\n".join(blocks)


def _stamp(seconds: float, point: str) -> str:
    whole = max(0, round(seconds * 1000))
    return f"{whole // 3_600_000:02}:{whole // 60_000 % 60:02}:{whole // 1000 % 60:02}{point}{whole % 1000:03}"
