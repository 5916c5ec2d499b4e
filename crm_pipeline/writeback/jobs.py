"""A claim on its way by a bulk job: begun, noted, filled, waited for, settled by its results.

The job is noted before it gets a record, so that whoever comes after a crash asks the CRM what
became of it, and sends nothing twice.

Belongs here: the order of these steps. Does not belong here: CSV (warehouse/job_files.py), the
CRM's requests (crm/).
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from crm_pipeline.crm.port import WriteJob
from crm_pipeline.errors import CrmPipelineError, ReadExpired
from crm_pipeline.model.objects import CrmObject, ValueType
from crm_pipeline.model.writeback import Operation, Outcome, Verdict
from crm_pipeline.warehouse.claims import Claim, note_job
from crm_pipeline.warehouse.job_files import (
    JobColumns,
    fields_of_claim,
    job_content,
    settle_fields,
    settle_job,
)
from crm_pipeline.warehouse.settling import release
from crm_pipeline.writeback.context import WriteContext

_LONGEST_NAP_SECONDS = 5.0


def send_by_job(
    context: WriteContext, taken: Claim, crm_object: CrmObject, meanwhile: Callable[[], None]
) -> None:
    """Send a claim by a job and settle it.

    Args:
        context: the drainer.
        taken: the claim.
        crm_object: its object.
        meanwhile: done between two looks at the job; urgent lanes do not wait for it.

    Raises:
        CrmPipelineError: the job could not be begun, and the claim waits again; or it was begun and
            we may not wait for it, and whoever comes next asks what became of it.
    """
    calls = context.calls
    columns = _columns(context, taken, crm_object)
    if columns is None:
        release(context.warehouse, context.lease, taken, is_uncertain=False)
        return
    portion = taken.portion
    try:
        context.require_enabled()
        job = context.connector.begin_write_job(
            crm_object,
            portion.operation,
            external_id_field=taken.key_field,
            options=portion.options,
        )
    except CrmPipelineError:
        release(context.warehouse, context.lease, taken, is_uncertain=False)
        raise
    note_job(context.warehouse, context.lease, taken, job.token)
    context.report("begun")
    try:
        job.upload(job_content(context.warehouse, taken, columns))
    except CrmPipelineError:
        job.close()
        release(context.warehouse, context.lease, taken, is_uncertain=False)
        raise
    job.begin()
    context.report("uploaded")
    _finish(context, taken, job, columns, meanwhile=meanwhile, calls=calls)


def go_on_with_job(
    context: WriteContext, taken: Claim, crm_object: CrmObject, meanwhile: Callable[[], None]
) -> None:
    """Settle a claim that a drainer before us sent by a job."""
    calls = context.calls
    columns = _columns(context, taken, crm_object)
    if columns is None or taken.job is None:
        release(context.warehouse, context.lease, taken, is_uncertain=True)
        return
    job = context.connector.find_write_job(taken.job)
    try:
        _finish(context, taken, job, columns, meanwhile=meanwhile, calls=calls)
    except ReadExpired:
        job.close()
        release(context.warehouse, context.lease, taken, is_uncertain=True)


def _columns(context: WriteContext, taken: Claim, crm_object: CrmObject) -> JobColumns | None:
    """The CSV's columns; what can be seen to be refused is settled first. None: nothing is left."""
    operation = taken.portion.operation
    is_update = operation is Operation.UPDATE
    names = fields_of_claim(context.warehouse, taken)
    refused: dict[str, Outcome] = {}
    types: dict[str, ValueType] = {}
    for name in names:
        field = crm_object.find(name)
        found = context.connector.refusal_of(crm_object, operation, name, None)
        if found is not None or field is None or field.value_type is None:
            refused[name] = found or Outcome(Verdict.PARK)
        else:
            types[field.name] = field.value_type
    if taken.job is None:
        refused |= _without_key(context, taken, crm_object, names)
        context.ended += settle_fields(context.warehouse, context.lease, taken, refused, types)
        left = fields_of_claim(context.warehouse, taken)
        folded = {name.casefold() for name in left}
        types = {name: kind for name, kind in types.items() if name.casefold() in folded}
    if not types:
        return None
    key = crm_object.id_field if is_update else taken.key_field or ""
    return JobColumns(key, is_update, types, context.able.job_null)


def _without_key(
    context: WriteContext, taken: Claim, crm_object: CrmObject, names: tuple[str, ...]
) -> Mapping[str, Outcome]:
    """Every field refused, where records cannot be told apart by the key."""
    if taken.key_field is None or taken.portion.operation is Operation.UPDATE:
        return {}
    found = context.connector.key_refusal(crm_object, taken.key_field)
    return {} if found is None else dict.fromkeys(names, found)


def _finish(
    context: WriteContext,
    taken: Claim,
    job: WriteJob,
    columns: JobColumns,
    *,
    meanwhile: Callable[[], None],
    calls: int,
) -> None:
    wait = context.manners.first_look_seconds
    while not job.has_ended():
        meanwhile()
        _pause(context, wait)
        wait = min(wait * 1.5, context.manners.slowest_look_seconds)
    context.report("ended")
    context.ended += settle_job(
        context.warehouse,
        context.lease,
        taken,
        columns,
        applied=job.applied(),
        refused=job.refused(),
        judge=lambda error: _judged(context, job.outcome_of(error)),
        delay_seconds=context.manners.pause_seconds(Verdict.RETRY, 0),
        api_calls=context.calls - calls,
    )
    context.report("settled")
    job.close()


def _judged(context: WriteContext, outcome: Outcome) -> Outcome:
    """A record that lacks an owner goes by a single call, in which it gets the default one."""
    if outcome.needs_owner and context.settings.write_backs.default_owner is not None:
        return replace(outcome, is_contagious=True)
    return outcome


def _pause(context: WriteContext, seconds: float) -> None:
    """Wait, and look up now and then whether there is still something to wait for."""
    while seconds > 0:
        context.manners.sleep(min(seconds, _LONGEST_NAP_SECONDS))
        seconds -= _LONGEST_NAP_SECONDS
        context.require_enabled()
        context.lease.check()
