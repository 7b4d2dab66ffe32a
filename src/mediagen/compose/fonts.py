"""Fonts: those that come with mediagen, those in the stock folder, those of the system; which texts they can draw.

A character that no font has would be drawn as an empty box. So characters are looked up before anything is drawn.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from mediagen.compose.field_errors import error_at
from mediagen.core.errors import Unavailable

DEFAULT: Final = "Manrope"
_SUFFIXES: Final = frozenset({".ttf", ".otf", ".ttc"})
_SYSTEM: Final = (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"))
_MOST_FILES: Final = 4000


@dataclass(frozen=True, slots=True)
class Face:
    """A font as Pango wants it: family and weight, and the file that holds it."""

    family: str
    file: Path


class Fonts:
    """The fonts of this server. ``folder``: where operators put their own. Reading a font blocks."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def face(self, name: str | None, field: str, *, bold: bool = True) -> Face:
        """The font of this name. Raises InvalidRequest naming ``field`` when there is none."""
        if name is None or name == DEFAULT:
            weight = "ExtraBold" if bold else "SemiBold"
            return Face(f"{DEFAULT} {weight}", _shipped(weight))
        for path in _font_files([self._folder]):
            if name in (path.stem, path.name):
                family, _ = _read(path, path.stat().st_mtime_ns)
                return Face(family, path)
        raise error_at(field, f"there is no font {name!r} in the stock folder")

    def missing(self, text: str, face: Face) -> str:
        """The characters of ``text`` that neither the font nor one of the system's can draw."""
        wanted = {char for char in text if not _invisible(char)}
        wanted -= _characters(face.file)
        if wanted:
            for path in _font_files(_SYSTEM):
                wanted -= _characters(path)
                if not wanted:
                    break
        return "".join(sorted(wanted))


def _shipped(weight: str) -> Path:
    spec = find_spec("font_manrope")
    if spec is None or spec.origin is None:
        raise Unavailable("the fonts that come with mediagen are not installed")
    return Path(spec.origin).with_name("files") / f"Manrope-{weight}.ttf"


def _font_files(folders: Iterable[Path]) -> Iterator[Path]:
    count = 0
    for folder in folders:
        if not folder.is_dir():
            continue
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in _SUFFIXES and path.is_file():
                count += 1
                if count > _MOST_FILES:
                    return
                yield path


def _characters(path: Path) -> frozenset[str]:
    return _read(path, path.stat().st_mtime_ns)[1]


@lru_cache(maxsize=512)
def _read(path: Path, _modified: int) -> tuple[str, frozenset[str]]:
    """Family and characters of a font file; no characters when it is damaged."""
    from fontTools.ttLib import TTFont, TTLibError  # type: ignore[import-untyped] # it ships no types

    try:
        with TTFont(path, lazy=True, fontNumber=0) as font:
            family = font["name"].getBestFamilyName() or path.stem
            return family, frozenset(map(chr, font.getBestCmap() or {}))
    except (TTLibError, OSError, KeyError):
        return path.stem, frozenset()


def _invisible(char: str) -> bool:
    return char.isspace() or unicodedata.category(char) in {"Cc", "Cf", "Mn"}
