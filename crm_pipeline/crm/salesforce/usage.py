"""What every answer tells besides its body: API calls used, the daily limit, the CRM's own time.

Belongs here: counters and the daily budget. Does not belong here: sending requests (session.py).
"""

import re
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from crm_pipeline.crm.port import ApiUsage
from crm_pipeline.crm.salesforce.failures import LimitReached

_LIMIT_INFO = re.compile(r"(?<!-)\bapi-usage=(?P<used>\d+)/(?P<limit>\d+)")
_BUDGET_WAIT_SECONDS = 900.0


class UsageMeter:
    """Counts calls and remembers the latest facts; safe from several threads.

    Attributes:
        budget_percent: share of the daily limit, used by whomever, above which we stop asking.
    """

    def __init__(self, budget_percent: float | None = None) -> None:
        self.budget_percent = budget_percent
        self._lock = threading.Lock()
        self._calls = 0
        self._used: int | None = None
        self._limit: int | None = None
        self._server_time: datetime | None = None

    def count_call(self) -> None:
        """One more request that Salesforce will count."""
        with self._lock:
            self._calls += 1

    def note(self, headers: Mapping[str, str]) -> None:
        """Take the facts out of an answer's headers."""
        limits = _LIMIT_INFO.search(headers.get("Sforce-Limit-Info") or "")
        moment = date_in(headers)
        with self._lock:
            if limits:
                self._used, self._limit = int(limits["used"]), int(limits["limit"])
            if moment is not None:
                self._server_time = moment

    def check_budget(self) -> None:
        """Refuse the next request when the org's day is spent as far as we may spend it.

        Raises:
            LimitReached: a TransientError; nothing was sent.
        """
        with self._lock:
            used, limit = self._used, self._limit
        if self.budget_percent is None or used is None or not limit:
            return
        if 100 * used >= self.budget_percent * limit:
            raise LimitReached(
                f"The API budget is spent: the organisation used {used:,} of {limit:,} calls in "
                f"24 hours, and crm.api_budget_percent is {self.budget_percent:g}. The sync goes "
                "on when calls are free again.",
                retry_after_seconds=_BUDGET_WAIT_SECONDS,
            )

    @property
    def server_time(self) -> datetime | None:
        """The Date of the latest answer, which is never later than the truth."""
        with self._lock:
            return self._server_time

    def report(self) -> ApiUsage:
        """The counters as the port shows them."""
        with self._lock:
            return ApiUsage(self._calls, self._used, self._limit)


def date_in(headers: Mapping[str, str]) -> datetime | None:
    """The Date header in UTC, whole seconds as HTTP gives them; None if absent or broken."""
    try:
        moment = parsedate_to_datetime(headers.get("Date") or "")
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
