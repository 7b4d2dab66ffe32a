"""Files have the width, height and duration that their heads say, whichever way they came."""

from __future__ import annotations

from typing import Any

import pytest

from mediagen.pipelines.saving.saver import RANGES_FROM
from mediagen.streams.base import MIB
from tests.infra.process import need
from tests.infra.resource import Resource
from tests.infra.servers.source import SourceServer
from tests.pipelines.conftest import Recipe
from tests.streams.formats.files import box, png
from tests.streams.formats.made import made


@pytest.mark.parametrize("changes", [{}, {"ranges": "no"}, {"ranges": "no", "framing": "chunked"}], ids=str)
@pytest.mark.parametrize("name", ["video.mp4", "video.webm", "sound.opus", "image.jpg"])
async def test_a_file_that_comes_in_order(
    recipe: Recipe, source: SourceServer, name: str, changes: dict[str, Any]
) -> None:
    need("ffmpeg")

    file = await recipe.run(source.add("/x", Resource(body=made(name), **changes)))

    frame = (None, None) if name.startswith("sound") else (96, 64)
    assert (file.width, file.height) == frame
    assert file.duration_seconds == (None if name.startswith("image") else pytest.approx(2.0, abs=0.05))


@pytest.mark.parametrize("name", ["video.mp4", "video.mov"])
async def test_a_film_in_parallel_parts_with_its_index_in_the_last_one(
    recipe: Recipe, source: SourceServer, name: str
) -> None:
    need("ffmpeg")
    film = made(name)
    first = int.from_bytes(film[:4], "big")
    film = film[:first] + box(b"free", bytes(RANGES_FROM + 3 * MIB)) + film[first:]

    file = await recipe.run(source.add("/x", Resource(body=film)))

    assert file.sha256 is None  # its bytes came in no order
    assert (file.width, file.height) == (96, 64)
    assert file.duration_seconds == pytest.approx(2.0, abs=0.05)


async def test_what_only_claims_to_be_a_picture_has_no_size(recipe: Recipe, source: SourceServer) -> None:
    file = await recipe.run(source.add("/x", Resource(body=b"x" + png(), media_type="image/png")))

    assert (file.width, file.height) == (None, None)
