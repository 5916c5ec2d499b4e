"""Who is let in: lengths, the API's own state, the session, the budget, how many at once.

Belongs here: what a request is refused for, whatever it asks for. Does not belong here: faults
(befalling.py), what a login is refused for (oauth.py).
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import Scope

from crm_pipeline.sandbox.salesforce.befalling import token_of
from crm_pipeline.sandbox.salesforce.calls import Server
from crm_pipeline.sandbox.salesforce.failures import OrgError

DATA = "/services/data/"
_WRITES = frozenset({"POST", "PATCH", "PUT", "DELETE"})


class Admission:
    """Lets requests in, and counts those that are inside."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._mutex = threading.Lock()
        self._inside = 0

    @contextmanager
    def admitted(self, scope: Scope) -> Iterator[None]:
        """Let in who has a session and calls left; the version list needs neither."""
        self._check_length(scope)
        if not scope["path"].rstrip("/").startswith(DATA):
            yield
            return
        settings = self._server.settings
        if settings.api_disabled:
            code = settings.api_disabled
            raise OrgError(code, "The REST API is not enabled for this Organization", status=403)
        if self._server.org.sessions.find(token_of(scope)) is None:
            raise OrgError("INVALID_SESSION_ID", "Session expired or invalid", status=401)
        if settings.read_only:
            _check_read_only(scope)
        self._server.org.limit.take()
        with self._counted(settings.concurrent_requests):
            yield

    def _check_length(self, scope: Scope) -> None:
        settings = self._server.settings
        length = len(scope["raw_path"] or b"") + len(scope["query_string"])
        if length > settings.maximum_uri:
            raise OrgError("URI_TOO_LONG", "Request-URI Too Long", status=414)
        if settings.maximum_headers:
            length += sum(len(name) + len(value) for name, value in scope["headers"])
            if length > settings.maximum_headers:
                raise OrgError("HEADERS_TOO_LONG", "Request Header Fields Too Large", status=431)

    @contextmanager
    def _counted(self, most: int) -> Iterator[None]:
        with self._mutex:
            if most and self._inside >= most:
                raise OrgError(
                    "REQUEST_LIMIT_EXCEEDED",
                    "ConcurrentRequests (Concurrent API Requests) Limit exceeded.",
                    status=403,
                )
            self._inside += 1
        try:
            yield
        finally:
            with self._mutex:
                self._inside -= 1


def _check_read_only(scope: Scope) -> None:
    """During maintenance reads work, writes and Bulk queries do not; a retrieve is a read."""
    method, path = scope["method"], scope["path"].rstrip("/").lower()
    _, collections, rest = path.partition("/composite/sobjects/")
    retrieve = method == "POST" and bool(collections) and "/" not in rest
    if method in _WRITES and not retrieve:
        raise OrgError(
            "INSERT_UPDATE_DELETE_NOT_ALLOWED_DURING_MAINTENANCE",
            "Updates can't be made during maintenance. Try again when maintenance is complete.",
            status=503,
        )
