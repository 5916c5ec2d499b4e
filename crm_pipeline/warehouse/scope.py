"""The scope: ids that were looked for whether or not they pass the record filter.

A row that is not among the records that pass is gone, but how? The scope says of each id whether
the CRM still has the record, and whether its log of deletions knows it.

Belongs here: the scope table. Does not belong here: what follows from it (merge.py) and whom to ask
(sync/absence.py).
"""

from collections.abc import Iterable

import psycopg
from psycopg import sql

from crm_pipeline.warehouse.schema import TableShape, staging_identifier
from crm_pipeline.warehouse.staging import create_staging


def create_scope(connection: psycopg.Connection, shape: TableShape, scope_table: str) -> None:
    """Make an empty scope table; what is copied into it counts as found.

    It is filled before the records are read and counted after: a crash of the server in between
    must not empty it, for nobody would notice and those who left the filter would stay for ever.
    """
    create_staging(connection, shape, scope_table, becomes_live=False)
    connection.execute(
        sql.SQL(
            "ALTER TABLE {} SET LOGGED, ADD COLUMN _is_found boolean NOT NULL DEFAULT true,"
            " ADD COLUMN _is_gone boolean NOT NULL DEFAULT false"
        ).format(staging_identifier(scope_table))
    )


def note_not_found(
    connection: psycopg.Connection, shape: TableShape, scope_table: str, ids: Iterable[str]
) -> None:
    """Add ids that were asked for and did not come."""
    connection.execute(
        sql.SQL(
            "INSERT INTO {scope} ({key}, _is_found) SELECT asked._id, false"
            " FROM unnest({ids}::text[]) asked(_id)"
            " WHERE NOT EXISTS (SELECT FROM {scope} o WHERE o.{key} = asked._id)"
        ).format(
            scope=staging_identifier(scope_table),
            key=sql.Identifier(shape.id_column),
            ids=sql.Literal(list(ids)),
        )
    )


def note_gone(
    connection: psycopg.Connection, shape: TableShape, scope_table: str, ids: Iterable[str]
) -> None:
    """Add ids that the log of deletions knows, unless the CRM was seen to have them."""
    found = {
        "scope": staging_identifier(scope_table),
        "key": sql.Identifier(shape.id_column),
        "ids": sql.Literal(list(ids)),
    }
    connection.execute(
        sql.SQL(
            "UPDATE {scope} SET _is_gone = true WHERE NOT _is_found AND {key} = ANY({ids}::text[])"
        ).format(**found)
    )
    connection.execute(
        sql.SQL(
            "INSERT INTO {scope} ({key}, _is_found, _is_gone)"
            " SELECT DISTINCT asked._id, false, true FROM unnest({ids}::text[]) asked(_id)"
            " WHERE NOT EXISTS (SELECT FROM {scope} o WHERE o.{key} = asked._id)"
        ).format(**found)
    )


def has_not_found(connection: psycopg.Connection, scope_table: str) -> bool:
    """Whether any id was asked for and did not come."""
    row = connection.execute(
        sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE NOT _is_found)").format(
            staging_identifier(scope_table)
        )
    ).fetchone()
    return bool(row and row[0])
