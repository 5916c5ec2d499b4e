"""What befalls a request before it is carried out, and mostly in place of it.

Belongs here: faults that come before the answer. Does not belong here: what happens to the
answer (sending.py), choosing the fault (faults.py).
"""

import asyncio
import zlib
from collections.abc import Iterator

from starlette.types import Receive, Scope

from crm_pipeline.sandbox.salesforce.calls import Server
from crm_pipeline.sandbox.salesforce.faults import Fault
from crm_pipeline.sandbox.salesforce.sending import Sending

_HTML = b"<html><head><title>Down for maintenance</title></head><body>Sorry</body></html>"
_BLOCK = 1 << 20
_GZIP = 31  # zlib's window bits for a gzip wrapper


async def befall(server: Server, scope: Scope, receive: Receive, sending: Sending) -> bool:
    """Carry out a fault that comes before the request; says whether that was all."""
    fault = sending.fault
    if fault is None:
        return False
    match fault.kind:
        case "hang":
            await asyncio.sleep(fault.seconds)
        case "clock":
            server.org.clock.step(seconds=fault.seconds)
        case "expire_session":
            server.org.sessions.end(token_of(scope))
        case "call" if fault.when == "before":
            await asyncio.to_thread(fault.called, sending.entry)
        case "reset":
            await drain(receive)
            await sending.hang_up(flush=False)
            return True
        case "status" | "html" | "redirect" | "deep_json" | "gzip_bomb":
            await drain(receive)
            await _instead(sending, fault)
            return True
    return False


async def _instead(sending: Sending, fault: Fault) -> None:
    """An answer that nobody asked for."""
    status, headers = fault.status, {"content-type": fault.content_type, **fault.headers}
    blocks: Iterator[bytes] = iter([fault.body.encode()])
    match fault.kind:
        case "html":
            headers = {"content-type": "text/html"}
            blocks = iter([fault.body.encode() or _HTML])
        case "redirect":
            status = status if 300 <= status < 400 else 302
            headers["location"] = fault.location
        case "deep_json":
            status, blocks = 200, iter([b"[" * fault.size, b"]" * fault.size])
        case "gzip_bomb":
            status, blocks = 200, _bomb(fault.size)
            headers["content-encoding"] = "gzip"
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    known = list(blocks) if fault.kind != "gzip_bomb" else None
    if known is not None:
        raw.append((b"content-length", str(sum(map(len, known))).encode()))
    await sending({"type": "http.response.start", "status": status, "headers": raw})
    for block in known if known is not None else blocks:
        await sending({"type": "http.response.body", "body": block, "more_body": True})
    await sending({"type": "http.response.body", "body": b""})


def _bomb(size: int) -> Iterator[bytes]:
    """So many spaces, packed to about a thousandth: valid gzip, valid JSON up to there."""
    packer = zlib.compressobj(9, wbits=_GZIP)
    block = b" " * _BLOCK
    for start in range(0, size, _BLOCK):
        if packed := packer.compress(block[: size - start]):
            yield packed
    yield packer.flush()


async def drain(receive: Receive) -> None:
    """Read the request to its end, so that the client is not cut off while it still sends."""
    while True:
        message = await receive()
        if message["type"] != "http.request" or not message.get("more_body"):
            return


def token_of(scope: Scope) -> str:
    """The access token that a request carries, or ''."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            _, _, token = value.decode("latin-1").partition(" ")
            return str(token.strip())
        if name == b"x-sfdc-session":
            return str(value.decode("latin-1"))
    return ""
