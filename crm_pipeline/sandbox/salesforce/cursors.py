"""Query cursors: results too large for one answer, and the locators that lead on.

Belongs here: which cursors are open. Does not belong here: their rows (reading.py).
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta

from crm_pipeline.sandbox.salesforce import identifiers
from crm_pipeline.sandbox.salesforce.clock import OrgClock
from crm_pipeline.sandbox.salesforce.failures import OrgError
from crm_pipeline.sandbox.salesforce.reading import Result

_OPEN_AT_MOST = 50  # the oldest goes, and its locator then is invalid


@dataclass(frozen=True, slots=True)
class Cursor:
    """A frozen result and the batch size it is read with."""

    result: Result
    size: int
    opened: datetime | None = None


class Cursors:
    """The open cursors of an org; each dies when it is older than `lifetime`."""

    def __init__(self, clock: OrgClock) -> None:
        self._clock = clock
        self.lifetime = timedelta(days=2)
        self._lock = threading.Lock()
        self._open: OrderedDict[str, Cursor] = OrderedDict()
        self._made = 0

    def open(self, result: Result, size: int) -> str:
        """Keep a result; returns the cursor's Id."""
        with self._lock:
            self._made += 1
            name = identifiers.make_id("0r8", self._made)
            self._open[name] = Cursor(result, size, self._clock.now())
            while len(self._open) > _OPEN_AT_MOST:
                self._open.popitem(last=False)
        return name

    def find(self, locator: str) -> tuple[str, Cursor, int]:
        """The cursor a locator names and the place it leads to."""
        name, _, place = locator.rpartition("-")
        cursor = self._open.get(name)
        if cursor is not None and cursor.opened is not None:
            cursor = cursor if self._clock.now() - cursor.opened <= self.lifetime else None
        if cursor is None or not place.isdigit() or int(place) > cursor.result.total:
            raise OrgError("INVALID_QUERY_LOCATOR", "invalid query locator")
        return name, cursor, int(place)

    def forget(self) -> int:
        """Close all cursors, as the org does when they grow old; returns how many."""
        with self._lock:
            count = len(self._open)
            self._open.clear()
            return count
