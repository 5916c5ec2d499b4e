"""How connections are made: time limits, pool, certificates, the token's place in a request.

Belongs here: what requests is told once. Does not belong here: sending (session.py).
"""

from dataclasses import dataclass
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase

from crm_pipeline.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Manners:
    """How patient we are.

    Attributes:
        connect_seconds: to open a connection.
        read_seconds: for the next byte of an answer, and for each 256 kB of it.
        call_seconds: for one call with all its repetitions; no new one begins later.
        attempts: how often one call is sent at most.
        connections: kept open; Salesforce allows 25 long requests at once (5 in developer orgs).
    """

    connect_seconds: float = 10.0
    read_seconds: float = 120.0
    call_seconds: float = 300.0
    attempts: int = 6
    connections: int = 8


class Bearer(AuthBase):
    """The token as `auth`: given as a header, it would lose against a .netrc."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Put the token into the request."""
        request.headers["Authorization"] = f"Bearer {self._secret}"
        return request


def pooled_http(connections: int) -> requests.Session:
    """A session that keeps so many connections to a host open."""
    http = requests.Session()
    adapter = HTTPAdapter(pool_connections=2, pool_maxsize=connections, pool_block=False)
    http.mount("https://", adapter)
    http.mount("http://", adapter)
    return http


def verification(ca_file: Path | None) -> bool | str:
    """What requests takes as `verify`: never off, at most a private authority.

    Raises:
        ConfigurationError: the file is not there.
    """
    if ca_file is None:
        return True
    if not ca_file.is_file():
        raise ConfigurationError("The file named by SALESFORCE_CA_FILE does not exist.")
    return str(ca_file)
