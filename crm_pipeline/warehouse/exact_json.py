"""JSON of the warehouse with every digit of its numbers, however many they are.

Belongs here: reading it. Does not belong here: writing it (outbox.py).
"""

import json
from decimal import Decimal
from typing import Any

_LONGEST_INTEGER = 40
"""Digits; Python refuses to read very many, and no CRM holds more."""


def exact_json(text: str | bytes) -> Any:
    """What the text says; numbers with a fraction, and those without end, are Decimals."""
    return _DECODER.decode(text if isinstance(text, str) else text.decode())


def _whole(digits: str) -> int | Decimal:
    return int(digits) if len(digits) <= _LONGEST_INTEGER else Decimal(digits)


_DECODER = json.JSONDecoder(parse_float=Decimal, parse_int=_whole)
