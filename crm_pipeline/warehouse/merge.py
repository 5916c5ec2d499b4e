"""The one way into a typed table: merge what was staged, or rename it into place.

Both run inside the transaction that also moves the watermark and closes the ledger row
(ledger.py). The newer stamp wins, unchanged rows are not written, and rows that went are kept as
tombstones.

Belongs here: statements that change typed tables. Does not belong here: what to read, and when to
commit (sync/engine.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import psycopg
from psycopg import sql

from crm_pipeline.model.sync import Vanished
from crm_pipeline.warehouse.connection import STAGING_SCHEMA, Warehouse
from crm_pipeline.warehouse.ledger import SyncAttempt
from crm_pipeline.warehouse.schema import (
    TableShape,
    add_bookkeeping,
    column_types,
    comment_table,
    grant_to_analysts,
    is_relation,
    staging_identifier,
)


@dataclass(frozen=True, slots=True)
class Merged:
    """Rows of the typed table that a merge changed."""

    inserted: int
    updated: int
    deleted: int


@dataclass(frozen=True, slots=True)
class Absence:
    """Which live rows are gone if they are not in staging.

    Attributes:
        scope_table: a staging table of ids that were looked for without the record filter, with
            their stamps: those in it are out of the filter, those without a stamp were not found
            at all. None when nothing was looked for by id.
        everything_was_read: whether every other row that is not in staging is gone, too.
    """

    scope_table: str | None = None
    everything_was_read: bool = False


def key_staging(connection: psycopg.Connection, shape: TableShape, staging_table: str) -> None:
    """Give staging its key and fresh statistics; of a record that came twice the newest stays."""
    table = staging_identifier(staging_table)
    key = sql.Identifier(shape.id_column)
    add_key = sql.SQL("ALTER TABLE {} ADD PRIMARY KEY ({})").format(table, key)
    try:
        with connection.transaction():
            connection.execute(add_key)
    except psycopg.errors.UniqueViolation:
        stamp = sql.Identifier(shape.stamp_column) if shape.stamp_column else sql.SQL("NULL")
        connection.execute(
            sql.SQL(
                "DELETE FROM {table} WHERE ctid IN (SELECT ctid FROM (SELECT ctid, row_number()"
                " OVER (PARTITION BY {key} ORDER BY {stamp} DESC NULLS LAST, ctid DESC) AS place"
                " FROM {table}) ranked WHERE place > 1)"
            ).format(table=table, key=key, stamp=stamp)
        )
        connection.execute(add_key)
    connection.execute(sql.SQL("ANALYZE {}").format(table))


def publish(connection: psycopg.Connection, shape: TableShape, staging_table: str) -> Merged:
    """Make a keyed staging table the live one, by renaming: the first full sync writes once."""
    table = staging_identifier(staging_table)
    if "_synced_at" not in column_types(connection, STAGING_SCHEMA, staging_table):
        add_bookkeeping(connection, table)
        connection.execute(sql.SQL("ALTER TABLE {} SET LOGGED").format(table))
    if shape.deleted_column:
        connection.execute(
            sql.SQL("DELETE FROM {} WHERE {}").format(table, sql.Identifier(shape.deleted_column))
        )
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
    comment_table(connection, shape)
    grant_to_analysts(connection, shape.qualified)
    return Merged(inserted=count_live_rows(connection, shape), updated=0, deleted=0)


def merge(
    connection: psycopg.Connection,
    shape: TableShape,
    attempt: SyncAttempt,
    *,
    absence: Absence | None = None,
) -> Merged:
    """Bring the live table to what the keyed staging table of an attempt says.

    What another path has written since the attempt began is younger than anything in staging that
    has no stamp to tell so: such rows are neither called gone nor revived.
    """
    statements = _Statements(shape, attempt)
    deleted = 0
    if shape.deleted_column:
        deleted += connection.execute(statements.bury()).rowcount
    updated = connection.execute(statements.update()).rowcount
    inserted = connection.execute(statements.insert()).rowcount
    if absence is not None and absence.scope_table is not None:
        deleted += connection.execute(statements.mark_outside(absence.scope_table)).rowcount
    if absence is not None and absence.everything_was_read:
        deleted += connection.execute(statements.mark_unseen()).rowcount
    return Merged(inserted, updated, deleted)


def absent_ids(
    connection: psycopg.Connection, shape: TableShape, attempt: SyncAttempt, *, limit: int
) -> list[str]:
    """Live rows that an attempt which read everything has not staged."""
    rows = connection.execute(
        sql.SQL("SELECT t.{key} FROM {target} t WHERE {condition} LIMIT {limit}").format(
            key=sql.Identifier(shape.id_column),
            target=shape.qualified,
            condition=_Statements(shape, attempt).is_unseen,
            limit=sql.Literal(limit),
        )
    ).fetchall()
    return [str(row[0]) for row in rows]


def table_is_live(connection: psycopg.Connection, shape: TableShape) -> bool:
    """Whether the typed table exists already."""
    return is_relation(connection, shape.qualified)


def preview_table(
    warehouse: Warehouse, table: sql.Identifier, *, rows: int
) -> list[Mapping[str, object]]:
    """The rows written last, for people to look at; empty while there is no table."""
    with warehouse.connect() as connection:
        if not is_relation(connection, table):
            return []
        cursor = connection.execute(
            sql.SQL("SELECT * FROM {} ORDER BY _synced_at DESC LIMIT {}").format(
                table, sql.Literal(rows)
            )
        )
        names = [column.name for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def count_live_rows(connection: psycopg.Connection, shape: TableShape) -> int:
    """Rows that are no tombstones; 0 while there is no table."""
    if not is_relation(connection, shape.qualified):
        return 0
    return _number(
        connection,
        sql.SQL("SELECT count(*) FROM {} WHERE _deleted_at IS NULL").format(shape.qualified),
    )


def count_duplicates(connection: psycopg.Connection, table: sql.Identifier) -> int:
    """Keys that stand in more than one row."""
    key = connection.execute(
        "SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid"
        " AND a.attnum = i.indkey[0] WHERE i.indrelid = to_regclass(%s) AND i.indisprimary",
        [table.as_string(connection)],
    ).fetchone()
    name = sql.Identifier(key[0] if key else "id")
    return _number(
        connection,
        sql.SQL(
            "SELECT count(*) FROM (SELECT 1 FROM {} GROUP BY {} HAVING count(*) > 1) twice"
        ).format(table, name),
    )


def _number(connection: psycopg.Connection, statement: sql.Composed) -> int:
    row = connection.execute(statement).fetchone()
    assert row is not None
    return int(row[0])


@dataclass(frozen=True, slots=True)
class _Statements:
    """The statements of one merge: `t` is the live table, `s` staging, `o` the scope."""

    shape: TableShape
    attempt: SyncAttempt

    @property
    def _staging(self) -> sql.Identifier:
        return staging_identifier(self.attempt.staging_table)

    @property
    def _is_untouched(self) -> sql.Composed:
        """No other path has written the row since the attempt began, by the database's clock."""
        return sql.SQL("t._synced_at < {}").format(sql.Literal(self.attempt.started_at))

    @property
    def is_unseen(self) -> sql.Composed:
        """A live row that is neither in staging nor in the quarantine of this attempt."""
        return sql.SQL(
            "t._deleted_at IS NULL AND {is_untouched}"
            " AND NOT EXISTS (SELECT FROM {staging} s WHERE {same_key})"
            " AND NOT EXISTS (SELECT FROM crm_sync.quarantine q"
            " WHERE q.sync_run_id = {run} AND q.record_id = t.{key})"
        ).format(
            is_untouched=self._is_untouched,
            staging=self._staging,
            same_key=self._same_key,
            run=sql.Literal(self.attempt.sync_run_id),
            key=sql.Identifier(self.shape.id_column),
        )

    @property
    def _same_key(self) -> sql.Composable:
        key = sql.Identifier(self.shape.id_column)
        return sql.SQL("t.{0} = s.{0}").format(key)

    @property
    def _is_not_older(self) -> sql.Composable:
        """Never backwards. A record without a stamp has no order, so the last read counts."""
        if self.shape.stamp_column is None:
            return sql.SQL("true")
        stamp = sql.Identifier(self.shape.stamp_column)
        return sql.SQL("(t.{0} <= s.{0}) IS NOT FALSE").format(stamp)

    @property
    def _lives(self) -> sql.Composable:
        if self.shape.deleted_column is None:
            return sql.SQL("true")
        return sql.SQL("s.{} IS NOT TRUE").format(sql.Identifier(self.shape.deleted_column))

    def _row(self, alias: str) -> sql.Composable:
        return sql.SQL(", ").join(sql.Identifier(alias, c.name) for c in self.shape.kept)

    def bury(self) -> sql.Composed:
        """Tombstones for records in the recycle bin."""
        shape = self.shape
        merged = (
            sql.Identifier("s", shape.merged_column) if shape.merged_column else sql.SQL("NULL")
        )
        stamp = sql.Identifier("s", shape.stamp_column) if shape.stamp_column else sql.SQL("NULL")
        move_stamp = (
            sql.SQL(", {} = {}").format(sql.Identifier(shape.stamp_column), stamp)
            if shape.stamp_column
            else sql.SQL("")
        )
        assert shape.deleted_column is not None
        return sql.SQL(
            "UPDATE {target} t SET _deleted_at = coalesce({stamp}, now()),"
            " _vanished = CASE WHEN {merged} IS NULL THEN 'deleted' ELSE 'merged' END,"
            " _merged_into = {merged}, _synced_at = now(){move_stamp}"
            " FROM {staging} s WHERE {same_key} AND s.{gone} AND {is_not_older}"
            " AND (t._vanished IS NULL OR t._vanished NOT IN ('deleted', 'merged')"
            " OR {is_newer})"
        ).format(
            is_newer=(
                sql.SQL("t.{0} < s.{0}").format(sql.Identifier(shape.stamp_column))
                if shape.stamp_column
                else sql.SQL("false")
            ),
            target=shape.qualified,
            stamp=stamp,
            merged=merged,
            move_stamp=move_stamp,
            staging=self._staging,
            same_key=self._same_key,
            gone=sql.Identifier(shape.deleted_column),
            is_not_older=self._is_not_older,
        )

    def update(self) -> sql.Composed:
        """Rows that differ, and tombstones of records that came back."""
        return sql.SQL(
            "UPDATE {target} t SET {sets}, _synced_at = now(), _deleted_at = NULL,"
            " _vanished = NULL, _merged_into = NULL"
            " FROM {staging} s WHERE {same_key} AND {lives} AND {is_not_older}"
            " AND CASE WHEN t._vanished IN ('deleted', 'merged') THEN true"
            " WHEN t._deleted_at IS NOT NULL THEN {is_untouched}"
            " ELSE ({old}) IS DISTINCT FROM ({new}) END"
        ).format(
            is_untouched=self._is_untouched,
            target=self.shape.qualified,
            sets=sql.SQL(", ").join(
                sql.SQL("{0} = s.{0}").format(sql.Identifier(c.name)) for c in self.shape.kept
            ),
            staging=self._staging,
            same_key=self._same_key,
            lives=self._lives,
            is_not_older=self._is_not_older,
            old=self._row("t"),
            new=self._row("s"),
        )

    def insert(self) -> sql.Composed:
        """Records that are new here."""
        return sql.SQL(
            "INSERT INTO {target} ({names}) SELECT {values} FROM {staging} s"
            " WHERE {lives} AND NOT EXISTS (SELECT FROM {target} t WHERE {same_key})"
        ).format(
            target=self.shape.qualified,
            names=sql.SQL(", ").join(sql.Identifier(c.name) for c in self.shape.kept),
            values=self._row("s"),
            staging=self._staging,
            lives=self._lives,
            same_key=self._same_key,
        )

    def mark_unseen(self) -> sql.Composed:
        """Everything was read, so what is not there is gone."""
        return sql.SQL(
            "UPDATE {target} t SET _deleted_at = now(), _vanished = {vanished}, _synced_at = now()"
            " WHERE {is_unseen}"
        ).format(
            target=self.shape.qualified,
            vanished=sql.Literal(Vanished.NOT_VISIBLE.value),
            is_unseen=self.is_unseen,
        )

    def mark_outside(self, scope_table: str) -> sql.Composed:
        """These ids were looked for; those that did not pass are out, as of their new stamp."""
        vanished: sql.Composable = sql.Literal(Vanished.LEFT_FILTER.value)
        move_stamp: sql.Composable = sql.SQL("")
        is_not_older: sql.Composable = sql.SQL("true")
        if self.shape.stamp_column:
            stamp = sql.Identifier(self.shape.stamp_column)
            vanished = sql.SQL("CASE WHEN o.{} IS NULL THEN {} ELSE {} END").format(
                stamp, sql.Literal(Vanished.NOT_VISIBLE.value), vanished
            )
            move_stamp = sql.SQL(", {0} = coalesce(o.{0}, t.{0})").format(stamp)
            is_not_older = sql.SQL("(t.{0} <= o.{0}) IS NOT FALSE").format(stamp)
        return sql.SQL(
            "UPDATE {target} t SET _deleted_at = now(), _vanished = {vanished},"
            " _synced_at = now(){move_stamp} FROM {scope} o"
            " WHERE o.{key} = t.{key} AND {is_not_older} AND {is_unseen}"
        ).format(
            target=self.shape.qualified,
            vanished=vanished,
            move_stamp=move_stamp,
            scope=staging_identifier(scope_table),
            key=sql.Identifier(self.shape.id_column),
            is_not_older=is_not_older,
            is_unseen=self.is_unseen,
        )
