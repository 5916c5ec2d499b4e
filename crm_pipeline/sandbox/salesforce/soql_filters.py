"""One condition of a query as SQLite SQL: what equality, order and null mean in SOQL.

Text compares without case; numbers as numbers; an empty text is null; a condition is never
unknown, so `!=` and NOT find the records where the field is null.

Belongs here: a field against values. Does not belong here: joins and clauses (soql_compiler.py).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from crm_pipeline.sandbox.salesforce import identifiers
from crm_pipeline.sandbox.salesforce.clock import stamp_moment, stamp_text
from crm_pipeline.sandbox.salesforce.failures import OrgError
from crm_pipeline.sandbox.salesforce.schema import NUMBER_TYPES, FieldDefinition
from crm_pipeline.sandbox.salesforce.soql_dates import span
from crm_pipeline.sandbox.salesforce.soql_tree import Value
from crm_pipeline.sandbox.salesforce.values import decimal_text

_EXACT_TYPES = frozenset({"id", "reference", "boolean", "date", "datetime", "time"})
Bind = Callable[[object], str]


@dataclass(frozen=True, slots=True)
class Operand:
    """The left side: the field, and the SQL that yields its value."""

    field: FieldDefinition
    sql: str

    @property
    def sortable_sql(self) -> str:
        """The SQL by which the field sorts and is compared in order."""
        if self.field.type == "int":
            return self.sql
        if self.field.type in NUMBER_TYPES:
            return f"CAST({self.sql} AS NUMERIC)"
        if self.field.type in _EXACT_TYPES:
            return self.sql
        return f"{self.sql} COLLATE NOCASE"


def comparison(operand: Operand, operator: str, value: Value, bind: Bind, today: date) -> str:
    """A condition against one value; it yields 0 or 1, never null, where NOT needs that."""
    _check_filterable(operand.field)
    if value.kind == "span":
        return _within(operand, operator, value, bind, today)
    if operator == "LIKE":
        return _like(operand, value, bind)
    stored = _stored(operand.field, value)
    if stored is None:
        return _against_null(operand, operator)
    if operator in {"=", "!="}:
        return _equal(operand, operator, stored, bind)
    if operand.field.type in NUMBER_TYPES:
        return f"{operand.sortable_sql} {operator} CAST({bind(stored)} AS NUMERIC)"
    return f"{operand.sortable_sql} {operator} {bind(stored)}"


def membership(
    operand: Operand, operator: str, values: tuple[Value, ...], bind: Bind, today: date
) -> str:
    """IN and NOT IN over a list, INCLUDES and EXCLUDES over a multi-picklist."""
    _check_filterable(operand.field)
    if operator in {"INCLUDES", "EXCLUDES"}:
        return _includes(operand, operator, values, bind)
    stored = [_stored(operand.field, one) for one in values if one.kind != "span"]
    tests = []
    texts = [one for one in stored if one is not None]
    if texts and all(str(one).isascii() for one in texts):
        folding = "" if _exact(operand.field) else " COLLATE NOCASE"
        tests.append(f"{operand.sql}{folding} IN ({', '.join(bind(one) for one in texts)})")
    else:
        tests.extend(_equal(operand, "=", one, bind) for one in texts)
    if None in stored:
        tests.append(f"{operand.sql} IS NULL")
    spans = [one for one in values if one.kind == "span"]
    tests.extend(_within(operand, "=", one, bind, today) for one in spans)
    found = f"({' OR '.join(tests)})"
    return f"NOT coalesce({found}, 0)" if operator == "NOT IN" else found


def _exact(field: FieldDefinition) -> bool:
    return field.type in _EXACT_TYPES or field.type in NUMBER_TYPES or field.case_sensitive


def _check_filterable(field: FieldDefinition) -> None:
    if not field.filterable:
        raise OrgError("INVALID_FIELD", f"field '{field.name}' can not be filtered in a query call")


def _against_null(operand: Operand, operator: str) -> str:
    if operator == "=":
        return f"{operand.sql} IS NULL"
    if operator == "!=":
        return f"{operand.sql} IS NOT NULL"
    raise OrgError(
        "INVALID_QUERY_FILTER_OPERATOR",
        f"filter operator '{operator}' can not be used with null on '{operand.field.name}'",
    )


def _equal(operand: Operand, operator: str, stored: object, bind: Bind) -> str:
    sql = operand.sql
    if _exact(operand.field):
        right = bind(stored)
    elif str(stored).isascii():
        sql, right = f"{sql} COLLATE NOCASE", bind(stored)
    else:
        sql, right = f"org_fold({sql})", bind(str(stored).casefold())
    return f"{sql} {'=' if operator == '=' else 'IS NOT'} {right}"


def _like(operand: Operand, value: Value, bind: Bind) -> str:
    if value.kind != "text" or operand.field.type in NUMBER_TYPES | _EXACT_TYPES - {"reference"}:
        raise OrgError(
            "INVALID_QUERY_FILTER_OPERATOR",
            f"invalid operator on {operand.field.type} field: {operand.field.name}",
        )
    if value.pattern.isascii():
        return f"{operand.sql} LIKE {bind(value.pattern)} ESCAPE '\\'"
    return f"org_fold({operand.sql}) LIKE {bind(value.pattern.casefold())} ESCAPE '\\'"


def _includes(operand: Operand, operator: str, values: tuple[Value, ...], bind: Bind) -> str:
    if operand.field.type != "multipicklist":
        raise OrgError(
            "INVALID_QUERY_FILTER_OPERATOR",
            f"{operator.lower()} operator is only valid on multipicklist: {operand.field.name}",
        )
    holder = f"(';' || {operand.sql} || ';')"
    tests = []
    for value in values:
        # 'A;B' asks for records that hold both.
        every = [
            f"instr(lower({holder}), lower({bind(f';{one};')})) > 0"
            for one in value.text.split(";")
        ]
        tests.append(f"({' AND '.join(every)})")
    found = f"coalesce({' OR '.join(tests)}, 0)"
    return f"({found})" if operator == "INCLUDES" else f"NOT {found}"


def _within(operand: Operand, operator: str, value: Value, bind: Bind, today: date) -> str:
    if operand.field.type not in {"date", "datetime"}:
        raise _wrong_type(operand.field, value)
    begin, end = (one.isoformat() for one in span(value.text, today))
    if operand.field.type == "datetime":
        begin, end = f"{begin}T00:00:00.000Z", f"{end}T00:00:00.000Z"
    match operator:
        case "=":
            return f"({operand.sql} >= {bind(begin)} AND {operand.sql} < {bind(end)})"
        case "!=":
            inner = f"{operand.sql} >= {bind(begin)} AND {operand.sql} < {bind(end)}"
            return f"NOT coalesce({inner}, 0)"
        case "<" | ">=":
            return f"{operand.sql} {operator} {bind(begin)}"
        case ">":
            return f"{operand.sql} >= {bind(end)}"
    return f"{operand.sql} < {bind(end)}"


def _stored(field: FieldDefinition, value: Value) -> str | int | None:
    """The value as the org would hold it in this field; None for null and for ''."""
    if value.kind == "null" or (value.kind == "text" and value.text == ""):
        return None
    match field.type:
        case "id" | "reference":
            return _identifier(field, value)
        case "int" | "double" | "currency" | "percent":
            return _number(field, value)
        case "datetime" if value.kind == "datetime":
            return stamp_text(stamp_moment(value.text))
        case "boolean" | "date" | "datetime" | "time":
            if value.kind != field.type:
                raise _wrong_type(field, value)
            return value.text
    if value.kind != "text":
        raise _wrong_type(field, value)
    return value.text


def _identifier(field: FieldDefinition, value: Value) -> str:
    identifier = identifiers.normalise(value.text) if value.kind == "text" else None
    if identifier is None:
        raise OrgError("INVALID_QUERY_FILTER_OPERATOR", f"invalid ID field: {value.text}")
    return identifier


def _number(field: FieldDefinition, value: Value) -> str | int:
    if value.kind != "number":
        raise _wrong_type(field, value)
    number = Decimal(value.text)
    if field.type != "int":
        return decimal_text(number)
    return int(number) if number == number.to_integral_value() else str(number)


_SPOKEN = {"datetime": "dateTime", "currency": "double", "percent": "double"}


def _wrong_type(field: FieldDefinition, value: Value) -> OrgError:
    quoting = {
        True: "and should not be enclosed in quotes",
        False: "and should be enclosed in quotes",
    }
    texty = field.type in _EXACT_TYPES | NUMBER_TYPES
    spoken = _SPOKEN.get(field.type, field.type if texty else "string")
    return OrgError(
        "INVALID_FIELD",
        f"value of filter criterion for field '{field.name}' must be of type {spoken} "
        f"{quoting[texty]}",
    )
