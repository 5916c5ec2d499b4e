"""A transaction pooler over the wire, as PgBouncer is one: no client keeps a server connection.

Holds just enough of PostgreSQL's protocol to see where transactions end. Each goes to the server
connection that has rested longest, and nothing is reset in between, so whatever a client leaves in
a session is lost to it and found by another. Does not belong here: what is synced through it.
"""

import os
import queue
import select
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import psycopg

_SSL, _GSS = 80877103, 80877104
_TOLD = ("server_version", "client_encoding", "TimeZone", "DateStyle", "integer_datetimes")
# A session holds nothing of these after a transaction that kept to itself.
_LEFT_BEHIND = """
SELECT 'setting ' || name FROM pg_settings WHERE source = 'session'
UNION ALL SELECT 'prepared statement ' || name FROM pg_prepared_statements
UNION ALL SELECT 'advisory lock' FROM pg_locks
          WHERE locktype = 'advisory' AND pid = pg_backend_pid()
UNION ALL SELECT 'temporary table ' || relname FROM pg_class
          WHERE relpersistence = 't' AND relnamespace = pg_my_temp_schema()
UNION ALL SELECT 'channel ' || c FROM pg_listening_channels() c
"""


class Messages:
    """Whole messages out of a stream: a letter, a length, a body."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, more: bytes) -> Iterator[bytes]:
        """The messages that are complete now."""
        self._rest += more
        while len(self._rest) >= 5:
            end = 1 + struct.unpack("!I", self._rest[1:5])[0]
            if len(self._rest) < end:
                return
            message, self._rest = self._rest[:end], self._rest[end:]
            yield message


class Server:
    """One server connection: logged in by the driver, then spoken to past it."""

    def __init__(self, url: str) -> None:
        self.connection = psycopg.connect(url, autocommit=True)
        self.wire = socket.socket(fileno=os.dup(self.connection.pgconn.socket))
        self.wire.setblocking(True)
        self.wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def left_behind(self) -> list[str]:
        """What its transactions have left in the session."""
        return [str(name) for (name,) in self.connection.execute(_LEFT_BEHIND.encode())]

    def close(self) -> None:
        """Hang up."""
        self.wire.close()
        self.connection.close()


class TransactionPooler:
    """Serves any number of clients with a few server connections.

    Args:
        url: the server behind it.
        refuses_options: turns clients away that send session settings, as PgBouncer does by
            default; otherwise they are ignored, as with `ignore_startup_parameters = options`.
    """

    def __init__(self, url: str, *, refuses_options: bool, servers: int = 6) -> None:
        self.refuses_options = refuses_options
        self.servers = [Server(url) for _ in range(servers)]
        self.transactions = 0
        self._url = url
        self._resting: queue.Queue[Server] = queue.Queue()
        for server in self.servers:
            self._resting.put(server)
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, name="pooler", daemon=True).start()

    @property
    def url(self) -> str:
        """Where clients connect to."""
        place = f"pooled:any@127.0.0.1:{self._listener.getsockname()[1]}"
        return urlsplit(self._url)._replace(netloc=place).geturl()

    def left_behind(self) -> list[str]:
        """What is found in the sessions of the server connections."""
        return [name for server in self.servers for name in server.left_behind()]

    def close(self) -> None:
        """Stop serving."""
        self._listener.close()
        for server in self.servers:
            server.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            if self._welcome(client):
                _Session(self, client).run()

    def _welcome(self, client: socket.socket) -> bool:
        while True:
            (length,) = struct.unpack("!I", client.recv(4, socket.MSG_WAITALL))
            body = client.recv(length - 4, socket.MSG_WAITALL)
            (code,) = struct.unpack("!I", body[:4])
            if code not in (_SSL, _GSS):
                break
            client.sendall(b"N")
        if b"\0options\0" in body and self.refuses_options:
            fields = b"SFATAL\0VFATAL\0C08P01\0Munsupported startup parameter: options\0\0"
            client.sendall(b"E" + struct.pack("!I", len(fields) + 4) + fields)
            return False
        told = self.servers[0].connection.pgconn
        client.sendall(b"R" + struct.pack("!II", 8, 0))
        for name in _TOLD:
            fact = name.encode() + b"\0" + (told.parameter_status(name.encode()) or b"") + b"\0"
            client.sendall(b"S" + struct.pack("!I", len(fact) + 4) + fact)
        client.sendall(b"K" + struct.pack("!III", 12, 0, 0) + b"Z" + struct.pack("!I", 5) + b"I")
        return True

    def lend(self) -> Server:
        """The server connection that has rested longest."""
        return self._resting.get(timeout=30)

    def take_back(self, server: Server) -> None:
        """Its transaction is over."""
        self.transactions += 1
        self._resting.put(server)


class _Session:
    """One client, from transaction to transaction."""

    def __init__(self, pooler: TransactionPooler, client: socket.socket) -> None:
        self._pooler = pooler
        self._client = client
        self._server: Server | None = None
        self._asked, self._answered = Messages(), Messages()

    def run(self) -> None:
        """Serve the client until it leaves."""
        while True:
            server = self._server
            watched = [self._client] if server is None else [self._client, server.wire]
            ready, _, _ = select.select(watched, [], [])
            if server is not None and server.wire in ready:
                self._pass_answers(server)
            elif not self._pass_requests():
                return

    def _pass_answers(self, server: Server) -> None:
        for message in self._answered.feed(server.wire.recv(65_536)):
            if message == b"Z\0\0\0\x05I":
                self._server = None
                self._pooler.take_back(server)
            self._client.sendall(message)

    def _pass_requests(self) -> bool:
        more = self._client.recv(65_536)
        for message in self._asked.feed(more):
            if message[:1] == b"X":
                return False
            self._server = self._server or self._pooler.lend()
            self._server.wire.sendall(message)
        return bool(more)


@contextmanager
def pooled(url: str, *, refuses_options: bool) -> Iterator[TransactionPooler]:
    """A pooler in front of a server, for the length of the block."""
    pooler = TransactionPooler(url, refuses_options=refuses_options)
    try:
        yield pooler
    finally:
        pooler.close()
