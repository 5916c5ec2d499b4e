"""Texts that no database likes: NUL, and halves of surrogate pairs.

SQLite's text functions end at a NUL, and a lone surrogate is no UTF-8 at all; so both are stored
as private characters and turned back on the way out: escaped in JSON, as raw bytes in CSV.

Belongs here: the way in and the ways out. Does not belong here: other rules of text (values.py).
"""

import re
from typing import Any

_NUL = "\U0010fffd"
_SURROGATES = 0x10F000  # where D800 to DFFF are stored
MARK = b"\xf4\x8f"  # what both begin with in UTF-8
_IN = re.compile("[\0\ud800-\udfff]")
_OUT = re.compile("[\U0010f000-\U0010f7ff\U0010fffd]")
_BYTES = re.compile(rb"\xf4\x8f(?:[\x80-\x9f][\x80-\xbf]|\xbf\xbd)")


def stored(text: str) -> str:
    """The form in which a text is kept."""
    if text.isascii() and "\0" not in text:
        return text
    return _IN.sub(lambda found: _private(found.group()), text)


def _private(character: str) -> str:
    return _NUL if character == "\0" else chr(_SURROGATES + ord(character) - 0xD800)


def _real(character: str) -> str:
    return "\0" if character == _NUL else chr(0xD800 + ord(character) - _SURROGATES)


def plain(value: Any) -> Any:
    """The text as Python has it."""
    if not isinstance(value, str) or value.isascii():
        return value
    return _OUT.sub(lambda found: _real(found.group()), value)


def in_json(body: bytes) -> bytes:
    """A JSON answer with both written as escapes, as Salesforce's own JSON carries them."""
    if MARK not in body:
        return body
    return _BYTES.sub(lambda found: f"\\u{ord(_real(found.group().decode())):04x}".encode(), body)


def in_csv(row: bytes) -> bytes:
    """A CSV row with both as the bytes they are; a lone surrogate's are no valid UTF-8."""
    if MARK not in row:
        return row
    return _BYTES.sub(
        lambda found: _real(found.group().decode()).encode("utf-8", "surrogatepass"), row
    )
