from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mediagen.media.vips import VipsPool
from tests.infra.process import need
from tests.media import films


@pytest.fixture(scope="session")
def film_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("ffmpeg", "ffprobe")
    return tmp_path_factory.mktemp("films")


@pytest.fixture
def film(film_folder: Path) -> Callable[[str], bytes]:
    """The bytes of a film of ``films.RECIPES``."""
    return lambda name: films.make(film_folder, name).read_bytes()


@pytest.fixture
def pool() -> Iterator[VipsPool]:
    made = VipsPool(2)
    yield made
    made.close()
