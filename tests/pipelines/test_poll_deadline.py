"""Work that a provider took on, and odd answers about it: for one of them nothing is given up or paid again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from mediagen.core.errors import FetchRefused, ProviderError, StatusMissing
from mediagen.net.retry import RetryPolicy
from mediagen.pipelines import poll_deadline as deadline
from mediagen.pipelines.paid_checkpoint import abandon
from mediagen.providers.base import ImageRequest
from tests.infra.servers.vendor import Say, VendorServer
from tests.pipelines.attempts import Attempt, files_below
from tests.pipelines.test_paid_attempt import Open, studio, vendor
from tests.providers.forms import FILM_LINK, FORMS, LINK, Form, places_of
from tests.providers.vendor_servers import b64

__all__ = ["studio", "vendor"]

MP4: Final = b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41" + bytes(3000)
PNG: Final = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\0\0\0\0" + bytes(3000)
JOBS: Final = [form for form in FORMS if len(form.calls) > 1]
FETCHED: Final = [form for form in JOBS if form.settings["type"] in ("minimax", "fal") and len(form.calls) > 2]
LINKED: Final = [
    form for form in JOBS if any(item in (LINK, FILM_LINK) for call in form.calls for _, item in places_of(call[2]))
]
NOT_YET: Final = [
    Say({"error": {"message": "not found", "code": "not_found"}}, status) for status in (400, 404, 409, 425)
]
ODD: Final = {
    "not yet": NOT_YET,
    "faults": [Say("sick", 500), Say("<html>", 502, media_type="text/html"), Say(lost=True), Say("", 503)],
    "no JSON": [Say("<html>", media_type="text/html"), Say(""), Say('{"id": "v'), Say("\x00")],
    "another kind": [Say("null"), Say("[]"), Say("7"), Say('"x"')],
    "no status": [Say("{}"), Say({"id": "v"}), Say({"status": None}), Say({"status": [1]})],
    "not found": [Say({"status": "not_found"}), Say({"error": {"code": "not_found"}})],
    "no such task": [Say({"base_resp": {"status_code": 2013, "status_msg": "invalid task_id"}})],
    "a key": [Say({"error": "not found"}, 404), Say({"error": {"message": "Video not found"}}, 404)],
}


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same pauses, a hundred times shorter."""
    for name in ("_FAILURES", "_ODD"):
        monkeypatch.setattr(deadline, name, RetryPolicy(attempts=8, base=0.005, cap=0.05))


def script(vendor: VendorServer, form: Form, number: int | None = None, odd: list[Say] | None = None) -> None:
    """The calls of a form with links to here; before the good answer of one call come others."""
    for index, (method, path, document) in enumerate(form.calls):
        text = json.dumps(document)
        for link, name in ((LINK, "made.png"), (FILM_LINK, "made.mp4")):
            text = text.replace(link, f"{vendor.url}/{name}")
        for small, whole in zip(sorted(form.media - {LINK, FILM_LINK}), (b64(MP4), b64(PNG)), strict=True):
            text = text.replace(small, whole)
        vendor.on(method, path, *(odd or [] if index == number else []), Say(text))
    vendor.on("GET", "/made.png", Say(PNG, media_type="image/png"))
    vendor.on("GET", "/made.mp4", Say(MP4, media_type="video/mp4"))
    vendor.on("GET", "/videos/v/content", Say(MP4, media_type="video/mp4"))


async def made(here: Any, form: Form, attempt: Attempt | None = None) -> dict[str, Any]:
    make = here.picture if isinstance(form.request, ImageRequest) else here.film
    return dict(await make(attempt, model=form.request.model))


def settings(form: Form, **more: Any) -> dict[str, Any]:
    return {"engine": "openai", **form.settings, **more}


def interfered(vendor: VendorServer) -> list[str]:
    """Calls that stop or delete something."""
    calls = [*vendor.calls("DELETE"), *vendor.calls("PUT"), *vendor.calls("POST", ".*cancel")]
    return [f"{call.method} {call.path}" for call in calls]


@pytest.mark.parametrize("form", JOBS, ids=lambda form: form.name)
@pytest.mark.parametrize("odd", ODD)
async def test_a_job_is_looked_for_again(studio: Open, vendor: VendorServer, form: Form, odd: str) -> None:
    script(vendor, form, 1, ODD[odd])

    async with studio(**settings(form)) as here:
        result = await made(here, form)

    assert result.get("file") or len(result["files"]) == 1
    assert len(vendor.calls("POST")) == 1
    assert interfered(vendor) == []


@pytest.mark.parametrize("form", FETCHED, ids=lambda form: form.name)
async def test_a_result_is_asked_for_again(studio: Open, vendor: VendorServer, form: Form) -> None:
    script(vendor, form, 2, [*NOT_YET, Say("{", 503)])

    async with studio(**settings(form)) as here:
        result = await made(here, form)

    assert result.get("file") or len(result["files"]) == 1
    assert len(vendor.calls("POST")) == 1


@pytest.mark.parametrize("form", [*LINKED, JOBS[0]], ids=lambda form: form.name)
async def test_content_is_asked_for_again(studio: Open, vendor: VendorServer, form: Form) -> None:
    script(vendor, form)
    early = [Say("not yet", status) for status in (400, 404, 409, 425, 404, 400)]
    vendor.on("GET", "/made.png", *early, Say(PNG, media_type="image/png"))
    vendor.on("GET", "/made.mp4", *early, Say(MP4, media_type="video/mp4"))

    async with studio(**settings(form)) as here:
        result = await made(here, form)

    assert result.get("file") or len(result["files"]) == 1
    assert len(vendor.calls("POST")) == 1
    assert interfered(vendor) == []


async def test_content_of_openai_is_asked_for_again(studio: Open, vendor: VendorServer) -> None:
    form = JOBS[0]
    script(vendor, form)
    vendor.on("GET", "/videos/v", Say({"id": "v", "status": "completed"}))
    early = [Say({"error": {"message": "not ready"}}, status) for status in (404, 409, 400, 425)]
    vendor.on("GET", "/videos/v/content", *early, Say(MP4, media_type="video/mp4"))

    async with studio(**settings(form)) as here:
        assert (await made(here, form))["file"]


@pytest.mark.parametrize("form", JOBS, ids=lambda form: form.name)
@pytest.mark.parametrize(
    ("odd", "again"), [(Say("who?", 404), False), (Say("{}"), True), (Say("sick", 500), True)], ids=["404", "{}", "500"]
)
async def test_a_job_that_stays_unknown_fails_before_its_time_and_is_left_alone(
    studio: Open, vendor: VendorServer, form: Form, odd: Say, again: bool
) -> None:
    script(vendor, form, 1, [odd] * 999)
    attempt = Attempt()

    async with studio(**settings(form, unsettled_seconds=0.1)) as here:
        with pytest.raises(ProviderError) as raised:
            await made(here, form, attempt)
        last = attempt.saved[-1]
        await abandon(last, here.providers, here.saver)

    assert raised.value.retryable is again
    assert last["over"] is True
    assert last["next"]["operation"] == last["operation"], "another attempt looks for it"
    assert interfered(vendor) == []


async def test_an_answer_without_a_status_ends_before_the_limit(studio: Open, vendor: VendorServer) -> None:
    script(vendor, JOBS[0], 1, [Say({"id": "v", "error": {"message": "the farm burns"}})] * 999)

    async with studio(**settings(JOBS[0])) as here:
        with pytest.raises(StatusMissing, match=r"without the job's status: the farm burns"):
            await made(here, JOBS[0], Attempt(seconds_left=0.02))
    assert len(vendor.calls("GET")) < 8


async def test_a_time_to_wait_that_is_longer_than_the_time_left_is_not_waited_for(
    studio: Open, vendor: VendorServer
) -> None:
    script(vendor, JOBS[0], 1, [Say("busy", 503, {"Retry-After": "100"})] * 999)

    async with studio(**settings(JOBS[0])) as here:
        with pytest.raises(ProviderError, match="failed"):
            await made(here, JOBS[0], Attempt(seconds_left=60))
    assert len(vendor.calls("GET")) == 1


async def test_content_that_stays_away_says_so(studio: Open, vendor: VendorServer) -> None:
    script(vendor, JOBS[0])
    vendor.on("GET", "/made.mp4", Say("not yet", 404))

    async with studio(**settings(JOBS[0], unsettled_seconds=0.1)) as here:
        with pytest.raises(FetchRefused):
            await made(here, JOBS[0])
    assert len(vendor.calls("GET", "/made.mp4")) >= 3


# -- what turns out to be no result


def part(data: bytes, **more: Any) -> dict[str, Any]:
    return {"inlineData": {"mimeType": "image/png", "data": b64(data)}, **more}


DRAFTS: Final = {
    "said before": [{"thought": True, **part(PNG + b"1")}, {"thought": True, **part(PNG + b"2")}],
    "said behind": [part(PNG + b"1", thought=True), part(PNG + b"2", thought=True)],
    "signed": [part(PNG + b"1", thoughtSignature="{x", thought=True)],
    "in snake case": [{"thought": True, "inline_data": {"data": b64(PNG + b"1"), "mime_type": "image/png"}}],
}
GEMINI: Final = {"type": "google", "engine": "openai", "models": ["gemini-x"]}


@pytest.mark.parametrize("drafts", DRAFTS)
async def test_drafts_are_not_kept(studio: Open, vendor: VendorServer, tmp_path: Path, drafts: str) -> None:
    parts = [{"text": "plan", "thought": True}, *DRAFTS[drafts], part(PNG, thoughtSignature="x"), *DRAFTS[drafts]]
    vendor.on("POST", ".*", Say({"candidates": [{"content": {"parts": parts}}]}, pieces=999))
    attempt = Attempt()

    async with studio(**GEMINI) as here:
        result = await here.picture(attempt, model="gemini-x")

    (key,) = files_below(tmp_path / "store")
    assert (tmp_path / "store" / key).read_bytes() == PNG
    assert len(result["files"]) == 1


@pytest.mark.parametrize("drafts", DRAFTS)
async def test_drafts_alone_are_no_picture(studio: Open, vendor: VendorServer, drafts: str) -> None:
    parts = [*DRAFTS[drafts], {"text": "I could not finish it"}]
    vendor.on("POST", ".*", Say({"candidates": [{"content": {"parts": parts}}]}))

    async with studio(**GEMINI) as here:
        with pytest.raises(ProviderError, match="could not finish"):
            await here.picture(model="gemini-x")
        assert here.saver.store.quota.reserved == 0


async def test_an_earlier_state_that_shows_late_is_not_kept(studio: Open, vendor: VendorServer, tmp_path: Path) -> None:
    early = {"b64_json": b64(PNG + b"early"), "type": "image_generation.partial_image"}
    done = {"b64_json": b64(PNG), "type": "image_generation.completed"}
    text = "".join(f"data: {json.dumps(each)}\n\n" for each in (early, done, early))
    vendor.on("POST", ".*", Say(text, media_type="text/event-stream"))

    async with studio() as here:
        result = await here.picture()

    (key,) = files_below(tmp_path / "store")
    assert (tmp_path / "store" / key).read_bytes() == PNG
    assert len(result["files"]) == 1


async def test_a_state_that_cannot_be_read_costs_no_picture(studio: Open, vendor: VendorServer) -> None:
    early = {"type": "image_generation.partial_image", "b64_json": "@@@@" * 99}
    done = {"type": "image_generation.completed", "b64_json": b64(PNG)}
    text = "".join(f"data: {json.dumps(each)}\n\n" for each in (early, done))
    vendor.on("POST", ".*", Say(text, media_type="text/event-stream"))

    async with studio(engine="openai", models=["gpt-image-1.5"]) as here:
        with here.previews.watch("task_1"):
            result = await here.picture(model="gpt-image-1.5", partial_images=1)

    assert len(result["files"]) == 1


async def test_a_picture_that_is_given_back_is_not_kept(studio: Open, vendor: VendorServer, tmp_path: Path) -> None:
    form = next(form for form in FORMS if form.name == "interactions picture")
    script(vendor, form)

    async with studio(**settings(form)) as here:
        await made(here, form)

    (key,) = files_below(tmp_path / "store")
    assert (tmp_path / "store" / key).read_bytes() == PNG
