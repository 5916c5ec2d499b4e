"""Reading an answer's body: in pieces, bounded in time and memory, and whole or not at all.

Belongs here: bytes off the socket, undone of gzip. Does not belong here: what the bytes mean.
"""

import time
import zlib
from collections.abc import Iterator

import requests
import urllib3

from crm_pipeline.errors import PermanentError, TransientError

PIECE_BYTES = 256 * 1024
_MOST_INFLATION = 300  # CSV of records that differ by their ids alone swells about 100 times


def pieces(response: requests.Response, *, patience_seconds: float) -> Iterator[bytes]:
    """The body in pieces of about 256 kB.

    `patience_seconds` bounds the wait for each piece, not for the page: a server that sends one
    byte a minute resets every socket timeout, but never fills a piece.

    Raises:
        TransientError: the body stopped early, stood still, or its gzip is broken.
    """
    received = _received(response, patience_seconds)
    encoding = response.headers.get("Content-Encoding", "identity").lower()
    yield from _inflated(received) if encoding == "gzip" else received


def whole(response: requests.Response, *, patience_seconds: float, limit_bytes: int) -> bytes:
    """The body at once.

    Raises:
        TransientError: as `pieces`.
        PermanentError: it is larger than an answer of the API can be.
    """
    parts = []
    length = 0
    for piece in pieces(response, patience_seconds=patience_seconds):
        length += len(piece)
        if length > limit_bytes:
            raise PermanentError(
                f"Salesforce sent an answer of more than {limit_bytes // 1024**2} MB; map fewer "
                "fields, or set transport to bulk."
            )
        parts.append(piece)
    return b"".join(parts)


def _received(response: requests.Response, patience_seconds: float) -> Iterator[bytes]:
    raw = response.raw
    if raw.length_remaining is None and not raw.chunked:
        # It would end where the connection does, wherever that is: even its headers may be cut.
        raise TransientError("Salesforce sent an answer without its length; it is asked again.")
    while True:
        piece = _next_piece(raw, patience_seconds)
        if piece:
            yield piece
        if len(piece) < PIECE_BYTES:
            return


def _next_piece(raw: urllib3.HTTPResponse, patience_seconds: float) -> bytes:
    """Exactly one piece, or the shorter rest of the body."""
    deadline = time.monotonic() + patience_seconds
    parts: list[bytes] = []
    missing = PIECE_BYTES
    problem = ""
    try:
        while missing:
            # read1 comes back with what is there; read would sit in the socket until it is full.
            part = raw.read1(missing, decode_content=False)
            if not part:
                break
            parts.append(part)
            missing -= len(part)
            if missing and time.monotonic() > deadline:
                problem = "sends too slowly"
                break
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        problem = f"broke off the answer ({type(error).__name__})"
    if problem:
        raise TransientError(f"Salesforce {problem}; the page is read again.")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _inflated(received: Iterator[bytes]) -> Iterator[bytes]:
    """Undo gzip with flat memory: even a bomb comes out piece by piece, and not for long."""
    inflate = zlib.decompressobj(wbits=31)
    allowance = _MOST_INFLATION * PIECE_BYTES
    for packed in received:
        rest = packed
        allowance += _MOST_INFLATION * len(packed)
        while rest and not inflate.eof:
            try:
                plain = inflate.decompress(rest, PIECE_BYTES)
            except zlib.error:
                plain = None
            if plain is None:
                raise TransientError("Salesforce sent broken gzip; the page is read again.")
            allowance -= len(plain)
            if allowance < 0:
                raise PermanentError(
                    "Salesforce sent gzip that swells more than any records do; nothing of it was "
                    "kept. Look at the proxy in between."
                )
            if plain:
                yield plain
            rest = inflate.unconsumed_tail
    tail = inflate.flush()
    if tail:
        yield tail
    # zlib does not complain about a stream that just ends; a page may not end like that.
    if not inflate.eof:
        raise TransientError("Salesforce broke off the answer (gzip); the page is read again.")
