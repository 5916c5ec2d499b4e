"""The time machine's side of a typed table: which tables have a history, and for how long.

Triggers keep what a statement replaces, in the transaction that replaces it; no code of ours has to
remember to. The functions that people ask (`history.as_of`, `history.of_record`) and the one that
the triggers run stand in migration 0004.

Belongs here: switching the history of a table on and off, following its columns, pruning. Does not
belong here: erasing a person (erasure.py), and columns themselves (fitting.py).
"""

import psycopg
from psycopg import sql

from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.schema import TableShape, is_relation

_TRIGGERS = {
    "_keep_updated": (
        "AFTER UPDATE ON {} REFERENCING OLD TABLE AS former_rows NEW TABLE AS new_rows"
    ),
    "_keep_deleted": "AFTER DELETE ON {} REFERENCING OLD TABLE AS former_rows",
    "_keep_truncated": "BEFORE TRUNCATE ON {}",
}


def keep(connection: psycopg.Connection, shape: TableShape, *, is_wanted: bool) -> None:
    """Let a table have a history from now on, or none; does nothing that is done already.

    Waits for writers of the table, never for readers.
    """
    is_known = _is_known(connection, shape)
    is_kept = is_known and _enabled_triggers(connection, shape) == len(_TRIGGERS)
    if is_wanted and not is_kept:
        _begin(connection, shape)
    elif not is_wanted and is_known:
        _end(connection, shape.full_name)


def rename_column(connection: psycopg.Connection, shape: TableShape, old: str, new: str) -> None:
    """Let former values go with their column, in the transaction that renames it."""
    connection.execute(
        "UPDATE history.version SET former = former - %(old)s"
        " || jsonb_build_object(%(new)s::text, former -> %(old)s)"
        " WHERE table_name = %(table)s AND former ? %(old)s",
        {"table": shape.full_name, "old": old, "new": new},
    )


def widen_column(
    connection: psycopg.Connection, shape: TableShape, column: str, *, found: str, wanted: str
) -> None:
    """Give former values the type that their column gets, by the very cast that it takes."""
    connection.execute(
        sql.SQL(
            "UPDATE history.version SET former = former || jsonb_build_object({column}::text,"
            " (former ->> {column})::{found}::{wanted})"
            " WHERE table_name = {table} AND former ->> {column} IS NOT NULL"
        ).format(
            table=sql.Literal(shape.full_name),
            column=sql.Literal(column),
            found=sql.SQL(found),
            wanted=sql.SQL(wanted),
        )
    )


def prune_history(warehouse: Warehouse, *, days: int) -> int:
    """Delete versions that nobody can ask for any more, and values of columns that are gone.

    A version that counted within these days stays, however old it is.

    Args:
        warehouse: migrated.
        days: 0 ends every history.

    Returns:
        How many versions were deleted.
    """
    with warehouse.connect() as connection:
        known = connection.execute(
            "SELECT table_name, to_regclass(table_name) IS NULL FROM history.kept_table"
        ).fetchall()
        ended = [name for name, is_gone in known if is_gone or days == 0]
        deleted = sum(_end(connection, name) for name in ended)
        deleted += connection.execute(_PRUNE, [days]).rowcount
        connection.execute(_BEGIN_LATER, [days])
        connection.execute(_FORGET_DROPPED_COLUMNS)
    return deleted


_PRUNE = """
DELETE FROM history.version WHERE valid_to < now() - make_interval(days => %s)
"""
_BEGIN_LATER = """
UPDATE history.kept_table k SET begins_at = l.limit_at
FROM (SELECT now() - make_interval(days => %s) AS limit_at) l WHERE k.begins_at < l.limit_at
"""
_FORGET_DROPPED_COLUMNS = """
WITH gone AS (
    SELECT u.table_name, array_agg(u.name) AS names
    FROM (SELECT DISTINCT v.table_name, f.name
          FROM history.version v, jsonb_object_keys(v.former) f(name)) u
    WHERE NOT EXISTS (
        SELECT FROM pg_attribute a WHERE a.attrelid = to_regclass(u.table_name)
        AND a.attname = u.name AND NOT a.attisdropped)
    GROUP BY 1
)
UPDATE history.version v SET former = v.former - g.names FROM gone g
WHERE v.table_name = g.table_name AND v.former ?| g.names
"""


def _is_known(connection: psycopg.Connection, shape: TableShape) -> bool:
    row = connection.execute(
        "SELECT 1 FROM history.kept_table WHERE table_name = %s", [shape.full_name]
    ).fetchone()
    return row is not None


def _enabled_triggers(connection: psycopg.Connection, shape: TableShape) -> int:
    row = connection.execute(
        "SELECT count(*) FROM pg_trigger WHERE tgrelid = to_regclass(%s) AND tgname = ANY(%s)"
        " AND tgenabled <> 'D'",
        [shape.qualified.as_string(connection), list(_TRIGGERS)],
    ).fetchone()
    assert row is not None, "an aggregate gives one row"
    return int(row[0])


def _begin(connection: psycopg.Connection, shape: TableShape) -> None:
    """From here on; what was kept before a gap cannot be told as a whole any more."""
    for name, event in _TRIGGERS.items():
        connection.execute(
            sql.SQL(
                "CREATE OR REPLACE TRIGGER {} {} FOR EACH STATEMENT"
                " EXECUTE FUNCTION history.keep_former({})"
            ).format(
                sql.Identifier(name),
                sql.SQL(event).format(shape.qualified),
                sql.Literal(shape.id_column),
            )
        )
    # The clock, not now(): whoever held the table when we asked for it has committed since.
    connection.execute(
        "INSERT INTO history.kept_table (table_name, key_column, begins_at)"
        " VALUES (%s, %s, clock_timestamp()) ON CONFLICT (table_name) DO UPDATE"
        " SET key_column = excluded.key_column, begins_at = excluded.begins_at",
        [shape.full_name, shape.id_column],
    )


def _end(connection: psycopg.Connection, full_name: str) -> int:
    """Triggers are switched off, not dropped: that would wait for readers.

    Returns:
        How many versions went.
    """
    table = sql.Identifier(*full_name.split("."))
    for name in _TRIGGERS if is_relation(connection, table) else ():
        connection.execute(
            sql.SQL("ALTER TABLE {} DISABLE TRIGGER {}").format(table, sql.Identifier(name))
        )
    connection.execute("DELETE FROM history.kept_table WHERE table_name = %s", [full_name])
    return connection.execute(
        "DELETE FROM history.version WHERE table_name = %s", [full_name]
    ).rowcount
