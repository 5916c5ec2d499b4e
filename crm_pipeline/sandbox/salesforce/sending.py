"""The way back to the client: the headers every answer has, and what a fault does to it.

Belongs here: everything that happens to an answer once it is made. Does not belong here: what
stops a request before it is answered (befalling.py), pages that lie (wrong_pages.py).
"""

import asyncio
import gzip
import socket
import struct
from datetime import timedelta
from email.utils import format_datetime

from starlette.types import Message, Send

from crm_pipeline.sandbox.salesforce.calls import Server
from crm_pipeline.sandbox.salesforce.faults import Fault
from crm_pipeline.sandbox.salesforce.ledger import Entry

_CUTS = frozenset({"cut", "reset_midway"})
_GZIP_HEADER = 10  # bytes before the packed ones


class Sending:
    """Sends one answer, and notes in the ledger what went out."""

    def __init__(self, server: Server, send: Send, entry: Entry, fault: Fault | None) -> None:
        self._server = server
        self._send = send
        self.entry = entry
        self.fault = fault
        self._kind = fault.kind if fault else ""
        self._left = fault.after_bytes if fault and fault.kind in _CUTS else None
        self._kept: list[bytes] = []
        self._start: Message = {}
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
        """Pass one piece of the answer on."""
        if self._closed:
            return
        if message["type"] == "http.response.start":
            await self._begin(message)
        elif message["type"] == "http.response.body":
            await self._body(message)
        else:
            await self._send(message)

    async def _begin(self, message: Message) -> None:
        if self._kind == "lost_answer":
            await self.hang_up(flush=False)
            return
        if self.fault and self._kind == "late_answer":
            await asyncio.sleep(self.fault.seconds)
        if self.fault and self._kind == "late_status":
            message = _failed(self.fault, message)
        if self.fault and self._kind == "call" and self.fault.when == "after":
            await asyncio.to_thread(self.fault.called, self.entry)
        now = self._server.org.clock.now()
        headers = list(message.get("headers", ()))
        if self.fault is not None:
            now += timedelta(seconds=self.fault.seconds if self._kind == "date" else 0)
            headers = _twisted(self.fault, headers)
        message["headers"] = [
            *headers,
            (b"date", format_datetime(now, usegmt=True).encode()),
            (b"sforce-limit-info", self._server.org.limit.header().encode()),
        ]
        self._start = message
        if self._kind != "bad_gzip":
            await self._send(message)

    async def _body(self, message: Message) -> None:
        body, more = message.get("body", b""), bool(message.get("more_body"))
        if self.fault and self._kind == "late_status":
            body = b"" if more else self.fault.body.encode()
        if self._kind == "bad_gzip":
            self._kept.append(body)
            if more:
                return
            body = await self._broken()
        elif self._kind == "drip":
            body = await self._dripped(body)
        elif self._left is not None:
            body = body[: self._left]
            self._left -= len(body)
            if self._left <= 0:
                await self._send({**message, "body": body, "more_body": True})
                self.entry.sent_bytes += len(body)
                await asyncio.sleep(0)
                await self.hang_up(flush=self._kind == "cut")
                return
        self.entry.sent_bytes += len(body)
        if not more:
            self.entry.status = self._start["status"]
        await self._send({**message, "body": body})
        if not more and self.fault and self._kind == "call" and self.fault.when == "sent":
            await asyncio.to_thread(self.fault.called, self.entry)

    async def _dripped(self, body: bytes) -> bytes:
        """Send all but the last byte, one at a time."""
        assert self.fault is not None
        for place in range(len(body) - 1):
            if self._closed:
                break
            piece = body[place : place + 1]
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
            self.entry.sent_bytes += 1
            await asyncio.sleep(self.fault.seconds)
        return body[-1:]

    async def _broken(self) -> bytes:
        """The whole body, packed, every bit turned over from `after_bytes` on."""
        assert self.fault is not None
        body = b"".join(self._kept)
        headers = dict(self._start["headers"])
        if headers.get(b"content-encoding") != b"gzip":
            body = gzip.compress(body)
        first = max(self.fault.after_bytes, _GZIP_HEADER)
        body = body[:first] + bytes(one ^ 0xFF for one in body[first:])
        headers |= {b"content-encoding": b"gzip", b"content-length": str(len(body)).encode()}
        await self._send({**self._start, "headers": list(headers.items())})
        return body


def _failed(fault: Fault, message: Message) -> Message:
    """The start of an answer that denies what was done."""
    headers = {"content-type": fault.content_type, **fault.headers}
    headers["content-length"] = str(len(fault.body.encode()))
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return {**message, "status": fault.status, "headers": raw}


def _twisted(fault: Fault, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    match fault.kind:
        case "content_type":
            kept = [one for one in headers if one[0].lower() != b"content-type"]
            return [*kept, (b"content-type", fault.content_type.encode())]
        case "huge_header":
            return [*headers, (b"x-huge", b"x" * fault.size)]
    return headers
