"""Rows that fit in staging and not in their table, beside columns that it keeps from former times.

PostgreSQL says so in the middle of a merge, and does not say which row. So each half of the staged
keys is tried, until such a row stands alone; it goes to the quarantine, and the merge goes on
without it.

Belongs here: finding those rows. Does not belong here: rows that do not even fit in staging
(sifting.py).
"""

from dataclasses import dataclass

import psycopg
from psycopg import sql

from crm_pipeline.model.sync import Vanished
from crm_pipeline.warehouse.ledger import SyncAttempt
from crm_pipeline.warehouse.schema import TableShape, column_types, staging_identifier
from crm_pipeline.warehouse.sifting import WHOLE_ROW


def set_apart(
    connection: psycopg.Connection, shape: TableShape, attempt: SyncAttempt, source: str
) -> int:
    """Move rows that their table cannot hold into the quarantine; returns how many.

    Args:
        connection: in the transaction of the merge that failed.
        shape: the staged columns.
        attempt: whose merge.
        source: what is merged, with its key: the delta or the staging table.
    """
    trial = _Trial(connection, shape, attempt, source)
    trial.prepare()
    bounds = trial.bounds()
    rejected = trial.search(*bounds) if bounds else 0
    connection.execute(
        "UPDATE crm_sync.sync_run SET rejected = rejected + %s WHERE sync_run_id = %s",
        [rejected, attempt.sync_run_id],
    )
    return rejected


@dataclass(frozen=True, slots=True)
class _Trial:
    """A table as wide as the live one, into which merged rows are put to see whether they fit."""

    connection: psycopg.Connection
    shape: TableShape
    attempt: SyncAttempt
    source: str

    @property
    def _key(self) -> sql.Identifier:
        return sql.Identifier(self.shape.id_column)

    @property
    def _source(self) -> sql.Identifier:
        return staging_identifier(self.source)

    def prepare(self) -> None:
        """Make the trial table."""
        self.connection.execute("DROP TABLE IF EXISTS pg_temp.trial")
        self.connection.execute(
            sql.SQL("CREATE TEMP TABLE trial (LIKE {}) ON COMMIT DROP").format(self.shape.qualified)
        )

    def bounds(self) -> tuple[str, str] | None:
        """The first and the last staged key; None if nothing is staged."""
        row = self.connection.execute(
            sql.SQL("SELECT min({0}), max({0}) FROM {1}").format(self._key, self._source)
        ).fetchone()
        return None if row is None or row[0] is None else (str(row[0]), str(row[1]))

    def search(self, first: str, last: str) -> int:
        """Quarantine the rows between two keys that do not fit; returns how many."""
        try:
            with self.connection.transaction(force_rollback=True):
                self.connection.execute(self._fill(first, last))
            return 0
        except psycopg.errors.ProgramLimitExceeded as error:
            reason = error.diag.message_primary or "row is too big"
        if first == last:
            return self._quarantine(first, reason)
        middle, behind = self._halves(first, last)
        return self.search(first, middle) + self.search(behind, last)

    def _halves(self, first: str, last: str) -> tuple[str, str]:
        """The last key of the lower half, and the first of the upper one."""
        row = self.connection.execute(
            sql.SQL(
                "SELECT middle, (SELECT min({key}) FROM {source} WHERE {key} > middle)"
                " FROM (SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY {key}) AS middle"
                " FROM {source} WHERE {key} >= {first} AND {key} < {last}) halved"
            ).format(
                key=self._key,
                source=self._source,
                first=sql.Literal(first),
                last=sql.Literal(last),
            )
        ).fetchone()
        assert row is not None, "two different keys stand on either side of a middle"
        return str(row[0]), str(row[1])

    def _fill(self, first: str, last: str) -> sql.Composed:
        """Rows at their widest: staged values over those that the table keeps, and buried."""
        marks: dict[str, sql.Composable] = {
            "_synced_at": sql.SQL("now()"),
            "_deleted_at": sql.SQL("now()"),
            "_vanished": sql.Literal(Vanished.NOT_VISIBLE.value),
            "_merged_into": sql.Identifier("s", self.shape.id_column),
        }
        staged = {column.name for column in self.shape.kept}
        names = column_types(self.connection, self.shape.schema, self.shape.table)
        return sql.SQL(
            "INSERT INTO pg_temp.trial ({names}) SELECT {values} FROM {source} s"
            " LEFT JOIN {target} t USING ({key}) WHERE s.{key} BETWEEN {first} AND {last}"
        ).format(
            names=sql.SQL(", ").join(map(sql.Identifier, names)),
            values=sql.SQL(", ").join(
                marks.get(name, sql.Identifier("s" if name in staged else "t", name))
                for name in names
            ),
            source=self._source,
            target=self.shape.qualified,
            key=self._key,
            first=sql.Literal(first),
            last=sql.Literal(last),
        )

    def _quarantine(self, record_id: str, reason: str) -> int:
        return self.connection.execute(
            sql.SQL(
                "WITH moved AS (DELETE FROM {source} s WHERE s.{key} = {id} RETURNING s.*)"
                " INSERT INTO crm_sync.quarantine"
                " (sync_run_id, object_name, record_id, column_name, reason, record)"
                " SELECT {run}, {object}, {id}, {column}, {reason}, to_jsonb(moved) FROM moved"
            ).format(
                source=self._source,
                key=self._key,
                id=sql.Literal(record_id),
                run=sql.Literal(self.attempt.sync_run_id),
                object=sql.Literal(self.attempt.object_name),
                column=sql.Literal(WHOLE_ROW),
                reason=sql.Literal(reason),
            )
        ).rowcount
