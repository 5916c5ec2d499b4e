"""A condition of the settings as PostgreSQL, with no way for a value or a name to become syntax.

A condition is either true or false, whatever is missing: a comparison with a value that is not
there is false, except that it does differ (`!=`, `not in`), and `not` turns exactly that around.
Texts are compared without regard to case, as the CRM does.

Belongs here: rendering. Does not belong here: parsing (config/filters.py), which comparisons make
sense (config/audience_settings.py), sending anything.
"""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from typing import assert_never

from psycopg import sql

from crm_pipeline.errors import PermanentError
from crm_pipeline.model.filters import (
    All,
    Any,
    Comparator,
    Comparison,
    FilterValue,
    Not,
    RecordFilter,
)
from crm_pipeline.model.objects import ValueType

Columns = Mapping[str, ValueType]
"""The columns that a condition may look at, in lower case, with the kinds of their values."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_NOT = sql.SQL("(NOT {})")
_IS_NULL = sql.SQL("({} IS NULL)")
_IS_NOT_NULL = sql.SQL("({} IS NOT NULL)")
# What a comparison says of a value that is not there stands in it; none is ever null.
_SIGNS = {
    Comparator.EQUAL: sql.SQL("({} IS NOT DISTINCT FROM {})"),
    Comparator.NOT_EQUAL: sql.SQL("({} IS DISTINCT FROM {})"),
    Comparator.LESS: sql.SQL("coalesce({} < {}, false)"),
    Comparator.LESS_OR_EQUAL: sql.SQL("coalesce({} <= {}, false)"),
    Comparator.GREATER: sql.SQL("coalesce({} > {}, false)"),
    Comparator.GREATER_OR_EQUAL: sql.SQL("coalesce({} >= {}, false)"),
    Comparator.LIKE: sql.SQL("coalesce({} ILIKE {}, false)"),
    Comparator.IN: sql.SQL("coalesce({} IN ({}), false)"),
    Comparator.NOT_IN: sql.SQL("coalesce({} NOT IN ({}), true)"),
}
_LISTS = frozenset({Comparator.IN, Comparator.NOT_IN})


def condition(record_filter: RecordFilter, columns: Columns) -> str:
    """A boolean expression over columns of one relation; it is never null.

    Args:
        record_filter: its fields are columns, in any case.
        columns: those that there are; no other name is ever rendered.

    Raises:
        PermanentError: it names another column, or cannot be said in SQL.
    """
    return _rendered(record_filter, columns).as_string(None)


def _rendered(record_filter: RecordFilter, columns: Columns) -> sql.Composable:
    match record_filter:
        case Comparison():
            return _comparison(record_filter, columns)
        case All(parts=()):
            return sql.SQL("true")
        case Any(parts=()):
            return sql.SQL("false")
        case All(parts=parts):
            return _in_parentheses(sql.SQL(" AND ").join(_rendered(p, columns) for p in parts))
        case Any(parts=parts):
            return _in_parentheses(sql.SQL(" OR ").join(_rendered(p, columns) for p in parts))
        case Not(part=part):
            return _NOT.format(_rendered(part, columns))
        case _:
            assert_never(record_filter)


def _in_parentheses(joined: sql.Composed) -> sql.Composed:
    return sql.SQL("({})").format(joined)


def _comparison(comparison: Comparison, columns: Columns) -> sql.Composable:
    name, comparator = comparison.field.lower(), comparison.comparator
    is_list = isinstance(comparison.value, tuple)
    values = comparison.value if isinstance(comparison.value, tuple) else (comparison.value,)
    if name not in columns or comparator not in _SIGNS or is_list != (comparator in _LISTS):
        raise _unsayable(comparison)
    column: sql.Composable = sql.Identifier(name)
    if values == (None,) and comparator is Comparator.EQUAL:
        return _IS_NULL.format(column)
    if values == (None,) and comparator is Comparator.NOT_EQUAL:
        return _IS_NOT_NULL.format(column)
    if comparator is Comparator.LIKE:
        return _SIGNS[comparator].format(column, _pattern(comparison))
    if not values or None in values:
        raise _unsayable(comparison)
    if isinstance(values[0], str):
        column = sql.SQL("lower({})").format(column)
    is_instant = columns[name] is ValueType.DATETIME
    right = sql.SQL(", ").join(_literal(comparison, v, is_instant=is_instant) for v in values)
    return _SIGNS[comparator].format(column, right)


def _literal(comparison: Comparison, value: FilterValue, *, is_instant: bool) -> sql.Composable:
    """A value by its kind; among instants, a day stands for its first one in UTC."""
    match value:
        case str():
            return sql.SQL("lower({})").format(_text(comparison, value))
        case datetime():
            return sql.Literal(value.astimezone(UTC))
        case date() if is_instant:
            return sql.Literal(datetime.combine(value, time(), UTC))
        case _:
            return sql.Literal(value)


def _text(comparison: Comparison, text: str) -> sql.Literal:
    if _CONTROL.search(text):
        raise _unsayable(comparison)
    return sql.Literal(text)


def _pattern(comparison: Comparison) -> sql.Literal:
    r"""What ILIKE takes: `\%` and `\_` stay escapes, any other backslash stands for itself."""
    if not isinstance(comparison.value, str):
        raise _unsayable(comparison)
    parts = re.split(r"(\\[%_])", comparison.value)
    doubled = [part if i % 2 else part.replace("\\", "\\\\") for i, part in enumerate(parts)]
    return _text(comparison, "".join(doubled))


def _unsayable(comparison: Comparison) -> PermanentError:
    name = re.sub(r"[^\w.]", "?", comparison.field, flags=re.ASCII)[:80]
    return PermanentError(
        f"The comparison of {name} by '{comparison.comparator.value}' cannot be said in SQL; look "
        "at its column and its value."
    )
