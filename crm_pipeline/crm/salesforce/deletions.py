"""Salesforce's log of deletions: what was deleted in a window, also past the recycle bin.

Belongs here: cutting a window into questions that the log answers whole. Does not belong here: what
a deletion means for a table (sync/).

Sources: REST API guide "sObject Get Deleted" (seconds of both ends are cut; at most 600,000 ids,
else EXCEEDED_ID_LIMIT; 15 days, or two hours when the log is large), SOAP API guide "getDeleted()"
(the ends must lie more than a minute apart; INVALID_REPLICATION_DATE after a purge) and
"GetDeletedResult" (`earliestDateAvailable`: what was deleted before it may be gone from the log).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from crm_pipeline.crm.salesforce.failures import (
    Concern,
    TooManyDeletions,
    forgotten_deletions,
    not_json,
)
from crm_pipeline.crm.salesforce.identifiers import full_id
from crm_pipeline.crm.salesforce.session import SalesforceSession
from crm_pipeline.crm.salesforce.soql import datetime_literal
from crm_pipeline.errors import PermanentError, ReadExpired

HORIZON = timedelta(days=15)
_MINUTE = timedelta(minutes=1)
_NARROWEST = 2 * _MINUTE  # "more than one minute", in whole minutes


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the log says about a window; it may lack what was deleted before `earliest`."""

    earliest: datetime
    deletions: list[tuple[str, datetime]]


class DeleteLog:
    """The deletions of one object."""

    def __init__(self, session: SalesforceSession, version_path: str, object_name: str) -> None:
        self._session = session
        self._path = f"{version_path}/sobjects/{object_name}/deleted"
        self._object_name = object_name

    def between(
        self, since: datetime, until: datetime, *, now: datetime
    ) -> Iterator[tuple[str, datetime]]:
        """Id and instant of every deletion in a window that is widened to whole minutes.

        The second that `until` names belongs to it: a Date has no parts of seconds.

        Raises:
            ReadExpired: the log does not reach back to `since`, or holds more about two minutes
                than fits into an answer.
        """
        # About older times the log answers, too, and leaves out what it has forgotten.
        if since < now - HORIZON:
            raise forgotten_deletions(self._object_name)
        end = _minute_of(until) + _MINUTE
        windows = [(min(_minute_of(since), end - _NARROWEST), end)]
        while windows:
            start, end = windows.pop()
            try:
                answer = self._asked(start, end)
            except TooManyDeletions as refused:
                windows += self._halves(start, end, refused)
                continue
            if answer.earliest > max(since, start):
                raise forgotten_deletions(self._object_name)
            yield from answer.deletions

    def _asked(self, start: datetime, end: datetime) -> "_Answer":
        answer = self._session.get_object(
            self._path,
            "deletedRecords",
            "earliestDateAvailable",
            params={"start": datetime_literal(start), "end": datetime_literal(end)},
            concern=Concern(self._object_name),
        )
        try:
            return _Answer(
                _instant(answer["earliestDateAvailable"]),
                [(full_id(e["id"]), _instant(e["deletedDate"])) for e in answer["deletedRecords"]],
            )
        except (KeyError, TypeError, ValueError, PermanentError):
            broken = not_json("Salesforce")
        raise broken

    def _halves(
        self, start: datetime, end: datetime, refused: TooManyDeletions
    ) -> tuple[tuple[datetime, datetime], ...]:
        """The later half first: the next question is the last one here.

        Whether an end belongs to its window is nowhere written, so the halves share a minute.
        """
        if end - start <= _NARROWEST:
            raise ReadExpired(f"{refused} It is told by comparing the ids instead.") from None
        middle = start + max((end - start) // _MINUTE // 2 * _MINUTE, _NARROWEST)
        return (middle - _MINUTE, end), (start, middle)


def _minute_of(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(second=0, microsecond=0)


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
