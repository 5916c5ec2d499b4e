"""How a field's value is checked, stored and shown.

Everything is stored as the text that a Bulk result shows, so a page of results is written
without touching a value; only int fields are stored as integers. Decimals keep all digits:
they never pass through a float.

Belongs here: one value of one field. Does not belong here: rules across fields or records.
"""

import base64
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation, localcontext
from typing import Any

import orjson

from crm_pipeline.sandbox.salesforce import identifiers, strange_text
from crm_pipeline.sandbox.salesforce.clock import stamp_text
from crm_pipeline.sandbox.salesforce.failures import OrgError, malformed_id
from crm_pipeline.sandbox.salesforce.schema import FieldDefinition

Stored = str | int | None
Keeper = Callable[[Any], Stored]

_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_TIME = re.compile(r"(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,3})\d*)?)?Z?")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s.]+")


def keeper(field: FieldDefinition) -> Keeper:
    """The function that turns a given value into the stored one, or refuses it.

    It is made once per field and batch: a million rows go through it.
    """
    if field.type == "picklist" and field.restricted_picklist:
        return _restricted(field)
    return _KEEPERS.get(field.type, _text)(field)


def _refusal(field: FieldDefinition, value: Any, kind: str) -> OrgError:
    return OrgError(
        "INVALID_TYPE_ON_FIELD_IN_RECORD",
        f"{field.label}: value not of required type: {str(value)[:80]} ({kind})",
        fields=(field.name,),
    )


def _text(field: FieldDefinition) -> Keeper:
    limit = field.length or 1 << 30

    def keep(value: Any) -> Stored:
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            if isinstance(value, (dict, list)):
                raise _refusal(field, value, "text")
            value = str(value).lower() if isinstance(value, bool) else str(value)
        if len(value) > limit:
            raise OrgError(
                "STRING_TOO_LONG",
                f"{field.label}: data value too large: {value[:80]} (max length={limit})",
                fields=(field.name,),
            )
        return strange_text.stored(value)

    return keep


def _email(field: FieldDefinition) -> Keeper:
    text = _text(field)

    def keep(value: Any) -> Stored:
        kept = text(value)
        if kept is not None and not _EMAIL.fullmatch(str(kept)):
            raise OrgError(
                "INVALID_EMAIL_ADDRESS",
                f"{field.label}: invalid email address: {kept}",
                fields=(field.name,),
            )
        return kept

    return keep


def _restricted(field: FieldDefinition) -> Keeper:
    allowed = {one.value.lower(): one.value for one in field.picklist_values if one.active}
    text = _text(field)

    def keep(value: Any) -> Stored:
        kept = text(value)
        if kept is None:
            return None
        known = allowed.get(str(kept).lower())
        if known is None:
            raise OrgError(
                "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
                f"{field.label}: bad value for restricted picklist field: {kept}",
                fields=(field.name,),
            )
        return known

    return keep


def _multiple(field: FieldDefinition) -> Keeper:
    text = _text(field)

    def keep(value: Any) -> Stored:
        return text(";".join(value) if isinstance(value, (list, tuple)) else value)

    return keep


def _binary(field: FieldDefinition) -> Keeper:
    text = _text(field)

    def keep(value: Any) -> Stored:
        return text(base64.b64encode(value).decode() if isinstance(value, bytes) else value)

    return keep


def _boolean(field: FieldDefinition) -> Keeper:
    def keep(value: Any) -> Stored:
        if value is True or value == "true":
            return "true"
        if value is False or value is None or value == "false":
            return "false"
        match str(value).lower():
            case "true" | "1":
                return "true"
            case "false" | "0" | "":
                return "false"
        raise _refusal(field, value, "boolean")

    return keep


def _integer(field: FieldDefinition) -> Keeper:
    def keep(value: Any) -> Stored:
        if type(value) is int:
            return _within(field, value)
        if value is None or value == "":
            return None
        number = _number(field, value)
        if number != number.to_integral_value():
            raise _refusal(field, value, "int")
        return _within(field, int(number))

    return keep


def _within(field: FieldDefinition, value: int) -> int:
    if not -(1 << 31) <= value < 1 << 31:
        raise _outside(field, value)
    return value


def _outside(field: FieldDefinition, value: Any) -> OrgError:
    return OrgError(
        "NUMBER_OUTSIDE_VALID_RANGE",
        f"{field.label}: value outside of valid range on numeric field: {value}",
        fields=(field.name,),
    )


def _number(field: FieldDefinition, value: Any) -> Decimal:
    if isinstance(value, bool):
        raise _refusal(field, value, field.type)
    try:
        number = Decimal(repr(value) if isinstance(value, float) else str(value).strip())
    except InvalidOperation:
        raise _refusal(field, value, field.type) from None
    if not number.is_finite():
        raise _refusal(field, value, field.type)
    return number


def _decimal(field: FieldDefinition) -> Keeper:
    whole_digits = (field.precision or 18) - field.scale
    ceiling = Decimal(10) ** whole_digits
    step = Decimal(1).scaleb(-field.scale) if field.precision else None

    def keep(value: Any) -> Stored:
        if value is None or value == "":
            return None
        number = _number(field, value)
        if step is not None and -int(number.as_tuple().exponent) > field.scale:
            with localcontext(prec=60):
                number = number.quantize(step, rounding=ROUND_HALF_UP)
        if abs(number) >= ceiling:
            raise _outside(field, value)
        return decimal_text(number)

    return keep


def decimal_text(number: Decimal) -> str:
    """All digits, no exponent, no needless zeros, and always one place after the point.

    One text per value makes equality of numbers equality of texts.
    """
    text = format(number, "f")
    if "." not in text:
        return text + ".0" if text != "-0" else "0.0"
    text = text.rstrip("0")
    text = text + "0" if text.endswith(".") else text
    return "0.0" if text == "-0.0" else text


def _date(field: FieldDefinition) -> Keeper:
    def keep(value: Any) -> Stored:
        if value is None or value == "":
            return None
        if isinstance(value, datetime):
            return value.date().isoformat()
        if isinstance(value, date):
            return value.isoformat()
        text = str(value)[:10]
        try:
            if not _DATE.fullmatch(text):
                raise ValueError(text)
            date.fromisoformat(text)
        except ValueError:
            raise _refusal(field, value, "date") from None
        return text

    return keep


def _moment(field: FieldDefinition) -> Keeper:
    def keep(value: Any) -> Stored:
        if value is None or value == "":
            return None
        if type(value) is str and len(value) == 24 and value[10] == "T" and value[23] == "Z":
            return value
        if isinstance(value, datetime):
            return stamp_text(value)
        try:
            moment = datetime.fromisoformat(str(value).strip())
        except ValueError:
            raise _refusal(field, value, "datetime") from None
        return stamp_text(moment if moment.tzinfo else moment.replace(tzinfo=UTC))

    return keep


def _time(field: FieldDefinition) -> Keeper:
    def keep(value: Any) -> Stored:
        if value is None or value == "":
            return None
        text = value.isoformat() if isinstance(value, time) else str(value)
        parts = _TIME.fullmatch(text)
        if parts is None:
            raise _refusal(field, value, "time")
        hour, minute, second, fraction = (one or "" for one in parts.groups())
        return f"{hour}:{minute}:{second or '00'}.{fraction.ljust(3, '0')}Z"

    return keep


def _reference(field: FieldDefinition) -> Keeper:
    known: dict[Any, str | None] = {None: None, "": None}

    def keep(value: Any) -> Stored:
        try:
            return known[value]
        except (KeyError, TypeError):
            identifier = identifiers.normalise(value)
            if identifier is None:
                raise malformed_id(value, field.label) from None
            if len(known) < 100_000:  # owners repeat, parents need not
                known[value] = identifier
            return identifier

    return keep


_KEEPERS: dict[str, Callable[[FieldDefinition], Keeper]] = {
    "base64": _binary,
    "boolean": _boolean,
    "currency": _decimal,
    "date": _date,
    "datetime": _moment,
    "double": _decimal,
    "email": _email,
    "id": _reference,
    "int": _integer,
    "multipicklist": _multiple,
    "percent": _decimal,
    "reference": _reference,
    "time": _time,
}


def shower(field: FieldDefinition) -> Callable[[Any], Any] | None:
    """The function that gives a stored value its JSON form; None where it is the same.

    Decimals go out digit by digit.
    """
    match field.type:
        case "boolean":
            return _is_true
        case "double" | "currency" | "percent" | "address" | "location" | "complexvalue":
            return _fragment
        case "datetime":
            return _offset
    return None


def _is_true(stored: Any) -> Any:
    return stored == "true"


def _fragment(stored: Any) -> Any:
    return None if stored is None else orjson.Fragment(str(stored))


def _offset(stored: Any) -> Any:
    return None if stored is None else stored[:23] + "+0000"


def plainer(field: FieldDefinition) -> Callable[[Any], Any] | None:
    """The function that gives a stored value its Python form; None where it is the same."""
    match field.type:
        case "boolean":
            return _is_true
        case "double" | "currency" | "percent":
            return _number_of
        case "address" | "location":
            return _loaded
        case "id" | "reference" | "date" | "datetime" | "time" | "int":
            return None
    return strange_text.plain


def _number_of(stored: Any) -> Any:
    return None if stored is None else Decimal(str(stored))


def _loaded(stored: Any) -> Any:
    return None if stored is None else orjson.loads(stored)
