"""Rows on their way into the org: names resolved, values checked, stamps set, columns built.

Batches are checked column by column, so that a million leads cost seconds, and a refused value
names its row.

Belongs here: the rules a record must keep when it is written. Does not belong here: deleting
(bins.py), what an API user may write (permissions are the REST rooms' business).
"""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crm_pipeline.sandbox.salesforce import identifiers
from crm_pipeline.sandbox.salesforce.failures import OrgError, malformed_id, no_such_column
from crm_pipeline.sandbox.salesforce.schema import FieldDefinition, ObjectDefinition
from crm_pipeline.sandbox.salesforce.storage import quoted
from crm_pipeline.sandbox.salesforce.values import Stored, keeper

if TYPE_CHECKING:
    from crm_pipeline.sandbox.salesforce.org import SandboxOrg

_LOOKUP_CHUNK = 500  # bound parameters per existence check
Columns = dict[str, Sequence[Stored]]


@dataclass(frozen=True, slots=True)
class Author:
    """Who writes, and when: the same for every row of a batch.

    `moves` says which stamps an edit moves; new records get them all.
    """

    user: str
    stamp: str
    moves: str = "all"


class Batch:
    """New records of one object, turned from rows into checked columns."""

    def __init__(self, org: "SandboxOrg", definition: ObjectDefinition, author: Author) -> None:
        self._org = org
        self._definition = definition
        self._author = author
        self._fields = {one.name: one for one in definition.fields if one.stored}
        self._keepers = {name: keeper(one) for name, one in self._fields.items()}

    def insert(
        self, connection: sqlite3.Connection, rows: Sequence[Mapping[str, Any]]
    ) -> list[str]:
        """Check and store the rows; all of them or none."""
        rows = resolved(self._definition, rows)
        given = set().union(*rows)
        columns: Columns = {}
        for name, field in self._fields.items():
            if name in given:
                columns[name] = self._column(name, field, rows)
            elif name not in {"Id", "IsDeleted"}:
                columns[name] = [self._absent(field)] * len(rows)
        self._stamps(columns, len(rows))
        identifiers_ = self._ids(columns, len(rows))
        self._number(columns, given, len(rows))
        check_required(self._definition, columns)
        check_unique(connection, self._definition, columns, identifiers_)
        check_references(connection, self._org, self._definition, columns)
        columns["_born"] = [self._org.commits.number()] * len(rows)
        names = ", ".join(quoted(name) for name in columns)
        marks = ", ".join("?" * len(columns))
        connection.executemany(
            f"INSERT INTO {quoted(self._definition.name)} ({names}) VALUES ({marks})",
            zip(*columns.values(), strict=True),
        )
        return identifiers_

    def _column(
        self, name: str, field: FieldDefinition, rows: Sequence[Mapping[str, Any]]
    ) -> list[Stored]:
        keep = self._keepers[name]
        default = field.default
        return [keep(row.get(name, default)) for row in rows]

    def _absent(self, field: FieldDefinition) -> Stored:
        return self._keepers[field.name](field.default)

    def _stamps(self, columns: Columns, count: int) -> None:
        author = self._author
        if "IsDeleted" in self._fields and "IsDeleted" not in columns:
            columns["IsDeleted"] = ["false"] * count
        for name in ("CreatedById", "LastModifiedById", "OwnerId"):
            if name in columns:
                columns[name] = [one or author.user for one in columns[name]]
        for name, source in _STAMP_SOURCES:
            if name not in columns:
                continue
            fallback = columns.get(source, ()) if source else ()
            pairs = fallback or [None] * count
            columns[name] = [
                own or other or author.stamp
                for own, other in zip(columns[name], pairs, strict=True)
            ]

    def _ids(self, columns: Columns, count: int) -> list[str]:
        prefix = self._definition.key_prefix
        given = list(columns.get("Id") or [None] * count)
        missing = sum(1 for one in given if one is None)
        if missing < count:
            self._check_given(given)
        first = self._org.store.take_numbers(prefix, missing) if missing else 0
        serials = iter(range(first, first + missing))
        made = [
            str(one) if one is not None else identifiers.make_id(prefix, next(serials))
            for one in given
        ]
        columns["Id"] = made
        return made

    def _check_given(self, given: Sequence[Stored]) -> None:
        prefix = self._definition.key_prefix
        own = identifiers.make_id(prefix, 0)[:5]
        highest = 0
        for one in given:
            if one is None:
                continue
            if not str(one).startswith(prefix):
                raise malformed_id(one, f"{self._definition.label} ID")
            if str(one).startswith(own):
                highest = max(highest, identifiers.number_of(str(one)))
        if highest:
            self._org.store.pass_number(prefix, highest)

    def _number(self, columns: Columns, given: set[str], count: int) -> None:
        for field in self._fields.values():
            if field.auto_number and field.name not in given:
                sequence = f"{self._definition.name}.{field.name}"
                first = self._org.store.take_numbers(sequence, count) + 1000
                columns[field.name] = [f"{first + place:08d}" for place in range(count)]


_STAMP_SOURCES = (
    ("CreatedDate", ""),
    ("LastModifiedDate", "CreatedDate"),
    ("SystemModstamp", "LastModifiedDate"),
)


def resolved(
    definition: ObjectDefinition, rows: Iterable[Mapping[str, Any]]
) -> Sequence[Mapping[str, Any]]:
    """The rows with field names as the object spells them; unknown names are refused."""
    listed = rows if isinstance(rows, list) else list(rows)
    known = {field.name for field in definition.fields if field.stored}
    used = set().union(*listed)
    used.discard("attributes")
    if used <= known:
        return listed
    spelled = {name: _spelling(definition, name) for name in used}
    return [
        {spelled[name]: value for name, value in row.items() if name != "attributes"}
        for row in listed
    ]


def _spelling(definition: ObjectDefinition, name: str) -> str:
    field = definition.field(name)
    if field is None:
        raise no_such_column(name, definition.name)
    if not field.stored:
        raise not_writable([field.name])
    return field.name


def not_writable(names: Sequence[str]) -> OrgError:
    """Fields that only the system fills in."""
    return OrgError(
        "INVALID_FIELD_FOR_INSERT_UPDATE",
        f"Unable to create/update fields: {', '.join(names)}. Please check the security settings "
        "of this field and verify that it is read/write for your profile or permission set.",
        fields=tuple(names),
    )


def check_required(definition: ObjectDefinition, columns: Mapping[str, Sequence[Stored]]) -> None:
    """Refuse the batch where a field that may not be empty is."""
    missing = tuple(
        field.name
        for field in definition.fields
        if not field.nillable
        and field.createable
        and field.name in columns
        and None in columns[field.name]
    )
    if missing:
        raise OrgError(
            "REQUIRED_FIELD_MISSING",
            f"Required fields are missing: [{', '.join(missing)}]",
            fields=missing,
        )


def check_references(
    connection: sqlite3.Connection,
    org: "SandboxOrg",
    definition: ObjectDefinition,
    columns: Mapping[str, Sequence[Stored]],
) -> None:
    """Refuse Ids of the wrong object, and Ids of records that are not there."""
    own = set(columns.get("Id", ()))
    for field in definition.fields:
        if field.type != "reference" or field.name not in columns:
            continue
        wanted = {str(one) for one in set(columns[field.name]) - own if one is not None}
        for target in field.reference_to:
            if not org.catalogue.has(target) or not wanted:
                continue
            parent = org.catalogue.object(target)
            mine = [one for one in wanted if one.startswith(parent.key_prefix)]
            wanted.difference_update(mine)
            for absent in _absent(connection, parent, mine):
                raise _bad_reference(field, absent)
        foreign = [one for one in wanted if org.catalogue.by_prefix(one) is not None]
        if foreign:
            raise OrgError(
                "FIELD_INTEGRITY_EXCEPTION",
                f"{field.label}: id value of incorrect type: {foreign[0]}",
                fields=(field.name,),
            )


def _absent(
    connection: sqlite3.Connection, parent: ObjectDefinition, wanted: Sequence[str]
) -> list[str]:
    found: set[str] = set()
    for start in range(0, len(wanted), _LOOKUP_CHUNK):
        chunk = wanted[start : start + _LOOKUP_CHUNK]
        rows = connection.execute(
            f"SELECT Id FROM {quoted(parent.name)} WHERE Id IN ({', '.join('?' * len(chunk))})",
            chunk,
        )
        found.update(row[0] for row in rows)
    return sorted(set(wanted) - found)


def _bad_reference(field: FieldDefinition, absent: str) -> OrgError:
    return OrgError(
        "INVALID_CROSS_REFERENCE_KEY",
        f"invalid cross reference id: {absent}",
        fields=(field.name,),
    )


def check_unique(
    connection: sqlite3.Connection,
    definition: ObjectDefinition,
    columns: Mapping[str, Sequence[Stored]],
    owners: Sequence[str],
) -> None:
    """Refuse a second record with the value of a unique field; case counts only if told."""
    for field in definition.fields:
        if not field.unique or field.name not in columns:
            continue
        seen: dict[Stored, str] = {}
        for value, identifier in zip(columns[field.name], owners, strict=True):
            if value is None:
                continue
            folded = value if field.case_sensitive else str(value).casefold()
            if folded in seen:
                raise _duplicate(field, seen[folded])
            seen[folded] = identifier
        _check_stored(connection, definition, field, list(seen), set(owners))


def _check_stored(
    connection: sqlite3.Connection,
    definition: ObjectDefinition,
    field: FieldDefinition,
    values: Sequence[Stored],
    owners: set[str],
) -> None:
    folding = "" if field.case_sensitive else " COLLATE NOCASE"
    alive = " AND IsDeleted = 'false'" if definition.soft_delete else ""
    for start in range(0, len(values), _LOOKUP_CHUNK):
        chunk = values[start : start + _LOOKUP_CHUNK]
        rows = connection.execute(
            f"SELECT Id FROM {quoted(definition.name)} "
            f"WHERE {quoted(field.name)}{folding} IN ({', '.join('?' * len(chunk))}){alive}",
            chunk,
        )
        for (identifier,) in rows:
            if identifier not in owners:
                raise _duplicate(field, identifier)


def _duplicate(field: FieldDefinition, identifier: str) -> OrgError:
    return OrgError(
        "DUPLICATE_VALUE",
        f"duplicate value found: {field.name} duplicates value on record with id: {identifier}",
        fields=(field.name,),
    )
