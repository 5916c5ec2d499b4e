"""How connections are made: time limits, pool, certificates, the token's place in a request.

Belongs here: what requests and urllib3 are told once. Does not belong here: sending (session.py).

Source: Help "API Request Limits": 25 requests that last over 20 seconds at once, 5 in developer and
trial orgs.
"""

import http.client
import logging
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from crm_pipeline.errors import ConfigurationError

_TALKATIVE = ("urllib3.connection", "urllib3.connectionpool", "urllib3.util.retry")


@dataclass(frozen=True, slots=True)
class Manners:
    """How patient we are.

    Attributes:
        connect_seconds: to open a connection.
        read_seconds: for an answer's headers, for its next byte, and for each 256 kB of it.
        call_seconds: for one call with all its repetitions; no new one begins later.
        attempts: how often one call is sent at most.
        connections: the most requests at once, answers that are still being read among them.
    """

    connect_seconds: float = 10.0
    read_seconds: float = 120.0
    call_seconds: float = 300.0
    attempts: int = 6
    connections: int = 5


class Bearer(AuthBase):
    """The token as `auth`: given as a header, it would lose against a .netrc."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Put the token into the request."""
        request.headers["Authorization"] = f"Bearer {self._secret}"
        return request


class _PatientResponse(http.client.HTTPResponse):
    """Its headers arrive within the read timeout as a whole, not one byte per timeout."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self._socket = sock

    def begin(self) -> None:
        """Read the headers."""
        patience = self._socket.gettimeout()
        if patience is None:
            super().begin()
            return
        watchdog = threading.Timer(patience, _hang_up, (self._socket,))
        watchdog.daemon = True
        watchdog.start()
        try:
            super().begin()
        finally:
            watchdog.cancel()


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):  # it may have ended by itself
        connection.shutdown(socket.SHUT_RDWR)


class _Connection(HTTPConnection):
    response_class = _PatientResponse


class _TlsConnection(HTTPSConnection):
    response_class = _PatientResponse


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class _PatientAdapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pools of direct connections."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Make the pools behind a proxy."""
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
        return manager


class _WithoutQueries(logging.Filter):
    """Cuts addresses at the question mark: SOQL holds the values that records are filtered by."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let the record through, shortened."""
        if isinstance(record.args, tuple):
            record.args = tuple(
                part.partition("?")[0] if isinstance(part, str) else part for part in record.args
            )
        return True


def pooled_http(connections: int) -> requests.Session:
    """A session with so many connections to a host; who needs one more waits for one."""
    session = requests.Session()
    adapter = _PatientAdapter(pool_connections=2, pool_maxsize=connections, pool_block=True)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    for name in _TALKATIVE:
        logger = logging.getLogger(name)
        if not any(isinstance(one, _WithoutQueries) for one in logger.filters):
            logger.addFilter(_WithoutQueries())
    return session


def verification(ca_file: Path | None) -> str:
    """The authorities to trust: the public ones, or a private one instead; never none.

    Raises:
        ConfigurationError: the file is not there.
    """
    if ca_file is None:
        # By name: for True, requests would take whatever REQUESTS_CA_BUNDLE names.
        return str(DEFAULT_CA_BUNDLE_PATH)
    if not ca_file.is_file():
        raise ConfigurationError("The file named by SALESFORCE_CA_FILE does not exist.")
    return str(ca_file)
