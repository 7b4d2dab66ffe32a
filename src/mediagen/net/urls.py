"""The text of a URL, changed only where RFC 3986 forbids it to stay: some links are signed over their very spelling."""

from __future__ import annotations

import re
from typing import Final

_ODD: Final = re.compile(r"[^A-Za-z0-9._~:/?#@!$&'()*+,;=%-]")
"""What may not follow the host as it is. A ``%`` stays, whatever follows it: browsers and curl send it so."""
_DOTS: Final = re.compile(r"(?:^|/)\.\.?(?:/|$)")
_PIECES: Final = re.compile(r"(?:([^:/?#]+):)?(?://([^/?#]*))?([^?#]*)(\?[^#]*)?(#.*)?", re.DOTALL)
"""Scheme, authority, path, query and fragment (RFC 3986 appendix B), the last two with their marks."""


def escape(text: str) -> str:
    """``text`` with each character that may not stand in a URL as the escapes of its UTF-8, and no other change.

    Raises:
        UnicodeEncodeError: a lone surrogate, which has no UTF-8.
    """
    return _ODD.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), text)


def resolve_dots(rest: str) -> str:
    """What follows the host, the segments ``.`` and ``..`` of its path resolved (RFC 3986 section 5.2.4)."""
    path, mark, behind = _parted(rest)
    return _resolved(path) + mark + behind if _DOTS.search(path) else rest


def decode_url_field(value: str) -> str:
    """The URL in a header field, read as browsers and curl do: its raw bytes become escapes, one by one.

    Args:
        value: the field as Latin-1. Bytes in the place of the host are UTF-8, where they are that.
    """
    scheme, authority, path, query, fragment = _split(value)
    host = authority
    if host is not None:
        try:
            host = host.encode("latin-1").decode()
        except UnicodeDecodeError:
            host = authority
    rest = re.sub(r"[\x80-\xff]", lambda found: f"%{ord(found[0]):02X}", path + query + fragment)
    return _joined(scheme, host, rest)


def resolve(base: str, reference: str) -> str:
    """The URL that ``reference`` means at ``base`` (RFC 3986 section 5.2.2)."""
    scheme, authority, path, query, fragment = _split(reference)
    if scheme is not None:
        return _joined(scheme, authority, _resolved(path) + query + fragment)
    base_scheme, base_authority, base_path, base_query, _ = _split(base)
    if authority is not None:
        return _joined(base_scheme, authority, _resolved(path) + query + fragment)
    if not path:
        return _joined(base_scheme, base_authority, base_path + (query or base_query) + fragment)
    if not path.startswith("/"):
        path = base_path.rpartition("/")[0] + "/" + path
    return _joined(base_scheme, base_authority, _resolved(path) + query + fragment)


def _split(text: str) -> tuple[str | None, str | None, str, str, str]:
    found = _PIECES.fullmatch(text)
    assert found is not None  # it matches every text
    return found[1], found[2], found[3], found[4] or "", found[5] or ""


def _joined(scheme: str | None, authority: str | None, rest: str) -> str:
    return ("" if scheme is None else f"{scheme}:") + ("" if authority is None else f"//{authority}") + rest


def _parted(rest: str) -> tuple[str, str, str]:
    end = min((at for at in (rest.find("?"), rest.find("#")) if at >= 0), default=len(rest))
    return rest[:end], rest[end : end + 1], rest[end + 1 :]


def _resolved(path: str) -> str:
    if not _DOTS.search(path):
        return path
    kept: list[str] = []
    segments = path.split("/")
    for segment in segments:
        if segment == "..":
            if len(kept) > 1:
                kept.pop()
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/".join(kept)
