"""Records on their way out: single ones, the rows of a query, the pages of a cursor.

Belongs here: running compiled queries and giving values their Python or JSON form.
Does not belong here: Bulk results, which never touch a value in Python (bulk_files.py).
"""

import sqlite3
from array import array
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from crm_pipeline.sandbox.salesforce import identifiers
from crm_pipeline.sandbox.salesforce.schema import (
    COMPOUND_TYPES,
    FieldDefinition,
    ObjectDefinition,
)
from crm_pipeline.sandbox.salesforce.soql_compiler import Compiled, compile_soql
from crm_pipeline.sandbox.salesforce.storage import quoted
from crm_pipeline.sandbox.salesforce.values import Stored, keeper, plainer, shower

if TYPE_CHECKING:
    from crm_pipeline.sandbox.salesforce.org import SandboxOrg

Row = dict[str, Any]
Former = Callable[[FieldDefinition], Callable[[Any], Any] | None]
_ADDRESS_PARTS = (
    "City",
    "CountryCode",
    "Country",
    "GeocodeAccuracy",
    "Latitude",
    "Longitude",
    "PostalCode",
    "StateCode",
    "State",
    "Street",
)


def add_functions(org: "SandboxOrg", connection: sqlite3.Connection) -> None:
    """Teach a connection case folding beyond ASCII, formulas and compound fields.

    The functions read the record through the same connection, so they see what the query sees.
    """
    cached: tuple[object, Row | None] = (None, None)

    def fetched(object_name: str, record_id: str) -> Row | None:
        nonlocal cached
        key = (object_name, record_id, org.revision)
        if cached[0] != key or connection.in_transaction:
            cached = (key, _stored_record(connection, org.catalogue.object(object_name), record_id))
        return cached[1]

    def formula(object_name: str, field_name: str, record_id: str | None) -> Stored:
        found = fetched(object_name, record_id) if record_id else None
        field = org.catalogue.object(object_name).field(field_name)
        if found is None or field is None or field.formula is None:
            return None
        return keeper(field)(field.formula(found, org))

    def compound(object_name: str, field_name: str, record_id: str | None) -> Stored:
        found = fetched(object_name, record_id) if record_id else None
        if found is None:
            return None
        value = _compound(org.catalogue.object(object_name), field_name, found)
        return None if value is None else orjson.dumps(value, default=float).decode()

    connection.create_function("org_fold", 1, _fold, deterministic=True)
    connection.create_function("org_commit", 0, org.commits.number)
    connection.create_function("org_formula", 3, formula)
    connection.create_function("org_compound", 3, compound)


def _fold(value: Stored) -> Stored:
    return value.casefold() if isinstance(value, str) else value


def _stored_record(
    connection: sqlite3.Connection, definition: ObjectDefinition, record_id: str
) -> Row | None:
    fields = [one for one in definition.fields if one.stored]
    names = ", ".join(quoted(one.name) for one in fields)
    row = connection.execute(
        f"SELECT {names} FROM {quoted(definition.name)} WHERE Id = ?", (record_id,)
    ).fetchone()
    if row is None:
        return None
    return {
        field.name: (form(value) if (form := plainer(field)) else value)
        for field, value in zip(fields, row, strict=True)
    }


def _compound(definition: ObjectDefinition, name: str, record: Row) -> Row | None:
    parts: Row = {}
    for field in definition.fields:
        if field.compound_field_name == name:
            ending = next((one for one in _ADDRESS_PARTS if field.name.endswith(one)), field.name)
            parts[ending[0].lower() + ending[1:]] = record.get(field.name)
    if all(value is None for value in parts.values()):
        return None
    return dict(sorted(parts.items()))


def record(org: "SandboxOrg", object_name: str, record_id: str) -> Row | None:
    """One record with stored, formula and compound fields, as Python values."""
    definition = org.catalogue.object(object_name)
    identifier = identifiers.normalise(record_id)
    if identifier is None:
        return None
    found = _stored_record(org.store.reader(), definition, identifier)
    if found is None:
        return None
    stored = dict(found)
    for field in definition.fields:
        if field.formula is not None:
            found[field.name] = field.formula(stored, org)
        elif field.type in COMPOUND_TYPES:
            found[field.name] = _compound(definition, field.name, stored)
    return found


def rows(
    org: "SandboxOrg", soql: str, *, include_deleted: bool = False, as_user: bool = False
) -> list[Row]:
    """All rows of a query as Python values, without attributes."""
    compiled = compile_soql(org, soql, include_deleted=include_deleted, as_user=as_user)
    result = Result(org, compiled)
    return result.page(range(result.total), Shape(org, result.compiled, plainer))


class Shape:
    """How a row of values becomes a nested record. `url` is None where no attributes are wanted."""

    def __init__(
        self, org: "SandboxOrg", compiled: Compiled, former: Former, url: str | None = None
    ) -> None:
        self._org = org
        self._compiled = compiled
        self._url = url
        self.parents = _parents_shown(compiled)
        self._forms = [(one.names, former(one.field)) for one in compiled.columns]
        self._flat = all(len(one.names) == 1 for one in compiled.columns)

    @property
    def extra_sql(self) -> list[str]:
        """The Ids a row needs besides its columns: its own and its parents'."""
        if self._compiled.aggregate:
            return []
        return ["t0.Id", *(self._compiled.parents[names] for names in self.parents)]

    def record(self, row: Sequence[Any]) -> Row:
        """One row, its extra Ids last."""
        count = len(self._forms)
        answer: Row = {}
        if self._url is not None:
            answer["attributes"] = (
                {"type": "AggregateResult"}
                if self._compiled.aggregate
                else self._attributes(self._compiled.definition, row[count])
            )
        if self._flat:
            for (names, form), value in zip(self._forms, row, strict=False):
                answer[names[0]] = form(value) if form else value
            return answer
        ids = dict(zip(self.parents, row[count + 1 :], strict=True))
        for (names, form), value in zip(self._forms, row, strict=False):
            holder = self._holder(answer, names[:-1], ids)
            if holder is not None:
                holder[names[-1]] = form(value) if form else value
        return answer

    def _holder(self, answer: Row, names: tuple[str, ...], ids: dict[Any, Any]) -> Row | None:
        holder = answer
        for depth, name in enumerate(names, start=1):
            identifier = ids.get(names[:depth])
            if identifier is None:
                holder[name] = None
                return None
            inner = holder.get(name)
            if inner is None:
                inner = holder[name] = {}
                parent = self._org.catalogue.by_prefix(identifier)
                if self._url is not None and parent is not None:
                    inner["attributes"] = self._attributes(parent, identifier)
            holder = inner
        return holder

    def _attributes(self, definition: ObjectDefinition, identifier: str) -> Row:
        return {
            "type": definition.name,
            "url": f"{self._url}/sobjects/{definition.name}/{identifier}",
        }


def _parents_shown(compiled: Compiled) -> list[tuple[str, ...]]:
    shown: dict[tuple[str, ...], None] = {}
    for column in compiled.columns:
        for depth in range(1, len(column.names)):
            shown[column.names[:depth]] = None
    return list(shown)


class Result:
    """What a query found, frozen: which rows, in which order. Their values are read page by page.

    Only row numbers are held (8 bytes a row), so a cursor over a million records is cheap.
    """

    def __init__(self, org: "SandboxOrg", compiled: Compiled) -> None:
        self.org = org
        self.compiled = compiled
        self._rows: list[Sequence[Any]] = []
        self._numbers = array("q")
        reader = org.store.reader()
        if compiled.aggregate:
            columns = ", ".join(one.sql for one in compiled.columns)
            self._rows = reader.execute(compiled.sql(columns), compiled.parameters).fetchall()
        else:
            found = reader.execute(compiled.sql("t0.rowid"), compiled.parameters)
            self._numbers.extend(number for (number,) in found)
        self.total = len(self._rows) or len(self._numbers)
        if compiled.count_only:
            self.total = int(self._rows[0][0])
            self._rows = []

    def page(self, places: Sequence[int], shape: Shape) -> list[Row]:
        """The records at these places; a row that has gone for good since is left out."""
        if self.compiled.aggregate:
            rows = self._rows
            return [shape.record(rows[place]) for place in places if place < len(rows)]
        count = len(self._numbers)
        numbers = [self._numbers[place] for place in places if place < count]
        columns = ", ".join([*(one.sql for one in self.compiled.columns), *shape.extra_sql])
        found: dict[int, Sequence[Any]] = {}
        reader = self.org.store.reader()
        for begin in range(0, len(numbers), _PIECE):
            wanted = ",".join(map(str, numbers[begin : begin + _PIECE]))
            cursor = reader.execute(
                f"SELECT t0.rowid, {columns} FROM {self.compiled.source} "
                f"WHERE t0.rowid IN ({wanted})"
            )
            found.update((row[0], row[1:]) for row in cursor)
        return [shape.record(found[number]) for number in numbers if number in found]


_PIECE = 10_000  # row numbers named in one statement


def json_shape(org: "SandboxOrg", compiled: Compiled, url: str) -> Shape:
    """The shape of REST answers, with attributes."""
    return Shape(org, compiled, shower, url)
