"""What a provider makes of the wishes of a request: told from what would be sent, so that it cannot say anything else.

A wish that changes nothing in what is sent is ignored. A size or a length that is sent in other words is adapted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from mediagen.core.errors import MediagenError
from mediagen.providers.base import EffectiveOptions, ImageRequest, Request, Size
from mediagen.providers.options import ImageOptions, VideoOptions

_NOT_REPORTED: Final = frozenset({"prompt", "model", "n", "user", "partial_images"})
_IMAGE_OPTIONS: Final = tuple(name for name in ImageOptions.model_fields if name not in _NOT_REPORTED)
_VIDEO_OPTIONS: Final = tuple(name for name in VideoOptions.model_fields if name not in _NOT_REPORTED)
_ADAPTED: Final = frozenset({"size", "seconds"})


def find_effective_options(request: Request, sent: Callable[[Any], object]) -> EffectiveOptions:
    """What becomes of the wishes of ``request``. ``sent`` gives what would be sent for one, as values that compare."""
    if not isinstance(request, ImageRequest) and request.remix_of:
        return EffectiveOptions()  # its wishes are those of the film that it goes by
    whole = dict(_leaves(sent(request)))
    ignored: list[str] = []
    adapted: dict[str, Mapping[str, Any]] = {}
    for name in _IMAGE_OPTIONS if isinstance(request, ImageRequest) else _VIDEO_OPTIONS:
        wish = getattr(request, name)
        if wish is None:
            continue
        try:
            without = dict(_leaves(sent(request.model_copy(update={name: None}))))
        except MediagenError:
            continue  # the request needs it
        if without == whole:
            ignored.append(name)
        elif name in _ADAPTED:
            instead = {place[-1]: value for place, value in whole.items() if without.get(place) != value}
            if not _is_as_wished(wish, instead):
                adapted[name] = instead
    return EffectiveOptions(tuple(ignored), adapted)


def _is_as_wished(wish: object, instead: Mapping[str, Any]) -> bool:
    values = list(instead.values())
    if isinstance(wish, Size):
        return values == [str(wish)] or instead == {"width": wish.width, "height": wish.height}
    try:
        return [float(value) for value in values] == [wish]
    except (TypeError, ValueError):
        return False


def _leaves(value: object, place: tuple[str, ...] = ("",)) -> Iterator[tuple[tuple[str, ...], object]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, (*place, str(key)))
    elif isinstance(value, list | tuple) and not isinstance(value, Size):
        for index, item in enumerate(value):
            yield from _leaves(item, (*place, str(index)))
    else:
        yield place, value
