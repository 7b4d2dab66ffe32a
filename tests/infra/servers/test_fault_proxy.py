"""Each fault of the proxy, as it is on the wire."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from tests.infra.content import content_bytes
from tests.infra.rawclient import connected, fetch
from tests.infra.resource import Resource
from tests.infra.servers.fault_proxy import FaultProxy, FaultProxyThread
from tests.infra.servers.faults import (
    BlackHole,
    Corrupt,
    CorruptRequest,
    CutAnswer,
    CutRequest,
    Latency,
    LostAnswer,
    Reset,
    SlowAnswer,
    SlowRequest,
    StaleKeepAlive,
    StallAnswer,
    Status,
    WrongLength,
    error_in_200,
    redirect,
    slow_down,
)
from tests.infra.servers.http_messages import Body, Head, framed, read_head, send
from tests.infra.servers.journal import Journal
from tests.infra.servers.listener import Listener, LoopThread
from tests.infra.servers.source import SourceServer

SIZE = 300_000
WHOLE = content_bytes(SIZE)


class Store:
    """An upstream that keeps what is put to it: an echo for request bodies, on a thread of its own."""

    def __init__(self) -> None:
        self.thread = LoopThread("store")
        self.listener = Listener(self._serve)
        self.bodies: Journal[bytearray] = Journal()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (head := await read_head(reader)) is not None:
            if head.has_token("Expect", "100-continue"):
                await send(writer, b"HTTP/1.1 100 Continue\r\n\r\n")
            body = self.bodies.append(bytearray())
            async for chunk in Body.of_request(head, reader).payload():
                body += chunk
                self.bodies.changed()
            await send(writer, Head("HTTP/1.1 200 OK", [("Content-Length", "4")]).encode() + b"done")


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store()
    store.thread.start()
    store.thread.run(store.listener.open())
    yield store
    store.thread.run(store.listener.close())
    store.thread.stop()


@pytest.fixture
def puts(store: Store) -> Iterator[FaultProxyThread]:
    with FaultProxyThread("127.0.0.1", store.listener.port) as proxy:
        yield proxy


@pytest.fixture
def proxy(source: SourceServer) -> Iterator[FaultProxyThread]:
    source.add("/film", Resource(size=SIZE))
    source.add("/chunked", Resource(size=SIZE, framing="chunked"))
    with FaultProxyThread("127.0.0.1", source.port) as proxy:
        yield proxy


def unframed(body: bytes) -> bytes:
    """A body in the chunked transfer coding, decoded."""
    whole = b""
    while (size := int(body.partition(b"\r\n")[0], 16)) > 0:
        chunk = body.partition(b"\r\n")[2]
        whole, body = whole + chunk[:size], chunk[size + 2 :]
    assert body == b"0\r\n\r\n"
    return whole


def put(body: bytes, *, extra: str = "", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return f"PUT /key HTTP/1.1\r\nHost: store\r\nContent-Length: {size}\r\n{extra}\r\n".encode() + body


def test_passes_all_as_it_is(proxy: FaultProxyThread, source: SourceServer) -> None:
    with connected(proxy.port) as client:
        client.get("/film", method="HEAD", Authorization="signed")
        client.get("/film", Range="bytes=5-9")
        client.get("/film", close=True)
        seen = client.read()

    assert seen.data.endswith(WHOLE)
    assert unframed(fetch(proxy.port, "/chunked").body) == WHOLE
    assert source.log[0].headers["host"] == "source"
    assert source.log[0].headers["authorization"] == "signed"
    assert [(entry.method, entry.status, entry.sent, entry.fault) for entry in proxy.log] == [
        ("HEAD", 200, 0, None),
        ("GET", 206, 5, None),
        ("GET", 200, SIZE, None),
        ("GET", 200, SIZE, None),
    ]


def test_passes_request_bodies(puts: FaultProxyThread, store: Store) -> None:
    chunked = b"PUT /key HTTP/1.1\r\nHost: s\r\nTransfer-Encoding: chunked\r\n\r\n" + framed(b"ab") + framed(b"cd")

    with connected(puts.port) as client:
        client.send(put(WHOLE))
        assert client.read(upto=42).body == b"done"
        client.send(chunked + b"0\r\n\r\n")
        client.send(put(b"", extra="Expect: 100-continue\r\nConnection: close\r\n", length=3))
        assert b"100 Continue" in client.read(quiet=0.2).data
        client.send(b"xyz")
        assert client.read().end == "fin"

    assert list(store.bodies) == [WHOLE, b"abcd", b"xyz"]
    assert [(entry.received, entry.sent) for entry in puts.log] == [(SIZE, 4), (4, 4), (3, 4)]


def test_rules_choose_by_method_target_header_skip_and_times(proxy: FaultProxyThread) -> None:
    proxy.add(Status(599), "HEAD")
    proxy.add(Status(598), target=r"\?part=2$")
    proxy.add(Status(597), header=("range", "bytes=0-"))
    proxy.add(Status(596), "GET", "/film", skip=1, times=1)

    assert fetch(proxy.port, "/film", method="HEAD").status == 599
    assert fetch(proxy.port, "/film?part=2").status == 598
    assert fetch(proxy.port, "/film", Range="bytes=0-").status == 597
    assert [fetch(proxy.port, "/film").status for _ in range(3)] == [200, 596, 200]
    assert proxy.log[0].fault == "Status"
    proxy.clear()
    assert fetch(proxy.port, "/film", method="HEAD").status == 200
    assert len(proxy.log) == 1


def test_latency_and_slow_answer(proxy: FaultProxyThread) -> None:
    proxy.add(Latency(0.2), times=1)
    proxy.add(SlowAnswer(1_000_000), times=1)

    assert fetch(proxy.port, "/film").seconds >= 0.2
    assert fetch(proxy.port, "/film").seconds >= 0.28


def test_slow_request_is_felt_by_the_sender(puts: FaultProxyThread, store: Store) -> None:
    puts.add(SlowRequest(10_000_000))
    body = content_bytes(16 << 20)

    with connected(puts.port) as client:
        start = time.monotonic()
        client.send(put(body))
        sent = time.monotonic() - start
        assert client.read(upto=42).body == b"done"

    assert time.monotonic() - start >= 1.6
    assert sent >= 0.2
    assert list(store.bodies) == [body]


def test_stalled_answer(proxy: FaultProxyThread) -> None:
    fault = StallAnswer(1000)
    proxy.add(fault)

    with connected(proxy.port) as client:
        client.get("/film", close=True)
        stalled = client.read(quiet=0.2)
        proxy.call(fault.release.set)
        rest = client.read()

    assert (stalled.body, stalled.end) == (WHOLE[:1000], "silence")
    assert (rest.data, rest.end) == (WHOLE[1000:], "fin")


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("after", [0, 70_000, SIZE - 1])
def test_cut_answer(proxy: FaultProxyThread, after: int, reset: bool) -> None:
    proxy.add(CutAnswer(after, reset=reset))

    seen = fetch(proxy.port, "/film")

    assert (seen.body, seen.end) == (WHOLE[:after], "rst" if reset else "fin")
    assert seen.head["content-length"] == str(SIZE)
    assert proxy.log[0].sent == after


def test_cut_request(puts: FaultProxyThread, store: Store) -> None:
    puts.add(CutRequest(70_000))

    with connected(puts.port) as client:
        client.send(put(WHOLE[:100_000]))
        assert client.read().end == "rst"

    store.bodies.wait(lambda bodies: bodies == [WHOLE[:70_000]])
    assert puts.log[0].received == 70_000


@pytest.mark.parametrize("reset", [False, True])
def test_lost_answer_after_the_work_is_done(puts: FaultProxyThread, store: Store, reset: bool) -> None:
    puts.add(LostAnswer(reset=reset))

    with connected(puts.port) as client:
        client.send(put(WHOLE))
        seen = client.read()

    assert (seen.data, seen.end) == (b"", "rst" if reset else "fin")
    assert list(store.bodies) == [WHOLE]
    assert puts.log[0].status == 200


@pytest.mark.parametrize("reads", [False, True])
def test_black_hole(puts: FaultProxyThread, store: Store, reads: bool) -> None:
    puts.add(BlackHole(reads=reads))

    with connected(puts.port) as client:
        client.send(put(b"abc"))
        assert client.read(quiet=0.2).end == "silence"

    assert list(store.bodies) == []


def test_reset(puts: FaultProxyThread, store: Store) -> None:
    puts.add(Reset())

    with connected(puts.port) as client:
        client.send(put(b"abc"))
        seen = client.read()

    assert (seen.data, seen.end, len(store.bodies)) == (b"", "rst", 0)


def test_canned_answers_take_the_body_and_keep_the_connection(puts: FaultProxyThread, store: Store) -> None:
    puts.add(slow_down(retry_after=7), times=1)
    puts.add(slow_down(), times=1)
    puts.add(error_in_200("InternalError"), times=1)
    puts.add(redirect("/elsewhere"), times=1)

    with connected(puts.port) as client:
        answers = []
        for _ in range(5):
            client.send(put(WHOLE))
            answers.append(client.read(upto=1, quiet=2))
        client.read(quiet=0.1)

    assert [answer.status for answer in answers] == [503, 503, 200, 307, 200]
    assert answers[0].head["retry-after"] == "7"
    assert "retry-after" not in answers[1].head
    assert b"<Code>SlowDown</Code>" in answers[0].body
    assert b"<Code>InternalError</Code>" in answers[2].body
    assert answers[3].head["location"] == "/elsewhere"
    assert list(store.bodies) == [WHOLE]


@pytest.mark.parametrize("delta", [-1000, 1000])
def test_wrong_length(proxy: FaultProxyThread, delta: int) -> None:
    proxy.add(WrongLength(delta))

    with connected(proxy.port) as client:
        client.get("/film")
        seen = client.read()

    assert (seen.head["content-length"], seen.body, seen.end) == (str(SIZE + delta), WHOLE, "fin")


def test_corrupt_flips_one_bit(proxy: FaultProxyThread, puts: FaultProxyThread, store: Store) -> None:
    proxy.add(Corrupt(270_000))
    puts.add(CorruptRequest(3))

    body = fetch(proxy.port, "/film").body
    with connected(puts.port) as client:
        client.send(put(b"abcdef"))
        client.read(upto=42)

    assert [index for index in range(SIZE) if body[index] != WHOLE[index]] == [270_000]
    assert list(store.bodies) == [b"abceef"]


@pytest.mark.parametrize("on_reuse", [False, True])
def test_stale_keep_alive(proxy: FaultProxyThread, on_reuse: bool) -> None:
    proxy.add(StaleKeepAlive(on_reuse=on_reuse))

    with connected(proxy.port) as client:
        client.get("/film")
        seen = client.read(quiet=0.2)
        if on_reuse:
            client.get("/film")
        after = client.read()

    assert (seen.head["connection"], seen.body) == ("keep-alive", WHOLE)
    assert seen.end == ("silence" if on_reuse else "fin")
    assert after.end == ("rst" if on_reuse else "fin")


async def test_on_the_loop_of_the_test(source: SourceServer) -> None:
    source.add("/film", Resource(size=SIZE))

    async with FaultProxy("127.0.0.1", source.port) as proxy:
        seen = await asyncio.to_thread(fetch, proxy.port, "/film")
        await proxy.log.reaches(lambda log: log[0].ended)

    assert seen.body == WHOLE


def test_big_bodies_pass_quickly(source: SourceServer) -> None:
    """A proxy slower than the store would hide what a test is about; the bound is a tenth of the usual speed."""
    size = 64 << 20
    source.add("/big", Resource(size=size))

    with FaultProxyThread("127.0.0.1", source.port) as proxy:
        seen = fetch(proxy.port, "/big")

    assert len(seen.body) == size
    assert seen.seconds < 10
