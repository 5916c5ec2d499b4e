"""A claim on its way by a bulk job: begun, noted, filled, waited for, settled by its results.

The job is noted before it gets a record, so that whoever comes after a crash asks the CRM what
became of it, and sends nothing twice.

Belongs here: the order of these steps. Does not belong here: CSV (warehouse/job_files.py), the
CRM's requests (crm/).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

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


@dataclass(slots=True)
class SendingByJob:
    """One claim on its way by a bulk job, begun here or by a drainer before us.

    Attributes:
        meanwhile: done between two looks at the job; urgent lanes do not wait for it.
    """

    context: WriteContext
    taken: Claim
    crm_object: CrmObject
    meanwhile: Callable[[], None]
    unavailable: str | None = None
    _columns: JobColumns | None = None
    _job: WriteJob | None = None

    @property
    def goes_alone(self) -> bool:
        """Whether nothing else may be on its way."""
        parents = {name.casefold() for name in self.context.able.parent_fields}
        written = {name.casefold() for name in self._columns.types} if self._columns else set()
        return self.taken.portion.operation is not Operation.UPDATE or bool(parents & written)

    def prepare(self) -> None:
        """Settle what can be seen to be refused; a job that was begun before us is found."""
        self._columns = _columns(self.context, self.taken, self.crm_object)
        if self._columns is None:
            self._release(is_uncertain=self.taken.job is not None)
        elif self.taken.job is not None:
            self._job = self.context.connector.find_write_job(self.taken.job)

    def start(self) -> None:
        """Begin a job and hand it all records.

        Raises:
            CrmPipelineError: it could not be begun, and the claim waits again; or nobody knows
                whether it was, and whoever comes next asks what became of it.
        """
        if self._columns is None or self._job is not None:
            return
        context, portion = self.context, self.taken.portion
        try:
            context.require_enabled()
            job = context.connector.begin_write_job(
                self.crm_object,
                portion.operation,
                external_id_field=self.taken.key_field,
                options=portion.options,
            )
        except CrmPipelineError:
            self._release(is_uncertain=False)
            raise
        note_job(context.warehouse, context.lease, self.taken, job.token)
        context.report("begun")
        try:
            job.upload(job_content(context.warehouse, self.taken, self._columns))
        except CrmPipelineError:
            job.close()
            self._release(is_uncertain=False)
            raise
        job.begin()
        context.report("uploaded")
        self._job = job

    def finish(self) -> None:
        """Wait for the job and settle the claim by its results.

        Raises:
            CrmPipelineError: we may not wait for it; whoever comes next asks what became of it.
        """
        if self._job is None or self._columns is None:
            return
        try:
            self._wait_and_settle(self._job, self._columns)
        except ReadExpired:
            if self.taken.job is None:
                raise
            self._job.close()
            self._release(is_uncertain=True)

    def abandon(self) -> None:
        """The job goes on without us; whoever comes next asks what became of it."""

    def _wait_and_settle(self, job: WriteJob, columns: JobColumns) -> None:
        context = self.context
        pause = context.manners.first_look_seconds
        while not job.has_ended():
            self.meanwhile()
            _pause(context, pause)
            pause = min(pause * 1.25, context.manners.slowest_look_seconds)
        context.report("ended")
        context.count(
            settle_job(
                context.warehouse,
                context.lease,
                self.taken,
                columns,
                applied=job.applied(),
                refused=job.refused(),
                judge=lambda error: _judged(context, job.outcome_of(error)),
                delay_seconds=context.manners.pause_seconds(Verdict.RETRY, 0),
                api_calls=context.untold_calls(),
            )
        )
        context.report("settled")
        job.close()

    def _release(self, *, is_uncertain: bool) -> None:
        release(self.context.warehouse, self.context.lease, self.taken, is_uncertain=is_uncertain)


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
        context.count(settle_fields(context.warehouse, context.lease, taken, refused, types))
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
