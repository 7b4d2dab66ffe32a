"""Inputs of tasks, looked up."""

from __future__ import annotations

from mediagen.core.files import File, FileKind
from mediagen.pipelines.inputs import InputLoader, InputRef
from mediagen.pipelines.saving.placement import StoreContext
from tests.contracts.journal import a_file


class OneFile:
    """A shelf with one file."""

    def __init__(self, file: File) -> None:
        self._file = file

    async def get(self, file_id: str, *, owner: str | None = None) -> File | None:
        return self._file if file_id == self._file.id and owner in (None, self._file.owner) else None


async def test_an_input_says_whose_request_it_is(store: StoreContext) -> None:
    picture = a_file(owner="me", kind=FileKind.IMAGE, media_type="image/png")
    ref = InputRef(role="image", file_id=picture.id)
    inputs = InputLoader(OneFile(picture), store.storage)

    for owner in ("me", None):
        (found,) = await inputs.load([ref], owner=owner)
        assert found.owner == owner
