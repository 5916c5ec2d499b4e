"""Guessing what kind of field an unknown column of a file is, by its values.

Belongs here: values in, a field definition out. Does not belong here: reading files or adding
the field (importer.py). In doubt it is text: text loses nothing.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from crm_pipeline.sandbox.salesforce.schema import FieldDefinition, ObjectDefinition
from crm_pipeline.sandbox.salesforce.standard_objects_fields import (
    field,
    flag,
    long_text,
    number,
    owner,
    reference,
    text,
)

_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)")
# No leading zeros (00123 is a postal code), no exponent (1e5 may be a name), 15 digits at most.
_NUMBER = re.compile(r"-?(0|[1-9]\d{0,14})(\.\d{1,15})?")
_TEXT_LENGTH, _LONG_LENGTH, _LONGEST = 255, 32_768, 131_072
_DIGITS = 18
_BASE_62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

Pointing = Callable[[str], str | None]
"""Tells which object a text refers to, if it is a reference at all."""


def guessed_field(name: str, values: Sequence[Any], pointing: Pointing) -> FieldDefinition:
    """The field that can hold all these values; a column without any becomes text."""
    label = name.removesuffix("__c").replace("_", " ")
    present = [one for one in values if one is not None]
    texts = [one if isinstance(one, str) else _spelled(one) for one in present]
    targets = {pointing(one) for one in texts}
    if targets and None not in targets:
        relationship = name[:-1] + "r" if name.endswith("__c") else name.removesuffix("Id")
        known = tuple(sorted(one for one in targets if one))
        return reference(name, label, known, relationship)
    if texts and all(one.lower() in {"true", "false"} for one in texts):
        return flag(name, label)
    if texts and all(_DATE.fullmatch(one) for one in texts):
        return field(name, label, "date")
    if texts and all(_MOMENT.fullmatch(one) for one in texts):
        return field(name, label, "datetime")
    scale = _scale(texts)
    if scale is not None:
        return number(name, label, "double", _DIGITS, scale)
    return _text(name, label, texts)


def _spelled(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def _scale(texts: Sequence[str]) -> int | None:
    """How many places a number field needs for these texts; None if they are not numbers."""
    found = [_NUMBER.fullmatch(one) for one in texts]
    if not found or None in found:
        return None
    places = max(len((one.group(2) or ".")[1:]) for one in found if one)
    whole = max(len(one.group(1)) for one in found if one)
    return places if places + whole <= _DIGITS else None


def _text(name: str, label: str, texts: Sequence[str]) -> FieldDefinition:
    longest = max(map(len, texts), default=0)
    lines = any("\n" in one or "\r" in one for one in texts)
    if longest > _TEXT_LENGTH or lines:
        return long_text(name, label, _LONG_LENGTH if longest <= _LONG_LENGTH else _LONGEST)
    return text(name, label, _TEXT_LENGTH)


def guessed_object(name: str, taken: Mapping[str, str]) -> ObjectDefinition:
    """An object for records of an unknown type: a name, an owner, a key prefix of its own.

    Args:
        name: The object's API name.
        taken: The key prefixes in use, and by what.
    """
    prefix = next(
        f"a{first}{second}"
        for first in _BASE_62
        for second in _BASE_62
        if f"a{first}{second}" not in taken
    )
    label = name.removesuffix("__c").replace("_", " ")
    return ObjectDefinition(
        name,
        label,
        f"{label}s",
        prefix,
        (text("Name", f"{label} Name", 80, name_field=True), owner(("Group", "User"))),
        custom=name.endswith("__c"),
    )
