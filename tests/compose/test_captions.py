"""Captions: cards that can be read, at the times of the voice, in both formats."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mediagen.compose.captions import Card, Word, cards_of, reading_seconds, srt, timed_words, webvtt


def fits(line: str) -> bool:
    return len(line) <= 20


def cards(text: str, seconds: float = 10.0) -> list[Card]:
    return cards_of(text, timed_words(text, seconds), fits=fits)


def test_cards_end_with_sentences_and_lines_are_balanced() -> None:
    assert [card.text for card in cards("One two three four five six. Seven.")] == [
        "One two three\nfour five six.",
        "Seven.",
    ]


def test_a_line_never_begins_with_punctuation() -> None:
    assert [card.text for card in cards("aaaaaaaaaaaaaaaaaaaa , bb")] == ["aaaaaaaaaaaaaaaaaaaa ,\nbb"]


def test_a_language_without_spaces_is_cut_by_characters() -> None:
    text = "我们的故事从一片开阔的平原开始清晨的第一缕阳光照在高高的草地上"

    lines = [line for card in cards(text) for line in card.text.split("\n")]

    assert "".join(lines) == text
    assert all(fits(line) for line in lines)


def test_words_begin_when_the_voice_says_them() -> None:
    text = "Our story begins here"

    words = timed_words(text, 4.0, [(0.0, 0), (0.5, 4), (2.5, 17)])

    assert [(word.text, round(word.start, 2)) for word in words][:2] == [("Our", 0.0), ("story", 0.5)]
    assert 0.5 < words[2].start < 2.5
    assert words[3] == Word("here", 2.5, 4.0)


@given(
    st.text(max_size=300), st.floats(0.2, 60), st.lists(st.tuples(st.floats(-1, 70), st.integers(-5, 400)), max_size=30)
)
def test_every_word_is_shown_once_and_time_never_goes_back(
    text: str, seconds: float, spoken: list[tuple[float, int]]
) -> None:
    words = timed_words(text, seconds, spoken)
    shown = cards_of(text, words, fits=fits)

    assert "".join(word.text for card in shown for word in card.words) == "".join(text.split())
    starts = [card.start for card in shown]
    assert starts == sorted(starts)
    assert all(card.start <= card.end for card in shown)
    assert all(0 <= word.start <= word.end <= seconds + 1e-6 for word in words)


def test_srt_and_webvtt() -> None:
    shown = [
        Card(((Word("a<b>", 0, 1), Word("&", 1, 1.5)),), 0.0, 1.5),
        Card(((Word("c", 1.5, 3661.25),),), 1.5, 3661.25),
    ]

    assert srt(shown) == "1\n00:00:00,000 --> 00:00:01,500\na<b> &\n\n2\n00:00:01,500 --> 01:01:01,250\nc\n"
    assert webvtt(shown) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\na&lt;b&gt; &amp;\n\n00:00:01.500 --> 01:01:01.250\nc\n"
    )


def test_longer_texts_take_longer_to_read() -> None:
    assert (
        reading_seconds("Hi") < reading_seconds("A sentence of several words to be read") < reading_seconds("字" * 200)
    )
