"""Generated conditions and ranges: every answer is what an independent reading of RFC 9110 demands."""

from __future__ import annotations

import asyncio
import http.client
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from itertools import product
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.infra.s3 import Bucket
from tests.infra.servers.radosgw import RadosGW
from tests.web.conftest import House, Start, in_bucket, stored
from tests.web.files.range_oracle import Answer, Headers, Thing, judge

SIZES = (0, 1, 2, 700)
Ask: TypeAlias = Callable[[str, Headers], Answer]

BOUND = st.integers(0, 710) | st.sampled_from([0, 1, 2, 699, 700, 701, 10**25, "007"])
SPEC = (
    st.builds("{}-{}".format, BOUND, BOUND)
    | st.builds(lambda first, more: f"{first}-{first + more}", st.integers(0, 690), st.integers(0, 40))
    | st.builds("{}-".format, BOUND)
    | st.builds("-{}".format, BOUND)
)
ODD = st.sampled_from(["", " ", "-", "a-b", "1", "1-2-3", "+1-2", "1 - 2", "0x1-2", "-1-", "\t", "1--2", "\u0661-2"])
RANGE = st.one_of(
    st.builds(
        lambda specs, gap: f"bytes={gap.join(specs)}",
        st.lists(SPEC, min_size=1, max_size=6),
        st.sampled_from([",", ", ", " ,\t", ",,"]),
    ),
    st.builds(lambda specs: f"bytes={','.join(specs)}", st.lists(SPEC | ODD, max_size=5)),
    st.builds(
        lambda count, step: "bytes=" + ",".join(f"{n * step}-{n * step}" for n in range(count)),
        st.integers(60, 70),
        st.integers(1, 9),
    ),
    st.builds(
        lambda unit, spec: unit + spec, st.sampled_from(["Bytes=", "BYTES=", "bytes =", "bytes", "lines=", ""]), SPEC
    ),
)


TAGS = ('"ETAG"', 'W/"ETAG"', '"x"', 'W/"x"', '""', '"ETAG,"', 'w/"ETAG"', "ETAG", '"', "*", "")
DATES = (
    "%a, %d %b %Y %H:%M:%S GMT",
    "%A, %d-%b-%y %H:%M:%S GMT",
    "%a %b %e %H:%M:%S %Y",
    "%a, %d %b %Y %H:%M:%S +0000",
    "%d %b %Y %H:%M:%S GMT",
    "%s",
    "yesterday",
)
IMF = "{:%a, %d %b %Y %H:%M:%S GMT}"


def tags(etag: str) -> st.SearchStrategy[str]:
    one = st.sampled_from([tag.replace("ETAG", etag) for tag in TAGS])
    gap = st.sampled_from([",", ", ", " , ,", " "])
    return st.builds(lambda tags, gap: gap.join(tags), st.lists(one, max_size=3), gap)


def dates(modified: datetime) -> st.SearchStrategy[str]:
    moved = st.sampled_from([-1, 0, 1, -800_000, 40_000_000])
    return st.builds(
        lambda seconds, form: (modified + timedelta(seconds=seconds)).strftime(form), moved, st.sampled_from(DATES)
    )


def headers(thing: Thing) -> st.SearchStrategy[Headers]:
    """Any of the six headers, none of them mostly, now and then one of them twice."""
    tag, date = tags(thing.etag), dates(thing.modified)
    fields = {
        "Range": RANGE,
        "If-Range": st.sampled_from([f'"{thing.etag}"', f'W/"{thing.etag}"', '"x"']) | date,
        "If-Match": tag,
        "If-None-Match": tag,
        "If-Unmodified-Since": date,
        "If-Modified-Since": date,
    }
    lines = [st.tuples(st.just(name), value) for name, value in fields.items()]
    return st.one_of(
        st.tuples(lines[0]),
        st.tuples(lines[0], lines[1]),
        st.lists(st.one_of(lines), max_size=4),
    )


@contextmanager
def asker(url: str) -> Iterator[Ask]:
    """Asks over one connection that is kept. Header values go out as they are."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)

    def ask(method: str, headers: Headers) -> Answer:
        connection.putrequest(method, f"{parts.path}?{parts.query}", skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value.encode())
        connection.endheaders()
        with connection.getresponse() as got:
            return Answer(got.status, {name.lower(): value for name, value in got.getheaders()}, got.read())

    with closing(connection):
        yield ask


def put_to_the_test(url: str, thing: Thing, examples: int) -> None:
    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(method=st.sampled_from(["GET", "GET", "GET", "HEAD"]), asked=headers(thing))
    def agrees(method: str, asked: Headers) -> None:
        judge(method, asked, thing, ask(method, asked))

    with asker(url) as ask:
        agrees()


async def things(house: House) -> list[tuple[str, Thing]]:
    """Files of several sizes, with the signed link to each."""
    found = []
    for size in SIZES:
        data = bytes(n % 251 for n in range(size))
        file = await stored(house, data)
        _, view, _ = await house.ask("GET", f"/v1/files/{file.id}")
        found.append((view["url"], Thing(data, file.etag, file.created_at.replace(microsecond=0))))
    return found


async def test_files_on_disk_are_answered_as_the_standard_says(house: House) -> None:
    for url, thing in await things(house):
        await asyncio.to_thread(put_to_the_test, url, thing, 40 if len(thing.data) < 100 else 300)


async def test_every_order_of_conditions_is_that_of_the_standard(house: House) -> None:
    """All combinations of the values that decide, each absent or one of these."""
    url, thing = (await things(house))[-1]
    moments = [IMF.format(thing.modified + timedelta(seconds=delta)) for delta in (-1, 0, 1)]
    decisive = {
        "If-Match": [f'"{thing.etag}"', f'W/"{thing.etag}"'],
        "If-Unmodified-Since": moments,
        "If-None-Match": [f'W/"{thing.etag}"', '"x"'],
        "If-Modified-Since": moments,
        "If-Range": [f'"{thing.etag}"', moments[1], moments[2]],
    }

    def all_of_them() -> None:
        with asker(url) as ask:
            for values in product(*([None, *some] for some in decisive.values())):
                given = [(name, value) for name, value in zip(decisive, values, strict=True) if value is not None]
                asked = [("Range", "bytes=5-9"), *given]
                judge("GET", asked, thing, ask("GET", asked))

    await asyncio.to_thread(all_of_them)


async def test_every_form_of_a_condition_is_read(house: House) -> None:
    url, thing = (await things(house))[-1]
    forms = [
        *((name, value) for name in ("If-Match", "If-None-Match") for value in TAGS),
        *((name, value) for name in ("If-Modified-Since", "If-Unmodified-Since", "If-Range") for value in DATES),
    ]

    def all_of_them() -> None:
        with asker(url) as ask:
            for name, value in forms:
                for delta in (-1, 0, 1):
                    moment = thing.modified + timedelta(seconds=delta)
                    asked = [("Range", "bytes=5-9"), (name, moment.strftime(value.replace("ETAG", thing.etag)))]
                    judge("GET", asked, thing, ask("GET", asked))

    await asyncio.to_thread(all_of_them)


async def test_files_through_us_from_a_bucket_are_answered_alike(
    start: Start, radosgw: RadosGW, bucket: Bucket
) -> None:
    house = await start(storage=in_bucket(radosgw, bucket, serve="stream"))

    for url, thing in await things(house):
        await asyncio.to_thread(put_to_the_test, url, thing, 15 if len(thing.data) < 100 else 100)


async def test_the_store_itself_agrees_where_one_range_is_asked_for(
    start: Start, radosgw: RadosGW, bucket: Bucket
) -> None:
    """Behind the redirect its own validators count, and of several ranges it knows nothing."""
    house = await start(storage=in_bucket(radosgw, bucket))
    url, thing = (await things(house))[-1]
    async with house.client.get(url, allow_redirects=False) as redirect:
        location = redirect.headers["Location"]
        assert redirect.status == 302
    with asker(location) as ask:
        whole = await asyncio.to_thread(ask, "GET", ())
    assert (whole.status, whole.body) == (200, thing.data)
    theirs = Thing(thing.data, whole.headers["etag"].strip('"'), thing.modified)

    @settings(max_examples=60, derandomize=True, database=None)
    @given(
        st.builds("bytes={}-{}".format, st.integers(0, 699), st.integers(699, 800))
        | st.builds("bytes=-{}".format, st.integers(1, 700))
    )
    def agrees(wanted: str) -> None:
        judge("GET", [("Range", wanted)], theirs, ask("GET", [("Range", wanted)]))

    with asker(location) as ask:
        await asyncio.to_thread(agrees)


@pytest.mark.parametrize("count", [64, 65])
async def test_only_so_many_ranges_are_sent(house: House, count: int) -> None:
    url, thing = (await things(house))[-1]
    asked: Any = [("Range", "bytes=" + ",".join(f"{n * 3}-{n * 3}" for n in range(count)))]

    with asker(url) as ask:
        answer = await asyncio.to_thread(ask, "GET", asked)

    judge("GET", asked, thing, answer)
    assert answer.status == (206 if count == 64 else 200)
