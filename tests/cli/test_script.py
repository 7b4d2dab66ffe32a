"""Scripts as people write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mediagen.cli.script import ScriptUnreadable, from_markdown, read_script
from mediagen.compose.request import Composition

TEXT = """# Why we built it

Links expire
after an hour.

## One file

Install it, and it runs.

And it stays.

## The end
"""


def test_markdown_becomes_scenes() -> None:
    film = from_markdown(TEXT)

    assert film["title"] == "Why we built it"
    scenes = [(scene.get("text"), [one["text"] for one in scene.get("overlays", [])]) for scene in film["scenes"]]
    assert scenes == [
        ("Links expire after an hour.", ["Why we built it"]),
        ("Install it, and it runs.", ["One file"]),
        ("And it stays.", []),
        (None, ["The end"]),
    ]
    assert "transition" not in film["scenes"][0]
    assert Composition.model_validate(film).scenes[1].voiceover is True


@pytest.mark.parametrize(
    ("name", "text"), [("a.toml", '[[scenes]]\ntext = "x"\n'), ("a.json", '{"scenes": [{"text": "x"}]}')]
)
def test_toml_and_json_are_taken_as_they_are(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)

    assert read_script(tmp_path / name) == {"scenes": [{"text": "x"}]}


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.toml", b"= nothing", "a.toml"),
        ("a.json", b"[1]", "an object with scenes"),
        ("a.md", b"\xff\xfe\x00", "not UTF-8"),
        ("a.pdf", b"x", ".toml, .json or .md"),
    ],
)
def test_what_is_no_script_is_refused_with_the_reason(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(data)

    with pytest.raises(ScriptUnreadable, match=said):
        read_script(tmp_path / name)


def test_a_script_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ScriptUnreadable, match="No such file"):
        read_script(tmp_path / "none.md")
