"""Everything that was read, held against the live table ahead of the commit.

One hash join over both, with nothing indexed before, yields the delta: the few rows that the commit
has to look at. A repeated full sync is mostly this join.

Belongs here: the delta. Does not belong here: what becomes of its rows (merge.py, census.py).
"""

import psycopg
from psycopg import sql

from crm_pipeline.warehouse.ledger import SyncAttempt
from crm_pipeline.warehouse.merge import came_twice
from crm_pipeline.warehouse.schema import TableShape, staging_identifier
from crm_pipeline.warehouse.sides import Sides
from crm_pipeline.warehouse.staging import staged_count


def compare(connection: psycopg.Connection, shape: TableShape, attempt: SyncAttempt) -> int:
    """Hold everything that was read against the live table, and keep only what is to be done.

    One hash join over both, with nothing indexed before. It runs ahead of the commit, whose
    statements judge each of the few rows once more: what a record synced by hand has written
    meanwhile is not lost.

    Returns:
        Rows in the delta: records that are new or differ, and live rows that did not come.

    Raises:
        IncompleteRead: a record came twice, as for `key_staging`.
    """
    delta = staging_identifier(attempt.delta_table)
    sides = Sides(shape, attempt, attempt.staging_table)
    connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(delta))
    if connection.execute(_find_twins(sides)).fetchone() is not None:
        raise came_twice(shape)
    connection.execute(_find_differences(sides, delta))
    key = sql.Identifier(shape.id_column)
    connection.execute(sql.SQL("ANALYZE {} ({}, _absent_id)").format(delta, key))
    return staged_count(connection, attempt.delta_table)


def absent_ids(connection: psycopg.Connection, attempt: SyncAttempt) -> list[str]:
    """Live rows that did not come although everything was read, by the comparison."""
    rows = connection.execute(
        sql.SQL("SELECT _absent_id FROM {} WHERE _absent_id IS NOT NULL").format(
            staging_identifier(attempt.delta_table)
        )
    ).fetchall()
    return [str(row[0]) for row in rows]


def _find_twins(sides: Sides) -> sql.Composed:
    """A record that came twice."""
    return sql.SQL("SELECT FROM {source} GROUP BY {key} HAVING count(*) > 1 LIMIT 1").format(
        **sides.names
    )


def _find_differences(sides: Sides, delta: sql.Identifier) -> sql.Composed:
    """The delta: one hash join of live table and staging, and of both only what differs."""
    shape = sides.shape
    gone: sql.Composable = sql.SQL("false")
    if shape.deleted_column is not None:
        gone = sql.Identifier("s", shape.deleted_column)
    return sql.SQL(
        "CREATE UNLOGGED TABLE {delta} AS"
        " SELECT s.*, CASE WHEN s.{key} IS NULL THEN t.{key} END AS _absent_id"
        " FROM {target} t FULL JOIN {source} s ON {same_key} WHERE CASE"
        " WHEN t.{key} IS NULL THEN {lives}"
        " WHEN s.{key} IS NULL THEN t._deleted_at IS NULL AND {is_untouched}"
        " WHEN NOT {is_not_older} THEN {is_untouched}"
        " WHEN {gone} THEN t._deleted_at IS NULL OR t._vanished NOT IN ('deleted', 'merged')"
        "     OR {is_newer}"
        " WHEN t._deleted_at IS NOT NULL OR t._synced_at = '-infinity' THEN true"
        " ELSE ({old}) IS DISTINCT FROM ({new}) END"
    ).format(delta=delta, gone=gone, old=sides.row("t"), new=sides.row("s"), **sides.names)
