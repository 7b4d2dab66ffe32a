from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mediagen.media.vips import VipsPool
from tests.infra.process import need
from tests.media import videos


@pytest.fixture(scope="session")
def video_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("ffmpeg", "ffprobe")
    return tmp_path_factory.mktemp("videos")


@pytest.fixture
def video(video_folder: Path) -> Callable[[str], bytes]:
    """The bytes of a video of ``videos.RECIPES``."""
    return lambda name: videos.make(video_folder, name).read_bytes()


@pytest.fixture
def pool() -> Iterator[VipsPool]:
    made = VipsPool(2)
    yield made
    made.close()
