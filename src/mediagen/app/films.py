"""What makes films: the cache, the fonts, the voice, the planner and the maker."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from mediagen.app.stores import Stores
from mediagen.compose.assets import Library, Preparer
from mediagen.compose.cache import ContentCache
from mediagen.compose.film import FilmMaker
from mediagen.compose.fonts import Fonts
from mediagen.compose.pipeline import CompositionPipeline
from mediagen.compose.plan import Planner
from mediagen.compose.voices import EmbeddedVoice
from mediagen.media.image_decoder import ImageDecoder
from mediagen.media.vips import VipsPool
from mediagen.pipelines.saving.saver import Saver
from mediagen.settings import Settings

CACHE_DIRECTORY: Final = "cache/compose"
WORK_DIRECTORY: Final = "work/compose"
FONT_DIRECTORY: Final = "stock/fonts"


async def open_films(settings: Settings, stores: Stores, stack: AsyncExitStack) -> CompositionPipeline:
    """The pipeline of compositions. What a dead process left half-made is removed."""
    data_dir = settings.data_dir.absolute()  # child processes run in another directory
    cache = ContentCache(data_dir / CACHE_DIRECTORY, settings.compose.cache_bytes)
    work = data_dir / WORK_DIRECTORY
    await asyncio.to_thread(_sweep, cache, work)
    pool = VipsPool()
    stack.callback(pool.close)
    decoder = ImageDecoder(settings.limits.decoding)
    await stack.enter_async_context(decoder.running())
    preparer = Preparer(cache, Library(stores.files, stores.storage), decoder, pool, max_pixels=settings.limits.pixels)
    fonts = Fonts(data_dir / FONT_DIRECTORY)
    planner = Planner(EmbeddedVoice(cache), fonts, pool, preparer)
    maker = FilmMaker(planner, preparer, cache, pool)
    saver = Saver(stores.fetcher, stores.store, stores.store.pool.results)
    return CompositionPipeline(planner, maker, saver, work)


def _sweep(cache: ContentCache, work: Path) -> None:
    shutil.rmtree(work, ignore_errors=True)
    cache.remove_unfinished()
    cache.sweep()
