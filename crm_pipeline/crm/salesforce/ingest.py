"""Writing many records by a Bulk API 2.0 ingest job: begin, upload, wait, ask, delete.

Belongs here: the life of a job. Does not belong here: the CSV that it is given and gives back
(warehouse/job_files.py), choosing Bulk (writeback/choice.py).

Sources: Bulk API 2.0 guide "Create a Job" (lineEnding, externalIdFieldName, assignmentRuleId),
"Upload Job Data" (150 MB in base64, so 100 MB of CSV; one upload a job), "Get Job Successful Record
Results", "Get Job Failed Record Results", "Get Job Unprocessed Record Results". A job that ended as
Failed or Aborted may have written a part: its results say which. An empty cell leaves a field
alone, `#N/A` empties it.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from crm_pipeline.crm.salesforce.bodies import pieces
from crm_pipeline.crm.salesforce.bulk import delete_job
from crm_pipeline.crm.salesforce.failures import Concern
from crm_pipeline.crm.salesforce.session import SalesforceSession, object_in
from crm_pipeline.crm.salesforce.write_failures import bulk_outcome
from crm_pipeline.crm.salesforce.writing import headers_of
from crm_pipeline.errors import PermanentError, ReadExpired, TransientError
from crm_pipeline.model.objects import CrmObject
from crm_pipeline.model.writeback import Operation, Outcome, WriteOptions

MOST_ROWS = 100_000
MOST_BYTES = 40 * 1024**2
CALLS_FOR_A_JOB = 12  # create, upload, begin, about six looks, two results, delete
NULL = "#N/A"

_ENDED = frozenset({"JobComplete", "Failed", "Aborted"})


class IngestJob:
    """One ingest job."""

    def __init__(self, session: SalesforceSession, jobs_path: str, token: str) -> None:
        self._session = session
        self._path = f"{jobs_path}/{token}"
        self._concern = Concern("Bulk job", is_stored_result=True)
        self._state = "Open"
        self._failed: object = None
        self.token = token

    def upload(self, content: Iterable[bytes]) -> None:
        """Hand over the CSV. A job takes one upload, so a failed one leaves a job for the bin."""
        self._session.request(
            "PUT",
            f"{self._path}/batches",
            data=b"".join(content),
            headers={"Content-Type": "text/csv; charset=UTF-8"},
            repeatable=False,
            concern=self._concern,
        )

    def begin(self) -> None:
        """Let it work. Said twice, because no answer came, the second time is refused."""
        try:
            self._session.request(
                "PATCH",
                self._path,
                json={"state": "UploadComplete"},
                repeatable=True,
                concern=self._concern,
            )
        except PermanentError:
            if self._look() == "Open":
                raise
        self._state = "UploadComplete"

    def has_ended(self) -> bool:
        """Look at the job once.

        Raises:
            ReadExpired: it is gone, or waits for records for ever.
        """
        if self._look() == "Open":
            raise ReadExpired("A Bulk job was made and never begun.")
        return self._state in _ENDED

    def applied(self) -> Iterator[bytes]:
        """The records that were written."""
        return self._results("successfulResults")

    def refused(self) -> Iterator[bytes]:
        """The records that were not, each with its error; asked for only if there are any."""
        if self._state == "JobComplete" and self._failed == 0:
            return iter(())
        return self._results("failedResults")

    def outcome_of(self, error: str) -> Outcome:
        """What the error of a refused record means."""
        return bulk_outcome(error)

    def close(self) -> None:
        """Delete the job: its results hold records."""
        delete_job(self._session, self._path, is_running=self._state not in _ENDED)

    def _look(self) -> str:
        job = self._session.get_object(self._path, "state", concern=self._concern)
        self._state, self._failed = str(job["state"]), job.get("numberRecordsFailed")
        return self._state

    def _results(self, which: str) -> Iterator[bytes]:
        patience = self._session.manners.read_seconds
        with self._session.stream(f"{self._path}/{which}", concern=self._concern) as response:
            yield from pieces(response, patience_seconds=patience)


def begin_job(
    session: SalesforceSession,
    jobs_path: str,
    crm_object: CrmObject,
    operation: Operation,
    *,
    external_id_field: str | None,
    options: WriteOptions,
) -> IngestJob:
    """Begin a job without records. Begun twice, one of them is a job that nobody fills."""
    body: dict[str, Any] = {
        "object": crm_object.name,
        "operation": "update" if operation is Operation.UPDATE else "upsert",
        "contentType": "CSV",
        "lineEnding": "LF",
        "columnDelimiter": "COMMA",
    }
    if operation is not Operation.UPDATE:
        body["externalIdFieldName"] = external_id_field
    if options.assignment not in {"none", "default"}:
        body["assignmentRuleId"] = options.assignment
    response = session.request(
        "POST",
        jobs_path,
        json=body,
        headers=headers_of(options),
        repeatable=True,
        concern=Concern(crm_object.name),
    )
    job_id = str(object_in(response, "id")["id"])
    if not job_id.isalnum():
        raise TransientError("Salesforce began a Bulk job without an id; it is tried again.")
    return IngestJob(session, jobs_path, job_id)


def find_job(session: SalesforceSession, jobs_path: str, token: str) -> IngestJob:
    """A job that somebody began before us.

    Raises:
        ReadExpired: that is no job.
    """
    if not token.isalnum():
        raise ReadExpired("The stored job is none.")
    return IngestJob(session, jobs_path, token)
