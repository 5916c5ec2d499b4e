"""A server that speaks bytes, for answers that no decent server gives.

Belongs here: sockets and the login that comes first. Does not belong here: what is answered
(the tests).
"""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from crm_pipeline.crm.salesforce.login import ClientCredentialsLogin
from crm_pipeline.crm.salesforce.session import SalesforceSession
from crm_pipeline.crm.salesforce.wire import Manners

Answer = Callable[[socket.socket], object]
"""Answers one request on its connection; returning False closes it."""


@contextmanager
def raw_server(answer: Answer, *, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Logs in anybody, and leaves every other request to `answer`; yields its address."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    url = f"http{'s' if tls else ''}://127.0.0.1:{listener.getsockname()[1]}"
    threads: list[threading.Thread] = []
    connections: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            thread = threading.Thread(
                target=_converse, args=(connection, url, answer, tls, connections)
            )
            thread.start()
            threads.append(thread)

    acceptor = threading.Thread(target=serve)
    acceptor.start()
    try:
        yield url
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join()
        for connection in connections:  # clients keep theirs open for what may come
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()


def _converse(
    connection: socket.socket,
    url: str,
    answer: Answer,
    tls: ssl.SSLContext | None,
    connections: list[socket.socket],
) -> None:
    with (
        suppress(OSError),
        tls.wrap_socket(connection, server_side=True) if tls else connection as speaking,
    ):
        connections.append(speaking)
        while asked := _request(speaking):
            if b"oauth2/token" in asked:
                token = f'{{"access_token": "t", "instance_url": "{url}", "id": ""}}'
                speaking.sendall(reply(token.encode()))
            elif answer(speaking) is False:
                return


def _request(connection: socket.socket) -> bytes:
    """The head of a request; a body is waited for, too."""
    asked = b""
    while b"\r\n\r\n" not in asked:
        part = connection.recv(65536)
        if not part:
            return b""
        asked += part
    head, _, body = asked.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    missing = int(lengths[0].split(b":")[1]) - len(body) if lengths else 0
    while missing > 0:
        missing -= len(connection.recv(65536))
    return head


def reply(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """A whole answer with the length of its body."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


@contextmanager
def session_with(
    answer: Answer, *, read_seconds: float = 5.0, attempts: int = 1, gzip: bool = False
) -> Iterator[SalesforceSession]:
    """A session with a raw server."""
    with raw_server(answer) as url:
        session = SalesforceSession(
            ClientCredentialsLogin(url, "id", "secret"),
            manners=Manners(connect_seconds=2.0, read_seconds=read_seconds, attempts=attempts),
            gzip=gzip,
        )
        try:
            yield session
        finally:
            session.close()
