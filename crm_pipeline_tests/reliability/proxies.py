"""Proxies that count what a process says, and strike at the k-th word: they need nobody's help.

One stands before PostgreSQL and counts the messages of the frontend, one before the org and counts
the requests. Belongs here: forwarding, counting, the moment of the blow. Does not belong here: what
the blow is (crash.py).
"""

import asyncio
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

_REQUEST = re.compile(rb"(?:GET|POST|PATCH|PUT|DELETE|HEAD) /\S* HTTP/1\.1\r\n")
_CHUNK = 1 << 16
_STARTUP_HEADER = 4
_MESSAGE_HEADER = 5


class RequestCounter:
    """Counts HTTP requests; a client sends the head of each in a piece of its own."""

    def words(self, chunk: bytes) -> int:
        """How many begin in this chunk."""
        return 1 if _REQUEST.match(chunk) else 0


class MessageCounter:
    """Counts messages of PostgreSQL's protocol: length first in the one that opens, then typed.

    Source: PostgreSQL manual, "Message Formats".
    """

    def __init__(self) -> None:
        self._rest = b""
        self._is_open = False

    def words(self, chunk: bytes) -> int:
        """How many end in this chunk."""
        self._rest += chunk
        count = 0
        while (size := self._size()) is not None and len(self._rest) >= size:
            self._rest = self._rest[size:]
            self._is_open = True
            count += 1
        return count

    def _size(self) -> int | None:
        skipped, needed = (1, _MESSAGE_HEADER) if self._is_open else (0, _STARTUP_HEADER)
        if len(self._rest) < needed:
            return None
        return skipped + int.from_bytes(self._rest[skipped:needed], "big")


class CountingProxy:
    """Forwards to one port, and strikes once when the k-th word has been seen."""

    def __init__(self, target: int, counter: Callable[[], RequestCounter | MessageCounter]) -> None:
        self.port = 0
        self.seen = 0
        self._target = target
        self._counter = counter
        self._due = 0
        self._passes_on = False
        self._strike: Callable[[], None] | None = None
        self._loop = asyncio.new_event_loop()
        self._connections: set[asyncio.Task[None]] = set()

    def arm(self, at: int, strike: Callable[[], None], *, passes_on: bool) -> None:
        """Begin to count; at word `at` strike, before or after it was passed on."""
        self.seen, self._due, self._passes_on, self._strike = 0, at, passes_on, strike

    def disarm(self) -> int:
        """Never mind; returns the words seen."""
        self._strike, seen = None, self.seen
        return seen

    def run(self, started: threading.Event) -> None:
        """Serve until `close`."""
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=64)
        )
        self.port = int(server.sockets[0].getsockname()[1])
        started.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.01))
        self._loop.close()

    def close(self) -> None:
        """Stop serving."""
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            ahead, behind = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        with suppress(asyncio.CancelledError):
            await asyncio.gather(
                self._forward(reader, behind, self._counter()), self._forward(ahead, writer, None)
            )

    async def _forward(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        counter: RequestCounter | MessageCounter | None,
    ) -> None:
        with suppress(OSError):
            while chunk := await reader.read(_CHUNK):
                is_due = counter is not None and self._is_due(counter.words(chunk))
                if is_due and not self._passes_on:
                    self._blow()
                    break
                writer.write(chunk)
                await writer.drain()
                if is_due:
                    self._blow()
        with suppress(OSError):
            writer.close()

    def _is_due(self, words: int) -> bool:
        before, self.seen = self.seen, self.seen + words
        return before < self._due <= self.seen

    def _blow(self) -> None:
        strike, self._strike = self._strike, None
        if strike is not None:
            strike()


@contextmanager
def counting_proxy(
    target: int, counter: Callable[[], RequestCounter | MessageCounter]
) -> Iterator[CountingProxy]:
    """A proxy in a thread of its own."""
    proxy, started = CountingProxy(target, counter), threading.Event()
    thread = threading.Thread(target=proxy.run, args=(started,), daemon=True, name="proxy")
    thread.start()
    started.wait(10)
    try:
        yield proxy
    finally:
        proxy.close()
        thread.join(10)
