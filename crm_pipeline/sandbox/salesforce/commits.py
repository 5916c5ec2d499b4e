"""Commits: each write transaction's number, its begin and its end, and the stamps it gives.

SystemModstamp is set when a change is made, not when it is committed; that gap is where sync
tools lose records, so the org keeps both times apart.

Belongs here: the present transaction's number and stamp. Does not belong here: transactions
that stay open (transactions.py), what the numbers are good for (truth.py).
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from crm_pipeline.sandbox.salesforce.clock import OrgClock


class Commits:
    """The org's commits. A number is used up only by a transaction that changed records."""

    def __init__(self, clock: OrgClock) -> None:
        self._clock = clock
        self._thread = threading.local()
        self._used = False
        self.last = 0

    def load(self, connection: sqlite3.Connection) -> None:
        """Go on after the commits of an org that was kept."""
        row = connection.execute("SELECT max(number) FROM _sandbox_commits").fetchone()
        self.last = int(row[0] or 0)

    def number(self) -> int:
        """The number of the transaction in progress; asked for by every changed row."""
        self._used = True
        return self.last + 1

    def settle(self, connection: sqlite3.Connection, *, kept: bool) -> None:
        """Note the end of a transaction: just before its COMMIT, or after its ROLLBACK."""
        if self._used and kept:
            now = self._clock.stamp()
            begun = getattr(self._thread, "begun", None) or now
            self.last += 1
            connection.execute(
                "INSERT INTO _sandbox_commits VALUES (?, ?, ?)", (self.last, begun, now)
            )
        self._used = False

    def stamp(self) -> str:
        """The stamp of a change: now, or when it was made if it is only committed now."""
        return getattr(self._thread, "stamp", None) or self._clock.stamp()

    @contextmanager
    def began(self, begun: str) -> Iterator[None]:
        """Let this thread's next transaction be one that began earlier."""
        self._thread.begun = begun
        try:
            yield
        finally:
            self._thread.begun = None

    @contextmanager
    def made_at(self, stamp: str) -> Iterator[None]:
        """Let this thread's changes carry an earlier stamp."""
        self._thread.stamp = stamp
        try:
            yield
        finally:
            self._thread.stamp = None
