"""What every answer tells besides its body: API calls used, the daily limit, the CRM's own time.

Belongs here: counters and the daily budget. Does not belong here: sending requests (session.py).

Source: REST API guide "Limit Info Header": `api-usage=25/5000; per-app-api-usage=17/250(appName=x)`
(the second only where an administrator gave the connected app a quota of its own).
"""

import math
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from crm_pipeline.crm.port import ApiUsage
from crm_pipeline.crm.salesforce.failures import LimitReached

_ORG_USAGE = re.compile(r"(?<!-)\bapi-usage=(?P<used>\d+)/(?P<limit>\d+)")
_APP_USAGE = re.compile(r"\bper-app-api-usage=(?P<used>\d+)/(?P<limit>\d+)")
_BUDGET_WAIT_SECONDS = 900.0
_NO_HEADERS: Mapping[str, str] = {}


@dataclass(slots=True)
class _Quota:
    """What the latest answers said of one limit.

    Answers of calls side by side overtake each other, so the highest of a quarter of an hour
    counts; after that the next one does, for the day is a rolling window.
    """

    used: int | None = None
    limit: int | None = None
    since: float = 0.0

    def note(self, found: re.Match[str] | None, now: float) -> None:
        if found is None:
            return
        used, limit = int(found["used"]), int(found["limit"])
        if self.used is None or limit != self.limit or self.is_old(now):
            self.used, self.limit, self.since = used, limit, now
        self.used = max(used, self.used)

    def is_old(self, now: float) -> bool:
        return now - self.since >= _BUDGET_WAIT_SECONDS

    def is_spent(self, *, percent: float, more: int) -> bool:
        """Whether so many more calls would go beyond the share."""
        if self.used is None or not self.limit:
            return False
        return 100 * (self.used + more) > percent * self.limit


class UsageMeter:
    """Counts calls and remembers the latest facts; safe from several threads.

    The budget is hard: calls whose answers are still out count, too. Nothing is known before the
    first answer, so a process spends one call to see that the budget is spent; several processes
    can go beyond it by the calls that the others have out at that moment.

    Attributes:
        budget_percent: share of the daily limit, used by whomever, above which we stop asking.
    """

    def __init__(
        self, budget_percent: float | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.budget_percent = budget_percent
        self._clock = clock
        self._lock = threading.Lock()
        self._calls = 0
        self._open_calls = 0
        self._org = _Quota()
        self._app = _Quota()
        self._server_time: datetime | None = None

    @contextmanager
    def call(self) -> Iterator[Callable[[Mapping[str, str]], None]]:
        """Around one request that Salesforce will count; give it the answer's headers.

        Raises:
            LimitReached: a TransientError; nothing may be sent.
        """
        headers = _NO_HEADERS

        def note(found: Mapping[str, str]) -> None:
            nonlocal headers
            headers = found

        with self._lock:
            self._check_budget()
            self._calls += 1
            self._open_calls += 1
        try:
            yield note
        finally:
            with self._lock:
                self._open_calls -= 1
                self._note(headers)

    def _note(self, headers: Mapping[str, str]) -> None:
        limits = headers.get("Sforce-Limit-Info") or ""
        self._org.note(_ORG_USAGE.search(limits), self._clock())
        self._app.note(_APP_USAGE.search(limits), self._clock())
        self._server_time = date_in(headers) or self._server_time

    def _check_budget(self) -> None:
        if self.budget_percent is None:
            return
        if not self._open_calls and self._org.is_old(self._clock()):
            return  # one call to see where the day stands now
        more = self._open_calls + 1
        # What an administrator allotted to our app is ours as a whole.
        for quota, percent, whose in (
            (self._org, self.budget_percent, "the organisation"),
            (self._app, 100.0, "our connected app"),
        ):
            if quota.is_spent(percent=percent, more=more):
                raise LimitReached(
                    f"The API budget is spent: {whose} used {quota.used:,} of {quota.limit:,} "
                    f"calls in 24 hours, and crm.api_budget_percent is {self.budget_percent:g}. "
                    "The sync goes on when calls are free again.",
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
            return ApiUsage(self._calls, self._org.used, self._org.limit)


def date_in(headers: Mapping[str, str]) -> datetime | None:
    """The Date header in UTC, whole seconds as HTTP gives them; None if absent or broken."""
    try:
        moment = parsedate_to_datetime(headers.get("Date") or "")
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def retry_after_in(headers: Mapping[str, str]) -> float | None:
    """Seconds that an answer asks us to wait; None if it does not.

    A date is compared with the Date of the same answer, for our own clock may be wrong.
    """
    text = headers.get("Retry-After") or ""
    try:
        seconds = float(text)
    except ValueError:
        until, now = date_in({"Date": text}), date_in(headers)
        if until is None or now is None:
            return None
        seconds = (until - now).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None
