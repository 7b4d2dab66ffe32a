"""Requests and answers of ``/v1/files`` and of signed links."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from mediagen.core.files import FileKind
from mediagen.web.api.schemas import FileView, Given, Order, Page, PageSize


class FilePage(Page):
    data: list[FileView]


class FileFilter(Given):
    kind: FileKind | None = None
    limit: PageSize = 20
    after: str | None = Field(None, pattern=r"^file_[0-9a-f]{32}$")
    order: Order = "desc"


class ContentQuery(Given):
    """How the content is wanted."""

    download: bool = Field(False, description="serve as an attachment, whatever the type")


class FileViewQuery(Given):
    """How the content is wanted by those who are given the ``url``."""

    download: bool = Field(
        False, description="make `url` serve an attachment, whatever the type; has no effect on a CDN's URL"
    )
    url_mode: Literal["link", "presigned"] = Field(
        "link", description="`presigned`: make `url` the bucket's own link, for clients that cannot reach this server"
    )


class SignedUrlQuery(BaseModel):
    """The words of a link of ours. What others have added to it counts for nothing."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    expires: str = Field("", description="when the link expires (Unix time, seconds)")
    download: str = Field("", description="`true`: serve as an attachment, whatever the type")
    signature: str = Field("", description="HMAC over the rest of the link")
