"""Requests as SOQL, with no way for a value or a name to become syntax.

Belongs here: rendering. Names come out of describe, never out of the request itself; values are
quoted or formatted by type. Does not belong here: sending queries, parsing filters (config/).

Source: SOQL and SOSL Reference, "Quoted String Escape Sequences", "Date Formats".
"""

import re
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import assert_never

from crm_pipeline.crm.port import ReadRequest
from crm_pipeline.crm.salesforce.failures import missing_fields
from crm_pipeline.crm.salesforce.identifiers import full_id
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
from crm_pipeline.model.objects import CrmField, CrmObject, ValueType

MOST_RECORD_IDS = 200
LONGEST_QUERY = 100_000  # characters of one SOQL statement
_NAME = re.compile(r"[A-Za-z]\w*(?:\.[A-Za-z]\w*){0,5}", re.ASCII)
_ESCAPES = str.maketrans(
    {
        "\\": "\\\\",
        "'": "\\'",
        '"': '\\"',
        "\n": "\\n",
        "\r": "\\r",
        "\t": "\\t",
        "\b": "\\b",
        "\f": "\\f",
    }
)
_CONTROL = re.compile(r"[\x00-\x07\x0b\x0e-\x1f\ud800-\udfff]")
_LISTS = frozenset({Comparator.IN, Comparator.NOT_IN, Comparator.INCLUDES, Comparator.EXCLUDES})
_ORDER_TAKES_NO_NULL = frozenset(
    {
        Comparator.LESS,
        Comparator.LESS_OR_EQUAL,
        Comparator.GREATER,
        Comparator.GREATER_OR_EQUAL,
        Comparator.LIKE,
    }
)


def select(
    request: ReadRequest,
    *,
    after_id: str | None = None,
    ordered: bool = False,
    limit: int | None = None,
) -> str:
    """The query of a request.

    Args:
        request: what to read.
        after_id: only records behind this id.
        ordered: by id, so that a read can go on behind the last id it has.
        limit: no more records than that.

    Raises:
        FieldUnavailable: the request names fields that describe does not show.
        PermanentError: the filter cannot be said in SOQL, or the query is too long for it.
    """
    columns = ", ".join(field_names(request))
    order = f" ORDER BY {_name(request.crm_object.id_field)}" if ordered else ""
    most = f" LIMIT {limit}" if limit is not None else ""
    query = f"SELECT {columns} {_from(request, after_id)}{order}{most}"
    if len(query) > LONGEST_QUERY:
        raise PermanentError(
            f"The query on {request.crm_object.name} has {len(query):,} characters, and Salesforce "
            f"takes {LONGEST_QUERY:,}; map fewer fields of it, or shorten its record filter."
        )
    return query


def count(request: ReadRequest) -> str:
    """The query that counts what a request would return."""
    return f"SELECT COUNT() {_from(request, None)}"


def resource(request: ReadRequest) -> str:
    """Which operation reads the request: queryAll also shows the recycle bin."""
    wanted = request.include_deleted and request.crm_object.deleted_field is not None
    return "queryAll" if wanted else "query"


def field_names(request: ReadRequest) -> tuple[str, ...]:
    """The requested fields as describe spells them.

    Raises:
        FieldUnavailable: some are not there.
    """
    found = [request.crm_object.find(name) for name in request.fields]
    lacking = tuple(
        name for name, field in zip(request.fields, found, strict=True) if field is None
    )
    if lacking or not found:
        raise missing_fields(request.crm_object.name, tuple(_shown(name) for name in lacking))
    return tuple(_name(field.name) for field in found if field is not None)


def datetime_literal(moment: datetime) -> str:
    """An instant in UTC, cut to whole seconds.

    SOQL compares no finer, and a lower bound may be too low but never too high.
    """
    if moment.tzinfo is None:
        raise PermanentError("A point in time must say its time zone.")
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ").zfill(20)


def quoted(text: str) -> str:
    """A text literal.

    Raises:
        PermanentError: it holds characters that SOQL has no way to write.
    """
    if _CONTROL.search(text):
        raise PermanentError("A record filter holds control characters; take them out.")
    return "'" + text.translate(_ESCAPES) + "'"


def _from(request: ReadRequest, after_id: str | None) -> str:
    crm_object = request.crm_object
    conditions = []
    if request.record_filter is not None:
        conditions.append(_condition(crm_object, request.record_filter))
    if request.changed_since is not None:
        if crm_object.cursor_field is None:
            raise PermanentError(
                f"{crm_object.name} has no stamp to find changes by; it must be read whole."
            )
        moment = datetime_literal(request.changed_since)
        conditions.append(f"{_name(crm_object.cursor_field)} >= {moment}")
    if request.record_ids is not None:
        conditions.append(_among(crm_object, request.record_ids))
    if after_id is not None:
        conditions.append(f"{_name(crm_object.id_field)} > {quoted(full_id(after_id))}")
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    return f"FROM {_name(crm_object.name)}{where}"


def _among(crm_object: CrmObject, record_ids: tuple[str, ...]) -> str:
    ids = tuple(dict.fromkeys(full_id(one) for one in record_ids))
    if not ids or len(ids) > MOST_RECORD_IDS:
        raise PermanentError(f"Ask for 1 to {MOST_RECORD_IDS} records by id at a time.")
    return f"{_name(crm_object.id_field)} IN ({', '.join(quoted(one) for one in ids)})"


def _condition(crm_object: CrmObject, record_filter: RecordFilter) -> str:
    match record_filter:
        case Comparison():
            return _comparison(crm_object, record_filter)
        case All(parts=parts):
            return _joined(crm_object, parts, "AND", neutral="!=")
        case Any(parts=parts):
            return _joined(crm_object, parts, "OR", neutral="=")
        case Not(part=part):
            return f"(NOT {_in_parentheses(_condition(crm_object, part))})"
        case _:
            assert_never(record_filter)


def _joined(
    crm_object: CrmObject, parts: tuple[RecordFilter, ...], word: str, *, neutral: str
) -> str:
    if not parts:  # every record has an id: all of nothing holds, any of nothing does not
        return f"{_name(crm_object.id_field)} {neutral} null"
    if len(parts) == 1:
        return _condition(crm_object, parts[0])
    return f"({f' {word} '.join(_condition(crm_object, part) for part in parts)})"


def _in_parentheses(condition: str) -> str:
    return condition if condition.startswith("(") else f"({condition})"


def _comparison(crm_object: CrmObject, comparison: Comparison) -> str:
    field = crm_object.find(comparison.field)
    if field is None:
        raise missing_fields(crm_object.name, (_shown(comparison.field),))
    if not field.is_filterable:
        raise PermanentError(
            f"Salesforce cannot filter {crm_object.name} by {field.name}; take it out of the "
            "record filter."
        )
    comparator = comparison.comparator
    values = comparison.value if isinstance(comparison.value, tuple) else (comparison.value,)
    if isinstance(comparison.value, tuple) != (comparator in _LISTS) or not values:
        raise _unsayable(field, comparator)
    if None in values and comparator in _ORDER_TAKES_NO_NULL:
        raise _unsayable(field, comparator)
    if comparator is Comparator.LIKE:
        return f"{_name(field.name)} LIKE {_pattern(field, values[0])}"
    literals = [_literal(field, value) for value in values]
    right = f"({', '.join(literals)})" if comparator in _LISTS else literals[0]
    return f"{_name(field.name)} {comparator.value.upper()} {right}"


def _literal(field: CrmField, value: FilterValue) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case Decimal():
            if not value.is_finite():
                raise PermanentError(f"The record filter compares {field.name} to no number.")
            return format(value, "f")
        case datetime():
            return datetime_literal(value)
        case date():
            return value.isoformat()
        case str():
            return quoted(_lengthened(field, value))
        case _:
            assert_never(value)


def _lengthened(field: CrmField, text: str) -> str:
    """Ids of 15 characters in full: Salesforce compares them so, and we see a mistyped one."""
    is_id = field.value_type is ValueType.IDENTIFIER
    return full_id(text) if is_id and text else text


def _pattern(field: CrmField, value: FilterValue) -> str:
    r"""A LIKE pattern: `\%` and `\_` stay escapes, any other backslash stands for itself."""
    if not isinstance(value, str):
        raise _unsayable(field, Comparator.LIKE)
    parts = re.split(r"(\\[%_])", value)
    return (
        "'" + "".join(part if i % 2 else quoted(part)[1:-1] for i, part in enumerate(parts)) + "'"
    )


def _name(name: str) -> str:
    """A name of describe, which may still not be trusted to be one: an org is not our code."""
    if not _NAME.fullmatch(name):
        raise PermanentError(f"{_shown(name)} is not an API name; nothing is asked with it.")
    return name


def _shown(name: str) -> str:
    return re.sub(r"[^\w.]", "?", name, flags=re.ASCII)[:80]


def _unsayable(field: CrmField, comparator: Comparator) -> PermanentError:
    return PermanentError(
        f"The record filter's comparison of {field.name} by '{comparator.value}' cannot be said in "
        "SOQL; look at its value."
    )
