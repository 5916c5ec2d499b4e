"""The handlers of /jobs/ingest: create, upload, close, ask, results.

Belongs here: what a client may do with a job in which state. Does not belong here: the job's
work (ingest.py).
"""

from collections.abc import Iterator, Sequence

from starlette.responses import Response

from crm_pipeline.sandbox.salesforce.batches import Outcome
from crm_pipeline.sandbox.salesforce.calls import Call, answer, nothing
from crm_pipeline.sandbox.salesforce.failures import OrgError
from crm_pipeline.sandbox.salesforce.ingest import OVER, IngestJob
from crm_pipeline.sandbox.salesforce.ingest_rows import DELIMITERS, LINE_ENDINGS, result_file
from crm_pipeline.sandbox.salesforce.owners import check_assignment
from crm_pipeline.sandbox.salesforce.writable import key_field
from crm_pipeline.sandbox.salesforce.write_options import WriteOptions

_OPERATIONS = ("insert", "update", "upsert", "delete", "hardDelete")


def create(call: Call) -> Response:
    """POST /jobs/ingest."""
    body = call.json_object()
    operation, name = body.get("operation"), str(body.get("object") or "")
    if operation not in _OPERATIONS:
        raise OrgError("INVALIDJOB", f"InvalidJob : Unsupported operation: {operation}")
    delimiter = str(body.get("columnDelimiter") or "COMMA")
    ending = str(body.get("lineEnding") or "LF")
    if delimiter not in DELIMITERS or ending not in LINE_ENDINGS:
        raise OrgError("INVALIDJOB", f"InvalidJob : no such format: {delimiter}, {ending}")
    if body.get("contentType", "CSV") != "CSV":
        raise OrgError(
            "INVALIDJOB", f"InvalidJob : Unsupported content type: {body['contentType']}"
        )
    definition = call.org.catalogue.visible(name)
    if not definition.bulk:
        raise OrgError(
            "INVALIDENTITY",
            f"InvalidEntity : Entity '{name}' is not supported by the Bulk API.",
        )
    key = str(body.get("externalIdFieldName") or "")
    if (operation == "upsert") != bool(key):
        raise OrgError(
            "INVALIDJOB",
            "InvalidJob : externalIdFieldName is required for upsert, and for nothing else",
        )
    if key:
        key_field(definition, key)
    rule = str(body.get("assignmentRuleId") or "")
    if rule:
        check_assignment(call.org, WriteOptions(assignment=rule))
    job = IngestJob(
        id=call.server.jobs.next_id(),
        operation=str(operation),
        object_name=definition.name,
        external_id_field=key,
        assignment_rule=rule,
        delimiter=delimiter,
        line_ending=ending,
        api_version=float(call.version[1:]),
        created=call.org.clock.now(),
        headers=dict(call.headers),
    )
    call.server.ingest.add(job)
    return answer(job.body(call.org.user_id))


def every(call: Call) -> Response:
    """GET /jobs/ingest."""
    jobs = [one.body(call.org.user_id) for one in call.server.ingest.all()]
    return answer({"done": True, "records": jobs, "nextRecordsUrl": None})


def read(call: Call) -> Response:
    """GET /jobs/ingest/<id>."""
    return answer(_job(call).details(call.org.user_id))


def upload(call: Call) -> Response:
    """PUT /jobs/ingest/<id>/batches: the whole CSV, once."""
    job = _job(call)
    if job.state != "Open":
        raise OrgError("INVALIDJOBSTATE", f"InvalidJobState : The job is {job.state}")
    if job.content is not None:
        raise OrgError(
            "INVALIDJOBSTATE",
            f"Found multiple contents for job: <{job.id}>, please 'Close' / 'Abort' / 'Delete' "
            "the current Job then create a new Job and make sure you only do 'PUT' once on a "
            "given Job.",
        )
    if len(call.body) > call.server.settings.maximum_upload:
        raise OrgError("REQUEST_ENTITY_TOO_LARGE", "The upload is too large", status=413)
    job.content, job.touched = call.body, call.org.clock.now()
    return nothing(201)


def update(call: Call) -> Response:
    """PATCH /jobs/ingest/<id>: {"state": "UploadComplete"} or "Aborted"."""
    job = _job(call)
    match call.json_object().get("state"):
        case "UploadComplete":
            if job.state != "Open":
                raise OrgError(
                    "INVALIDJOBSTATE", f"Closing already {_past(job.state)} Job not allowed"
                )
            call.server.ingest.start(job)
        case "Aborted":
            if job.state in OVER:
                raise OrgError(
                    "INVALIDJOBSTATE", f"Aborting already {_past(job.state)} Job not allowed"
                )
            job.state, job.touched = "Aborted", call.org.clock.now()
        case other:
            raise OrgError("INVALIDJOBSTATE", f"Invalid state for the job: {other}")
    return answer(job.body(call.org.user_id))


def _past(state: str) -> str:
    return {"JobComplete": "Completed", "UploadComplete": "Closed"}.get(state, state)


def delete(call: Call) -> Response:
    """DELETE /jobs/ingest/<id>."""
    job = _job(call)
    if job.state not in OVER | {"UploadComplete"}:
        raise OrgError("INVALIDJOBSTATE", f"Deleting {job.state} Job not allowed")
    if job.state == "UploadComplete":
        job.state = "Aborted"
    call.server.ingest.forget(job)
    return nothing()


def successful(call: Call) -> Response:
    """GET /jobs/ingest/<id>/successfulResults."""

    def said(outcome: Outcome) -> Sequence[str]:
        return (outcome.id, str(outcome.created).lower())

    job = _finished(call)
    rows = ((said(one), row) for one, row in _tried(job) if not one.error)
    return _file(job, ("sf__Id", "sf__Created"), rows)


def failed(call: Call) -> Response:
    """GET /jobs/ingest/<id>/failedResults."""
    job = _finished(call)
    place = next((i for i, name in enumerate(job.table.header) if name.lower() == "id"), None)
    rows = (
        (("" if place is None else row[place], one.error.cell()), row)
        for one, row in _tried(job)
        if one.error
    )
    return _file(job, ("sf__Id", "sf__Error"), rows)


def unprocessed(call: Call) -> Response:
    """GET /jobs/ingest/<id>/unprocessedrecords: what was never tried."""
    job = _finished(call)
    rest = job.table.rows[len(job.outcomes) :]
    return _file(job, (), (((), row) for row in rest))


def _tried(job: IngestJob) -> Iterator[tuple[Outcome, Sequence[str]]]:
    return zip(job.outcomes, job.table.rows, strict=False)


def _file(
    job: IngestJob, leading: Sequence[str], rows: Iterator[tuple[Sequence[str], Sequence[str]]]
) -> Response:
    content = result_file(leading, job.table.header, rows, job.delimiter, job.line_ending)
    return Response(content, media_type="text/csv; charset=UTF-8")


def _finished(call: Call) -> IngestJob:
    job = _job(call)
    if job.state not in OVER:
        raise OrgError("INVALIDJOBSTATE", f"Results are not available: the job is {job.state}")
    return job


def _job(call: Call) -> IngestJob:
    return call.server.ingest.find(str(call.parts["job"]))
