"""Whatever stands where something else should: an error in the provider's name, or the result that is beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import pytest

from mediagen.core.errors import InvalidRequest, MediagenError, ProviderError
from tests.infra.servers.vendor import Say, VendorServer
from tests.providers.forms import FILM, FILM_LINK, FORMS, LINK, PNG, Form, StillRunning, made_by, places_of
from tests.providers.vendor_servers import b64, vendor

ODD_VALUES: Final[tuple[Any, ...]] = (None, 7, "x", [], {"a": None})
RESULTS: Final = ([PNG], [FILM], [LINK], [FILM_LINK])
BAD_LINKS: Final = (
    "http://[",
    "http://[::1",
    "http://]/",
    "http://host:99999/",
    "http://host:port/",
    "http://\u0000/",
    "http://user:word@host/",
    "http://" + "a" * 300 + "/",
    "https://h/" + "x" * 20_000,
    "http://\ud800/",
)


@pytest.fixture
def api() -> Iterator[VendorServer]:
    with VendorServer() as server:
        yield server


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
async def test_the_result_comes(api: VendorServer, form: Form) -> None:
    form.script(api)

    async with vendor(api.url, **form.settings) as provider:
        made, _ = await made_by(provider, form.request)

    assert made in RESULTS


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
async def test_another_type_anywhere_is_the_providers_fault_and_costs_no_result_beside_it(
    api: VendorServer, form: Form
) -> None:
    lost = []
    async with vendor(api.url, **form.settings) as provider:
        for number, (_, _, document) in enumerate(form.calls):
            for path, was in places_of(document):
                if not path or (form.media_type != "application/json" and len(path) < 3):
                    continue
                for value in ODD_VALUES:
                    if value == was:
                        continue
                    form.script(api, form.bent(number, path, value))
                    try:
                        made, _ = await made_by(provider, form.request)
                    except (ProviderError, InvalidRequest, StillRunning) as exc:
                        made = [exc.detail]
                    if made not in RESULTS and not form.carries(number, path):
                        lost.append((number, path, value, made))

    assert lost == []


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
@pytest.mark.parametrize("whole", [None, [], {}, [None], 7, "x", True, {"error": None}, {"error": [None]}])
async def test_whole_answers_of_another_type(api: VendorServer, form: Form, whole: Any) -> None:
    async with vendor(api.url, **form.settings) as provider:
        for number in range(len(form.calls)):
            calls = form.bent(number, (), whole if form.media_type == "application/json" else json.dumps(whole))
            form.script(api, [(*call[:2], json.dumps(call[2])) for call in calls])
            with pytest.raises((ProviderError, StillRunning)):
                await made_by(provider, form.request)


WITH_LINKS: Final = tuple(form for form in FORMS if any(link in json.dumps(form.calls) for link in (LINK, FILM_LINK)))


@pytest.mark.parametrize("form", WITH_LINKS, ids=lambda form: form.name)
async def test_a_link_that_is_none_is_the_providers_fault(api: VendorServer, form: Form) -> None:
    async with vendor(api.url, **form.settings) as provider:
        for link in BAD_LINKS:
            form.script(api, [(m, p, replaced(document, link)) for m, p, document in form.calls])
            made: list[Any] = []
            with suppress(ProviderError):
                made, _ = await made_by(provider, form.request)
            # a film has another place to be fetched from
            assert made == ([f"{api.url}/videos/v/content"] if form.name == "openai film" else [])


def replaced(document: Any, link: str) -> Any:
    if isinstance(document, dict):
        return {key: replaced(item, link) for key, item in document.items()}
    if isinstance(document, list):
        return [replaced(item, link) for item in document]
    return link if document in (LINK, FILM_LINK) else document


@pytest.mark.parametrize("form", WITH_LINKS, ids=lambda form: form.name)
@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (r"https:\/\/h\/a.EXT?x=1\u0026y=\u00e9", "https://h/a.EXT?x=1&y=%C3%A9"),
        (r"\u0068ttps://h/\u4e2d\ud83d\ude00.EXT", "https://h/%E4%B8%AD%F0%9F%98%80.EXT"),
        (r" https://h/a b.EXT\n", "https://h/a%20b.EXT"),
    ],
)
async def test_links_are_read_as_json_writes_them(api: VendorServer, form: Form, written: str, meant: str) -> None:
    ending = "png" if LINK in json.dumps(form.calls) else "mp4"
    for method, path, document in form.calls:
        text = json.dumps(replaced(document, "THELINK")).replace("THELINK", written.replace("EXT", ending))
        api.on(method, path, Say(text, pieces=3))

    async with vendor(api.url, **form.settings) as provider:
        made, _ = await made_by(provider, form.request)

    assert made == [meant.replace("EXT", ending)]


JOBS: Final = tuple(form for form in FORMS if len(form.calls) > 1)


@pytest.mark.parametrize("form", JOBS, ids=lambda form: form.name)
@pytest.mark.parametrize("status", [400, 404, 409, 425, 500, 503])
async def test_a_look_at_a_job_says_by_its_status_that_it_is_to_be_repeated(
    api: VendorServer, form: Form, status: int
) -> None:
    form.script(api)
    async with vendor(api.url, **form.settings) as provider:
        operation = await provider.submit(form.request)
        api.on("GET", ".*", Say({"error": {"message": "Job not found", "code": "not_found"}}, status))

        with pytest.raises(ProviderError) as raised:
            await provider.poll(operation)

    assert raised.value.retryable or raised.value.context["status"] == status


@pytest.mark.parametrize("form", JOBS, ids=lambda form: form.name)
@pytest.mark.parametrize(
    "document", [{}, {"id": "v"}, {"status": None}, {"status": ""}, {"status": {}}, {"message": "ok"}]
)
async def test_an_answer_without_a_status_is_no_state(api: VendorServer, form: Form, document: Any) -> None:
    form.script(api)
    async with vendor(api.url, **form.settings) as provider:
        operation = await provider.submit(form.request)
        api.on("GET", ".*", Say(document))

        with pytest.raises(ProviderError, match="without the job's status") as raised:
            await provider.poll(operation)

    assert raised.value.retryable


@pytest.mark.parametrize(
    "output",
    [
        [LINK, "seed 5"],
        {"image": LINK, "caption": "a fox: https is nice"},
        {"images": [LINK]},
        [{"url": LINK}],
        [[LINK]],
        {"a": {"b": [LINK]}, "video": "https://h/x.mp4", "info": "https://h/x.json"},
        [None, 7, LINK, True],
    ],
)
async def test_links_of_replicate_wherever_they_are(api: VendorServer, output: Any) -> None:
    form = next(form for form in FORMS if form.name == "replicate picture")
    form.script(api, form.bent(1, ("output",), output))

    async with vendor(api.url, **form.settings) as provider:
        assert (await made_by(provider, form.request))[0] == [LINK]


async def test_pictures_that_a_prediction_gives_back_do_not_overflow_it(api: VendorServer) -> None:
    """A paid job is not lost because what was sent comes back with its id."""
    form = next(form for form in FORMS if form.name == "replicate picture")
    sent = {"prompt": "x", "image": f"data:image/png;base64,{b64(bytes(7 << 20))}", "image_input": [b64(bytes(1000))]}
    calls = [(method, path, {**document, "input": sent}) for method, path, document in form.calls]
    form.script(api, calls)

    async with vendor(api.url, **form.settings) as provider:
        assert (await made_by(provider, form.request))[0] == [LINK]


@pytest.mark.parametrize(
    "result",
    [
        {"images": [LINK]},
        {"image": LINK},
        {"image": {"url": LINK}},
        {"output": {"url": LINK}},
        {"output": [LINK, "words"]},
        {"images": [{"content_type": "image/png", "url": LINK}], "description": "https://h/x.mp4"},
        {"url": LINK},
        {"data": {"images": [{"url": LINK}]}},
    ],
)
async def test_links_of_fal_wherever_they_are(api: VendorServer, result: Any) -> None:
    form = next(form for form in FORMS if form.name == "fal picture")
    form.script(api, form.bent(2, (), result))

    async with vendor(api.url, **form.settings) as provider:
        assert (await made_by(provider, form.request))[0] == [LINK]


@pytest.mark.parametrize(
    ("name", "document", "words"),
    [
        ("openai picture", {"data": [], "message": "no capacity for pictures"}, "no capacity for pictures"),
        ("openai picture", {"data": [{"error": {"message": "this one failed"}}]}, "this one failed"),
        ("openai picture", {"choices": [{"message": {"content": "I only talk"}}]}, "I only talk"),
        ("openai picture", {"error": "generator crashed"}, "generator crashed"),
        ("minimax picture", {"data": None, "base_resp": {"status_code": 0, "status_msg": "all failed"}}, "all failed"),
        ("gemini picture", {"candidates": [{"content": {"parts": [{"text": "I only talk"}]}}]}, "I only talk"),
        ("gemini picture", {"error": {"code": 500, "message": "broke inside"}}, "broke inside"),
        ("gemini picture", {"promptFeedback": {"blockReason": "OTHER", "blockReasonMessage": "not that"}}, "not that"),
        ("gemini picture", {"candidates": [{"finishReason": "NO_IMAGE"}]}, "NO_IMAGE"),
        ("imagen picture", {"predictions": [{"raiFilteredReason": "no faces"}]}, "no faces"),
    ],
)
async def test_why_there_is_no_picture_reaches_the_caller(
    api: VendorServer, name: str, document: Any, words: str
) -> None:
    form = next(form for form in FORMS if form.name == name)
    form.script(api, form.bent(0, (), document))

    async with vendor(api.url, **form.settings) as provider:
        with pytest.raises(ProviderError, match=words):
            await made_by(provider, form.request)


@pytest.mark.parametrize(
    ("name", "document", "words"),
    [
        ("openai film", {"id": "v", "status": "failed", "fail_reason": "too dark"}, "too dark"),
        ("openai film", {"id": "v", "status": "failed", "error": {"message": "too dark"}}, "too dark"),
        ("openai film", {"id": "v", "status": "incomplete", "incomplete_details": {"reason": "too long"}}, "too long"),
        (
            "minimax second film",
            {"task": {"status": "failed", "error": {"code": "1", "message": "too dark"}}},
            "too dark",
        ),
        ("veo film", {"name": "o", "done": True, "response": {"raiMediaFilteredReasons": ["no faces"]}}, "no faces"),
        ("interactions film", {"status": "failed", "errors": [{"message": "too dark"}]}, "too dark"),
        ("replicate film", {"status": "failed", "error": {"detail": "too dark"}}, "too dark"),
        ("replicate film", {"status": "succeeded", "output": None, "error": "too dark"}, "too dark"),
        ("replicate film", {"status": "succeeded", "output": "only words"}, "only words"),
        ("replicate film", {"status": "succeeded", "output": {"error": "only words"}}, "only words"),
        ("fal film", {"status": "COMPLETED", "error": {"message": "too dark"}}, "too dark"),
    ],
)
async def test_why_a_job_gave_nothing_reaches_the_caller(
    api: VendorServer, name: str, document: Any, words: str
) -> None:
    form = next(form for form in FORMS if form.name == name)
    form.script(api, form.bent(1, (), document))

    async with vendor(api.url, **form.settings) as provider:
        with pytest.raises(MediagenError, match=words):
            await made_by(provider, form.request)


@pytest.mark.parametrize("key", ["detail", "message", "error", "description"])
async def test_why_a_result_of_fal_is_empty_reaches_the_caller(api: VendorServer, key: str) -> None:
    form = next(form for form in FORMS if form.name == "fal film")
    form.script(api, form.bent(2, (), {"video": None, key: "too dark"}))

    async with vendor(api.url, **form.settings) as provider:
        with pytest.raises(ProviderError, match="too dark"):
            await made_by(provider, form.request)
