"""What may be said of the two sides of a merge: the rules that no statement may forget.

Never backwards: a version that is older than the row does not replace it. What another path has
written since the attempt began is younger than anything that has no stamp to tell so. A row that
somebody else has changed (`_synced_at` is `-infinity`) yields to whatever the CRM says.

Belongs here: those conditions as SQL. Does not belong here: statements (merge.py, comparison.py,
census.py).
"""

from dataclasses import dataclass

from psycopg import sql

from crm_pipeline.warehouse.ledger import SyncAttempt
from crm_pipeline.warehouse.schema import TableShape, staging_identifier


@dataclass(frozen=True, slots=True)
class Sides:
    """The two sides of a merge and what may be said of them.

    `t` is the live table, `s` the source of records, `o` the scope. The source is the delta where
    everything was read, and the staging table otherwise.
    """

    shape: TableShape
    attempt: SyncAttempt
    source: str

    @property
    def names(self) -> dict[str, sql.Composable]:
        """What most statements mention."""
        shape = self.shape
        key = sql.Identifier(shape.id_column)
        return {
            "target": shape.qualified,
            "source": staging_identifier(self.source),
            "key": key,
            "same_key": sql.SQL("t.{0} = s.{0}").format(key),
            "is_untouched": self.is_untouched,
            "is_not_older": self.is_not_older,
            "is_newer": self.is_newer,
            "is_after_its_end": self.is_after_its_end,
            "lives": self.lives,
        }

    @property
    def is_untouched(self) -> sql.Composed:
        """No other path has written the row since the attempt began, by the database's clock."""
        return sql.SQL("t._synced_at < {}").format(sql.Literal(self.attempt.started_at))

    @property
    def is_not_older(self) -> sql.Composable:
        """Never backwards, but over a row that somebody else has changed.

        A record without a stamp has no order, so what came by another path meanwhile counts.
        """
        if self.shape.stamp_column is None:
            return self.is_untouched
        return sql.SQL("((t.{0} <= s.{0}) IS NOT FALSE OR t._synced_at = '-infinity')").format(
            sql.Identifier(self.shape.stamp_column)
        )

    @property
    def is_newer(self) -> sql.Composable:
        """Strictly younger than the row; never, without a stamp."""
        if self.shape.stamp_column is None:
            return sql.SQL("false")
        return sql.SQL("coalesce(t.{0} < s.{0}, false)").format(
            sql.Identifier(self.shape.stamp_column)
        )

    @property
    def is_after_its_end(self) -> sql.Composable:
        """Younger than a tombstone that carries the stamp of its record's end, as a bin's do.

        Any other tombstone still has the stamp of a version, and what was read before the record
        went may be younger than that.
        """
        if self.shape.stamp_column is None:
            return sql.SQL("false")
        return sql.SQL("(t._deleted_at = t.{0} AND t.{0} < s.{0})").format(
            sql.Identifier(self.shape.stamp_column)
        )

    @property
    def lives(self) -> sql.Composable:
        """Not in the CRM's recycle bin."""
        if self.shape.deleted_column is None:
            return sql.SQL("true")
        return sql.SQL("s.{} IS NOT TRUE").format(sql.Identifier(self.shape.deleted_column))

    def row(self, alias: str) -> sql.Composable:
        """The columns that analysts keep, of one side."""
        return sql.SQL(", ").join(sql.Identifier(alias, c.name) for c in self.shape.kept)

    def sets(self) -> sql.Composable:
        """Every such column as the source has it, but the key, which is the same."""
        return sql.SQL(", ").join(
            sql.SQL("{0} = s.{0}").format(sql.Identifier(c.name))
            for c in self.shape.kept
            if c.name != self.shape.id_column
        )

    def of(self, alias: str, column: str | None) -> sql.Composable:
        """A column that not every object has."""
        return sql.Identifier(alias, column) if column else sql.SQL("NULL")
