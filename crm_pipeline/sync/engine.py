"""The sync engine: one object at a time from the CRM to its table.

Every mode takes the one way (merge_path.py) under the object's lease; a mode only says which
records are read and what it means that one is missing (plan.py).

Belongs here: the verbs that Dagster and the CLI call. Does not belong here: the way itself, looking
at tables (inspection.py), SQL (warehouse/), a CRM's protocol (crm/), and anything of Dagster.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import timedelta

import psycopg
import stamina

from crm_pipeline.config.fingerprint import selection_fingerprint
from crm_pipeline.config.settings import Settings
from crm_pipeline.crm.port import CrmConnector, RecordSource
from crm_pipeline.errors import (
    CrmPipelineError,
    Interrupted,
    LeaseBusy,
    LeaseLost,
    ReadExpired,
    WrongOrganization,
)
from crm_pipeline.model.objects import ObjectSelection
from crm_pipeline.model.sync import Progress, SyncMode, SyncOutcome
from crm_pipeline.sync.absence import DELETIONS_FORGOTTEN_AFTER
from crm_pipeline.sync.inspection import Inspector
from crm_pipeline.sync.merge_path import Committed, MergePath
from crm_pipeline.sync.plan import SyncPlan
from crm_pipeline.sync.planning import Planner
from crm_pipeline.sync.reading import Report
from crm_pipeline.warehouse import disappearance, ledger
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.lease import Lease, held_lease, running_syncs

_YIELD_TO_FULL_SYNCS = (SyncMode.DIFFERENTIAL, SyncMode.RECONCILE, SyncMode.REFRESH)


def ignore_progress(_: Progress) -> None:
    """For callers that nobody watches."""


class SyncEngine:
    """Syncs objects of one org into one warehouse.

    Args:
        settings: what the operator chose.
        connector: the CRM.
        warehouse: already migrated.
        require_enabled: raises `SyncsDisabled` while the operator's switch is off; asked before
            every page.
    """

    def __init__(
        self,
        settings: Settings,
        connector: CrmConnector,
        warehouse: Warehouse,
        require_enabled: Callable[[], None],
    ) -> None:
        self.settings = settings
        self.connector = connector
        self.warehouse = warehouse
        self.require_enabled = require_enabled
        self._planner = Planner(settings, connector, warehouse)
        self._path = MergePath(
            connector,
            warehouse,
            timedelta(minutes=settings.differential.overlap_minutes),
            settings.crm.read_streams,
            require_enabled,
        )
        self._planned: dict[tuple[str, SyncMode, str], SyncPlan] = {}
        self.inspector = Inspector(settings, connector, warehouse)
        self._is_own_organization = False

    def require_own_organization(self) -> None:
        """Make sure, once, that the login leads to the organisation whose data is kept here.

        Raises:
            WrongOrganization: it leads to another one.
            CredentialsError: the CRM refuses the login.
        """
        if self._is_own_organization:
            return
        if ledger.known_organization(self.warehouse) is None:
            identity = self.connector.identity()
            ledger.claim_organization(
                self.warehouse,
                organization_id=identity.organization_id,
                name=identity.organization_name,
                crm_type=self.settings.crm.type,
            )
        known, found = ledger.known_organization(self.warehouse), self.connector.organization_id()
        if known is None or known[0] != found:
            holds = f"{known[1]} ({known[0]})" if known else "another organisation"
            raise WrongOrganization(
                f"This warehouse holds the data of {holds}, but the login leads to the "
                f"organisation {found}. Use another database for another organisation."
            )
        self._is_own_organization = True

    def sync_object(
        self,
        object_name: str,
        *,
        mode: SyncMode,
        run_id: str,
        restart: bool = False,
        report: Report = ignore_progress,
    ) -> SyncOutcome:
        """Stage, verify and merge one object under one lease.

        A full sync waits for a sync that is at work on the object; the others do not, for the next
        one closes the gap.

        Args:
            object_name: as in the settings.
            mode: FULL, DIFFERENTIAL, RECONCILE or REFRESH.
            run_id: who does it, for the lease and the ledger.
            restart: drop what an interrupted full sync has landed, and read from the beginning.
            report: told after every page.

        Raises:
            LeaseBusy: another run is at work.
            MassDisappearance: so many rows would vanish that a person must agree first.
        """
        with self._lease(object_name, mode, run_id) as lease:
            plan = self._plan(object_name, mode, run_id)
            if mode is SyncMode.DIFFERENTIAL:
                attempt = self._stage_changes(plan, lease, report)
            elif mode is SyncMode.REFRESH and not plan.refreshed:
                return _nothing_to_refresh(plan)
            else:
                if plan.refreshes_stamp:
                    self._reconcile_first(plan, lease, report)
                attempt = self._path.stage(plan, lease, restart=restart, report=report)
            committed = self._path.commit(plan, attempt, lease)
            return self._mended(plan, committed, lease, report)

    def stage_changes(
        self, object_name: str, *, run_id: str, report: Report = ignore_progress
    ) -> ledger.SyncAttempt:
        """The first half of a differential: read what changed, verified and ready to merge."""
        mode = SyncMode.DIFFERENTIAL
        with self._lease(object_name, mode, run_id) as lease:
            plan = self._plan(object_name, mode, run_id)
            attempt = self._stage_changes(plan, lease, report)
        self._planned[object_name, mode, run_id] = plan
        return attempt

    def commit_changes(self, object_name: str, *, run_id: str) -> SyncOutcome:
        """The second half of a differential: merge what the same run has staged.

        Raises:
            LeaseLost: another run took the object over between the halves.
        """
        mode = SyncMode.DIFFERENTIAL
        with self._lease(object_name, mode, run_id) as lease:
            plan = self._plan(object_name, mode, run_id)
            with self.warehouse.connect() as connection:
                attempt = ledger.staged_attempt(connection, object_name, run_id)
            if attempt is None:
                raise LeaseLost(
                    f"{object_name}: nothing is staged by this run; another run has taken over."
                )
            if attempt.fingerprint != selection_fingerprint(plan.selection):
                attempt = self._stage_changes(plan, lease, ignore_progress)
            return self._path.commit(plan, attempt, lease).outcome

    def has_staged_changes(self, object_name: str, *, run_id: str) -> bool:
        """Whether the same run has staged this object and its merge is due."""
        with self.warehouse.connect() as connection:
            return ledger.staged_attempt(connection, object_name, run_id) is not None

    def sync_record(self, object_name: str, record_id: str, *, run_id: str) -> SyncOutcome:
        """Read one record now, whatever else runs: the stamp guard makes that safe without a lease.

        Raises:
            UsageError: the object has never been fully synced, so there is no table.
        """
        self.require_enabled()
        with self.warehouse.reusing_connections():
            plan = self._plan(object_name, SyncMode.RECORD, run_id)
            plan = replace(plan, record_ids=(self.connector.full_id(record_id),))
            attempt = self._path.stage(plan, None, restart=False, report=ignore_progress)
            return self._path.commit(plan, attempt, None).outcome

    def sync_reference(
        self,
        selection: ObjectSelection,
        source: RecordSource,
        *,
        run_id: str,
        report: Report = ignore_progress,
    ) -> SyncOutcome:
        """Read something whole that the settings do not list: users, queues and their like.

        Args:
            selection: the columns of the reference table.
            source: where the records come from; the connector itself for records of the CRM.
            run_id: who does it, for the lease and the ledger.
            report: told after every page.
        """
        self.require_own_organization()
        mode = SyncMode.REFERENCE
        with self._lease(selection.table, mode, run_id) as lease:
            plan = self._planner.plan_selection(
                selection.table, selection, mode, run_id, source=source
            )
            attempt = self._path.stage(plan, lease, restart=False, report=report)
            return self._path.commit(plan, attempt, lease).outcome

    def accept_disappearance(self, object_name: str) -> int:
        """A person agrees to the mass disappearance that is held; the next sync marks the rows.

        Returns:
            How many rows.

        Raises:
            UsageError: nothing is held for that object.
        """
        return disappearance.accept(self.warehouse, object_name)

    @contextmanager
    def _lease(self, name: str, mode: SyncMode, run_id: str) -> Iterator[Lease]:
        """Own an object; only a full sync owns one while a full sync of any object runs."""
        self.require_enabled()
        trials = None if mode is SyncMode.FULL else 1
        with ExitStack() as stack:
            stack.enter_context(self.warehouse.reusing_connections())
            for trial in stamina.retry_context(
                on=LeaseBusy, attempts=trials, timeout=None, wait_initial=0.5, wait_max=5
            ):
                with trial:
                    self.require_enabled()
                    if mode in _YIELD_TO_FULL_SYNCS:
                        self._refuse_during_full_sync(name)
                    lease = stack.enter_context(
                        held_lease(self.warehouse, name, owner=run_id, mode=mode)
                    )
            yield lease

    def _refuse_during_full_sync(self, name: str) -> None:
        for holder in running_syncs(self.warehouse):
            if holder.mode is SyncMode.FULL:
                raise LeaseBusy(
                    f"{name}: a full sync is at work on {holder.name} (run {holder.owner}). The "
                    "differential that follows it reads what changed meanwhile.",
                    owner=holder.owner,
                    expires_in_seconds=0.0,
                )

    def _plan(self, object_name: str, mode: SyncMode, run_id: str) -> SyncPlan:
        """The two halves of a differential in one process share one plan."""
        planned = self._planned.pop((object_name, mode, run_id), None)
        if planned is not None:
            return planned
        try:
            self.require_own_organization()
            plan = self._planner.plan(object_name, mode, run_id)
        except CrmPipelineError as error:
            self._note_failed_start(object_name, mode, run_id, error)
            raise
        self.inspector.note(plan)
        return plan

    def _note_failed_start(
        self, object_name: str, mode: SyncMode, run_id: str, error: CrmPipelineError
    ) -> None:
        """Let the status say what went wrong, although there is no attempt yet."""
        chosen = self.settings.enabled_objects.get(object_name)
        if chosen is None or isinstance(error, Interrupted):
            return
        with suppress(CrmPipelineError, psycopg.Error), self.warehouse.connect() as connection:
            ledger.note_object(connection, object_name, chosen.table_name(object_name))
            ledger.note_failed_start(
                connection, run_id=run_id, object_name=object_name, mode=mode, error=str(error)
            )

    def _stage_changes(self, plan: SyncPlan, lease: Lease, report: Report) -> ledger.SyncAttempt:
        """Stage a differential; where deletions may have been forgotten, compare the ids first."""
        if self._may_lack_deletions(plan):
            self._reconcile_first(plan, lease, report)
        try:
            return self._path.stage(plan, lease, restart=False, report=report)
        except ReadExpired:
            if not plan.asks_delete_log:
                raise
        self._reconcile_first(plan, lease, report)
        return self._path.stage(plan, lease, restart=False, report=report)

    def _may_lack_deletions(self, plan: SyncPlan) -> bool:
        """Whether the last sync lies further back than the CRM remembers what was deleted."""
        with self.warehouse.connect() as connection:
            state = ledger.read_state(connection, plan.name)
        if state is None or state.watermark is None or not plan.has_stamp:
            return False
        has_bin = plan.selection.crm_object.deleted_field is not None
        known_through = state.watermark if has_bin else state.deletions_through
        if known_through is None:
            return True
        return self.connector.server_time() - known_through > DELETIONS_FORGOTTEN_AFTER

    def _reconcile_first(self, plan: SyncPlan, lease: Lease, report: Report) -> None:
        census = replace(plan, mode=SyncMode.RECONCILE, refreshed=())
        attempt = self._path.stage(census, lease, restart=False, report=report)
        self._mended(census, self._path.commit(census, attempt, lease), lease, report)

    def _mended(
        self, plan: SyncPlan, committed: Committed, lease: Lease, report: Report
    ) -> SyncOutcome:
        """Read again what a census found out of step, by the way of any single record."""
        suspects, outcome = committed.suspects, committed.outcome
        if suspects is None or not suspects.findings:
            return outcome
        repair = replace(
            plan,
            mode=SyncMode.RECORD,
            is_repair=True,
            record_ids=suspects.ids or None,
            changed_since=None if suspects.ids else suspects.changed_since,
        )
        attempt = self._path.stage(repair, lease, restart=False, report=report)
        mended = self._path.commit(repair, attempt, lease).outcome
        return replace(
            outcome,
            inserted=mended.inserted,
            updated=mended.updated,
            deleted=outcome.deleted + mended.deleted,
            rejected=mended.rejected,
            due_reason=mended.due_reason,
            api_calls=outcome.api_calls + mended.api_calls,
            seconds=outcome.seconds + mended.seconds,
        )


def _nothing_to_refresh(plan: SyncPlan) -> SyncOutcome:
    return SyncOutcome(
        object_name=plan.name,
        table=f"{plan.shape.schema}.{plan.shape.table}",
        mode=plan.mode,
        transport_reason="No column needs it: nothing is calculated, and all are filled",
    )
