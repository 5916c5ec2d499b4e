"""Values on their way to Salesforce, by the type of their field, and back for comparison.

Belongs here: the form of one value. Does not belong here: what may be written at all
(writeback/), and sending (writing.py, ingest.py).
"""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

from crm_pipeline.model.objects import CrmField, ValueType
from crm_pipeline.model.writeback import Value

# Salesforce's numbers are doubles, and an exponent can ask for a terabyte of zeros.
_MOST_DIGITS = 300

_JSON = json.JSONEncoder(allow_nan=False)


class Unfit(Exception):
    """The value is not one of the field's type; says nothing of the value."""


def written(field: CrmField, value: Value) -> object:
    """A value as JSON carries it to this field; decimals stay Decimal, with every digit.

    Raises:
        Unfit: it cannot be one of this field's.
    """
    if value is None or value == "":
        # Salesforce holds no empty texts; a tick box is never empty, and takes null for false.
        return False if field.value_type is ValueType.BOOLEAN else None
    form = _FORMS.get(field.value_type or ValueType.TEXT, _text)
    try:
        return form(value)
    except (ArithmeticError, LookupError, TypeError, ValueError):
        unfit = True
    # Raised outside of the except block: the cause would quote the value.
    assert unfit
    raise Unfit


def _text(value: Value) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def _time(value: Value) -> object:
    given = value if isinstance(value, time) else time.fromisoformat(str(value))
    if given.utcoffset():  # without a day nobody can tell which time that is elsewhere
        raise ValueError
    return f"{given:%H:%M:%S}.{given.microsecond // 1000:03d}Z"


def _decimal(value: Value) -> object:
    if isinstance(value, bool):
        raise TypeError
    number = value if isinstance(value, Decimal) else Decimal(str(value))
    if not number.is_finite() or abs(number.adjusted()) > _MOST_DIGITS:
        raise ValueError
    return number


def _integer(value: Value) -> object:
    number = _decimal(value)
    if not isinstance(number, Decimal) or number != number.to_integral_value():
        raise ValueError
    return int(number)


def _boolean(value: Value) -> object:
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}[str(value).lower()]


def _date(value: Value) -> object:
    if isinstance(value, datetime):
        return value.date().isoformat()
    return (
        value.isoformat()
        if isinstance(value, date)
        else date.fromisoformat(str(value)[:10]).isoformat()
    )


def _instant(value: Value) -> object:
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    if moment.tzinfo is None:
        raise ValueError
    moment = moment.astimezone(UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


_FORMS: Mapping[ValueType, Callable[[Value], object]] = {
    ValueType.TEXT: _text,
    ValueType.IDENTIFIER: _text,
    ValueType.TIME: _time,
    ValueType.DECIMAL: _decimal,
    ValueType.INTEGER: _integer,
    ValueType.BOOLEAN: _boolean,
    ValueType.DATE: _date,
    ValueType.DATETIME: _instant,
}


def holds(field: CrmField, value: Value, found: Value) -> bool:
    """Whether what the CRM holds is what was written: it rounds numbers and trims texts."""
    try:
        ours, theirs = written(field, value), written(field, found)
    except Unfit:
        return False
    if isinstance(ours, Decimal) and isinstance(theirs, Decimal):
        step = Decimal(1).scaleb(-field.scale)
        return _rounded(ours, step) == _rounded(theirs, step)
    if field.value_type is ValueType.DATETIME and ours and theirs:
        return str(ours)[:19] == str(theirs)[:19]
    if isinstance(ours, str) and isinstance(theirs, str):
        if field.value_type is ValueType.IDENTIFIER:
            return ours[:15] == theirs[:15]
        return ours.strip() == theirs.strip()
    return ours == theirs


def _rounded(number: Decimal, step: Decimal) -> Decimal:
    try:
        return number.quantize(step, rounding=ROUND_HALF_UP)
    except InvalidOperation:  # more digits than a Decimal's context has
        return number


def as_body(value: object) -> str:
    """JSON with every digit of a Decimal: floats would lose 99999999999999.99."""
    match value:
        case dict():
            parts = (f"{_JSON.encode(name)}:{as_body(one)}" for name, one in value.items())
            return "{" + ",".join(parts) + "}"
        case list():
            return "[" + ",".join(map(as_body, value)) + "]"
        case Decimal():
            return f"{value:f}"
        case _:
            return _JSON.encode(value)
