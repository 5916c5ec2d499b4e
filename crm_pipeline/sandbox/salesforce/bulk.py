"""Bulk API 2.0 query jobs: their life, their results, their parallel result pages.

Belongs here: jobs and the handlers of /jobs/query. Does not belong here: the result files
(bulk_files.py).
"""

import base64
import binascii
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any
from zlib import compressobj

from starlette.concurrency import iterate_in_threadpool
from starlette.responses import Response, StreamingResponse

from crm_pipeline.sandbox.salesforce import identifiers
from crm_pipeline.sandbox.salesforce.bulk_files import Produced, ResultFiles
from crm_pipeline.sandbox.salesforce.calls import Call, ServerSettings, answer, nothing
from crm_pipeline.sandbox.salesforce.clock import spoken
from crm_pipeline.sandbox.salesforce.failures import OrgError, not_found
from crm_pipeline.sandbox.salesforce.query_limits import check_length, check_time
from crm_pipeline.sandbox.salesforce.schema import COMPOUND_TYPES
from crm_pipeline.sandbox.salesforce.soql_compiler import Compiled, compile_soql
from crm_pipeline.sandbox.salesforce.wrong_pages import leaf

if TYPE_CHECKING:
    from crm_pipeline.sandbox.salesforce.org import SandboxOrg

_DAYS_KEPT = 7
_PAGES_AT_ONCE = 5  # result URLs in one answer
_GZIP = 31  # zlib's window bits for a gzip wrapper
_OVER = frozenset({"JobComplete", "Aborted", "Failed"})


@dataclass(slots=True, eq=False)
class Job:
    """One query job."""

    id: str
    operation: str
    query: str
    object_name: str
    api_version: float
    created: datetime
    line_ending: str
    state: str = "UploadComplete"
    touched: datetime | None = None
    milliseconds: int = 0
    error: str = ""
    result: Produced | None = None

    def body(self, user_id: str) -> dict[str, Any]:
        """The job as GET shows it."""
        found: dict[str, Any] = {
            "id": self.id,
            "operation": self.operation,
            "object": self.object_name,
            "createdById": user_id,
            "createdDate": spoken(self.created),
            "systemModstamp": spoken(self.touched or self.created),
            "state": self.state,
            "concurrencyMode": "Parallel",
            "contentType": "CSV",
            "apiVersion": self.api_version,
            "jobType": "V2Query",
            "lineEnding": self.line_ending,
            "columnDelimiter": "COMMA",
            "numberRecordsProcessed": self.result.count if self.result else 0,
            "retries": 0,
            "totalProcessingTime": self.milliseconds,
            "isPkChunkingSupported": True,
        }
        if self.error:
            found["errorMessage"] = self.error
        return found


class Jobs:
    """All query jobs of an org, run by two background threads.

    `hold` keeps new jobs waiting in UploadComplete, so that tests can see every state;
    `fail_next` makes the next job end Failed with that message; the next `stick_next` jobs stay
    InProgress for ever, the next `empty_next` find no rows.
    """

    def __init__(self, org: "SandboxOrg", settings: ServerSettings) -> None:
        self._org = org
        self._settings = settings
        self._files = ResultFiles(org, settings.bulk_directory)
        self._jobs: dict[str, Job] = {}
        self._made = 0
        self._lock = threading.Lock()
        self._open = threading.Event()
        self._open.set()
        self._closed = False
        self._workers = ThreadPoolExecutor(2, thread_name_prefix="bulk")
        self.fail_next = ""
        self.stick_next = 0
        self.empty_next = 0

    def hold(self) -> None:
        """Let new jobs wait."""
        self._open.clear()

    def release(self) -> None:
        """Let waiting jobs run."""
        self._open.set()

    def start(self, job: Job, compiled: Compiled) -> None:
        """Take a job in and run it as soon as a worker is free."""
        with self._lock:
            self._jobs[job.id] = job
        self._workers.submit(self._run, job, compiled)

    def next_id(self) -> str:
        """The Id of the next job."""
        with self._lock:
            self._made += 1
            return identifiers.make_id("750", self._made)

    def find(self, given: str) -> Job:
        """A job that is there and not yet forgotten."""
        identifier = identifiers.normalise(given)
        job = self._jobs.get(identifier or "")
        if job is None or job.created < self._org.clock.now() - timedelta(days=_DAYS_KEPT):
            raise not_found()
        return job

    def all(self) -> list[Job]:
        """The jobs that are still remembered."""
        oldest = self._org.clock.now() - timedelta(days=_DAYS_KEPT)
        return [one for one in self._jobs.values() if one.created >= oldest]

    def forget(self, job: Job) -> None:
        """Delete a job and, once nobody reads it, its result."""
        with self._lock:
            self._jobs.pop(job.id, None)

    def act(self, job: Job, state: str, error: str = "") -> None:
        """What an administrator does to a job: any state, or `Deleted`."""
        if state == "Deleted":
            self.forget(job)
        if state != "JobComplete":
            job.result = None
        job.state, job.error, job.touched = state, error, self._org.clock.now()

    def _run(self, job: Job, compiled: Compiled) -> None:
        self._open.wait()
        if self._closed or job.state != "UploadComplete":
            return
        job.state, job.touched = "InProgress", self._org.clock.now()
        if self.stick_next > 0:
            self.stick_next -= 1
            return
        if self.empty_next > 0:
            self.empty_next -= 1
            compiled = replace(compiled, window=" LIMIT 0")
        begun = monotonic()
        try:
            if self.fail_next:
                message, self.fail_next = self.fail_next, ""
                raise OrgError("InternalServerError", message)
            check_time(self._org, compiled, self._settings.query_timeout_rows)
            produced = self._files.result(
                compiled,
                carriage=job.line_ending == "CRLF",
                stopped=lambda: self._closed or job.state != "InProgress",
            )
        except Exception as error:
            if job.state != "InProgress":
                return
            job.error, job.state = str(error), "Failed"
            return
        job.milliseconds = int((monotonic() - begun) * 1000)
        job.touched = self._org.clock.now()
        if produced is not None and job.state == "InProgress":
            self._org.limit.store(produced.size(range(produced.count)))
            job.result = produced
            job.state = "JobComplete"

    def close(self) -> None:
        """Stop the workers and forget the results."""
        self._closed = True
        self._open.set()
        self._workers.shutdown(wait=True, cancel_futures=True)
        self._files.close()


def create(call: Call) -> Response:
    """POST /jobs/query."""
    body = call.json_object()
    operation, soql = body.get("operation"), body.get("query")
    if operation not in {"query", "queryAll"}:
        raise OrgError("INVALIDJOB", f"Unsupported operation: {operation}")
    if not soql:
        raise OrgError("INVALIDJOB", "query is required")
    if body.get("columnDelimiter", "COMMA") != "COMMA":
        raise OrgError("INVALIDJOB", "this sandbox writes COMMA only")
    if body.get("contentType", "CSV") != "CSV":
        raise OrgError("INVALIDJOB", f"Unsupported content type: {body['contentType']}")
    check_length(str(soql), call.server.settings.maximum_soql)
    compiled = compile_soql(
        call.org, str(soql), include_deleted=operation == "queryAll", as_user=True
    )
    _check_supported(compiled)
    call.org.limit.take_bulk_job()
    job = Job(
        id=call.server.jobs.next_id(),
        operation=str(operation),
        query=str(soql),
        object_name=compiled.definition.name,
        api_version=float(call.version[1:]),
        created=call.org.clock.now(),
        line_ending=str(body.get("lineEnding", "LF")),
    )
    shown = job.body(call.org.user_id)
    for later in ("numberRecordsProcessed", "retries", "totalProcessingTime", "jobType"):
        del shown[later]
    call.server.jobs.start(job, compiled)
    return answer(shown)


def _check_supported(compiled: Compiled) -> None:
    if not compiled.definition.bulk:
        raise OrgError(
            "INVALIDENTITY",
            f"Entity '{compiled.definition.name}' is not supported by the Bulk API.",
        )
    if compiled.aggregate:
        raise OrgError("API_ERROR", "Aggregate queries are not supported by the Bulk API")
    if any(one.field.type in COMPOUND_TYPES for one in compiled.columns):
        raise OrgError("API_ERROR", "Selecting compound data not supported in Bulk Query")
    if any(one.field.type == "base64" for one in compiled.columns):
        raise OrgError("API_ERROR", "Selecting binary data not supported in Bulk Query")


def every(call: Call) -> Response:
    """GET /jobs/query."""
    jobs = [one.body(call.org.user_id) for one in call.server.jobs.all()]
    for one in jobs:
        for detail in ("numberRecordsProcessed", "retries", "totalProcessingTime", "errorMessage"):
            one.pop(detail, None)
    return answer({"done": True, "records": jobs, "nextRecordsUrl": None})


def read(call: Call) -> Response:
    """GET /jobs/query/<id>."""
    body = _job(call).body(call.org.user_id)
    if call.fault is not None and call.fault.kind == "wrong_count":
        body["numberRecordsProcessed"] += call.fault.by
    return answer(body)


def abort(call: Call) -> Response:
    """PATCH /jobs/query/<id> with {"state": "Aborted"}."""
    job = _job(call)
    if call.json_object().get("state") != "Aborted":
        raise OrgError("INVALIDJOBSTATE", "Query jobs can only be aborted")
    if job.state in _OVER:
        raise OrgError("INVALIDJOBSTATE", f"Aborting already {job.state} Job not allowed")
    job.state, job.touched = "Aborted", call.org.clock.now()
    return answer(job.body(call.org.user_id))


def delete(call: Call) -> Response:
    """DELETE /jobs/query/<id>."""
    job = _job(call)
    if job.state not in _OVER:
        raise OrgError("INVALIDJOBSTATE", f"Deleting {job.state} Job not allowed")
    call.server.jobs.forget(job)
    return nothing()


def _job(call: Call) -> Job:
    return call.server.jobs.find(str(call.parts["job"]))


def _result(call: Call) -> Produced:
    job = _job(call)
    if job.result is None:
        raise OrgError("INVALIDJOBSTATE", f"Results are not available: the job is {job.state}")
    if f"v{job.api_version}" != call.version:
        raise OrgError(
            "API_VERSION_MISMATCH", f"The job was made with version {job.api_version}", status=409
        )
    return job.result


def locator(row: int) -> str:
    """The opaque word for a place in a result."""
    return base64.urlsafe_b64encode(str(row).encode()).decode().rstrip("=")


def _place(call: Call, count: int) -> int:
    given = call.params.get("locator")
    if not given:
        return 0
    try:
        row = int(base64.urlsafe_b64decode(given + "=" * (-len(given) % 4)))
    except (ValueError, binascii.Error):
        row = -1
    if not 0 <= row < max(count, 1):
        raise OrgError("INVALID_LOCATOR", "The locator is invalid")
    return row


def results(call: Call) -> Response:
    """GET /jobs/query/<id>/results: one page as CSV, and where the next begins."""
    produced = _result(call)
    first = _place(call, produced.count)
    asked = call.params.get("maxRecords", "")
    size = int(asked) if asked.isdigit() else call.server.settings.bulk_page_records
    page = leaf(call.fault, first, max(size, 1), produced.count)
    following = "null" if page.following is None else locator(page.following)
    headers = {
        "Content-Type": "text/csv; charset=UTF-8",
        "Sforce-Locator": page.locator or following,
        "Sforce-NumberOfRecords": str(page.said),
    }
    blocks = produced.blocks(page.places)
    accepted = call.headers.get("accept-encoding", "").lower()
    if call.server.settings.gzip and "gzip" in accepted:
        headers["Content-Encoding"] = "gzip"
        return StreamingResponse(iterate_in_threadpool(_compressed(blocks)), headers=headers)
    headers["Content-Length"] = str(produced.size(page.places))
    return StreamingResponse(_straight(blocks), headers=headers)


async def _straight(blocks: Iterator[bytes]) -> AsyncIterator[bytes]:
    # The pages were written a moment ago: reading them from the cache needs no other thread.
    for block in blocks:
        yield block


def _compressed(blocks: Iterator[bytes]) -> Iterator[bytes]:
    packer = compressobj(1, wbits=_GZIP)
    for block in blocks:
        if packed := packer.compress(block):
            yield packed
    yield packer.flush()


def result_pages(call: Call) -> Response:
    """GET /jobs/query/<id>/resultPages: up to five URLs that can be read at the same time."""
    produced = _result(call)
    size = call.server.settings.bulk_page_records
    first = _place(call, produced.count)
    url = f"{call.root}/jobs/query/{call.parts['job']}"
    starts = range(first, max(produced.count, 1), size)
    page = leaf(call.fault, 0, _PAGES_AT_ONCE, len(starts))
    body: dict[str, Any] = {
        "resultPages": [
            {"resultUrl": f"{url}/results?locator={locator(starts[one])}"} for one in page.places
        ],
        "done": page.following is None,
    }
    if page.following is not None:
        following = page.locator or locator(starts[page.following])
        body["nextRecordsUrl"] = f"{url}/resultPages?locator={following}"
    return answer(body)
