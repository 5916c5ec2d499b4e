"""Answers that no decent server gives: silence, drips, halves, bombs, and too many at once."""

import gzip
import socket
import threading
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest

from crm_pipeline.crm.salesforce.bodies import pieces
from crm_pipeline.crm.salesforce.login import ClientCredentialsLogin
from crm_pipeline.crm.salesforce.session import SalesforceSession
from crm_pipeline.crm.salesforce.wire import Manners
from crm_pipeline.errors import CrmPipelineError, PermanentError, TransientError
from crm_pipeline_tests.integration.crm.raw_server import reply, session_with

PATIENCE = 0.3
JSON = "Content-Type: application/json"


def drip(connection: socket.socket, first: bytes, rest: bytes) -> bool:
    """One byte now and then, each well within every socket timeout."""
    with suppress(OSError):
        connection.sendall(first)
        for byte in rest:
            time.sleep(PATIENCE / 10)
            connection.sendall(bytes([byte]))
    return False


def in_silence(connection: socket.socket) -> bool:
    connection.recv(1)
    return False


def dripping_head(connection: socket.socket) -> bool:
    return drip(connection, b"HTTP/1.1 200 OK\r\n", b"X-More: y\r\n" * 20)


def dripping_body(connection: socket.socket) -> bool:
    return drip(connection, b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n", b"x" * 200)


@pytest.mark.parametrize("answer", [in_silence, dripping_head, dripping_body])
def test_e10_silence_and_drips_end_in_time_wherever_they_begin(answer: object) -> None:
    assert callable(answer)
    with session_with(answer, read_seconds=PATIENCE) as session:
        began = time.monotonic()
        with pytest.raises(TransientError):
            session.request("GET", "/page")
        assert time.monotonic() - began < 6 * PATIENCE


def test_e10_a_host_that_lets_nobody_in_is_left_in_time() -> None:
    with socket.socket() as deaf, ExitStack() as waiting:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for _ in range(3):  # fill the queue of those who wait to be let in
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            with suppress(BlockingIOError):
                one.connect(deaf.getsockname())
        session = SalesforceSession(
            ClientCredentialsLogin(f"http://127.0.0.1:{deaf.getsockname()[1]}", "id", "secret"),
            manners=Manners(connect_seconds=PATIENCE, read_seconds=60.0, attempts=1),
        )
        began = time.monotonic()
        with pytest.raises(TransientError, match="cannot be reached"):
            session.request("GET", "/page")
        assert time.monotonic() - began < 10
        session.close()


CSV = b'"Id"\n' + b"".join(b'"%06d"\n' % number for number in range(1000))
PACKED = gzip.compress(CSV)
BROKEN = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nshort",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nshort\r\n0\r\n\r\n",
    reply(PACKED[:-9], "Content-Encoding: gzip"),
    reply(PACKED[:200] + b"????" + PACKED[204:], "Content-Encoding: gzip"),
    reply(b"no gzip at all", "Content-Encoding: gzip"),
    reply(b"", "Content-Encoding: gzip"),
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n" + CSV,
    b"rubbish\r\n\r\n",
    b"",
)


@pytest.mark.parametrize("answer", BROKEN)
def test_e9_an_answer_that_is_not_whole_is_no_answer(answer: bytes) -> None:
    def send(connection: socket.socket) -> bool:
        connection.sendall(answer)
        return False

    with session_with(send, gzip=True) as session, pytest.raises(TransientError):
        session.request("GET", "/page")


def test_e9_an_answer_that_is_not_whole_is_asked_for_again() -> None:
    answers = iter([*BROKEN[:4], reply(CSV)])

    def send(connection: socket.socket) -> bool:
        connection.sendall(next(answers))
        return False

    with session_with(send, attempts=5) as session:
        assert session.request("GET", "/page").content == CSV


BOMB = gzip.compress(b"0" * 200 * 1024**2)


@pytest.mark.parametrize("status", ["200 OK", "503 Busy", "400 No"])
def test_s15_a_gzip_bomb_goes_off_without_filling_the_memory(status: str) -> None:
    with session_with(
        lambda to: to.sendall(reply(BOMB, "Content-Encoding: gzip", status=status)), gzip=True
    ) as session:
        tracemalloc.start()
        with pytest.raises((PermanentError, TransientError)):
            session.request("GET", "/page")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 160 * 1024**2


def test_s15_a_gzip_bomb_in_a_stream_is_stopped_though_its_pieces_are_small() -> None:
    answer = reply(BOMB, "Content-Encoding: gzip")
    with (
        session_with(lambda to: to.sendall(answer), gzip=True) as session,
        session.stream("/page") as response,
        pytest.raises(PermanentError, match="swells"),
    ):
        for _ in pieces(response, patience_seconds=5.0):
            pass


def test_s15_records_that_resemble_each_other_are_no_bomb() -> None:
    rows = b"".join(b'"00Q8d%09dAAA","Same","Same","","","false"\n' % n for n in range(300_000))
    answer = reply(gzip.compress(rows), "Content-Encoding: gzip")
    with (
        session_with(lambda to: to.sendall(answer), gzip=True) as session,
        session.stream("/page") as response,
    ):
        assert sum(map(len, pieces(response, patience_seconds=5.0))) == len(rows)


def endless(connection: socket.socket) -> bool:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
    with suppress(OSError):
        for _ in range(1024):
            connection.sendall(b"x" * 1024**2)
    return False


def test_s15_an_answer_of_a_gigabyte_is_left_early() -> None:
    with session_with(endless) as session, pytest.raises(PermanentError, match="more than 64 MB"):
        session.request("GET", "/page")


def test_s15_a_field_of_a_gigabyte_streams_through_flat_memory() -> None:
    with session_with(endless) as session, session.stream("/page") as response:
        tracemalloc.start()
        received = sum(map(len, pieces(response, patience_seconds=5.0)))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert received == 1024**3
    assert peak < 8 * 1024**2


DEEP = b"[" * 200_000


@pytest.mark.parametrize("body", [DEEP, b'{"a":' * 100_000, b"1" * 5_000_000])
@pytest.mark.parametrize("status", ["200 OK", "400 No", "401 No", "503 Busy"])
def test_s15_json_of_any_depth_is_an_answer_like_any_other(body: bytes, status: str) -> None:
    with (
        session_with(lambda to: to.sendall(reply(body, JSON, status=status))) as session,
        pytest.raises(CrmPipelineError),
    ):
        session.get_object("/page")


class Counting:
    """Counts requests that are being answered at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = 0
        self.most = 0

    def __call__(self, connection: socket.socket) -> None:
        """Answer after a while."""
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        time.sleep(0.05)
        with self._lock:
            self._now -= 1
        connection.sendall(reply(b"{}", JSON))


@pytest.fixture
def counting() -> Iterator[tuple[Counting, SalesforceSession]]:
    """A session, and what counts its requests."""
    counter = Counting()
    with session_with(counter, attempts=3) as session:
        yield counter, session


def test_e6_no_more_than_five_requests_are_out_at_once(
    counting: tuple[Counting, SalesforceSession],
) -> None:
    counter, session = counting
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: session.get_object("/page"), range(40)))
    assert answers == [{}] * 40
    assert counter.most == 5


def test_e6_a_stream_that_is_still_read_counts_and_then_makes_room(
    counting: tuple[Counting, SalesforceSession],
) -> None:
    _, session = counting
    session.get_object("/page")
    with ExitStack() as open_streams:
        for _ in range(4):
            open_streams.enter_context(session.stream("/page"))
        assert session.get_object("/page") == {}
        fifth = session.open_stream("/page")
        with ThreadPoolExecutor(1) as pool:
            sixth = pool.submit(session.get_object, "/page")
            with pytest.raises(TimeoutError):
                sixth.result(timeout=0.3)
            fifth.close()
            assert sixth.result(timeout=5) == {}
