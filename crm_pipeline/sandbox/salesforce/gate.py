"""The gate every request passes: ledger, faults, the session, the API budget, common headers.

Belongs here: what happens to a request whatever it asks for. Does not belong here: answering it.
"""

import asyncio
import socket
import struct
from email.utils import format_datetime
from typing import Any

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crm_pipeline.sandbox.salesforce.calls import Server, refusal
from crm_pipeline.sandbox.salesforce.failures import OrgError
from crm_pipeline.sandbox.salesforce.faults import Fault
from crm_pipeline.sandbox.salesforce.ledger import Entry

FAULT = "sandbox.fault"  # where handlers find the fault of their request
_HTML = b"<html><head><title>Down for maintenance</title></head><body>Sorry</body></html>"
_REASONED = {
    "REQUEST_LIMIT_EXCEEDED": "TotalRequests Limit exceeded.",
    "SERVER_UNAVAILABLE": "Server Unavailable",
    "UNABLE_TO_LOCK_ROW": "unable to obtain exclusive access to this record",
}


class Gate:
    """ASGI middleware around all routes."""

    def __init__(self, app: ASGIApp, server: Server) -> None:
        self._app = app
        self._server = server

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
        sending = _Sending(self._server, send, entry, fault)
        if fault is not None and await self._befalls(scope, receive, sending, fault):
            return
        try:
            self._admit(scope)
        except OrgError as error:
            await _drain(receive)
            await refusal(error)(scope, receive, sending)
            return
        await self._app(scope, receive, sending)

    async def _befalls(
        self, scope: Scope, receive: Receive, sending: "_Sending", fault: Fault
    ) -> bool:
        """Carry out a fault that comes before the request; says whether that was all."""
        match fault.kind:
            case "hang":
                await asyncio.sleep(fault.seconds)
            case "reset":
                await _drain(receive)
                await sending.hang_up(flush=False)
                return True
            case "expire_session":
                self._server.org.sessions.end(_token(scope))
            case "html":
                await _drain(receive)
                body = fault.body.encode() or _HTML
                await _respond(sending, fault.status, body, {"content-type": "text/html"})
                return True
            case "status":
                await _drain(receive)
                headers = {"content-type": fault.content_type, **fault.headers}
                await _respond(sending, fault.status, fault.body.encode(), headers)
                return True
            case _:
                pass
        return False

    def _admit(self, scope: Scope) -> None:
        """Let in who has a session and calls left; the version list needs neither."""
        path = scope["path"].rstrip("/")
        length = len(scope["raw_path"] or b"") + len(scope["query_string"])
        if length > self._server.settings.maximum_uri:
            raise OrgError("URI_TOO_LONG", "Request-URI Too Long", status=414)
        if not path.startswith("/services/data/"):
            return
        if self._server.org.sessions.find(_token(scope)) is None:
            raise OrgError("INVALID_SESSION_ID", "Session expired or invalid", status=401)
        self._server.org.limit.take()


class _Sending:
    """The way back: adds the headers every answer has, cuts where a fault says so."""

    def __init__(self, server: Server, send: Send, entry: Entry, fault: Fault | None) -> None:
        self._server = server
        self._send = send
        self._entry = entry
        self._left = fault.after_bytes if fault and fault.kind == "cut" else None
        self._lost = fault is not None and fault.kind == "lost_answer"
        self._status = 0
        self._closed = False

    async def hang_up(self, *, flush: bool) -> None:
        """Close the connection under the client: with what was sent so far, or with a reset."""
        self._closed = True
        # The server's own request cycle is behind `send`; ASGI has no word for hanging up.
        transport = getattr(getattr(self._send, "__self__", None), "transport", None)
        if transport is None:
            return
        if flush:
            transport.close()
        else:
            connection = transport.get_extra_info("socket")
            if connection is not None:
                linger = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            transport.abort()
        for _ in range(3):  # let the loop tell the server that the client is gone
            await asyncio.sleep(0)

    async def __call__(self, message: Message) -> None:
        if self._closed:
            return
        if message["type"] == "http.response.start":
            if self._lost:
                await self.hang_up(flush=False)
                return
            self._status = message["status"]
            now = self._server.org.clock.now()
            message["headers"] = [
                *message.get("headers", ()),
                (b"date", format_datetime(now, usegmt=True).encode()),
                (b"sforce-limit-info", self._server.org.limit.header().encode()),
            ]
        elif message["type"] == "http.response.body":
            await self._body(message)
            return
        await self._send(message)

    async def _body(self, message: Message) -> None:
        body = message.get("body", b"")
        if self._left is not None:
            body = body[: self._left]
            self._left -= len(body)
            if self._left <= 0:
                await self._send({**message, "body": body, "more_body": True})
                self._entry.sent_bytes += len(body)
                await self.hang_up(flush=True)
                return
        self._entry.sent_bytes += len(body)
        if not message.get("more_body"):
            self._entry.status = self._status
        await self._send(message)


async def _drain(receive: Receive) -> None:
    """Read the request to its end, so that the client is not cut off while it still sends."""
    while True:
        message = await receive()
        if message["type"] != "http.request" or not message.get("more_body"):
            return


async def _respond(send: Any, status: int, body: bytes, headers: dict[str, str]) -> None:
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    raw.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def _token(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"authorization":
            _, _, token = value.decode("latin-1").partition(" ")
            return str(token.strip())
        if name == b"x-sfdc-session":
            return str(value.decode("latin-1"))
    return ""


def error_body(code: str, message: str = "") -> str:
    """The body of a scripted refusal, in Salesforce's list form."""
    text = message or _REASONED.get(code, code)
    return orjson.dumps([{"message": text, "errorCode": code}]).decode()
