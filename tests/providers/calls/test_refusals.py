"""What refusals mean, by messages that vendors and their users have published (2026-11-30)."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from mediagen.core.errors import (
    ContentRefused,
    InvalidRequest,
    MediagenError,
    OutcomeUnknown,
    ProviderBudgetSpent,
    ProviderError,
    ProviderKeyRefused,
    ProviderRateLimited,
    ProviderUnavailable,
    UnknownModel,
)
from mediagen.providers.calls.error_bodies import complaint_of, reasons_in
from mediagen.providers.calls.refusals import failure, nothing_made, refusal

RATE, BUDGET, KEY, CONTENT = ProviderRateLimited, ProviderBudgetSpent, ProviderKeyRefused, ContentRefused
REQUEST, MODEL, FAULT, UNSURE = InvalidRequest, UnknownModel, ProviderUnavailable, OutcomeUnknown


def openai(message: str, code: str | None = None, kind: str | None = "invalid_request_error", param: Any = None) -> Any:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def google(code: int, status: str, message: str, *details: Any) -> Any:
    return {"error": {"code": code, "status": status, "message": message, "details": list(details)}}


def quota(name: str) -> Any:
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": name}]}


def retry(delay: Any) -> Any:
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}


def info(reason: str) -> Any:
    return {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com"}


CHECK_BILLING: Final = "You exceeded your current quota, please check your plan and billing details."
UNDER_FIVE: Final = (
    "Request was throttled. Your rate limit for creating predictions is reduced to 6 requests per minute with a burst "
    "of 1 requests while you have less than $5.0 in credit. Your rate limit resets in ~5s."
)
ADD_PAYMENT: Final = (
    "Rate limit reached for images per minute. Limit: 5/1min. Please try again in 12s. Add a payment method to your "
    "account to raise it: https://platform.openai.com/account/billing"
)
SAFETY: Final = "Your request was rejected by the safety system. safety_violations=[violence]."
IN_TEXT: Final = json.dumps({"error": {"code": 429, "message": "Resource exhausted", "status": "RESOURCE_EXHAUSTED"}})

CASES: Final[list[tuple[int, Any, type[MediagenError], str | None]]] = [
    # a rate limit, whatever it says of money
    (429, google(429, "RESOURCE_EXHAUSTED", f"{CHECK_BILLING} Please retry in 36.4s."), RATE, None),
    (429, google(429, "RESOURCE_EXHAUSTED", CHECK_BILLING, quota("PerMinute"), retry("36s")), RATE, None),
    (429, google(429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota)."), RATE, None),
    (429, [google(429, "RESOURCE_EXHAUSTED", "Resource exhausted. Please try again later.")], RATE, None),
    (429, {"error": {"message": IN_TEXT, "code": 429, "status": "Too Many Requests"}}, RATE, None),
    (429, openai(ADD_PAYMENT, "rate_limit_exceeded", "requests"), RATE, None),
    (429, openai(ADD_PAYMENT, None, "requests"), RATE, None),
    (429, openai("You have hit your budget of requests", None, None), RATE, None),
    (429, {"error": "Too many requests; insufficient credits for a higher tier"}, RATE, None),
    (429, {"detail": UNDER_FIVE, "status": 429, "retry_after": 5}, RATE, None),
    (429, {"title": "Too many requests", "detail": "Request was throttled.", "status": 429}, RATE, None),
    (429, {"detail": "Too many requests. Payment plans raise this limit."}, RATE, None),
    (429, {"base_resp": {"status_code": 1002, "status_msg": "rate limit, check billing"}}, RATE, None),
    (429, "<html>429</html>", RATE, None),
    (403, google(403, "PERMISSION_DENIED", "Quota", info("RATE_LIMIT_EXCEEDED")), RATE, None),
    (503, openai("Slow down", "rate_limit_exceeded"), RATE, None),
    # an empty account
    (429, openai(CHECK_BILLING, "insufficient_quota", "insufficient_quota"), BUDGET, None),
    (429, openai(CHECK_BILLING, None, "insufficient_quota"), BUDGET, None),
    (429, openai("Your account is suspended", "exceeded_current_quota_error", None), BUDGET, None),
    (
        400,
        openai("Billing hard limit has been reached", "billing_hard_limit_reached", "invalid_request_error"),
        BUDGET,
        None,
    ),
    (402, {"title": "Insufficient credit", "detail": "You have insufficient credit", "status": 402}, BUDGET, None),
    (402, {"error": "Rate limited", "reasons": ["not-enough-credits"]}, BUDGET, None),
    (403, {"detail": "User is locked. Reason: Exhausted balance. Top up your balance."}, BUDGET, None),
    (403, google(403, "PERMISSION_DENIED", "Billing must be enabled.", info("BILLING_DISABLED")), BUDGET, None),
    (400, {"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}, BUDGET, None),
    (403, openai("user quota is not enough", "insufficient_user_quota", "new_api_error"), BUDGET, None),
    # the key
    (401, openai("Incorrect API key provided: sk-x", "invalid_api_key"), KEY, None),
    (401, {"detail": "Authentication is required to access this application."}, KEY, None),
    (401, {"title": "Unauthenticated", "detail": "You did not pass a valid token"}, KEY, None),
    (400, google(400, "INVALID_ARGUMENT", "API key not valid.", info("API_KEY_INVALID")), KEY, None),
    (400, {"error": "API key is invalid"}, KEY, None),
    (403, google(403, "PERMISSION_DENIED", "Your project has been denied access."), KEY, None),
    (403, openai("Country, region, or territory not supported", "unsupported_country_region_territory"), KEY, None),
    (403, "<html>forbidden</html>", KEY, None),
    # content
    (400, openai(SAFETY, "moderation_blocked", "image_generation_user_error", ""), CONTENT, None),
    (400, openai("Your request was rejected as a result of our safety system.", None), CONTENT, None),
    (400, openai("It may contain text that is not allowed by our safety system.", None), CONTENT, None),
    (
        400,
        openai("Your prompt was flagged as potentially violating our usage policy.", "invalid_prompt"),
        CONTENT,
        None,
    ),
    (
        400,
        openai("This prompt was blocked by our content filters.", "content_policy_violation", param="prompt"),
        CONTENT,
        "prompt",
    ),
    (400, google(400, "INVALID_ARGUMENT", "The prompt violates our Responsible AI practices"), CONTENT, None),
    (
        422,
        {
            "detail": [
                {
                    "loc": ["body", "prompt"],
                    "msg": "The content was flagged by a content checker.",
                    "type": "content_policy_violation",
                }
            ]
        },
        CONTENT,
        "prompt",
    ),
    (422, [{"loc": ["body", "image_url"], "msg": "flagged", "type": "content_policy_violation"}], CONTENT, "image_url"),
    (400, {"base_resp": {"status_code": 1026, "status_msg": "input new_sensitive"}}, CONTENT, None),
    (400, {"error": {"code": "InputImageSensitiveContentDetected", "message": "sensitive"}}, CONTENT, None),
    (
        400,
        {"error": {"code": "DataInspectionFailed", "message": "Input data may contain inappropriate content."}},
        CONTENT,
        None,
    ),
    (403, {"error": {"message": "Your resource was blocked: it violates our content policy"}}, CONTENT, None),
    (451, {"error": "NSFW content detected"}, CONTENT, None),
    (500, openai("The image was refused", "content_policy_violation"), CONTENT, None),
    # the model
    (
        404,
        openai("The model `gpt-image-9` does not exist or you do not have access to it.", "model_not_found"),
        MODEL,
        "model",
    ),
    (
        404,
        google(404, "NOT_FOUND", "models/veo-9 is not found for API version v1beta, or is not supported."),
        MODEL,
        "model",
    ),
    (400, {"error": "unknown model: sdxl"}, MODEL, "model"),
    (400, openai("Model sdxl-turbo not found", None), MODEL, "model"),
    (404, openai("The model 'x/y' is not available", None, param="model"), MODEL, "model"),
    # an option, whatever its name
    (400, openai("Unknown parameter: 'moderation'.", "unknown_parameter", param="moderation"), REQUEST, "moderation"),
    (400, openai("Unknown parameter: 'moderation'.", None, param="moderation"), REQUEST, "moderation"),
    (400, openai("Unknown parameter: 'moderation'.", None), REQUEST, None),
    (400, openai("Unrecognized request argument supplied: safety_identifier", None), REQUEST, None),
    (400, openai("Unrecognized request argument supplied: content_filter", None, None), REQUEST, None),
    (400, openai("Invalid value for size; names are case-sensitive.", "invalid_value", param="size"), REQUEST, "size"),
    (400, openai("Invalid value for size; names are case-sensitive.", None), REQUEST, None),
    (400, openai("For model img the size 512x512 is not supported.", None, param="size"), REQUEST, "size"),
    (400, openai("For model img the size 512x512 is not supported.", None), REQUEST, None),
    (400, openai("The parameter 'safety_tolerance' is not supported by this model", None), REQUEST, None),
    (
        400,
        openai("Invalid value: 'none'. Billing is by size; must be one of 'low', 'auto'.", None, param="moderation"),
        REQUEST,
        "moderation",
    ),
    (422, {"detail": "input.disable_safety_checker: additional properties are not allowed"}, REQUEST, None),
    (
        422,
        {"title": "Input validation failed", "detail": "- input.duration: must be one of 5, 10"},
        REQUEST,
        "duration",
    ),
    (422, {"detail": "bad", "invalid_fields": [{"field": "input.size", "description": "no"}]}, REQUEST, "size"),
    (
        422,
        {
            "detail": [
                {
                    "loc": ["body", "enable_safety_checker"],
                    "msg": "Extra inputs are not permitted",
                    "type": "extra_forbidden",
                }
            ]
        },
        REQUEST,
        "enable_safety_checker",
    ),
    (
        422,
        {"detail": [{"loc": ["body", "image_size", "width"], "msg": "not a multiple of 8", "type": "value_error"}]},
        REQUEST,
        "image_size.width",
    ),
    (422, {"detail": [{"loc": None, "msg": "bad size"}]}, REQUEST, None),
    (422, {"detail": [None, {"loc": ["body", 7, None], "msg": None}]}, REQUEST, "7"),
    (
        400,
        google(400, "INVALID_ARGUMENT", "Invalid aspect ratio", {"fieldViolations": [{"field": "aspect_ratio"}]}),
        REQUEST,
        "aspect_ratio",
    ),
    (400, {"base_resp": {"status_code": 2013, "status_msg": "invalid params, sensitive"}}, REQUEST, None),
    (413, openai("Too large", None), REQUEST, None),
    (400, "", REQUEST, None),
    (400, {"error": None, "detail": None, "message": None}, REQUEST, None),
    # a fault of the provider, whatever it says
    (
        500,
        openai("The server had an error; billing and safety checks are unaffected", None, "server_error"),
        FAULT,
        None,
    ),
    (503, google(503, "UNAVAILABLE", "The model is overloaded. Please try again later."), FAULT, None),
    (503, {"detail": "no runner", "error_type": "runner_scheduling_failure"}, FAULT, None),
    (409, {"detail": "already running"}, FAULT, None),
    (425, "", FAULT, None),
    (504, {"detail": "moderation service timed out"}, UNSURE, None),
    (502, openai("upstream rate limit", "rate_limit_exceeded"), UNSURE, None),
    (408, "", UNSURE, None),
    (524, "<html>", UNSURE, None),
    (302, "", ProviderError, None),
    (404, {"detail": "Not Found"}, ProviderError, None),
    (418, "short and stout", ProviderError, None),
]


def said(status: int, body: Any, headers: Any = None, *, paid: bool = True, **about: Any) -> MediagenError:
    text = body if isinstance(body, str) else json.dumps(body)
    return refusal("acme", status, headers or {}, text.encode(), paid=paid, **about)


@pytest.mark.parametrize(("status", "body", "error", "param"), CASES, ids=range(len(CASES)))
def test_what_a_refusal_means(status: int, body: Any, error: type[MediagenError], param: str | None) -> None:
    refused = said(status, body)

    assert type(refused) is error
    assert refused.context.get("param") == param


@pytest.mark.parametrize(("status", "body", "error", "param"), CASES, ids=range(len(CASES)))
def test_of_a_call_that_looks_no_refusal_is_about_the_request(
    status: int, body: Any, error: type[MediagenError], param: str | None
) -> None:
    refused = said(status, body, paid=False)

    assert isinstance(refused, ProviderError)
    assert not isinstance(refused, OutcomeUnknown)
    if error in (RATE, BUDGET, CONTENT, FAULT):
        assert type(refused) is error


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({"Retry-After": "7"}, google(429, "RESOURCE_EXHAUSTED", "x", retry("30s")), 7),
        ({"Retry-After": "1.5"}, {}, 1.5),
        ({"retry-after-ms": "250", "Retry-After": "1"}, {}, 0.25),
        ({"Retry-After": "soon"}, google(429, "RESOURCE_EXHAUSTED", "x", retry("36.429760048s")), 36.429760048),
        ({}, google(429, "RESOURCE_EXHAUSTED", "x", quota("PerDay"), retry("36s")), 36),
        ({}, google(429, "RESOURCE_EXHAUSTED", "x", retry({"seconds": 5})), 5),
        ({}, google(429, "RESOURCE_EXHAUSTED", "x", retry(None), None, 7), None),
        ({}, {"detail": UNDER_FIVE, "retry_after": 5}, 5),
        ({}, {"detail": UNDER_FIVE}, 5),
        ({}, openai(ADD_PAYMENT, "rate_limit_exceeded"), 12),
        ({}, openai("Please try again in 120ms.", "rate_limit_exceeded"), 0.12),
        ({}, google(429, "RESOURCE_EXHAUSTED", f"{CHECK_BILLING} Please retry in 36.4s."), 36.4),
        ({}, {}, None),
    ],
)
def test_when_it_wants_to_be_asked_again(headers: Any, body: Any, seconds: float | None) -> None:
    refused = said(429, body, headers)

    assert type(refused) is RATE
    assert refused.retry_after == seconds


def test_a_hint_comes_before_words() -> None:
    assert type(said(403, {"error": "no balance? exhausted balance"}, {"Retry-After": "5"})) is RATE
    assert type(said(403, {"error": "exhausted balance"})) is BUDGET


def test_the_kind_of_a_fault_in_a_header_of_fal() -> None:
    headers = {"X-Fal-Error-Type": "content_policy_violation"}

    assert type(said(422, {"detail": "no"}, headers)) is CONTENT


def test_a_result_can_refuse_the_request_without_being_paid() -> None:
    detail = {"detail": [{"loc": ["body", "size"], "msg": "too big", "type": "value_error"}]}

    refused = said(422, detail, paid=False, of_result=True)

    assert type(refused) is REQUEST
    assert refused.context["param"] == "size"


@pytest.mark.parametrize(
    ("document", "error"),
    [
        ({"error": "NSFW content detected. Try a different prompt."}, CONTENT),
        ({"error": "The input or output was flagged as sensitive. (E005)"}, CONTENT),
        ({"error": "CUDA out of memory"}, ProviderError),
        ({"error": {"code": "rate_limit_exceeded", "message": "x"}}, RATE),
        ({"error": {"code": "insufficient_quota"}}, BUDGET),
        ({"error": {"message": "safety_checker: unexpected keyword argument"}}, ProviderError),
        ({"error": "CUDA error: invalid argument; model not found"}, ProviderError),
        ({"error": {"message": "bad", "param": "seconds"}}, REQUEST),
        ({"error": {"code": "invalid_value", "param": "seconds", "message": "safety"}}, REQUEST),
        ({"error": {"message": ["a", {"b": 1}]}}, ProviderError),
        ({"error": True}, ProviderError),
    ],
)
def test_why_a_job_failed(document: Any, error: type[MediagenError]) -> None:
    assert type(failure("acme", complaint_of(json.dumps(document).encode()))) is error


@pytest.mark.parametrize(
    ("document", "error", "words"),
    [
        ({"candidates": None, "promptFeedback": {"blockReason": "OTHER"}}, ProviderError, "OTHER"),
        (
            {"candidates": [{"finishReason": "IMAGE_SAFETY", "finishMessage": "Unable to show"}]},
            CONTENT,
            "Unable to show",
        ),
        ({"candidates": [{"finish_reason": "NO_IMAGE"}]}, ProviderError, "NO_IMAGE"),
        (
            {"candidates": [{"content": {"parts": [{"text": "I drew nothing"}]}, "finishReason": "STOP"}]},
            ProviderError,
            "I drew nothing",
        ),
        ({"promptFeedback": {"blockReason": "SAFETY", "blockReasonMessage": "no weapons"}}, CONTENT, "no weapons"),
        ({"predictions": [{"raiFilteredReason": "Unable to show generated images: 56562880"}]}, CONTENT, "56562880"),
        ({"data": [{"content_filter_results": {"hate": {"filtered": True}}}]}, CONTENT, "filtered"),
        ({"data": [], "message": "the queue was drained"}, ProviderError, "the queue was drained"),
        ({"data": [{"error": {"message": "one failed"}}]}, ProviderError, "one failed"),
        ({"choices": [{"message": {"content": "I can't draw that"}}]}, ProviderError, "I can't draw that"),
        ({"images": [], "description": "only words"}, ProviderError, "only words"),
        (
            {"metadata": {"reason": "all failed"}, "base_resp": {"status_code": 0, "status_msg": "success"}},
            ProviderError,
            "all failed",
        ),
        ({"input": {"text": "the prompt"}, "prompt": "the prompt"}, ProviderError, "without a picture"),
        (None, ProviderError, "without a picture"),
    ],
)
def test_why_there_is_no_picture(document: Any, error: type[MediagenError], words: str) -> None:
    why = nothing_made("acme", "a picture", reasons_in(document))

    assert type(why) is error
    assert words in why.detail
    assert "the prompt" not in why.detail


def test_a_complaint_is_bounded_and_shows_no_secret() -> None:
    deep: Any = "x"
    for _ in range(60):
        deep = {"error": deep}
    bodies: tuple[Any, ...] = (
        deep,
        {"error": {"message": "sk-1234567890abcdef " * 500}},
        {"error": [[[[]]]]},
        [[]],
        [None],
        7,
    )
    for body in bodies:
        refused = said(400, body)

        assert len(refused.detail) < 700
        assert "1234567890" not in refused.detail
