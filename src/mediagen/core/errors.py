"""The one error tree.

Every failure that mediagen explains to somebody is a ``MediagenError``. ``detail`` is for the client, ``context``
for the log. ``code`` is a stable word of the public contract, ``retryable`` says whether the same call can succeed
later without anything being changed. Which HTTP status a class gets is decided in one table at the web edge.

    MediagenError
    ├── InvalidRequest ─ InvalidBase64, UnsupportedMedia, UrlNotAllowed, UnknownModel, IdempotencyMismatch
    ├── Unauthorized · NotFound · Conflict ─ AttemptsExhausted
    ├── TooLarge
    ├── FetchFailed ─ FetchRefused, ConnectTimeout, SourceTruncated, SourceStalled (FirstByteTimeout),
    │                SourceChanged (RangesUnreliable)
    ├── StorageUnavailable ─ StorageRefused, StorageFull, UploadLost
    ├── ProviderError ─ ProviderUnavailable (StatusMissing), ProviderRateLimited, ProviderKeyRefused,
    │                   ProviderBudgetSpent, ContentRefused, OutcomeUnknown
    ├── Overloaded ─ QueueFull, RateLimited
    ├── DeadlineExceeded
    ├── TaskCancelled
    └── Unavailable
"""

from __future__ import annotations

from typing import ClassVar


class MediagenError(Exception):
    """Root of the tree; raised itself only for a fault of ours."""

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str, **context: object) -> None:
        super().__init__(detail)
        self.detail = detail
        self.context = context

    @property
    def retry_after(self) -> float | None:
        """Seconds that the other side asked us to wait, or None."""
        value = self.context.get("retry_after")
        return float(value) if isinstance(value, int | float) else None


class InvalidRequest(MediagenError):
    """The request cannot be carried out as it was written."""

    code = "invalid_request"


class InvalidBase64(InvalidRequest):
    """Base64 text that RFC 4648 does not allow; ``detail`` names the offset."""

    code = "invalid_base64"


class UnsupportedMedia(InvalidRequest):
    """Bytes of a kind that this call does not take."""

    code = "unsupported_media"


class UrlNotAllowed(InvalidRequest):
    """A URL whose scheme, port or address the operator's policy forbids."""

    code = "url_not_allowed"


class InputUnavailable(InvalidRequest):
    """The URL of an input gave nothing that can be used."""

    code = "input_unavailable"


class UnknownModel(InvalidRequest):
    """No provider has a model of this name, or none that makes what was asked for."""


class IdempotencyMismatch(InvalidRequest):
    """An Idempotency-Key that came before, with another request."""

    code = "idempotency_mismatch"


class Unauthorized(MediagenError):
    """No valid key."""

    code = "unauthorized"


class NotFound(MediagenError):
    """Unknown id, or one that belongs to somebody else."""

    code = "not_found"


class Conflict(MediagenError):
    """The thing exists, but its state does not allow the call."""

    code = "conflict"


class AttemptsExhausted(Conflict):
    """A task that may not be tried again."""

    code = "attempts_exhausted"


class TooLarge(MediagenError):
    """More bytes than a limit allows."""

    code = "too_large"


class FetchFailed(MediagenError):
    """The source of a download could not be read; trying again can help."""

    code = "fetch_failed"
    retryable = True


class FetchRefused(FetchFailed):
    """The source answered with a status that will not change by asking again (most 4xx)."""

    retryable = False


class SourceTruncated(FetchFailed):
    """The source ended before its announced or structural end."""

    code = "source_truncated"


class SourceStalled(FetchFailed):
    """The source sent nothing for too long."""

    code = "source_stalled"


class ConnectTimeout(FetchFailed):
    """No connection to the source within the limit."""


class FirstByteTimeout(SourceStalled):
    """Connected, but no answer within the limit."""


class SourceChanged(FetchFailed):
    """The source is not the one that the transfer began with (its validator differs)."""


class RangesUnreliable(SourceChanged):
    """What the source answers to ranges contradicts itself: it has to be asked for the whole, without ranges."""


class StorageUnavailable(MediagenError):
    """The store did not do what it was asked; trying again can help."""

    code = "storage_unavailable"
    retryable = True


class StorageRefused(StorageUnavailable):
    """The store refused the call for good (credentials, rights, no such bucket)."""

    retryable = False


class StorageFull(StorageUnavailable):
    """No room left in the store."""

    code = "storage_full"
    retryable = False


class UploadLost(StorageUnavailable):
    """The store no longer knows a multipart upload; it must start over."""


class ProviderError(MediagenError):
    """The provider did not make what it was asked for, and asking again will not change that."""

    code = "provider_error"


class ProviderUnavailable(ProviderError):
    """The provider could not be reached, or failed; surely nothing was begun, so trying again can help."""

    retryable = True


class StatusMissing(ProviderUnavailable):
    """The provider was asked how far a job is, and its answer has no status."""


class ProviderRateLimited(ProviderError):
    """The provider wants to be asked later; ``retry_after`` seconds are in the context when it said so."""

    code = "provider_rate_limited"
    retryable = True


class ProviderKeyRefused(ProviderError):
    """The provider does not take our key, or the key may not do this: a matter for the operator."""


class ProviderBudgetSpent(ProviderError):
    """The account at the provider has no money or quota left: a matter for the operator."""


class ContentRefused(ProviderError):
    """The provider's rules forbid the prompt, an input or what came out."""

    code = "content_refused"


class OutcomeUnknown(ProviderError):
    """A paid request may have been carried out, but its answer is lost. Never repeated by itself."""

    code = "outcome_unknown"


class Overloaded(MediagenError):
    """Too much at once; ``retry_after`` seconds are in the context."""

    code = "rate_limited"
    retryable = True


class QueueFull(Overloaded):
    """The task queue is at its limit."""

    code = "queue_full"


class RateLimited(Overloaded):
    """The caller, or we as a caller, went over a rate."""


class DeadlineExceeded(MediagenError):
    """A time limit of ours was reached."""

    code = "timeout"
    retryable = True


class TaskCancelled(MediagenError):
    """The task ended because somebody asked for it."""

    code = "cancelled"


class Unavailable(MediagenError):
    """This server cannot do it now (starting, stopping, database read-only)."""

    code = "unavailable"
    retryable = True


def first_cause(exc: BaseException) -> BaseException:
    """The first failure inside a (nested) exception group, or ``exc`` itself.

    A task group wraps even a single failure; the first one raised is the reason, the rest are consequences.
    """
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    return exc
