"""What a provider's refusal means: one order for all vendors.

    1. status   402 is an empty account
    2. code     words for machines, the most exact first (``CODES``): reason, code, type, status name
    3. status   401 is the key, 429 a rate limit, from 500 on a fault of the provider
    4. hint     403 with a time to wait (``Retry-After``, ``RetryInfo``) is a rate limit
    5. param    a refusal that names an option is about that option
    6. words    free text, in the order of ``PHRASES``: sentences, never single words, since ``moderation``,
                ``safety`` or ``billing`` stand in the names of options and in friendly advice as well
    7. status   403 is the key, 400 and 422 the request

Sources: OpenAI error codes; google.rpc.Code and ErrorInfo; MiniMax error codes; Replicate HTTP API; fal model errors
and request errors; messages that users have published. As read on 2026-11-30.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum, auto
from typing import Final

from mediagen.providers.calls.error_bodies import Complaint


class Meaning(Enum):
    """What a refusal is about."""

    BUDGET = auto()
    """The account has no money or quota left."""
    CONTENT = auto()
    """The provider's rules forbid the prompt, an input or the result."""
    MODEL = auto()
    """It does not know the model."""
    REQUEST = auto()
    """It does not take an option, or its value."""
    RATE = auto()
    """It wants to be asked later."""
    KEY = auto()
    """It does not take our key, or the key may not do this."""
    FAULT = auto()
    """It failed, or is overloaded."""
    OTHER = auto()


_WORDS: Final[Mapping[Meaning, str]] = {
    Meaning.BUDGET: "insufficient_quota insufficient_user_quota exceeded_current_quota_error insufficient_balance "
    "insufficient_credit insufficient_credits insufficient_funds not_enough_credits credits_exhausted out_of_credits "
    "exhausted_balance account_overdue arrearage billing_hard_limit_reached billing_not_active billing_disabled "
    "billing_error budget_exceeded spend_limit_reached payment_required payment_error base_resp.1008",
    Meaning.CONTENT: "moderation_blocked moderation_error moderation_failed content_moderation content_policy "
    "content_policy_violation content_policy_error content_filter content_filtered content_blocked content_violation "
    "content_moderation_failed data_inspection_failed safety safety_error safety_violation image_safety "
    "prohibited_content image_prohibited_content blocklist recitation image_recitation spii prompt_blocked "
    "responsible_ai_policy_violation sensitive_content sensitive_words_detected unsafe_content nsfw nsfw_content "
    "nsfw_content_detected flagged_content input_image_sensitive_content_detected "
    "input_text_sensitive_content_detected output_image_sensitive_content_detected moderated model_armor "
    "base_resp.1026 base_resp.1027",
    Meaning.MODEL: "model_not_found model_not_available model_not_supported unsupported_model unknown_model "
    "invalid_model no_such_model",
    Meaning.REQUEST: "unknown_parameter unsupported_parameter invalid_parameter missing_required_parameter "
    "missing_parameter unsupported_value invalid_value invalid_type integer_above_max_value integer_below_min_value "
    "decimal_above_max_value decimal_below_min_value string_above_max_length string_below_min_length "
    "array_above_max_length array_below_min_length empty_string empty_array invalid_image invalid_image_file "
    "invalid_image_format invalid_image_size invalid_size image_parse_error unsupported_image_format image_too_large "
    "image_too_small image_load_error file_too_large file_download_error unsupported_image_format "
    "unsupported_audio_format unsupported_video_format sequence_too_short sequence_too_long one_of "
    "feature_not_supported invalid_archive missing value_error extra_forbidden literal_error enum "
    "base_resp.2013",
    Meaning.RATE: "rate_limit rate_limited rate_limit_error rate_limit_exceeded rate_limit_reached "
    "user_rate_limit_exceeded too_many_requests resource_exhausted requests tokens throttled throttling slow_down "
    "queue_full concurrent_requests_limit concurrency_limit_exceeded base_resp.1002 base_resp.1039 base_resp.1041",
    Meaning.KEY: "invalid_api_key incorrect_api_key api_key_invalid invalid_authentication authentication_error "
    "unauthenticated unauthorized permission_denied permission_error access_denied account_deactivated "
    "invalid_organization ip_not_authorized unsupported_country_region_territory service_disabled "
    "api_key_service_blocked consumer_suspended base_resp.1004 base_resp.2049",
    Meaning.FAULT: "base_resp.1001 base_resp.1013 base_resp.1024",
}


def _plain(code: str) -> str:
    """``RATE_LIMIT_EXCEEDED``, ``rateLimitExceeded`` and ``rate-limit-exceeded`` are one word."""
    return "".join(char for char in code.lower() if char.isalnum())


CODES: Final[Mapping[str, Meaning]] = {
    _plain(word): meaning for meaning, words in _WORDS.items() for word in words.split()
}
"""By the word without case and separators. ``invalid_request_error``, ``INVALID_ARGUMENT`` and their kin are not here:
they say no more than the status does."""

_AN_OPTION: Final = r"(?:parameter|argument|field|property|properties|option|attribute|keyword)s?"
PHRASES: Final[tuple[tuple[Meaning, re.Pattern[str]], ...]] = tuple(
    (meaning, re.compile(pattern, re.I | re.S))
    for meaning, pattern in (
        (
            Meaning.KEY,
            r"\bapi[ _-]?key\b[^.]{0,40}\b(?:invalid|not valid|incorrect|missing|expired)\b"
            r"|\b(?:invalid|incorrect|expired|missing) api[ _-]?key\b",
        ),
        (
            Meaning.REQUEST,
            rf"\b(?:unknown|unrecognized|unrecognised|unexpected|unsupported|invalid|missing|extra|additional)"
            rf"(?: required)?(?: request| input)? {_AN_OPTION}\b"
            rf"|\b{_AN_OPTION} ['\"`]?[\w.\[\]-]+['\"`]? (?:is|are|was)\b"
            r"|\binvalid value\b|\bmust be (?:one of|between|at least|at most|in|less|greater|a|an)\b"
            r"|\b(?:input|value) should be\b|\b(?:fields?|inputs?) (?:are |is )?(?:not permitted|required)\b"
            r"|\bis not (?:one of|a valid|an allowed value)\b",
        ),
        (
            Meaning.CONTENT,
            r"\b(?:reject|block|refus|flag|filter|declin|violat|forbid|withh)\w*[^.]{0,60}\b(?:safety|moderation|content|"
            r"polic(?:y|ies)|sensitive|nsfw|guardrails?|guidelines?|responsible ai|terms of (?:use|service))\b"
            r"|\b(?:safety|content|moderation|usage|sensitive|nsfw|sexual|violent|prohibited|inappropriate|unsafe|"
            r"responsible ai)\b[^.]{0,40}\b(?:reject|block|refus|flag|filtered|declin|violat|detect)\w*"
            r"|\bnot allowed by\b[^.]{0,40}\b(?:safety|polic|moderation|guideline)"
            r"|\bcontent (?:is|was|may be|contains?) (?:sensitive|unsafe|inappropriate|prohibited|not allowed)\b"
            r"|\b(?:sensitive|prohibited|inappropriate|unsafe) (?:content|words?|material|information)\b"
            r"|\bnsfw content\b|\bnudity\b|\bcontent policy\b",
        ),
        (
            Meaning.BUDGET,
            r"\binsufficient[_ ](?:quota|balance|credits?|funds)\b"
            r"|\b(?:exhausted|not enough|out of|no more) (?:balance|credits?|funds)\b"
            r"|\b(?:balance|credits?|funds) (?:is |are |has been |have been )?"
            r"(?:exhausted|depleted|used up|insufficient)\b"
            r"|\bbilling (?:hard )?limit\b|\benable billing\b|\bbilling (?:has not been|is not|must be) enabled\b"
            r"|\bpayment (?:is )?required\b",
        ),
        (
            Meaning.MODEL,
            r"\b(?:unknown|no such|invalid|unsupported) model\b|\bmodels?\b[ :]*(?:['\"`]?[\w./:@+-]+['\"`]?,? )?"
            r"(?:is |was |are |could )?"
            r"(?:not (?:be )?(?:found|exist|supported|available)|does not exist|not exist|unknown)\b",
        ),
    )
)
"""Sentences by what they mean; the first that fits counts. A refusal of an option comes first: what it says besides is
about the option's name or value."""

_OF_JOBS: Final = frozenset({Meaning.CONTENT, Meaning.BUDGET})
"""What the words of a job that failed can mean."""
_CONTENT_FIELDS: Final = frozenset(
    {
        "prompt",
        "negativeprompt",
        "input",
        "image",
        "images",
        "mask",
        "imageurl",
        "imageurls",
        "inputreference",
        "contents",
    }
)
"""Fields whose content can be refused. A refusal that names another field is about an option."""
_WORDY: Final = frozenset({None, 400, 403, 404, 422, 451})
"""Statuses with which free text is looked at; None: of a job that failed, or an answer with 200."""


def is_known(code: str) -> bool:
    """Whether a code alone says what a refusal means."""
    return _plain(code) in CODES


def meaning_of(status: int | None, said: Complaint, *, hinted: bool = False) -> Meaning:
    """What a refusal is about.

    Args:
        status: None where it is not HTTP that says so.
        hinted: the answer names a time to wait.
    """
    if status == 402:
        return Meaning.BUDGET
    for code in said.codes:
        if (meaning := CODES.get(_plain(code))) is not None:
            return meaning
    if status == 401:
        return Meaning.KEY
    if status == 429 or (status == 403 and hinted):
        return Meaning.RATE
    if status is not None and status >= 500:
        return Meaning.FAULT
    if status in _WORDY:
        is_option = said.param is not None and _plain(said.param.rpartition(".")[2]) not in _CONTENT_FIELDS
        if is_option and said.param != "model":
            return Meaning.REQUEST
        for meaning, pattern in PHRASES:
            if pattern.search(said.message):
                # of a job that failed "invalid argument" may be said by its own code: the caller is not blamed for that
                return meaning if status is not None or meaning in _OF_JOBS else Meaning.OTHER
        if said.param is not None:
            return Meaning.MODEL if said.param == "model" and status == 404 else Meaning.REQUEST
    if status == 403:
        return Meaning.KEY
    return Meaning.REQUEST if status in (400, 405, 413, 415, 422) else Meaning.OTHER
