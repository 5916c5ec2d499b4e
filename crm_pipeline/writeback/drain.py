"""Emptying the outbox: one drainer at a time takes portion after portion until nothing is due.

One lease, named `write_back`, makes sure of the one; its token is proven by every transaction that
claims or settles. So one write per record is on its way, however many processes try.

Belongs here: the order in which portions go, and when to stop. Does not belong here: sending one
(sending.py, jobs.py), what gets into the outbox (the write-backs).
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime

from crm_pipeline.config.settings import Settings
from crm_pipeline.crm.port import CrmConnector
from crm_pipeline.errors import (
    CrmPipelineError,
    ObjectUnavailable,
    SyncsDisabled,
    TransientError,
    UsageError,
    WrongOrganization,
)
from crm_pipeline.model.objects import CrmObject, Transport
from crm_pipeline.model.sync import SyncMode
from crm_pipeline.model.writeback import Lane, Operation, WriteState
from crm_pipeline.warehouse import outbox_desk
from crm_pipeline.warehouse.claims import Claim, Portion, claim, next_portion, open_claims
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.lease import WRITE_BACK_LEASE, held_lease
from crm_pipeline.warehouse.ledger import known_organization
from crm_pipeline.warehouse.settling import release
from crm_pipeline.writeback.budget import WriteBudget
from crm_pipeline.writeback.choice import choose
from crm_pipeline.writeback.context import Report, WriteContext, WriteManners
from crm_pipeline.writeback.jobs import SendingByJob
from crm_pipeline.writeback.line import Delivery, Line
from crm_pipeline.writeback.sending import Sending
from crm_pipeline.writeback.sparing import spare_changed

_MOST_BYTES_BY_CALLS = 32 * 1024**2


@dataclass(frozen=True, slots=True)
class DrainOutcome:
    """What one drainer did.

    Attributes:
        applied: write-backs that ended so, in rows of the outbox; superseded and parked likewise.
        waiting: still to be sent, now or later.
        next_due_at: when the first of those may be sent; None when nothing waits.
        problems: what keeps some of them waiting, in sentences.
    """

    applied: int
    superseded: int
    parked: int
    waiting: int
    next_due_at: datetime | None
    api_calls: int
    problems: tuple[str, ...]


@dataclass
class Drain:
    """Sends what waits in the outbox of one warehouse to one CRM.

    Attributes:
        settings: pinned for the drainer's life.
        connector: may spend the API budget and the reserve for consent.
        require_enabled: raises `SyncsDisabled` while the operator's switch is off.
    """

    settings: Settings
    connector: CrmConnector
    warehouse: Warehouse
    require_enabled: Callable[[], None]
    manners: WriteManners = field(default_factory=WriteManners)

    def run(self, run_id: str, report: Report = lambda step: None) -> DrainOutcome:
        """Send everything that is due.

        Raises:
            LeaseBusy: another drainer is at work; what waits is in good hands.
            Interrupted: switched off, or another drainer took over; the queue is kept.
            TransientError: the CRM or the warehouse cannot be reached; the queue is kept.
            UsageError: the CRM refuses our login.
            WrongOrganization: the login leads to another organisation than the warehouse's.
        """
        self._require_on()
        with (
            self.warehouse.reusing_connections(),
            held_lease(
                self.warehouse, WRITE_BACK_LEASE, owner=run_id, mode=SyncMode.WRITE_BACK
            ) as lease,
        ):
            context = WriteContext(
                self.settings,
                self.connector,
                self.warehouse,
                lease,
                self._require_on,
                self.manners,
                report,
            )
            with ThreadPoolExecutor(context.able.calls_at_once, "write-back") as pool:
                _Round(context, pool).run()
        waiting, next_due_at = outbox_desk.waiting(self.warehouse)
        return DrainOutcome(
            applied=context.ended[WriteState.APPLIED],
            superseded=context.ended[WriteState.SUPERSEDED],
            parked=context.ended[WriteState.PARKED],
            waiting=waiting,
            next_due_at=next_due_at,
            api_calls=context.calls,
            problems=tuple(context.problems),
        )

    def _require_on(self) -> None:
        self.require_enabled()
        if not self.settings.write_backs.enabled:
            raise SyncsDisabled(
                "Write-backs are disabled: the outbox was kept as it is. Set"
                " `write_backs.enabled: true` in the settings file to go on."
            )


@dataclass(slots=True)
class _Round:
    """One drainer's work, from the first portion to the last.

    Attributes:
        pool: sends the calls.
        without: objects that cannot be written now.
    """

    context: WriteContext
    pool: ThreadPoolExecutor
    without: set[str] = field(default_factory=set)
    _is_known_org: bool = False

    def run(self) -> None:
        manners = self.context.manners
        line = Line(self.without)
        try:
            self._recover(line)
            deadline = manners.clock() + manners.patience_seconds
            # What is on its way may be due again when it is done.
            while manners.clock() < deadline and (self._one(line, Lane.SCORE) or line.finish()):
                pass
            line.finish()
        except BaseException:
            line.abandon()
            raise

    def _one(self, line: Line, lowest: Lane, *, only_calls: bool = False) -> bool:
        """Begin to deliver one portion of the lanes up to the lowest, if there is one."""
        context = self.context
        context.require_enabled()
        context.lease.check()
        portion = next_portion(
            context.warehouse,
            limit=context.manners.most_by_calls + 1,
            lowest_lane=min(lowest, self._affordable()),
            without=sorted(self.without),
            late_after_seconds=context.manners.look_again_seconds,
        )
        if portion is None:
            return False
        self._require_own_organization()
        crm_object = context.describe(portion.object_name)
        if crm_object is None:
            self.without.add(portion.object_name)
            return True
        if portion.lane > self._affordable():
            return True  # the first answer has told how the day stands
        delivery = self._claimed(portion, crm_object, only_calls=only_calls)
        if delivery is not None:
            line.add(delivery)
        return True

    def _affordable(self) -> Lane:
        crm, writes = self.context.settings.crm, self.context.settings.write_backs
        budget = WriteBudget(crm.api_budget_percent, writes.consent_reserve_percent)
        lane = budget.lowest_lane(self.context.connector.usage)
        if lane is Lane.CONSENT:
            self.context.note(
                f"The API budget is spent (crm.api_budget_percent is {crm.api_budget_percent}):"
                " only consent is written until calls are free again."
            )
        return lane

    def _claimed(
        self, portion: Portion, crm_object: CrmObject, *, only_calls: bool
    ) -> Delivery | None:
        """A claim of the portion, or of a part of it; None when all of it waits again."""
        context = self.context
        choice = choose(portion, context.able, most_by_calls=context.manners.most_by_calls)
        is_job = choice.transport is Transport.BULK and not only_calls
        most_by_job = min(context.manners.most_by_job, context.able.job_rows)
        taken = claim(
            context.warehouse,
            context.lease,
            portion,
            transport=(Transport.BULK if is_job else Transport.REST).value,
            reason=choice.reason,
            most_writes=most_by_job if is_job else context.manners.most_at_once,
            most_bytes=context.able.job_bytes if is_job else _MOST_BYTES_BY_CALLS,
            key_field=self._key_field(portion),
            without_care=is_job,
        )
        if not taken.writes and is_job:
            return self._claimed(portion, crm_object, only_calls=True)
        if not taken.writes:
            # Somebody holds them for a moment, enqueuing newer values: the next drainer takes them.
            self.without.add(portion.object_name)
            return None
        context.report("claimed")
        if portion.options.if_unchanged and not self._spare(taken, crm_object):
            return None
        if is_job:
            return SendingByJob(context, taken, crm_object, self._urgent)
        return Sending(context, taken, crm_object, self.pool)

    def _spare(self, taken: Claim, crm_object: CrmObject) -> bool:
        """Let a claim give way to what people entered; without an answer, all of it waits again."""
        try:
            spare_changed(self.context, taken, crm_object)
        except CrmPipelineError as error:
            uncertain = taken.portion.is_uncertain
            release(self.context.warehouse, self.context.lease, taken, is_uncertain=uncertain)
            if not isinstance(error, TransientError | ObjectUnavailable):
                raise
            self.context.note(error)
            self.without.add(taken.portion.object_name)
            return False
        return True

    def _urgent(self) -> None:
        """What people wait for goes between two looks at a job."""
        line = Line(self.without)
        try:
            while self._one(line, Lane.ACTION, only_calls=True) or line.finish():
                pass
        except BaseException:
            line.abandon()
            raise

    def _key_field(self, portion: Portion) -> str | None:
        if portion.operation is Operation.UPDATE:
            return None
        return portion.external_id_field or self.context.settings.write_backs.key_field

    def _recover(self, line: Line) -> None:
        """What a dead drainer left on its way: its job is asked, or it is read back."""
        for left in open_claims(self.context.warehouse):
            if left.job is None:
                release(self.context.warehouse, self.context.lease, left, is_uncertain=True)
                continue
            self._require_own_organization()
            crm_object = self.context.describe(left.portion.object_name)
            if crm_object is not None:
                line.add(SendingByJob(self.context, left, crm_object, self._urgent))
        line.finish()

    def _require_own_organization(self) -> None:
        """No record of one organisation is ever written to another.

        Raises:
            WrongOrganization: the login leads elsewhere.
            UsageError: the warehouse belongs to no organisation yet.
        """
        if self._is_known_org:
            return
        known = known_organization(self.context.warehouse)
        if known is None:
            raise UsageError(
                "This warehouse holds the data of no organisation yet, so nothing can be written"
                " back. Launch a full sync first: crm-pipeline sync full"
            )
        organization = self.context.connector.organization_id()
        if organization != known[0]:
            raise WrongOrganization(
                f"This warehouse holds the data of {known[1]} ({known[0]}), but the login leads to"
                f" the organisation {organization}. Nothing was written."
            )
        self._is_known_org = True
