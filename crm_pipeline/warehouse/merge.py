"""The one way into a typed table: merge what was staged, or rename it into place.

Everything here runs inside the transaction that also moves the watermark and closes the ledger row
(sync/merge_path.py). The newer stamp wins, unchanged rows are not written, and rows that went are
kept as tombstones.

Belongs here: statements that change typed tables. Does not belong here: the rules that they all
obey (sides.py), finding out what differs (comparison.py, census.py), and when to commit (sync/).
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from crm_pipeline.errors import IncompleteRead
from crm_pipeline.model.sync import Vanished
from crm_pipeline.warehouse.connection import STAGING_SCHEMA
from crm_pipeline.warehouse.ledger import SyncAttempt
from crm_pipeline.warehouse.schema import (
    TableShape,
    add_bookkeeping,
    column_types,
    comment_table,
    grant_to_analysts,
    guard_rows,
    is_relation,
    staging_identifier,
)
from crm_pipeline.warehouse.sides import Sides


@dataclass(frozen=True, slots=True)
class Merged:
    """Rows of the typed table that a merge changed.

    Attributes:
        vanished: the new tombstones by kind, in the words of `Vanished`.
        rejected: rows that the table could not hold, and which went to the quarantine instead.
    """

    inserted: int
    updated: int
    deleted: int
    vanished: Mapping[str, int] = field(default_factory=dict, compare=False)
    rejected: int = 0

    @property
    def unexplained(self) -> int:
        """Tombstones of records that were merely not there, which may be a fault of the answer."""
        kinds = (Vanished.LEFT_FILTER, Vanished.NOT_VISIBLE)
        return sum(self.vanished.get(kind.value, 0) for kind in kinds)


def key_staging(connection: psycopg.Connection, shape: TableShape, staging_table: str) -> None:
    """Give staging its key and fresh statistics.

    Raises:
        IncompleteRead: a record came twice. Their count was right all the same, so another one may
            have been left out for it.
    """
    table = staging_identifier(staging_table)
    key = sql.Identifier(shape.id_column)
    try:
        connection.execute(sql.SQL("ALTER TABLE {} ADD PRIMARY KEY ({})").format(table, key))
    except psycopg.errors.UniqueViolation as error:
        raise came_twice(shape) from error
    # Plans need the key alone; with 300 columns the others took five times as long as the load, and
    # the server gathers them by itself soon after.
    connection.execute(sql.SQL("ANALYZE {} ({})").format(table, key))


def came_twice(shape: TableShape) -> IncompleteRead:
    """The verdict on a read whose count is right although a record came twice."""
    return IncompleteRead(
        f"{shape.table}: the CRM handed over a record twice, so another one may be missing. The "
        "table was not touched; run the sync again."
    )


def publish(connection: psycopg.Connection, shape: TableShape, attempt: SyncAttempt) -> Merged:
    """Make a keyed staging table the live one, by renaming: the first full sync writes once."""
    staging_table = attempt.staging_table
    table = staging_identifier(staging_table)
    rows = attempt.records_read - attempt.rejected
    if "_synced_at" not in column_types(connection, STAGING_SCHEMA, staging_table):
        add_bookkeeping(connection, table)
        connection.execute(sql.SQL("ALTER TABLE {} SET LOGGED").format(table))
    if shape.deleted_column:
        in_bin = sql.SQL("DELETE FROM {} WHERE {}").format(
            table, sql.Identifier(shape.deleted_column)
        )
        rows -= connection.execute(in_bin).rowcount
    dropped = [c for c in shape.staged if c not in shape.kept]
    for column in dropped:
        connection.execute(
            sql.SQL("ALTER TABLE {} DROP COLUMN {}").format(table, sql.Identifier(column.name))
        )
    connection.execute(
        sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(table, sql.Identifier(shape.schema))
    )
    moved = sql.Identifier(shape.schema, staging_table)
    connection.execute(
        sql.SQL("ALTER TABLE {} RENAME TO {}").format(moved, sql.Identifier(shape.table))
    )
    key = f"{shape.table}_pkey"[-63:]
    # A table that the operator has renamed away still has that name on its key.
    if not is_relation(connection, sql.Identifier(shape.schema, key)):
        connection.execute(
            sql.SQL("ALTER TABLE {} RENAME CONSTRAINT {} TO {}").format(
                shape.qualified, sql.Identifier(f"{staging_table}_pkey"), sql.Identifier(key)
            )
        )
    guard_rows(connection, shape)
    comment_table(connection, shape)
    grant_to_analysts(connection, shape.qualified)
    return Merged(inserted=rows, updated=0, deleted=0)


def merge(
    connection: psycopg.Connection,
    shape: TableShape,
    attempt: SyncAttempt,
    *,
    source: str,
    scope_table: str | None = None,
) -> Merged:
    """Bring the live table to what an attempt has read.

    What another path has written since the attempt began is younger than anything in staging that
    has no stamp to tell so: such rows are neither called gone nor revived.

    Args:
        connection: the committing transaction.
        shape: the columns that are staged.
        attempt: whose staging.
        source: the delta where everything was read, else the keyed staging table.
        scope_table: ids that were looked for, and what was found (scope.py): those among them that
            are not staged are gone.
    """
    sides = Sides(shape, attempt, source)
    if shape.stamp_column is not None and source == attempt.delta_table:
        distrust_the_future(connection, sides)
    vanished = bury(connection, sides)
    updated = connection.execute(_update(sides)).rowcount
    inserted = connection.execute(_insert(sides)).rowcount
    if scope_table is not None:
        vanished += mark_absent(connection, sides, scope_table)
    return Merged(inserted, updated, sum(vanished.values()), vanished)


def refresh(connection: psycopg.Connection, shape: TableShape, attempt: SyncAttempt) -> Merged:
    """Bring the staged columns up to date in rows of the very version that was read.

    A row of another version is on its way by a differential, with all its columns, and what another
    path has written meanwhile is younger.
    """
    sides = Sides(shape, attempt, attempt.staging_table)
    return Merged(0, connection.execute(_refresh(sides)).rowcount, 0)


def distrust_the_future(connection: psycopg.Connection, sides: Sides) -> None:
    """Mark rows younger than their record: they were not written by us."""
    connection.execute(
        sql.SQL(
            "UPDATE {target} t SET _synced_at = '-infinity' FROM {source} s"
            " WHERE {same_key} AND t.{stamp} > s.{stamp} AND {is_untouched}"
        ).format(stamp=sql.Identifier(sides.shape.stamp_column or ""), **sides.names)
    )


def bury(connection: psycopg.Connection, sides: Sides) -> Counter[str]:
    """Tombstones for records in the recycle bin; how many of each kind."""
    return _kinds(connection, _bury(sides))


def mark_absent(connection: psycopg.Connection, sides: Sides, scope_table: str) -> Counter[str]:
    """Tombstones for records that were looked for and are not staged; how many of each kind."""
    return _kinds(connection, _mark_absent(sides, scope_table))


def _kinds(connection: psycopg.Connection, marking: sql.Composed | None) -> Counter[str]:
    """Run a statement that returns the kind of each tombstone, and count the kinds."""
    if marking is None:
        return Counter()
    counted = sql.SQL("WITH marked AS ({}) SELECT _vanished, count(*) FROM marked GROUP BY 1")
    return Counter(dict(connection.execute(counted.format(marking)).fetchall()))


def _bury(sides: Sides) -> sql.Composed | None:
    """Tombstones for records in the recycle bin; None for objects without one."""
    shape = sides.shape
    if shape.deleted_column is None:
        return None
    move_stamp: sql.Composable = sql.SQL("")
    if shape.stamp_column:
        move_stamp = sql.SQL(", {0} = s.{0}").format(sql.Identifier(shape.stamp_column))
    return sql.SQL(
        "UPDATE {target} t SET _deleted_at = coalesce({stamp}, now()),"
        " _vanished = CASE WHEN {merged} IS NULL THEN 'deleted' ELSE 'merged' END,"
        " _merged_into = {merged}, _synced_at = now(){move_stamp}"
        " FROM {source} s WHERE {same_key} AND s.{gone} AND {is_not_older}"
        " AND (t._deleted_at IS NULL OR t._vanished NOT IN ('deleted', 'merged') OR {is_newer})"
        " RETURNING t._vanished"
    ).format(
        stamp=sides.of("s", shape.stamp_column),
        merged=sides.of("s", shape.merged_column),
        gone=sql.Identifier(shape.deleted_column),
        move_stamp=move_stamp,
        **sides.names,
    )


def _update(sides: Sides) -> sql.Composed:
    """Rows that differ, and tombstones of records that came back."""
    return sql.SQL(
        "UPDATE {target} t SET {sets}, _synced_at = now(),"
        " _restored_at = CASE WHEN t._deleted_at IS NULL THEN t._restored_at ELSE now() END,"
        " _deleted_at = NULL, _vanished = NULL, _merged_into = NULL"
        " FROM {source} s WHERE {same_key} AND {lives} AND {is_not_older}"
        " AND CASE WHEN t._deleted_at IS NOT NULL THEN {is_untouched} OR {is_after_its_end}"
        " ELSE ({old}) IS DISTINCT FROM ({new}) OR t._synced_at = '-infinity' END"
    ).format(sets=sides.sets(), old=sides.row("t"), new=sides.row("s"), **sides.names)


def _insert(sides: Sides) -> sql.Composed:
    """Records that are new here."""
    return sql.SQL(
        "INSERT INTO {target} ({columns}) SELECT {values} FROM {source} s"
        " WHERE s.{key} IS NOT NULL AND {lives}"
        " AND NOT EXISTS (SELECT FROM {target} t WHERE {same_key})"
    ).format(
        columns=sql.SQL(", ").join(sql.Identifier(c.name) for c in sides.shape.kept),
        values=sides.row("s"),
        **sides.names,
    )


def _refresh(sides: Sides) -> sql.Composed:
    """The staged columns alone, in rows of the version that was read."""
    stamp = sql.Identifier(sides.shape.stamp_column or "")
    return sql.SQL(
        "UPDATE {target} t SET {sets}, _synced_at = now() FROM {source} s"
        " WHERE {same_key} AND t.{stamp} = s.{stamp} AND t._deleted_at IS NULL AND {is_untouched}"
        " AND t._synced_at <> '-infinity' AND ({old}) IS DISTINCT FROM ({new})"
    ).format(
        sets=sides.sets(),
        stamp=stamp,
        old=sides.row("t"),
        new=sides.row("s"),
        **sides.names,
    )


def _mark_absent(sides: Sides, scope_table: str) -> sql.Composed:
    """These ids were looked for; those that are not staged are out, as of their new stamp.

    A record in the quarantine of this attempt is there, too: only its values do not fit.
    """
    shape = sides.shape
    move_stamp: sql.Composable = sql.SQL("")
    scope_not_older: sql.Composable = sql.SQL("true")
    if shape.stamp_column:
        stamp = sql.Identifier(shape.stamp_column)
        move_stamp = sql.SQL(", {0} = coalesce(o.{0}, t.{0})").format(stamp)
        scope_not_older = sql.SQL("(t.{0} <= o.{0}) IS NOT FALSE").format(stamp)
    return sql.SQL(
        "UPDATE {target} t SET _deleted_at = now(), _synced_at = now(),"
        " _merged_into = {merged}, _vanished = CASE"
        " WHEN {merged} IS NOT NULL THEN 'merged' WHEN o._is_gone OR {gone} THEN 'deleted'"
        " WHEN o._is_found THEN 'left_filter' ELSE 'not_visible' END{move_stamp}"
        " FROM {scope} o WHERE o.{key} = t.{key} AND {scope_not_older}"
        " AND t._deleted_at IS NULL AND {is_untouched}"
        " AND NOT EXISTS (SELECT FROM {staging} s WHERE {same_key})"
        " AND NOT EXISTS (SELECT FROM crm_sync.quarantine q"
        " WHERE q.sync_run_id = {run} AND q.record_id = t.{key})"
        " RETURNING t._vanished"
    ).format(
        merged=sides.of("o", shape.merged_column),
        gone=sides.of("o", shape.deleted_column),
        move_stamp=move_stamp,
        scope=staging_identifier(scope_table),
        staging=staging_identifier(sides.attempt.staging_table),
        scope_not_older=scope_not_older,
        run=sql.Literal(sides.attempt.sync_run_id),
        **sides.names,
    )
