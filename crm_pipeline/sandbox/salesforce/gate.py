"""The gate every request passes: ledger, faults, the right host, admission.

Belongs here: what happens to a request whatever it asks for. Does not belong here: answering it.
"""

from urllib.parse import urlsplit

import orjson
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from crm_pipeline.sandbox.salesforce.admission import DATA, Admission
from crm_pipeline.sandbox.salesforce.befalling import befall, drain
from crm_pipeline.sandbox.salesforce.calls import Server, refusal
from crm_pipeline.sandbox.salesforce.failures import OrgError
from crm_pipeline.sandbox.salesforce.sending import Sending

FAULT = "sandbox.fault"  # where handlers find the fault of their request
NUMBER = "sandbox.number"  # and its place in the ledger
_REASONED = {
    "REQUEST_LIMIT_EXCEEDED": "TotalRequests Limit exceeded.",
    "SERVER_UNAVAILABLE": "Server Unavailable",
    "UNABLE_TO_LOCK_ROW": "unable to obtain exclusive access to this record",
}
_GONE = "<html><head><title>URL No Longer Exists</title></head><body></body></html>"


class Gate:
    """ASGI middleware around all routes."""

    def __init__(self, app: ASGIApp, server: Server) -> None:
        self._app = app
        self._server = server
        self._admission = Admission(server)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or stop it."""
        if scope["type"] != "http" or scope["path"].startswith("/sandbox"):
            await self._app(scope, receive, send)
            return
        method, path = scope["method"], scope["path"]
        stamp = self._server.org.clock.stamp()
        query = scope["query_string"].decode("latin-1")
        entry = self._server.ledger.open(method, path, query, stamp)
        fault = self._server.faults.take(method, path)
        entry.fault = fault.kind if fault else ""
        scope[FAULT] = fault
        sending = Sending(self._server, send, entry, fault)
        if await befall(self._server, scope, receive, sending):
            return
        moved = self._moved(scope, query)
        if moved is not None:
            await drain(receive)
            await moved(scope, receive, sending)
            return
        scope[NUMBER] = entry.number
        try:
            with self._admission.admitted(scope):
                await self._app(scope, receive, sending)
        except OrgError as error:
            await drain(receive)
            await refusal(error)(scope, receive, sending)
        finally:
            self._server.locks.release(entry.number)

    def _moved(self, scope: Scope, query: str) -> Response | None:
        """The answer of a host that the org has left."""
        settings = self._server.settings
        if not settings.instance_url or not scope["path"].startswith(DATA):
            return None
        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        if host == urlsplit(settings.instance_url).netloc:
            return None
        if not 300 <= settings.moved_status < 400:
            return Response(_GONE, settings.moved_status, media_type="text/html")
        target = settings.instance_url + scope["path"] + (f"?{query}" if query else "")
        return Response(b"", settings.moved_status, {"Location": target})


def error_body(code: str, message: str = "") -> str:
    """The body of a scripted refusal, in Salesforce's list form."""
    text = message or _REASONED.get(code, code)
    return orjson.dumps([{"message": text, "errorCode": code}]).decode()
