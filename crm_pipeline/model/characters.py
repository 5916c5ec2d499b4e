"""Characters that PostgreSQL cannot hold, and what stands in their place.

Two kinds: NUL, and half of a surrogate pair, which is no character at all. Each becomes U+FFFD, and
is counted, so that a run can say how many of its values are not what the CRM holds.

Belongs here: the replacement and its count. Does not belong here: who reads which bytes.
"""

import re

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_REPLACEMENT_BYTES = _REPLACEMENT.encode()
_HALF_PAIR = re.compile("[\ud800-\udfff]")
_HALF_PAIR_BYTES = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")


def without_nul(content: bytes) -> tuple[bytes, int]:
    """Bytes without NUL, and how many were replaced."""
    if b"\0" not in content:
        return content, 0
    return content.replace(b"\0", _REPLACEMENT_BYTES), content.count(b"\0")


def encoded(text: str) -> tuple[bytes, int]:
    """Text as UTF-8 that can be kept, and how many characters were replaced."""
    halves = 0
    try:
        content = text.encode()
    except UnicodeEncodeError:
        text, halves = _HALF_PAIR.subn(_REPLACEMENT, text)
        content = text.encode()
    kept, nuls = without_nul(content)
    return kept, halves + nuls


def decoded(content: bytes) -> tuple[str, int]:
    """UTF-8 that may be broken as text that can be kept, and how many characters were replaced.

    Half of a surrogate pair counts once, although UTF-8 spells it with three wrong bytes, so that
    the same value comes out equal whichever way it travelled.
    """
    content, nuls = without_nul(content)
    try:
        return content.decode(), nuls
    except UnicodeDecodeError:
        content, halves = _HALF_PAIR_BYTES.subn(_REPLACEMENT_BYTES, content)
        text = content.decode(errors="replace")
        broken = text.count(_REPLACEMENT) - content.count(_REPLACEMENT_BYTES)
        return text, nuls + halves + broken


def storable(text: str) -> str:
    """Text as it can be kept, for names and labels, which nobody counts."""
    return encoded(text)[0].decode()
