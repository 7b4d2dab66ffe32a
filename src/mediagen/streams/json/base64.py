"""Base64 decoded while it arrives (RFC 4648 sections 4 and 5, RFC 2397 for ``data:``).

Strict where bytes could be lost, lenient where writers differ: line breaks, spaces and tabs are skipped, padding may be
missing, either alphabet is taken but not both in one text. Everything else is an error that names the offset of the
offending character.
"""

from __future__ import annotations

import binascii
import re
from typing import Final
from urllib.parse import unquote_to_bytes

import pybase64

from mediagen.core.errors import InvalidBase64
from mediagen.streams.base import View

_SPACE: Final = b" \t\r\n"
_STRANGE: Final = re.compile(rb"[^A-Za-z0-9+/]")
_NOT_PADDING: Final = re.compile(rb"[^= \t\r\n]")
_TO_STANDARD: Final = bytes.maketrans(b"-_", b"+/")
_LAST: Final = 8
"""Characters at the end of a text with padding that are looked at one by one."""
_PADDED_END: Final = re.compile(rb"\A[A-Za-z0-9+/]{6,7}={1,2}\Z")
_MAX_PREFIX: Final = 1024
"""Characters that the head of a ``data:`` URI may have before its comma."""


class Base64Decoder:
    """Incremental decoder: ``feed`` text as it comes, ``finish`` at its end.

    The common case, clean text of the standard alphabet, is checked and decoded in one pass with SIMD and without a
    copy; only text that fails there is looked at character by character. ``offset`` is where in a longer text the
    base64 begins; errors count from the beginning of that.
    """

    def __init__(self, *, offset: int = 0) -> None:
        self._carry = b""
        self._offset = offset
        self._alphabet: bytes | None = None
        self._padded = 0
        self._clean = True

    def feed(self, text: View) -> bytes:
        """Bytes decoded so far from ``text`` and what came before.

        Raises:
            InvalidBase64: with the offset of the first wrong character.
        """
        decoded = self.feed_clean(text)
        if decoded is not None:
            return decoded[0] + decoded[1] if decoded[0] else decoded[1]
        before = b""
        is_end = (len(self._carry) + len(text)) % 4 == 0 and _PADDED_END.search(text[-_LAST:])
        if is_end and (decoded := self.feed_clean(text[:-_LAST])) is not None:  # all but its last characters is clean
            before, text = b"".join(decoded), text[-_LAST:]
        self._clean = False
        return before + self._decode_checked(bytes(text))

    def feed_clean(self, text: View) -> tuple[bytes, bytes] | None:
        """As ``feed`` for clean text, in one pass; None when it is not, and then nothing has changed.

        What the group that was begun before gives stands apart, so that the rest need not be moved to stand behind it.
        """
        if not self._clean or self._padded:
            return None
        try:
            return self._decode_clean(text)
        except binascii.Error:
            return None

    def finish(self) -> bytes:
        """The last bytes.

        Raises:
            InvalidBase64: the text ended inside a group of four characters.
        """
        quad, self._carry = self._carry, b""
        if len(quad) == 1:
            raise InvalidBase64(f"base64 ends after one character of a group, at offset {self._offset}")
        if self._padded and len(quad) + self._padded != 4:
            raise InvalidBase64(f"wrong base64 padding before offset {self._offset}")
        return pybase64.b64decode(quad + b"=" * (-len(quad) % 4), validate=True) if quad else b""

    def _decode_clean(self, text: View) -> tuple[bytes, bytes]:
        view = memoryview(text)
        carry = self._carry
        head = b""
        start = 0
        if carry:
            start = min(4 - len(carry), len(view))
            quad = carry + bytes(view[:start])
            _refuse_strange(quad)
            if len(quad) < 4:
                self._note_alphabet(quad)
                self._carry = quad
                self._offset += start
                return b"", b""
            head = pybase64.b64decode(quad, validate=True)
        end = start + (len(view) - start) // 4 * 4
        if end > start and view[end - 1] == 0x3D:
            raise binascii.Error("padding")
        tail = bytes(view[end:])
        _refuse_strange(tail)
        body = pybase64.b64decode(view[start:end], validate=True) if end > start else b""
        if self._alphabet is None:
            self._note_alphabet(bytes(view))
        self._carry = tail
        self._offset += len(view)
        return head, body

    def _note_alphabet(self, text: bytes) -> None:
        if b"+" in text or b"/" in text:
            self._alphabet = b"+/"

    def _decode_checked(self, text: bytes) -> bytes:
        begin = self._offset
        plain = text.translate(None, _SPACE)
        if self._alphabet is None and (found := re.search(rb"[+/_-]", plain)) is not None:
            self._alphabet = b"+/" if found[0] in b"+/" else b"-_"
        if self._alphabet == b"-_":
            if b"+" in plain or b"/" in plain:
                raise self._wrong(text, begin)
            plain = plain.translate(_TO_STANDARD)
        padding = 0 if self._padded else plain.find(b"=")
        equals = b""
        if padding >= 0:
            plain, equals = plain[:padding], plain[padding:]
        if _STRANGE.search(plain) or equals.strip(b"=") or self._padded + len(equals) > 2:
            raise self._wrong(text, begin)
        self._padded += len(equals)
        whole = self._carry + plain
        end = len(whole) // 4 * 4
        self._carry = whole[end:]
        self._offset += len(text)
        return pybase64.b64decode(whole[:end], validate=True) if end else b""

    def _wrong(self, text: bytes, begin: int) -> InvalidBase64:
        """The error of the first character in ``text`` that cannot stand where it stands."""
        strange = rb"[^A-Za-z0-9_= \t\r\n-]" if self._alphabet == b"-_" else rb"[^A-Za-z0-9+/= \t\r\n]"
        found = re.search(strange, text)
        at = found.start() if found else len(text)
        padded = self._padded
        first = 0 if padded else text.find(b"=")
        for position in range(first if first >= 0 else at, at):
            # after padding, padding alone may follow, and no more than two of it in all
            padded += text[position] == 0x3D
            if padded > 2 or _NOT_PADDING.match(text, position):
                at = position
                break
        return InvalidBase64(f"not a base64 character at offset {begin + at}: {text[at : at + 1]!r}")


def _refuse_strange(text: bytes) -> None:
    if _STRANGE.search(text):
        raise binascii.Error("not in the standard alphabet")


class PercentDecoder:
    """Undoes percent-encoding (RFC 3986 section 2.1) while it arrives; what only looks like it stays as it is."""

    def __init__(self) -> None:
        self._carry = b""

    @property
    def holds(self) -> bool:
        """Whether the beginning of an escape waits for its end."""
        return bool(self._carry)

    def feed(self, text: View) -> bytes:
        data = self._carry + bytes(text)
        begun = data.find(b"%", max(0, len(data) - 2))
        data, self._carry = (data, b"") if begun < 0 else (data[:begun], data[begun:])
        return unquote_to_bytes(data)

    def finish(self) -> bytes:
        left, self._carry = self._carry, b""
        return left


class DataUriDecoder:
    """As ``Base64Decoder``, for text that may begin with ``data:<media type>;base64,``, or ``data:<media type>,``.

    What follows the comma of either may be percent-encoded (RFC 2397); without ``;base64`` it is the content itself.
    Offsets of errors behind an escape count characters that are left once it is undone.
    """

    def __init__(self) -> None:
        self.media_type: str | None = None
        self._skipped = 0
        self._head: bytes | None = b""
        self._decoder: Base64Decoder | None = Base64Decoder()
        self._escapes: PercentDecoder | None = None

    def feed(self, text: View) -> bytes:
        if self._head is None:
            return self._decoded(text)
        head = self._head + bytes(text)
        if not self._head:  # no more than the head itself is kept, however much space comes before it
            head = head.lstrip(_SPACE)
            self._skipped += len(text) - len(head)
        self._head = head
        if len(head) < 5 and b"data:".startswith(head.lower()):
            return b""
        if head[:5].lower() != b"data:":
            return self._begin(0)
        comma = head.find(b",", 0, _MAX_PREFIX)
        if comma < 0:
            if len(head) >= _MAX_PREFIX:
                raise InvalidBase64(f"no comma in the first {_MAX_PREFIX} characters of a data: URI")
            return b""
        media_type, *parameters = unquote_to_bytes(head[5:comma]).decode("latin-1").split(";")
        self.media_type = media_type.strip().lower() or None
        self._escapes = PercentDecoder()
        is_base64 = bool(parameters) and parameters[-1].strip().lower() == "base64"
        return self._begin(comma + 1, is_base64=is_base64)

    def feed_clean(self, text: View) -> tuple[bytes, bytes] | None:
        """As ``Base64Decoder.feed_clean``; None before the text itself has begun, and of text that is no base64."""
        if self._head is not None or self._decoder is None or (self._escapes is not None and self._escapes.holds):
            return None
        return self._decoder.feed_clean(text)

    def finish(self) -> bytes:
        if self._head is None:
            left = b"" if self._escapes is None else self._escapes.finish()
            if self._decoder is None:
                return left
            return (self._decoder.feed(left) if left else b"") + self._decoder.finish()
        if self._head[:5].lower() == b"data:":
            raise InvalidBase64("the data: URI has no comma")
        assert self._decoder is not None
        return self._begin(0) + self._decoder.finish()

    def _begin(self, start: int, *, is_base64: bool = True) -> bytes:
        text, self._head = (self._head or b"")[start:], None
        self._decoder = Base64Decoder(offset=self._skipped + start) if is_base64 else None
        return self._decoded(text)

    def _decoded(self, text: View) -> bytes:
        if self._escapes is not None:
            if (clean := self.feed_clean(text)) is not None:
                return clean[0] + clean[1] if clean[0] else clean[1]
            if self._decoder is None or self._escapes.holds or b"%" in bytes(text):
                text = self._escapes.feed(text)
        return bytes(text) if self._decoder is None else self._decoder.feed(text)
