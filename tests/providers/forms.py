"""Every form in which a vendor gives pictures and films: what it answers to each call, as documents to be bent."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from mediagen.core.errors import MediagenError
from mediagen.providers.base import About, Content, ImageRequest, Link, Phase, VideoRequest
from mediagen.streams.sources import read_chunks
from tests.infra.servers.vendor import Say, VendorServer
from tests.providers.vendor_servers import b64

PNG: Final = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 3
FILM: Final = b"\x00\x00\x00\x18ftypisom" + bytes(range(256)) * 3
LINK: Final = "https://cdn.example/made/a.png"
FILM_LINK: Final = "https://cdn.example/made/a.mp4"
OK: Final = {"status_code": 0, "status_msg": "success"}

Path: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True)
class Form:
    """One way to a result. ``calls`` are method, path and document; ``needed`` are keys without which there is none."""

    name: str
    settings: dict[str, Any]
    request: ImageRequest | VideoRequest
    calls: list[tuple[str, str, Any]]
    needed: frozenset[str] = frozenset()
    write: Callable[[Any], str] = json.dumps
    media_type: str = "application/json"
    media: frozenset[str] = field(default=frozenset({LINK, FILM_LINK, b64(PNG), b64(FILM)}))

    def script(self, api: VendorServer, calls: list[tuple[str, str, Any]] | None = None) -> None:
        for method, path, document in self.calls if calls is None else calls:
            streamed = self.media_type if method == "POST" else "application/json"
            text = document if isinstance(document, str | bytes) else self.write(document)
            api.on(method, path, Say(text, media_type=streamed, pieces=701))

    def bent(self, number: int, path: Path, value: Any) -> list[tuple[str, str, Any]]:
        """The calls, with another value at one place of one document."""
        calls = copy.deepcopy(self.calls)
        method, where, document = calls[number]
        if not path:
            document = value
        else:
            holder = document
            for step in path[:-1]:
                holder = holder[step]
            holder[path[-1]] = value
        calls[number] = (method, where, document)
        return calls

    def carries(self, number: int, path: Path) -> bool:
        """Whether the result hangs on what stands at that place."""
        if self.needed.intersection(map(str, path)) or not path:
            return True
        value = self.calls[number][2]
        for step in path:
            value = value[step]
        return any(isinstance(each, str) and each in self.media for _, each in places_of(value))


def places_of(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every place in a document, with what stands there."""
    yield path, value
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places_of(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from places_of(item, (*path, index))


async def made_by(provider: Any, request: ImageRequest | VideoRequest) -> tuple[list[bytes | str], About]:
    """The results, links as they are; a job is looked at until it has ended."""
    if isinstance(request, ImageRequest) and not hasattr(provider, "submit"):
        raise AssertionError("nobody makes it")
    model = next(each for each in provider.models if each.id == request.model)
    if isinstance(request, ImageRequest) and model.images is not None and not model.images.by_operation:
        async with provider.generate(request) as answer:
            return await _taken(answer)
    operation = await provider.submit(request)
    for _ in range(3):
        status = await provider.poll(operation)
        operation = status.operation
        if status.error is not None:
            raise status.error
        if status.phase is Phase.COMPLETED:
            async with provider.fetch(operation) as answer:
                return await _taken(answer)
    raise StillRunning("it runs and runs")


class StillRunning(MediagenError):
    """A job whose end nobody saw."""


async def _taken(answer: Any) -> tuple[list[bytes | str], About]:
    taken: dict[int, bytes | str] = {}
    async for made in answer:
        if isinstance(made, Link):
            taken[made.index] = made.url
        elif isinstance(made, Content):
            data = b"".join([chunk async for chunk in read_chunks(made.source)])
            if made.partial is None:
                taken[made.index] = data
    about: About = answer.about
    return [data for index, data in taken.items() if index not in about.withdrawn], about


def events(document: Any) -> str:
    """Each item of a list as an event."""
    items = document if isinstance(document, list) else [document]
    return "".join(f"event: {each[0]}\ndata: {json.dumps(each[1])}\n\n" for each in items)


def _picture(model: str, **more: Any) -> ImageRequest:
    return ImageRequest(model=model, prompt="a fox", **more)


def _film(model: str, **more: Any) -> VideoRequest:
    return VideoRequest(model=model, prompt="waves", **more)


_GENERIC: Final = {"type": "openai", "engine": "generic", "models": ("m",)}
_ABOUT: Final = {"created": 1, "size": "1x1", "quality": "high", "usage": {"total_tokens": 5, "cost": 0.1}}
_MINIMAX: Final = {"type": "minimax", "models": ("image-01", "MiniMax-Hailuo-02", "MiniMax-H3")}
_VEO: Final = "models/veo-3/operations/o"
_GOOGLE: Final = {"type": "google", "models": ("gemini-x", "imagen-x", "veo-3", "interactions:i")}
_REPLICATE: Final = {"type": "replicate", "models": ("a/b",)}
_FAL: Final = {"type": "fal", "models": ("a/b",)}


def _gemini(part: Any) -> Any:
    content = {"role": "model", "parts": [{"text": "Here"}, part]}
    return {
        "candidates": [{"content": content, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {"promptTokenCount": 5},
        "promptFeedback": {"safetyRatings": []},
    }


def _veo(response: Any) -> list[tuple[str, str, Any]]:
    done = {"name": _VEO, "done": True, "metadata": {"progressPercent": 100}, "response": response}
    return [("POST", ".*:predictLongRunning", {"name": _VEO, "metadata": {}}), ("GET", f"/{_VEO}", done)]


def _interaction(kind: str, data: dict[str, Any]) -> list[tuple[str, str, Any]]:
    given = {"type": "user_input", "content": [{"type": "image", "data": b64(PNG + b"given")}]}
    made = {"type": "model_output", "content": [{"type": "text", "text": "Here"}, {"type": kind, **data}]}
    done = {"id": "i", "status": "completed", "steps": [given, made], "usage": {"total_tokens": 7}}
    return [("POST", "/interactions", {"id": "i", "status": "queued"}), ("GET", "/interactions/i", done)]


def _prediction(output: Any) -> list[tuple[str, str, Any]]:
    job = {
        "id": "p",
        "status": "succeeded",
        "output": output,
        "error": None,
        "logs": "",
        "metrics": {"predict_time": 1},
    }
    begun = {"id": "p", "status": "starting", "output": None, "input": {"prompt": "x"}}
    return [("POST", "/models/a/b/predictions", begun), ("GET", "/predictions/p", job)]


def _fal(result: Any) -> list[tuple[str, str, Any]]:
    status = {"status": "COMPLETED", "queue_position": None, "logs": None, "metrics": {"inference_time": 1}}
    return [
        ("POST", "/a/b", {"request_id": "r", "status_url": None, "gateway_request_id": "g"}),
        ("GET", "/a/b/requests/r/status", status),
        ("GET", "/a/b/requests/r", result),
    ]


_JOB: Final = frozenset({"id", "name", "task_id", "request_id", "status", "done", "task"})
_PICTURES: Final = "/images/generations"
FORMS: Final[tuple[Form, ...]] = (
    Form(
        "openai picture",
        _GENERIC,
        _picture("m"),
        [("POST", _PICTURES, {**_ABOUT, "data": [{"b64_json": b64(PNG), "revised_prompt": "a red fox"}]})],
    ),
    Form("openai link", _GENERIC, _picture("m"), [("POST", _PICTURES, {**_ABOUT, "data": [{"url": LINK}]})]),
    Form(
        "openai stream",
        {"type": "openai", "models": ("gpt-image-1.5",)},
        _picture("gpt-image-1.5", partial_images=1),
        [
            (
                "POST",
                _PICTURES,
                [
                    ["image_generation.partial_image", {"b64_json": b64(b"early" * 9), "partial_image_index": 0}],
                    ["image_generation.completed", {**_ABOUT, "b64_json": b64(PNG)}],
                ],
            )
        ],
        write=events,
        media_type="text/event-stream",
        needed=frozenset({"0"}),
    ),
    Form(
        "openai film",
        _GENERIC,
        _film("m"),
        [
            ("POST", "/videos", {"id": "v", "object": "video", "status": "queued", "progress": 0}),
            (
                "GET",
                "/videos/v",
                {
                    "id": "v",
                    "status": "completed",
                    "progress": 100,
                    "queue_position": 1,
                    "error": None,
                    "usage": {"cost": 0.5},
                    "metadata": {"url": FILM_LINK},
                    "urls": None,
                },
            ),
        ],
        needed=_JOB,
    ),
    Form(
        "minimax picture",
        _MINIMAX,
        _picture("image-01"),
        [
            (
                "POST",
                "/v1/image_generation",
                {"id": "1", "data": {"image_base64": [b64(PNG)]}, "metadata": {"failed_count": "0"}, "base_resp": OK},
            )
        ],
    ),
    Form(
        "minimax link",
        _MINIMAX,
        _picture("image-01"),
        [("POST", "/v1/image_generation", {"data": {"image_urls": [LINK]}, "metadata": None, "base_resp": OK})],
    ),
    Form(
        "minimax film",
        _MINIMAX,
        _film("MiniMax-Hailuo-02"),
        [
            ("POST", "/v1/video_generation", {"task_id": "1", "base_resp": OK}),
            ("GET", "/v1/query/video_generation", {"status": "Success", "file_id": "5", "base_resp": OK}),
            ("GET", "/v1/files/retrieve", {"file": {"bytes": 1, "download_url": FILM_LINK}, "base_resp": OK}),
        ],
        needed=_JOB | {"base_resp"},
    ),
    Form(
        "minimax second film",
        _MINIMAX,
        _film("MiniMax-H3"),
        [
            ("POST", "/v2/video_generation", {"task_id": "1"}),
            (
                "GET",
                "/v2/query/video_generation/1",
                {
                    "task": {
                        "id": "1",
                        "status": "succeeded",
                        "error": None,
                        "content": {"url": FILM_LINK},
                        "usage": {"total_seconds": 6},
                    }
                },
            ),
        ],
        needed=frozenset({"task_id", "status"}),
    ),
    Form(
        "gemini picture",
        _GOOGLE,
        _picture("gemini-x"),
        [("POST", ".*:generateContent", _gemini({"inlineData": {"mimeType": "image/png", "data": b64(PNG)}}))],
    ),
    Form(
        "gemini picture in snake case",
        _GOOGLE,
        _picture("gemini-x"),
        [("POST", ".*:generateContent", _gemini({"inline_data": {"data": b64(PNG), "mime_type": "image/png"}}))],
    ),
    Form(
        "gemini link",
        _GOOGLE,
        _picture("gemini-x"),
        [("POST", ".*:generateContent", _gemini({"fileData": {"mimeType": "image/png", "fileUri": LINK}}))],
    ),
    Form(
        "imagen picture",
        _GOOGLE,
        _picture("imagen-x"),
        [("POST", ".*:predict", {"predictions": [{"bytesBase64Encoded": b64(PNG), "mimeType": "image/png"}]})],
    ),
    Form(
        "veo link",
        _GOOGLE,
        _film("veo-3"),
        _veo({"generateVideoResponse": {"generatedSamples": [{"video": {"uri": FILM_LINK}}]}}),
        needed=_JOB,
    ),
    Form(
        "veo film",
        _GOOGLE,
        _film("veo-3"),
        _veo({"raiMediaFilteredCount": 0, "videos": [{"bytesBase64Encoded": b64(FILM), "mimeType": "video/mp4"}]}),
        needed=_JOB,
    ),
    Form(
        "interactions film",
        _GOOGLE,
        _film("interactions:i"),
        _interaction("video", {"data": b64(FILM), "mime_type": "video/mp4"}),
        needed=_JOB | {"0"},  # what is given back has to be what it is
    ),
    Form(
        "interactions picture",
        _GOOGLE,
        _picture("interactions:i"),
        _interaction("image", {"data": b64(PNG)}),
        needed=_JOB | {"type", "0"},
    ),
    Form("replicate picture", _REPLICATE, _picture("a/b"), _prediction([LINK]), needed=_JOB),
    Form("replicate film", _REPLICATE, _film("a/b"), _prediction(FILM_LINK), needed=_JOB),
    Form(
        "fal picture",
        _FAL,
        _picture("a/b"),
        _fal({"images": [{"url": LINK, "width": 1}], "seed": 3, "has_nsfw_concepts": [False], "prompt": "x"}),
        needed=_JOB | {"error"},
    ),
    Form("fal film", _FAL, _film("a/b"), _fal({"video": {"url": FILM_LINK, "file_size": 1}}), needed=_JOB),
)
