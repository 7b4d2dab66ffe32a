"""What can be told of a request before anything is stored or sent: whether the model takes it."""

from __future__ import annotations

from collections.abc import Sequence

from mediagen.core.errors import InvalidRequest, UnknownModel
from mediagen.providers.base import ImageRequest, Model, Request, Role, VideoRequest


def check(request: Request, model: Model, roles: Sequence[Role] = ()) -> None:
    """Compare a request, with inputs in these ``roles``, with what is known of its model.

    ``n`` is not compared: more than ``max_n`` are several calls.

    Raises:
        InvalidRequest, UnknownModel: ``context["param"]`` names the field.
    """
    if isinstance(request, ImageRequest):
        _check_images(request, model, roles)
    else:
        _check_video(request, model, roles)


def _check_images(request: ImageRequest, model: Model, roles: Sequence[Role]) -> None:
    able = model.images
    if able is None:
        raise UnknownModel(f"the model {model.id!r} makes no images", param="model")
    _one_of(request.size, able.sizes, "size", model)
    _one_of(request.output_format, able.formats, "output_format", model)
    _one_of(request.background, able.backgrounds, "background", model)
    masks = roles.count("mask")
    images = len(roles) - masks
    if images and not able.max_inputs:
        raise InvalidRequest(f"{model.id} does not edit images", param="image")
    if images > able.max_inputs:
        raise InvalidRequest(f"{model.id} takes at most {able.max_inputs} images", param="image")
    if masks > 1:
        raise InvalidRequest("at most one mask goes with a request", param="mask")
    if masks and not able.masks:
        raise InvalidRequest(f"{model.id} takes no mask", param="mask")


def _check_video(request: VideoRequest, model: Model, roles: Sequence[Role]) -> None:
    able = model.videos
    if able is None:
        raise UnknownModel(f"the model {model.id!r} makes no videos", param="model")
    _one_of(request.size, able.sizes, "size", model)
    _one_of(request.seconds, able.seconds, "seconds", model)
    if request.seconds is not None and able.max_seconds is not None and request.seconds > able.max_seconds:
        raise InvalidRequest(f"{model.id} makes at most {able.max_seconds:g} seconds", param="seconds")
    if request.remix_of and not able.remix:
        raise InvalidRequest(f"{model.id} does not support remix", param="remix")
    for role in roles:
        if role not in able.inputs:
            taken = ", ".join(sorted(able.inputs)) or "none"
            raise InvalidRequest(f"{model.id} takes no {role} (but: {taken})", param="input_reference")
    for frame in ("first_frame", "last_frame"):
        if roles.count(frame) > 1:
            raise InvalidRequest(f"at most one {frame} can be given for a video", param="input_reference")


def _one_of(value: object, known: tuple[object, ...], param: str, model: Model) -> None:
    if value is not None and known and value not in known:
        names = ", ".join(f"{each:g}" if isinstance(each, float | int) else str(each) for each in known)
        said = f"{value:g}" if isinstance(value, float | int) else str(value)
        raise InvalidRequest(f"{model.id} takes {param} {names}, not {said}", param=param)
