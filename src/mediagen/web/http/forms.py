"""Files out of HTML forms (multipart/form-data, RFC 7578), streamed."""

from __future__ import annotations

from email.message import Message
from typing import Final

from mediagen.core.errors import InvalidRequest
from mediagen.streams.base import Source
from mediagen.web.http.multipart import Part, Parts
from mediagen.web.http.problems import EncodedBody

FIELD: Final = "file"
_MAX_PARTS: Final = 100
_MAX_LINES: Final = 2000
"""Lines outside content: boundaries, headers, what stands before the first boundary. Each costs time of the loop."""
_PLAIN: Final = frozenset({"", "binary", "8bit", "7bit"})


class Form:
    """A form that arrives. Its one file is in the field ``file``; other fields are read over.

    ``media_type``: of the body, with its boundary. ``max_rest``: bytes that it may have beside the file.
    """

    def __init__(self, body: Source, media_type: str, *, max_rest: int) -> None:
        self._parts = parts_of(body, media_type, max_rest=max_rest)
        self._count = 0

    async def file(self) -> FormFile:
        """The file; its content is still to come.

        Raises:
            InvalidRequest: the form has no such field, or is no form.
            TooLarge, EncodedBody, and what the body raises.
        """
        while (part := await self._next()) is not None:
            if part.name == FIELD:
                _check_plain(part)
                return FormFile(self, part)
            await self._skip(part)
        raise InvalidRequest(f"the form has no field {FIELD!r}", field=FIELD)

    async def finish(self) -> None:
        """Read the form to its end after its file: it may be wrong until then. Raises as ``file`` does."""
        while (other := await self._next()) is not None:
            if other.name == FIELD:
                raise InvalidRequest(f"the form has more than one field {FIELD!r}", field=FIELD)
            await self._skip(other)
        await self._parts.finish()

    async def _next(self) -> Part | None:
        self._count += 1
        if self._count > _MAX_PARTS:
            raise InvalidRequest(f"the form has more than {_MAX_PARTS} fields")
        part = await self._parts.next()
        if part is None:
            return None
        if part.name is None or part.headers.get("Content-Type", "").lower().startswith("multipart/"):
            raise InvalidRequest("every part of a form is a field with a name in its Content-Disposition")
        return part

    async def _skip(self, part: Part) -> None:
        if part.filename:
            raise InvalidRequest(f"only the field {FIELD!r} may hold a file", field=FIELD)
        await self._parts.skip()


class FormFile:
    """The file of a form: what the form says of it, and its content as a source. The end comes after the form's own."""

    size: int | None = None

    def __init__(self, form: Form, part: Part) -> None:
        self.filename = part.filename or ""
        self.media_type = part.headers.get("Content-Type")
        self._form = form
        self._part = part
        self._nameless = part.filename == ""
        self._any = False
        self._finished = False

    async def read_into(self, buffer: memoryview, /) -> int:
        count = await self._part.read_into(buffer)
        self._any = self._any or count > 0
        if not count and not self._finished:
            if self._nameless and not self._any:
                raise InvalidRequest("no file was chosen", field=FIELD)  # what browsers send then
            await self._form.finish()
            self._finished = True
        return count

    def try_read(self, buffer: memoryview, /, *, within: float) -> int:
        count = self._part.try_read(buffer, within=within)
        self._any = self._any or count > 0
        return count


def parts_of(body: Source, media_type: str, *, max_rest: int) -> Parts:
    """The parts of a form with this ``Content-Type``. ``max_rest``: bytes outside of what is read of them."""
    return Parts(body, _boundary(media_type), max_lines=_MAX_LINES, max_rest=max_rest)


def _boundary(media_type: str) -> str:
    message = Message()
    message["Content-Type"] = media_type
    boundary = message.get_param("boundary")
    return boundary if isinstance(boundary, str) else ""


def _check_plain(part: Part) -> None:
    """Raise EncodedBody for content that would have to be unpacked or decoded (RFC 7578 section 4.7)."""
    for name in ("Content-Transfer-Encoding", "Content-Encoding"):
        coding = part.headers.get(name, "").strip().lower()
        if coding not in _PLAIN and coding != "identity":
            raise EncodedBody(f"send the file without {name} (this one has {coding[:40]!r})")
