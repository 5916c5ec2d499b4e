"""Changing records that are there: one by its Id, or all that a query finds.

Belongs here: which stamps an edit moves, and the UPDATE itself. Does not belong here: the rules
a record must keep (writing.py), deleting (bins.py), what an API user may write (rows.py).
"""

import sqlite3
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

from crm_pipeline.sandbox.salesforce import features, field_security, identifiers
from crm_pipeline.sandbox.salesforce.failures import (
    OrgError,
    entity_is_deleted,
    malformed_id,
    not_found,
)
from crm_pipeline.sandbox.salesforce.schema import ObjectDefinition
from crm_pipeline.sandbox.salesforce.soql_compiler import compile_soql
from crm_pipeline.sandbox.salesforce.storage import quoted
from crm_pipeline.sandbox.salesforce.values import Stored, keeper
from crm_pipeline.sandbox.salesforce.writing import (
    Author,
    check_references,
    check_required,
    check_unique,
    resolved,
)

if TYPE_CHECKING:
    from crm_pipeline.sandbox.salesforce.org import SandboxOrg

Stamps = Literal["all", "system", "none"]
"""What an edit moves: both dates as a person's edit does, SystemModstamp alone as the system's
own updates do, or nothing, as a roll-up or a back-end correction."""

_MOVED: Mapping[str, tuple[str, ...]] = {
    "all": ("LastModifiedDate", "LastModifiedById", "SystemModstamp"),
    "system": ("SystemModstamp",),
    "none": (),
}


def own_id(definition: ObjectDefinition, given: object) -> str:
    """The 18-character Id of a record of this object."""
    identifier = identifiers.normalise(given)
    if identifier is None or not identifier.startswith(definition.key_prefix):
        raise malformed_id(given, f"{definition.label} ID")
    return identifier


def update(
    org: "SandboxOrg",
    definition: ObjectDefinition,
    record_id: str,
    values: Mapping[str, Any],
    author: Author,
) -> None:
    """Change one living record; stamps among the values win over those of the edit."""
    identifier = own_id(definition, record_id)
    columns = _columns(definition, values, author)
    with org.transaction() as connection:
        org.transactions.check_free(identifier)
        _check_alive(connection, definition, identifier)
        lists = {name: [value] for name, value in columns.items()}
        check_required(definition, lists)
        check_unique(connection, definition, lists, [identifier])
        check_references(connection, org, definition, lists)
        if columns:
            _set(connection, definition, columns, "Id = ?", (identifier,))
        if definition.name == "Account" and definition.field("IsPersonAccount"):
            features.mirror(org, identifier, columns)
        field_security.touched(org, definition)


def update_all(
    org: "SandboxOrg",
    definition: ObjectDefinition,
    values: Mapping[str, Any],
    matching: str,
    author: Author,
) -> int:
    """Give every living record that a query finds the same values, in one statement.

    `matching` is the query's rest, after FROM and the object's name. Returns how many changed.
    """
    columns = _columns(definition, values, author)
    soql = f"SELECT Id FROM {definition.name} {matching}"
    found = compile_soql(org, soql, include_deleted=False, as_user=False)
    with org.transaction() as connection:
        lists = {name: [value] for name, value in columns.items()}
        check_required(definition, lists)
        check_references(connection, org, definition, lists)
        where = f"Id IN ({found.sql('t0.Id')})"
        if held := org.transactions.held():
            rows = connection.execute(
                f"SELECT Id FROM {quoted(definition.name)} WHERE {where}", found.parameters
            )
            for locked in held.intersection(row[0] for row in rows):
                org.transactions.check_free(locked)
        return _set(connection, definition, columns, where, found.parameters)


def _columns(
    definition: ObjectDefinition, values: Mapping[str, Any], author: Author
) -> dict[str, Stored]:
    if author.moves not in get_args(Stamps):
        raise OrgError("INVALID_INPUT", f"stamps are one of {', '.join(get_args(Stamps))}")
    [given] = resolved(definition, [values])
    fields = {field.name: field for field in definition.fields}
    columns = {name: keeper(fields[name])(value) for name, value in given.items() if name != "Id"}
    for name in _MOVED[author.moves]:
        if name in fields:
            columns.setdefault(name, author.user if name.endswith("Id") else author.stamp)
    return columns


def _set(
    connection: sqlite3.Connection,
    definition: ObjectDefinition,
    columns: Mapping[str, Stored],
    where: str,
    parameters: tuple[object, ...],
) -> int:
    changed = connection.execute(
        f"UPDATE {quoted(definition.name)} SET "
        f"{', '.join(f'{quoted(name)} = ?' for name in columns)} WHERE {where}",
        [*columns.values(), *parameters],
    )
    return changed.rowcount


def _check_alive(
    connection: sqlite3.Connection, definition: ObjectDefinition, identifier: str
) -> None:
    shown = "IsDeleted" if definition.soft_delete else "'false'"
    row = connection.execute(
        f"SELECT {shown} FROM {quoted(definition.name)} WHERE Id = ?", (identifier,)
    ).fetchone()
    if row is None:
        raise not_found()
    if row[0] == "true":
        raise entity_is_deleted()
