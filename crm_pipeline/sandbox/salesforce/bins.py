"""Deleting: the recycle bin, what goes with a parent, and the log that getDeleted reads.

Belongs here: every way in which a record disappears or comes back. Does not belong here:
how clients ask for it (rows.py), merging and converting (unions.py).
"""

import sqlite3
from typing import TYPE_CHECKING

from crm_pipeline.sandbox.salesforce import field_security
from crm_pipeline.sandbox.salesforce.failures import OrgError, entity_is_deleted
from crm_pipeline.sandbox.salesforce.schema import ObjectDefinition
from crm_pipeline.sandbox.salesforce.storage import quoted

if TYPE_CHECKING:
    from crm_pipeline.sandbox.salesforce.org import SandboxOrg


def delete(
    org: "SandboxOrg", connection: sqlite3.Connection, definition: ObjectDefinition, record: str
) -> None:
    """Put a record into the bin, with the children that share its fate.

    Objects without a bin lose the row at once; only the log remembers it.
    """
    org.transactions.check_free(record)
    if definition.soft_delete:
        changed = connection.execute(
            f"UPDATE {quoted(definition.name)} SET IsDeleted = 'true', SystemModstamp = ? "
            "WHERE Id = ? AND IsDeleted = 'false'",
            (org.commits.stamp(), record),
        )
    else:
        changed = connection.execute(
            f"DELETE FROM {quoted(definition.name)} WHERE Id = ?", (record,)
        )
    if changed.rowcount == 0:
        raise entity_is_deleted()
    field_security.touched(org, definition)
    _log(org, connection, definition, record)
    for child, identifier in _children(org, connection, definition, record, deleted=False):
        delete(org, connection, child, identifier)


def undelete(
    org: "SandboxOrg", connection: sqlite3.Connection, definition: ObjectDefinition, record: str
) -> None:
    """Take a record out of the bin again, with the children that went in with it."""
    org.transactions.check_free(record)
    row = None
    if definition.soft_delete:
        row = connection.execute(
            f"SELECT SystemModstamp FROM {quoted(definition.name)} "
            "WHERE Id = ? AND IsDeleted = 'true'",
            (record,),
        ).fetchone()
    if row is None:
        raise OrgError("UNDELETE_FAILED", "Entity is not in the recycle bin", status=404)
    connection.execute(
        f"UPDATE {quoted(definition.name)} SET IsDeleted = 'false', SystemModstamp = ? "
        "WHERE Id = ?",
        (org.commits.stamp(), record),
    )
    connection.execute(
        "DELETE FROM _sandbox_deletions WHERE object = ? AND id = ?", (definition.name, record)
    )
    children = _children(org, connection, definition, record, deleted=True, stamp=row[0])
    for child, identifier in children:
        undelete(org, connection, child, identifier)


def hard_delete(
    org: "SandboxOrg", connection: sqlite3.Connection, definition: ObjectDefinition, record: str
) -> None:
    """Remove the row for good, from the bin or past it; the log keeps the first deletion."""
    org.transactions.check_free(record)
    gone = connection.execute(f"DELETE FROM {quoted(definition.name)} WHERE Id = ?", (record,))
    if gone.rowcount == 0:
        raise entity_is_deleted()
    _log(org, connection, definition, record)
    for deleted in (True, False):
        for child, identifier in _children(org, connection, definition, record, deleted=deleted):
            hard_delete(org, connection, child, identifier)


def empty(org: "SandboxOrg", connection: sqlite3.Connection, definition: ObjectDefinition) -> int:
    """Empty the bin of one object; returns how many records went."""
    if not definition.soft_delete:
        return 0
    gone = connection.execute(f"DELETE FROM {quoted(definition.name)} WHERE IsDeleted = 'true'")
    return gone.rowcount


def _log(
    org: "SandboxOrg", connection: sqlite3.Connection, definition: ObjectDefinition, record: str
) -> None:
    connection.execute(
        "INSERT INTO _sandbox_deletions VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (definition.name, record, org.commits.stamp()),
    )


def _children(
    org: "SandboxOrg",
    connection: sqlite3.Connection,
    definition: ObjectDefinition,
    record: str,
    *,
    deleted: bool,
    stamp: str | None = None,
) -> list[tuple[ObjectDefinition, str]]:
    found: list[tuple[ObjectDefinition, str]] = []
    for child_name, field_name in definition.cascade:
        if not org.catalogue.has(child_name):
            continue
        child = org.catalogue.object(child_name)
        if deleted and not child.soft_delete:
            continue
        wheres, values = [f"{quoted(field_name)} = ?"], [record]
        if child.soft_delete:
            wheres.append("IsDeleted = ?")
            values.append("true" if deleted else "false")
        if stamp is not None:
            wheres.append("SystemModstamp = ?")
            values.append(stamp)
        rows = connection.execute(
            f"SELECT Id FROM {quoted(child.name)} WHERE {' AND '.join(wheres)}", values
        )
        found.extend((child, row[0]) for row in rows.fetchall())
    return found
