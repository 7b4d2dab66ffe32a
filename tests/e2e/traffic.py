"""What reached the store: read from the log of a fault proxy that stands in front of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from urllib.parse import parse_qs, urlsplit

from tests.infra.servers.fault_proxy import Exchange, FaultProxyThread

COMPLETE = r"\?(?!.*partNumber).*uploadId="
"""Pattern of the target of CompleteMultipartUpload (POST), AbortMultipartUpload (DELETE) and ListParts (GET)."""
PART = r"partNumber="


class Traffic:
    """Requests to the store, by what they do."""

    def __init__(self, proxy: FaultProxyThread) -> None:
        self.proxy = proxy

    @property
    def now(self) -> int:
        """A mark: exchanges from here on are those that came later."""
        return len(self.proxy.log)

    def since(self, mark: int = 0) -> list[Exchange]:
        """Exchanges that began after the mark."""
        return list(self.proxy.log)[mark:]

    def parts(self, mark: int = 0) -> list[tuple[str, int, Exchange]]:
        """Uploads of parts: id of the upload, number of the part, exchange."""
        found = []
        for exchange in self.since(mark):
            query = parse_qs(urlsplit(exchange.target).query)
            if exchange.method == "PUT" and "partNumber" in query:
                found.append((query["uploadId"][0], int(query["partNumber"][0]), exchange))
        return found

    def stored(self, mark: int = 0) -> set[tuple[str, int]]:
        """Parts that the store has acknowledged."""
        return {(upload, number) for upload, number, exchange in self.parts(mark) if exchange.status == 200}

    def sent(self, mark: int = 0) -> set[tuple[str, int]]:
        """Parts that were sent, acknowledged or not."""
        return {(upload, number) for upload, number, _ in self.parts(mark)}

    def begun(self, mark: int = 0) -> int:
        """How many multipart uploads the store was asked to begin."""
        return sum(one.method == "POST" and one.target.endswith("?uploads") for one in self.since(mark))

    def completions(self, mark: int = 0) -> list[Exchange]:
        """Requests to complete an upload."""
        return [one for one in self.since(mark) if one.method == "POST" and re.search(COMPLETE, one.target)]

    def aborts(self, mark: int = 0) -> list[Exchange]:
        """Requests to abort an upload."""
        return [one for one in self.since(mark) if one.method == "DELETE" and re.search(COMPLETE, one.target)]

    async def settled(self) -> None:
        """Wait until the store has finished what a killed server asked of it."""
        await self.reaches(_all_ended)

    async def stores(self, count: int, mark: int = 0, *, or_completes: bool = False, seconds: float = 30) -> None:
        """Wait until so many parts have been acknowledged; ``or_completes``: or an upload is to be completed."""

        def reached(_: object) -> bool:
            return len(self.stored(mark)) >= count or (or_completes and bool(self.completions()))

        await self.reaches(reached, seconds)

    async def reaches(self, holds: Callable[[list[Exchange]], bool], seconds: float = 30) -> None:
        """Wait until the log holds that; the failure is one that can be read."""
        try:
            await self.proxy.log.reaches(holds, seconds)
        except TimeoutError:
            lines = [
                f"{one.method} {one.target} {one.status} {one.received} {one.sent} {one.ended}"
                for one in self.proxy.log
            ]
            raise AssertionError("\n".join([f"not within {seconds:g} s; the store was asked for", *lines])) from None


def _all_ended(exchanges: Iterable[Exchange]) -> bool:
    return all(exchange.ended for exchange in exchanges)
