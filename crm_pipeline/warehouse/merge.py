"""The one way into a typed table: merge what was staged, or rename it into place.

Everything here runs inside the transaction that also moves the watermark and closes the ledger row
(sync/merge_path.py). The newer stamp wins, unchanged rows are not written, and rows that went are
kept as tombstones.

Belongs here: statements that change typed tables. Does not belong here: what to read, and when to
commit (sync/), and looking at tables (tables.py).
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import psycopg
from psycopg import sql

from crm_pipeline.errors import IncompleteRead
from crm_pipeline.model.sync import Finding, Vanished
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
from crm_pipeline.warehouse.staging import staged_count
from crm_pipeline.warehouse.tables import count_live_rows

MOST_SUSPECTS_BY_ID = 10_000


@dataclass(frozen=True, slots=True)
class Merged:
    """Rows of the typed table that a merge changed.

    Attributes:
        vanished: the new tombstones by kind, in the words of `Vanished`.
    """

    inserted: int
    updated: int
    deleted: int
    vanished: Mapping[str, int] = field(default_factory=dict, compare=False)

    @property
    def unexplained(self) -> int:
        """Tombstones of records that were merely not there, which may be a fault of the answer."""
        kinds = (Vanished.LEFT_FILTER, Vanished.NOT_VISIBLE)
        return sum(self.vanished.get(kind.value, 0) for kind in kinds)


@dataclass(frozen=True, slots=True)
class Suspects:
    """Records whose rows a census found out of step, and that are read again.

    Attributes:
        findings: how many of each kind.
        ids: all of them; empty when they are too many to ask for by id.
        changed_since: the oldest stamp among them, from which everything is read instead.
    """

    findings: Mapping[str, int]
    ids: tuple[str, ...]
    changed_since: datetime | None


def key_staging(connection: psycopg.Connection, shape: TableShape, staging_table: str) -> None:
    """Give staging its key and fresh statistics.

    Raises:
        IncompleteRead: a record came twice. Their count was right all the same, so another one may
            have been left out for it.
    """
    table = staging_identifier(staging_table)
    key = sql.Identifier(shape.id_column)
    add_key = sql.SQL("ALTER TABLE {} ADD PRIMARY KEY ({})").format(table, key)
    _unique(connection, shape, add_key)
    connection.execute(sql.SQL("ANALYZE {}").format(table))


def _unique(connection: psycopg.Connection, shape: TableShape, add_key: sql.Composed) -> None:
    try:
        connection.execute(add_key)
    except psycopg.errors.UniqueViolation as error:
        raise IncompleteRead(
            f"{shape.table}: the CRM handed over a record twice, so another one may be missing. "
            "The table was not touched; run the sync again."
        ) from error


def compare(connection: psycopg.Connection, shape: TableShape, attempt: SyncAttempt) -> int:
    """Hold everything that was read against the live table, and keep only what is to be done.

    One hash join over both, with nothing indexed before. It runs ahead of the commit, whose
    statements judge each of the few rows once more: what a record synced by hand has written
    meanwhile is not lost.

    Returns:
        Rows in the delta: records that are new or differ, and live rows that did not come.

    Raises:
        IncompleteRead: a record that is new or differs came twice.
    """
    delta = staging_identifier(attempt.delta_table)
    statements = _Statements(shape, attempt, attempt.staging_table)
    connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(delta))
    connection.execute(statements.find_differences(delta))
    key = sql.Identifier(shape.id_column)
    add_key = sql.SQL("CREATE UNIQUE INDEX ON {} ({})").format(delta, key)
    _unique(connection, shape, add_key)
    connection.execute(sql.SQL("ANALYZE {}").format(delta))
    return staged_count(connection, attempt.delta_table)


def absent_ids(connection: psycopg.Connection, attempt: SyncAttempt) -> list[str]:
    """Live rows that did not come although everything was read, by the comparison."""
    rows = connection.execute(
        sql.SQL("SELECT _absent_id FROM {} WHERE _absent_id IS NOT NULL").format(
            staging_identifier(attempt.delta_table)
        )
    ).fetchall()
    return [str(row[0]) for row in rows]


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
    guard_rows(connection, shape)
    comment_table(connection, shape)
    grant_to_analysts(connection, shape.qualified)
    return Merged(inserted=count_live_rows(connection, shape), updated=0, deleted=0)


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
    statements = _Statements(shape, attempt, source)
    if shape.stamp_column is not None and source == attempt.delta_table:
        connection.execute(statements.distrust_the_future())
    vanished = Counter(_kinds(connection, statements.bury()))
    updated = connection.execute(statements.update()).rowcount
    inserted = connection.execute(statements.insert()).rowcount
    if scope_table is not None:
        vanished += _kinds(connection, statements.mark_absent(scope_table))
    return Merged(inserted, updated, sum(vanished.values()), vanished)


def take_census(
    connection: psycopg.Connection,
    shape: TableShape,
    attempt: SyncAttempt,
    *,
    scope_table: str | None,
    watermark: datetime | None,
) -> tuple[Merged, Suspects]:
    """Compare ids and stamps alone: mark what is gone, and tell which rows are not as in the CRM.

    What changed since the watermark is no finding: the next differential reads it.
    """
    statements = _Statements(shape, attempt, attempt.delta_table)
    vanished = Counter(_kinds(connection, statements.bury()))
    if scope_table is not None:
        vanished += _kinds(connection, statements.mark_absent(scope_table))
    connection.execute(statements.distrust_the_future())
    connection.execute(statements.collect_suspects(watermark))
    rows = connection.execute("SELECT finding, count(*) FROM pg_temp.suspect GROUP BY 1").fetchall()
    findings = {str(finding): int(count) for finding, count in rows}
    is_few = sum(findings.values()) <= MOST_SUSPECTS_BY_ID
    ids = connection.execute("SELECT id FROM pg_temp.suspect").fetchall() if is_few else []
    oldest = connection.execute("SELECT min(stamp) FROM pg_temp.suspect").fetchone()
    suspects = Suspects(findings, tuple(str(one[0]) for one in ids), oldest[0] if oldest else None)
    return Merged(0, 0, sum(vanished.values()), vanished), suspects


def refresh(connection: psycopg.Connection, shape: TableShape, attempt: SyncAttempt) -> Merged:
    """Bring the staged columns up to date in rows of the very version that was read.

    A row of another version is on its way by a differential, with all its columns.
    """
    statements = _Statements(shape, attempt, attempt.staging_table)
    return Merged(0, connection.execute(statements.refresh()).rowcount, 0)


def _kinds(connection: psycopg.Connection, marking: sql.Composed | None) -> Counter[str]:
    """Run a statement that returns the kind of each tombstone, and count the kinds."""
    if marking is None:
        return Counter()
    counted = sql.SQL("WITH marked AS ({}) SELECT _vanished, count(*) FROM marked GROUP BY 1")
    return Counter(dict(connection.execute(counted.format(marking)).fetchall()))


@dataclass(frozen=True, slots=True)
class _Statements:
    """The statements of one merge.

    `t` is the live table, `s` the source of records, `o` the scope. The source is the delta where
    everything was read, and the staging table otherwise.
    """

    shape: TableShape
    attempt: SyncAttempt
    source: str

    @property
    def _names(self) -> dict[str, sql.Composable]:
        """What most statements mention."""
        shape = self.shape
        key = sql.Identifier(shape.id_column)
        return {
            "target": shape.qualified,
            "source": staging_identifier(self.source),
            "key": key,
            "same_key": sql.SQL("t.{0} = s.{0}").format(key),
            "is_untouched": self._is_untouched,
            "is_not_older": self._is_not_older,
            "is_newer": self._is_newer,
            "lives": self._lives,
        }

    @property
    def _is_untouched(self) -> sql.Composed:
        """No other path has written the row since the attempt began, by the database's clock."""
        return sql.SQL("t._synced_at < {}").format(sql.Literal(self.attempt.started_at))

    @property
    def _is_not_older(self) -> sql.Composable:
        """Never backwards, but over a row that somebody else has changed.

        A record without a stamp has no order, so the last read counts.
        """
        if self.shape.stamp_column is None:
            return sql.SQL("true")
        return sql.SQL("((t.{0} <= s.{0}) IS NOT FALSE OR t._synced_at = '-infinity')").format(
            sql.Identifier(self.shape.stamp_column)
        )

    @property
    def _is_newer(self) -> sql.Composable:
        if self.shape.stamp_column is None:
            return sql.SQL("false")
        return sql.SQL("coalesce(t.{0} < s.{0}, false)").format(
            sql.Identifier(self.shape.stamp_column)
        )

    @property
    def _is_after_its_end(self) -> sql.Composable:
        """Newer than a tombstone that carries the stamp of its record's end, as those of a bin do.

        Any other tombstone still has the stamp of a version, and what was read before it was made
        may be newer than that.
        """
        if self.shape.stamp_column is None:
            return sql.SQL("false")
        return sql.SQL("(t._deleted_at = t.{0} AND t.{0} < s.{0})").format(
            sql.Identifier(self.shape.stamp_column)
        )

    @property
    def _lives(self) -> sql.Composable:
        if self.shape.deleted_column is None:
            return sql.SQL("true")
        return sql.SQL("s.{} IS NOT TRUE").format(sql.Identifier(self.shape.deleted_column))

    def _row(self, alias: str) -> sql.Composable:
        return sql.SQL(", ").join(sql.Identifier(alias, c.name) for c in self.shape.kept)

    def _sets(self) -> sql.Composable:
        return sql.SQL(", ").join(
            sql.SQL("{0} = s.{0}").format(sql.Identifier(c.name)) for c in self.shape.kept
        )

    def _of(self, alias: str, column: str | None) -> sql.Composable:
        return sql.Identifier(alias, column) if column else sql.SQL("NULL")

    def bury(self) -> sql.Composed | None:
        """Tombstones for records in the recycle bin; None for objects without one."""
        shape = self.shape
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
            " AND (t._vanished IS NULL OR t._vanished NOT IN ('deleted', 'merged') OR {is_newer})"
            " RETURNING t._vanished"
        ).format(
            stamp=self._of("s", shape.stamp_column),
            merged=self._of("s", shape.merged_column),
            gone=sql.Identifier(shape.deleted_column),
            move_stamp=move_stamp,
            **self._names,
        )

    def update(self) -> sql.Composed:
        """Rows that differ, and tombstones of records that came back."""
        return sql.SQL(
            "UPDATE {target} t SET {sets}, _synced_at = now(),"
            " _restored_at = CASE WHEN t._deleted_at IS NULL THEN t._restored_at ELSE now() END,"
            " _deleted_at = NULL, _vanished = NULL, _merged_into = NULL"
            " FROM {source} s WHERE {same_key} AND {lives} AND {is_not_older}"
            " AND CASE WHEN t._deleted_at IS NOT NULL THEN {is_untouched} OR {is_after_its_end}"
            " ELSE ({old}) IS DISTINCT FROM ({new}) OR t._synced_at = '-infinity' END"
        ).format(
            sets=self._sets(),
            is_after_its_end=self._is_after_its_end,
            old=self._row("t"),
            new=self._row("s"),
            **self._names,
        )

    def insert(self) -> sql.Composed:
        """Records that are new here."""
        return sql.SQL(
            "INSERT INTO {target} ({columns}) SELECT {values} FROM {source} s"
            " WHERE s.{key} IS NOT NULL AND {lives}"
            " AND NOT EXISTS (SELECT FROM {target} t WHERE {same_key})"
        ).format(
            columns=sql.SQL(", ").join(sql.Identifier(c.name) for c in self.shape.kept),
            values=self._row("s"),
            **self._names,
        )

    def refresh(self) -> sql.Composed:
        """The staged columns alone, in rows of the version that was read."""
        stamp = sql.Identifier(self.shape.stamp_column or "")
        return sql.SQL(
            "UPDATE {target} t SET {sets}, _synced_at = now() FROM {source} s"
            " WHERE {same_key} AND t.{stamp} = s.{stamp} AND t._deleted_at IS NULL"
            " AND t._synced_at <> '-infinity' AND ({old}) IS DISTINCT FROM ({new})"
        ).format(
            sets=self._sets(),
            stamp=stamp,
            old=self._row("t"),
            new=self._row("s"),
            **self._names,
        )

    def distrust_the_future(self) -> sql.Composed:
        """A row younger than its record was not written by us."""
        return sql.SQL(
            "UPDATE {target} t SET _synced_at = '-infinity' FROM {source} s"
            " WHERE {same_key} AND t.{stamp} > s.{stamp} AND {is_untouched}"
        ).format(stamp=sql.Identifier(self.shape.stamp_column or ""), **self._names)

    def collect_suspects(self, watermark: datetime | None) -> sql.Composed:
        """Records that live in the CRM and whose row is not of their version."""
        return sql.SQL(
            "CREATE TEMP TABLE suspect ON COMMIT DROP AS"
            " SELECT s.{key} AS id, s.{stamp} AS stamp, CASE"
            " WHEN t._synced_at = '-infinity' THEN {altered}"
            " WHEN q.record_id IS NOT NULL THEN {quarantined}"
            " WHEN t.{key} IS NULL THEN {missing}"
            " WHEN t._deleted_at IS NOT NULL THEN {restored} ELSE {stale} END AS finding"
            " FROM {source} s LEFT JOIN {target} t ON {same_key}"
            " LEFT JOIN (SELECT DISTINCT record_id FROM crm_sync.quarantine"
            "            WHERE object_name = {object}) q ON q.record_id = s.{key}"
            " WHERE s.{key} IS NOT NULL AND {lives}"
            " AND (t._synced_at = '-infinity' OR q.record_id IS NOT NULL"
            " OR (s.{stamp} < {watermark} AND (t.{key} IS NULL OR ({is_untouched}"
            " AND (t._deleted_at IS NOT NULL OR t.{stamp} IS DISTINCT FROM s.{stamp})))))"
        ).format(
            stamp=sql.Identifier(self.shape.stamp_column or ""),
            watermark=sql.Literal(watermark),
            object=sql.Literal(self.attempt.object_name),
            **{finding.value: sql.Literal(finding.value) for finding in Finding},
            **self._names,
        )

    def mark_absent(self, scope_table: str) -> sql.Composed:
        """These ids were looked for; those that are not staged are out, as of their new stamp.

        A record in the quarantine of this attempt is there, too: only its values do not fit.
        """
        shape = self.shape
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
            merged=self._of("o", shape.merged_column),
            gone=self._of("o", shape.deleted_column),
            move_stamp=move_stamp,
            scope=staging_identifier(scope_table),
            staging=staging_identifier(self.attempt.staging_table),
            scope_not_older=scope_not_older,
            run=sql.Literal(self.attempt.sync_run_id),
            **self._names,
        )

    def find_differences(self, delta: sql.Identifier) -> sql.Composed:
        """The delta: one hash join of live table and staging, and of both only what differs."""
        shape = self.shape
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
            " WHEN {gone} THEN t._vanished IS NULL OR t._vanished NOT IN ('deleted', 'merged')"
            "     OR {is_newer}"
            " WHEN t._deleted_at IS NOT NULL OR t._synced_at = '-infinity' THEN true"
            " ELSE ({old}) IS DISTINCT FROM ({new}) END"
        ).format(delta=delta, gone=gone, old=self._row("t"), new=self._row("s"), **self._names)
