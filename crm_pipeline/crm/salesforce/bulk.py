"""Reading by a Bulk API 2.0 query job: begin it, wait for it, list its pages, delete it.

Belongs here: the life of a job. Does not belong here: the bytes of a page (bulk_pages.py), choosing
Bulk (connector.py).

Sources: Bulk API 2.0 guide "Create a Query Job", "Job States", "Get Results for a Query Job" (needs
the API version that created the job, else 409; locators stay the same as long as the job exists),
"Get Parallel Results for a Query Job" (`resultPages`, version 58 and later, five addresses at a
time), "Delete a Query Job" (only when JobComplete, Aborted or Failed); results are kept for 7 days.
"""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from crm_pipeline.crm.port import ReadRequest, ResumePoint
from crm_pipeline.crm.salesforce import soql
from crm_pipeline.crm.salesforce.bulk_pages import BulkPage, PageAddress
from crm_pipeline.crm.salesforce.failures import (
    BulkUnsupported,
    Concern,
    QueryTimedOut,
    job_failure,
)
from crm_pipeline.crm.salesforce.session import SalesforceSession, object_in
from crm_pipeline.errors import CrmPipelineError, ReadExpired, TransientError
from crm_pipeline.model.objects import Transport
from crm_pipeline.model.pages import ResultPage

CALLS_FOR_A_JOB = 6  # create, about three polls, list, delete; and one for each page
_FIRST_PAGE = "first"
_WAITING = frozenset({"Open", "UploadComplete", "InProgress"})
_PARALLEL_SINCE = 58
_LONGEST_NAP_SECONDS = 5.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BulkManners:
    """How we wait for jobs and cut their results.

    Attributes:
        page_records: the most records in a page where we may say so (API versions before 58).
        first_poll_seconds: before the second look at a job; each wait is half as long again.
        slowest_poll_seconds: the longest wait: every look is an API call.
        patience_seconds: after which a job that does not end is given up.
        sleep: waits so many seconds.
        clock: seconds that pass, from any beginning.
    """

    page_records: int = 100_000
    first_poll_seconds: float = 0.2
    slowest_poll_seconds: float = 60.0
    patience_seconds: float = 24 * 3600.0
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic


class BulkRead:
    """An open read by a Bulk job; the job runs while nobody waits for it.

    `pages` waits for the job. `record_count` is None until then.

    `when_unable` is told why Bulk cannot read the request at all; a new read then knows better.
    """

    def __init__(
        self,
        session: SalesforceSession,
        api_version: str,
        request: ReadRequest,
        reason: str,
        *,
        manners: BulkManners | None = None,
        resume: ResumePoint | None = None,
        when_unable: Callable[[str], None] | None = None,
    ) -> None:
        self._session = session
        self._jobs_path = f"/services/data/v{api_version}/jobs/query"
        self._lists_pages = int(float(api_version)) >= _PARALLEL_SINCE
        self._manners = manners or BulkManners()
        self._request = request
        self._concern = Concern(request.crm_object.name, is_stored_result=True)
        self._landed = frozenset(resume.landed_keys) if resume else frozenset[str]()
        self._when_unable = when_unable
        self._job: dict[str, Any] = {}
        self._keys: set[str] = set()
        self.transport = Transport.BULK
        self.reason = reason
        self.token = self._checked(resume.token) if resume else self._created()

    @property
    def record_count(self) -> int | None:
        """The job's own count of its records; None while it runs."""
        count = self._job.get("numberRecordsProcessed")
        is_complete = self._job.get("state") == "JobComplete"
        return int(count) if is_complete and count is not None else None

    def pages(self) -> Iterator[ResultPage]:
        """The pages that have not landed yet; each may be streamed in a thread of its own.

        Raises:
            TransientError: the job does not end, or was aborted in Salesforce.
            PermanentError: the job failed for good.
            ReadExpired: the job is gone.
        """
        self._wait()
        if self.record_count == 0:
            return
        self._keys = set()
        yield from self._listed() if self._lists_pages else self._chained()

    def close(self) -> None:
        """Delete the job, so that results with personal data do not lie about for a week."""
        delete_job(self._session, self._job_path, is_running=self._job.get("state") in _WAITING)

    @property
    def _job_path(self) -> str:
        return f"{self._jobs_path}/{self.token}"

    def _created(self) -> str:
        query = soql.select(self._request)
        # Repeatable although a POST: a job begun twice is a job that nobody reads.
        response = self._session.request(
            "POST",
            self._jobs_path,
            json={"operation": soql.resource(self._request), "query": query},
            repeatable=True,
            concern=Concern(self._request.crm_object.name),
        )
        self._job = object_in(response, "id", "state")
        job_id = str(self._job["id"])
        if not job_id.isalnum():
            raise TransientError("Salesforce began a Bulk job without an id; it is tried again.")
        return job_id

    def _checked(self, token: str) -> str:
        """The id of an earlier job that is still good to read."""
        if not token.isalnum():
            raise ReadExpired("The stored position is not a Bulk job; the object is read anew.")
        self._job = self._looked_at(f"{self._jobs_path}/{token}")
        if self._job.get("state") not in _WAITING | {"JobComplete"} or self._is_stuck():
            raise ReadExpired("The Bulk job ended without a result; the object is read anew.")
        return token

    def _is_stuck(self) -> bool:
        """Whether an earlier process may have lost its patience with the job already."""
        now, created = self._session.server_time, _instant(self._job.get("createdDate"))
        if self._job.get("state") not in _WAITING or now is None or created is None:
            return False
        return (now - created).total_seconds() > self._manners.patience_seconds

    def _looked_at(self, path: str) -> dict[str, Any]:
        return self._session.get_object(path, "state", concern=self._concern)

    def _wait(self) -> None:
        wait = self._manners.first_poll_seconds
        deadline = self._manners.clock() + self._manners.patience_seconds
        while True:
            if self._job.get("state") not in _WAITING:
                self._check_end()
                return
            self._job = self._looked_at(self._job_path)
            if self._job.get("state") not in _WAITING:
                continue
            if self._manners.clock() > deadline:
                raise TransientError(
                    f"A Bulk job on {self._request.crm_object.name} did not end in "
                    f"{self._manners.patience_seconds / 3600:.1f} hours; look at Setup > Bulk Data "
                    "Load Jobs."
                )
            self._pause(wait)
            wait = min(wait * 1.5, self._manners.slowest_poll_seconds)

    def _pause(self, seconds: float) -> None:
        """Wait, and look up now and then whether there is still something to wait for."""
        while seconds > 0:
            self._manners.sleep(min(seconds, _LONGEST_NAP_SECONDS))
            seconds -= _LONGEST_NAP_SECONDS
            self._session.check_interrupt()

    def _check_end(self) -> None:
        state = self._job.get("state")
        if state == "Failed":
            raise self._verdict(
                job_failure(
                    str(self._job.get("errorMessage") or ""), Concern(self._request.crm_object.name)
                )
            )
        if state != "JobComplete":
            raise ReadExpired(
                f"Somebody aborted the Bulk job on {self._request.crm_object.name} in Salesforce; "
                "the object is read anew."
            )

    def _verdict(self, failure: CrmPipelineError) -> CrmPipelineError:
        """The failure of a job, or where another way is open, the news that this one is closed."""
        if self._when_unable is None or not isinstance(failure, QueryTimedOut | BulkUnsupported):
            return failure
        is_late = isinstance(failure, QueryTimedOut)
        self._when_unable("Bulk ran out of time" if is_late else "Bulk does not read it")
        return ReadExpired(
            f"Bulk cannot read {self._request.crm_object.name} as it was asked to; the object is "
            "read by REST."
        )

    def _listed(self) -> Iterator[ResultPage]:
        """Pages by the list of their addresses, which may be fetched side by side."""
        address: str | None = f"{self._job_path}/resultPages"
        while address:
            answer = self._session.get_object(address, "resultPages", concern=self._concern)
            for entry in answer["resultPages"]:
                page = str(entry.get("resultUrl") or entry.get("resultLink") or "")
                key = self._seen(_locator_in(page))
                if key not in self._landed:
                    yield self._page(PageAddress(key, page))
            # The guide's table says nextRecordUrl, other resources say nextRecordsUrl.
            following = answer.get("nextRecordsUrl") or answer.get("nextRecordUrl")
            address = None if answer.get("done", not following) else following

    def _chained(self) -> Iterator[ResultPage]:
        """Pages one behind the other: each one's headers name the next.

        A landed page costs a call for its headers, for nothing else knows its successor.
        """
        locator: str | None = ""
        while locator is not None:
            key = self._seen(locator or _FIRST_PAGE)
            address = f"{self._job_path}/results?maxRecords={self._manners.page_records}"
            page = self._page(
                PageAddress(key, f"{address}&locator={quote(locator)}" if locator else address)
            )
            if key in self._landed:
                locator = page.next_locator()
                page.forget()
                continue
            yield page
            locator = page.next_locator()

    def _seen(self, key: str) -> str:
        """The key of one more page; pages that lead back to each other would never end."""
        if key in self._keys:
            raise ReadExpired(
                f"The pages of a Bulk job on {self._request.crm_object.name} lead in a circle; the "
                "object is read anew."
            )
        self._keys.add(key)
        return key

    def _page(self, where: PageAddress) -> BulkPage:
        return BulkPage(self._session, where, self._request.fields, self._concern)


def _instant(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None


def _locator_in(address: str) -> str:
    return next(iter(parse_qs(urlsplit(address).query).get("locator", [])), _FIRST_PAGE)


def delete_job(session: SalesforceSession, path: str, *, is_running: bool = False) -> None:
    """Delete a job and its results; never raises, for Salesforce does it itself after a week.

    Only a job that has ended can be deleted; a running one is aborted first.
    """
    concern = Concern("Bulk job", is_stored_result=True)
    try:
        if is_running:
            session.request("PATCH", path, json={"state": "Aborted"}, concern=concern)
        session.request("DELETE", path, concern=concern)
    except CrmPipelineError as error:
        _log.debug("A Bulk job was not deleted: %s", error)
