"""The cases by the name under which the command line knows them, in the order in which they run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from benchmarks.bench import Case
from benchmarks.cases import (
    busy,
    download,
    edit_overhead,
    image_overhead,
    paid_video,
    polls,
    progress,
    rows,
    slow,
    slow_rounds,
    storm,
    upload,
    websocket,
)
from benchmarks.cases.transfers import (
    base64,
    base64_answer,
    buffered,
    cancel,
    disk,
    large,
    many,
    remote,
    tls,
    tls_source,
    to_s3,
)

CASES: Final[Mapping[str, Case]] = {
    "s3": to_s3.range_lane,
    "s3-buffer": to_s3.buffer_lane,
    "many": many.run,
    "large": large.run,
    "disk": disk.run,
    "remote": remote.run,
    "tls": tls.run,
    "tls-source": tls_source.run,
    "base64": base64.run,
    "upload": upload.run,
    "download": download.run,
    "paid-video": paid_video.run,
    "base64-answer": base64_answer.run,
    "image-overhead": image_overhead.run,
    "edit-overhead": edit_overhead.run,
    "polls": polls.run,
    "rows": rows.run,
    "progress": progress.run,
    "websocket": websocket.run,
    "storm": storm.run,
    "cancel": cancel.run,
    "slow": slow.run,
    "slow-rounds": slow_rounds.run,
    "busy": busy.run,
    "streamed-vs-buffered": buffered.run,
}
