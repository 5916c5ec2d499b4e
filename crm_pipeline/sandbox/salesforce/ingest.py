"""Bulk API 2.0 ingest jobs: their life, and the work they do in the background.

Belongs here: jobs and their states. Does not belong here: their CSV (ingest_rows.py), the
handlers of /jobs/ingest (ingest_calls.py).
"""

import logging
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any

from crm_pipeline.sandbox.salesforce import identifiers
from crm_pipeline.sandbox.salesforce.batches import Outcome, check_named_once, each, named_twice
from crm_pipeline.sandbox.salesforce.clock import spoken
from crm_pipeline.sandbox.salesforce.editing import own_id
from crm_pipeline.sandbox.salesforce.failures import OrgError, RequestFails, not_found
from crm_pipeline.sandbox.salesforce.ingest_rows import Table, parsed
from crm_pipeline.sandbox.salesforce.schema import ObjectDefinition
from crm_pipeline.sandbox.salesforce.write_options import WriteOptions
from crm_pipeline.sandbox.salesforce.writer import Writer

if TYPE_CHECKING:
    from crm_pipeline.sandbox.salesforce.calls import Server

_log = logging.getLogger(__name__)
OVER = frozenset({"JobComplete", "Aborted", "Failed"})
_DAYS_KEPT = 7
_CHUNK = 200  # rows that triggers see, and that are committed, together
_BATCH = 10_000  # rows that count as one batch of the day


@dataclass(slots=True, eq=False)
class IngestJob:
    """One ingest job: what it was told, what was uploaded, what became of it."""

    id: str
    operation: str
    object_name: str
    external_id_field: str
    assignment_rule: str
    delimiter: str
    line_ending: str
    api_version: float
    created: datetime
    headers: Mapping[str, str]
    state: str = "Open"
    touched: datetime | None = None
    milliseconds: int = 0
    error: str = ""
    content: bytes | None = None
    table: Table = field(default_factory=lambda: Table((), []))
    outcomes: list[Outcome] = field(default_factory=list)

    def body(self, user_id: str) -> dict[str, Any]:
        """The job as its creation shows it, and a list of jobs."""
        found: dict[str, Any] = {
            "id": self.id,
            "operation": self.operation,
            "object": self.object_name,
            "createdById": user_id,
            "createdDate": spoken(self.created),
            "systemModstamp": spoken(self.touched or self.created),
            "state": self.state,
            "externalIdFieldName": self.external_id_field or None,
            "assignmentRuleId": self.assignment_rule or None,
            "concurrencyMode": "Parallel",
            "contentType": "CSV",
            "apiVersion": self.api_version,
            "jobType": "V2Ingest",
            "lineEnding": self.line_ending,
            "columnDelimiter": self.delimiter,
        }
        if self.state == "Open":
            version = f"v{self.api_version:.1f}"
            found["contentUrl"] = f"services/data/{version}/jobs/ingest/{self.id}/batches"
        return {name: one for name, one in found.items() if one is not None}

    def details(self, user_id: str) -> dict[str, Any]:
        """The job as GET shows it."""
        found = self.body(user_id) | {
            "numberRecordsProcessed": len(self.outcomes),
            "numberRecordsFailed": sum(1 for one in self.outcomes if one.error),
            "retries": 0,
            "totalProcessingTime": self.milliseconds,
            "apiActiveProcessingTime": self.milliseconds,
            "apexProcessingTime": 0,
            "isPkChunkingSupported": False,
        }
        if self.error:
            found["errorMessage"] = self.error
        return found


class IngestJobs:
    """All ingest jobs of an org, run one after the other by a background thread.

    `hold` keeps jobs waiting in UploadComplete; the next `stick_next` stay InProgress for ever.
    With a `fail_after`, the next job ends Failed, with `fail_message`, once it has tried so many
    rows: what was written stays, the others are unprocessed.
    """

    def __init__(self, server: "Server") -> None:
        self._server = server
        self._org = server.org
        self._jobs: dict[str, IngestJob] = {}
        self._lock = threading.Lock()
        self._open = threading.Event()
        self._open.set()
        self._closed = False
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="ingest")
        self.stick_next = 0
        self.fail_after: int | None = None
        self.fail_message = "InternalServerError : Retried more than 20 times"

    def hold(self) -> None:
        """Let jobs wait."""
        self._open.clear()

    def release(self) -> None:
        """Let waiting jobs run."""
        self._open.set()

    def add(self, job: IngestJob) -> None:
        """Take a new job in."""
        with self._lock:
            self._jobs[job.id] = job

    def start(self, job: IngestJob) -> None:
        """Let a job run as soon as it is its turn."""
        job.state, job.touched = "UploadComplete", self._org.clock.now()
        self._worker.submit(self._run, job)

    def find(self, given: str) -> IngestJob:
        """A job that is there and not yet forgotten."""
        job = self._jobs.get(identifiers.normalise(given) or "")
        if job is None or job not in self.all():
            raise not_found()
        return job

    def all(self) -> list[IngestJob]:
        """The jobs that are still remembered."""
        oldest = self._org.clock.now() - timedelta(days=_DAYS_KEPT)
        with self._lock:
            return [one for one in self._jobs.values() if one.created >= oldest]

    def forget(self, job: IngestJob) -> None:
        """Delete a job with its data and results."""
        with self._lock:
            self._jobs.pop(job.id, None)

    def act(self, job: IngestJob, state: str, error: str = "") -> None:
        """What an administrator does to a job: any state, or `Deleted`."""
        if state == "Deleted":
            self.forget(job)
        job.state, job.error, job.touched = state, error, self._org.clock.now()

    def _run(self, job: IngestJob) -> None:
        self._open.wait()
        if self._closed or job.state != "UploadComplete":
            return
        job.state, job.touched = "InProgress", self._org.clock.now()
        if self.stick_next > 0:
            self.stick_next -= 1
            return
        begun = monotonic()
        try:
            self._work(job)
        except OrgError as error:
            self._end(job, "Failed", f"{error.code} : {error.message}")
        except Exception:
            _log.exception("an ingest job failed")
            self._end(job, "Failed", "InternalServerError : An unexpected error occurred")
        else:
            self._end(job, "JobComplete", "")
        job.milliseconds = int((monotonic() - begun) * 1000)

    def _end(self, job: IngestJob, state: str, error: str) -> None:
        if job.state == "InProgress":
            job.state, job.error, job.touched = state, error, self._org.clock.now()

    def _work(self, job: IngestJob) -> None:
        definition = self._org.catalogue.visible(job.object_name)
        job.table = parsed(job.content or b"", definition, job.delimiter, job.line_ending)
        rows = job.table.rows
        self._org.limit.take_batches(-(-len(rows) // _BATCH))
        writer = self._writer(job)
        stop, self.fail_after = self.fail_after, None
        limit = len(rows) if stop is None else min(stop, len(rows))
        for first in range(0, limit, _CHUNK):
            if self._closed or job.state != "InProgress":
                return
            chunk = rows[first : min(first + _CHUNK, limit)]
            job.outcomes += self._chunk(job, writer, definition, chunk)
        writer.request.status = 200
        if stop is not None:
            raise OrgError(*self.fail_message.split(" : ", 1))

    def _writer(self, job: IngestJob) -> Writer:
        options = WriteOptions(assignment=job.assignment_rule or "FALSE")
        request = self._server.writes.open(
            "BULK",
            f"/services/data/v{job.api_version}/jobs/ingest/{job.id}",
            self._org.clock.stamp(),
            job.headers,
            "",
        )
        return Writer(self._server, options, request)

    def _chunk(
        self,
        job: IngestJob,
        writer: Writer,
        definition: ObjectDefinition,
        rows: Sequence[Sequence[str]],
    ) -> list[Outcome]:
        given = [job.table.values(row, definition) for row in rows]
        key = job.external_id_field
        twice = named_twice(_named(row, key) for row in given) if job.operation == "upsert" else ()

        def work(row: dict[str, Any]) -> tuple[str, bool]:
            match job.operation:
                case "insert":
                    return writer.insert(definition, row), True
                case "upsert":
                    value = _named(row, key)
                    if value is None and key.lower() != "id":
                        raise OrgError("MISSING_ARGUMENT", f"{key} not specified", fields=(key,))
                    check_named_once(key, value, set(twice))
                    return writer.upsert(definition, key, value, _without(row, key))
            named = _named(row, "Id")
            if named is None:
                raise OrgError("MISSING_ARGUMENT", f"Id not specified in an {job.operation} call")
            identifier = own_id(definition, named)
            if job.operation == "update":
                writer.change(definition, identifier, _without(row, "Id"))
            else:
                writer.remove(definition, identifier, for_good=job.operation == "hardDelete")
            return identifier, False

        try:
            return each(self._org, writer.request, given, work)
        except RequestFails as failure:
            writer.request.roll_back(len(writer.request.rows) - len(given))
            return [Outcome(error=failure)] * len(given)

    def close(self) -> None:
        """Stop the worker."""
        self._closed = True
        self._open.set()
        self._worker.shutdown(wait=True, cancel_futures=True)


def _named(row: Mapping[str, Any], key: str) -> Any:
    return next((one for name, one in row.items() if name.lower() == key.lower()), None)


def _without(row: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: one for name, one in row.items() if name.lower() != key.lower()}
