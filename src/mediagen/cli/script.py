"""Scripts of films as people write them: TOML, JSON, or Markdown, one heading or paragraph a scene."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any, Final

_HEADING: Final = re.compile(r"^ {0,3}(#{1,6})\s+(.*?)\s*#*\s*$")
_TRANSITION: Final = {"type": "crossfade", "duration": 0.5}


class ScriptUnreadable(Exception):
    """The file is no script; the text says why."""


def read_script(path: Path) -> dict[str, Any]:
    """The request that a script stands for. Raises ScriptUnreadable."""
    try:
        text = path.read_text("utf-8")
    except OSError as exc:
        raise ScriptUnreadable(f"{path}: {exc.strerror}") from None
    except UnicodeDecodeError:
        raise ScriptUnreadable(f"{path}: not UTF-8 text") from None
    try:
        match path.suffix.lower():
            case ".json":
                document = json.loads(text)
            case ".toml":
                document = tomllib.loads(text)
            case ".md" | ".markdown" | ".txt":
                document = from_markdown(text)
            case other:
                raise ScriptUnreadable(f"{path}: a script is .toml, .json or .md, not {other or 'without a suffix'}")
    except ValueError as exc:
        raise ScriptUnreadable(f"{path}: {exc}") from None
    if not isinstance(document, dict):
        raise ScriptUnreadable(f"{path}: a script is an object with scenes")
    return document


def from_markdown(text: str) -> dict[str, Any]:
    """A film of a Markdown text.

    The first heading names the film. A heading becomes the title of the scene of the paragraph below it; each further
    paragraph is a scene of its own. Paragraphs are spoken and stand as captions.
    """
    scenes: list[dict[str, Any]] = []
    title, heading = None, None
    for block in re.split(r"\n\s*\n", text.replace("\r\n", "\n")):
        lines = block.strip("\n").split("\n")
        while lines and (found := _HEADING.match(lines[0])):
            if heading is not None:
                scenes.append(_scene("", heading))
            heading = found[2]
            title = title or heading
            lines = lines[1:]
        spoken = " ".join(line.strip() for line in lines).strip()
        if spoken:
            scenes.append(_scene(spoken, heading))
            heading = None
    if heading is not None:
        scenes.append(_scene("", heading))
    for scene in scenes[1:]:
        scene["transition"] = dict(_TRANSITION)
    return {"scenes": scenes, **({"title": title} if title else {})}


def _scene(text: str, heading: str | None) -> dict[str, Any]:
    scene: dict[str, Any] = {"background": {"type": "gradient", "motion": "zoom_in"}}
    if text:
        scene |= {"text": text, "voiceover": True}
    if heading:
        scene["overlays"] = [{"text": heading[:200]}]
    return scene
