"""How many calls a service accepts at once, found by trying: additive increase, multiplicative decrease."""

from __future__ import annotations


class AimdLimit:
    """Counts calls in flight against a limit that follows the service, as RFC 5681 section 3.1 does for a connection.

    A full round of successes, one for each call that the limit allows, raises it by one, up to ``maximum``. A service
    that says "too many" halves it, down to one. The caller decides which answers belong to one congestion.
    """

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum
        self.limit = maximum
        self.in_flight = 0
        self._succeeded = 0

    @property
    def has_room(self) -> bool:
        return self.in_flight < self.limit

    def begin(self) -> None:
        self.in_flight += 1

    def end(self) -> None:
        self.in_flight -= 1

    def succeed(self) -> None:
        """Count a success of the present round."""
        self._succeeded += 1
        if self._succeeded >= self.limit:
            self._succeeded = 0
            self.limit = min(self.maximum, self.limit + 1)

    def halve(self, calls: int | None = None) -> None:
        """Halve ``calls``, the number that was too many, or else the limit; a new round begins."""
        self.limit = max(1, min(self.limit, self.limit if calls is None else calls) // 2)
        self.restart_round()

    def restart_round(self) -> None:
        self._succeeded = 0
