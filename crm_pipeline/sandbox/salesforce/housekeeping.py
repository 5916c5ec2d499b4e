"""What the org throws away by itself as time goes by: the recycle bin, the log of deletions.

It happens when the clock is moved, at most once in two hours of the org's time.

Belongs here: how long deleted things are kept. Does not belong here: deleting (bins.py), the
ends of sessions, cursors and jobs, which are looked at when they are used.
"""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from crm_pipeline.sandbox.salesforce.clock import stamp_text
from crm_pipeline.sandbox.salesforce.storage import quoted

if TYPE_CHECKING:
    from crm_pipeline.sandbox.salesforce.org import SandboxOrg

_EVERY = timedelta(hours=2)


class Housekeeping:
    """Keeps deleted records and the log of them for so many days each.

    With a `log_limit`, the log keeps no more than that many entries older than two hours, the
    oldest go first: a busy org's log then reaches back hours, not days.
    """

    def __init__(self, org: "SandboxOrg") -> None:
        self._org = org
        self._due: datetime | None = None
        self.bin_days = 15
        self.log_days = 15
        self.log_limit: int | None = None
        org.clock.on_move(self._when_due)

    def _when_due(self) -> None:
        now = self._org.clock.now()
        if self._due is None or now >= self._due:
            self._due = now + _EVERY
            self.run()

    def run(self) -> None:
        """Throw away what has been kept long enough."""
        now = self._org.clock.now()
        cutoff = stamp_text(now - timedelta(days=self.bin_days))
        with self._org.transaction() as connection:
            for definition in self._org.catalogue.all():
                if definition.soft_delete:
                    connection.execute(
                        f"DELETE FROM {quoted(definition.name)} "
                        "WHERE IsDeleted = 'true' AND SystemModstamp < ?",
                        (cutoff,),
                    )
            self._trim_log(stamp_text(now - timedelta(days=self.log_days)))
            if self.log_limit is not None:
                row = connection.execute(
                    "SELECT deleted_at FROM _sandbox_deletions "
                    "ORDER BY deleted_at DESC LIMIT 1 OFFSET ?",
                    (self.log_limit,),
                ).fetchone()
                if row is not None:
                    self._trim_log(min(stamp_text(now - _EVERY), row[0]))

    def _trim_log(self, until: str) -> None:
        """Drop entries; the newest of them is how far back the log now reaches."""
        reader = self._org.store.reader()
        row = reader.execute(
            "SELECT max(deleted_at) FROM _sandbox_deletions WHERE deleted_at <= ?", (until,)
        ).fetchone()
        if row[0] is not None:
            self._org.trim_delete_log(row[0], inclusive=True)
