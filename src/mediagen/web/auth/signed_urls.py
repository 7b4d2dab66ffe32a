"""Signed links to files: made when a file is shown, good for a while, and kept nowhere.

A link names the file, the second in which it ends and whether it is a download; the signature is the HMAC-SHA256
(RFC 2104) of the three under a secret of 256 random bits that stays with the data directory. So nothing of a link can
be altered, and checking one asks nobody whether the file exists.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final
from urllib.parse import quote, urlencode

from mediagen.core.clock import utc_now
from mediagen.core.files import File
from mediagen.web.http.problems import Forbidden, LinkExpired

PATH: Final = "/media/{id}"
DOWNLOAD: Final = "true"


class Links:
    """Makes and checks the links of one server.

    Args:
        secret: 32 bytes.
        ttl_seconds: how long a link is good.
        base_path: path prefix of every route.
        public_base_url: a CDN in front of the store, whose links are not ours to sign; empty: there is none.
    """

    def __init__(
        self,
        secret: bytes,
        *,
        ttl_seconds: int,
        base_path: str,
        public_base_url: str = "",
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._key = hmac.new(secret, digestmod=sha256)
        self._ttl_seconds = ttl_seconds
        self._base_path = base_path
        self._public_base_url = public_base_url.rstrip("/")
        self._now = now

    def of(self, file: File, base: str, *, download: bool = False) -> tuple[str, datetime | None]:
        """The URL of a file for a caller that reaches us at ``base``, and when it ends; None: never.

        A CDN's URL is that of the stored object, which says itself how it is to be shown.
        """
        if self._public_base_url:
            return f"{self._public_base_url}/{quote(file.key)}", None
        expires = int(self._now().timestamp()) + self._ttl_seconds
        query = {"expires": str(expires)} | ({"download": DOWNLOAD} if download else {})
        query["signature"] = self._sign(file.id, str(expires), DOWNLOAD if download else "")
        path = self._base_path + PATH.format(id=file.id)
        return f"{base}{path}?{urlencode(query)}", datetime.fromtimestamp(expires, UTC)

    def check(self, file_id: str, *, expires: str, download: str, signature: str) -> int:
        """The words of a link as they came. How many seconds the link is good for yet; at least 1.

        Raises:
            Forbidden: it is not one of ours, or something of it was altered. Says nothing of the file.
            LinkExpired: it was one of ours.
        """
        expected = self._sign(file_id, expires, download)
        if not hmac.compare_digest(expected.encode(), signature.encode(errors="replace")):
            raise Forbidden(
                "this link was altered or is not from this server; fetch the file's metadata to get a new one"
            )
        left = int(expires) - int(self._now().timestamp())
        if left <= 0:
            raise LinkExpired("this link has expired; fetch the file's metadata to get a new one")
        return left

    def _sign(self, file_id: str, expires: str, download: str) -> str:
        """43 letters of URL-safe base64. The lengths keep the words apart, whatever is in them."""
        made = self._key.copy()
        made.update(
            "".join(f"{len(word)}:{word}" for word in ("media", file_id, expires, download)).encode(errors="replace")
        )
        return urlsafe_b64encode(made.digest()).rstrip(b"=").decode()
