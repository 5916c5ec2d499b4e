"""The one way into a table, from top to bottom: stage, verify, merge.

Every mode takes it. `stage` reads into a staging table and verifies the count; `commit` verifies
once more and, in one transaction, merges, moves the watermark, closes the ledger row and proves the
lease. A process that dies anywhere leaves the old table with the old watermark, or the new one with
the new.

Belongs here: the order of these steps. Does not belong here: what a mode reads (plan.py), how pages
land (reading.py), the statements (warehouse/merge.py), who holds the lease (engine.py).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

import psycopg
import stamina

from crm_pipeline.crm.port import CrmConnector
from crm_pipeline.errors import TransientError, UsageError
from crm_pipeline.model.sync import SyncMode, SyncOutcome
from crm_pipeline.sync.absence import look_after, look_before
from crm_pipeline.sync.attempts import (
    NEVER_SYNCED,
    findings_of,
    noting_failure,
    open_attempt,
    outcome_of,
)
from crm_pipeline.sync.completeness import completeness_after
from crm_pipeline.sync.plan import SyncPlan
from crm_pipeline.sync.reading import PageLander, Report
from crm_pipeline.warehouse import (
    census,
    comparison,
    disappearance,
    history,
    ledger,
    merge,
    staging,
    too_wide,
)
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.lease import Lease
from crm_pipeline.warehouse.tables import count_live_rows, table_is_live

_COLLISIONS = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)


@dataclass(frozen=True, slots=True)
class Committed:
    """What a commit did, and what a census found to be read again."""

    outcome: SyncOutcome
    suspects: census.Suspects | None = None


@dataclass(frozen=True, slots=True)
class MergePath:
    """The way of one engine's records into its warehouse.

    Attributes:
        overlap: how much of the CRM's time before a read may still have been committing.
        streams: pages that land side by side.
        require_enabled: raises `SyncsDisabled` while the operator's switch is off.
    """

    connector: CrmConnector
    warehouse: Warehouse
    overlap: timedelta
    streams: int
    require_enabled: Callable[[], None]

    def stage(
        self, plan: SyncPlan, lease: Lease | None, *, restart: bool, report: Report
    ) -> ledger.SyncAttempt:
        """Read into staging and verify; whatever stops it is written into the ledger.

        Raises:
            UsageError: there is no table yet, and what is read makes none.
            ReadExpired: the CRM no longer knows what was deleted since the last sync.
            CrmPipelineError: the CRM or the warehouse refuses, or a person interrupts.
        """

        def check_interrupts() -> None:
            self.require_enabled()
            if lease is not None:
                lease.check()

        attempt, becomes_live = open_attempt(self.warehouse, plan, restart=restart)
        lander = PageLander(plan.source, self.warehouse, self.streams, check_interrupts, report)
        with noting_failure(self.warehouse, self.connector, plan, attempt) as spent:
            has_scope = look_before(plan, attempt, lander)
            landed = lander.read_into_staging(
                attempt, plan.request(attempt), plan.staged_shape, becomes_live=becomes_live
            )
            delta_records = self._compare(plan, attempt)
            has_scope = has_scope or delta_records is not None
            if has_scope:
                look_after(plan, attempt, lander, self.connector)
            with self.warehouse.connect() as connection:
                return ledger.note_staged(
                    connection,
                    attempt,
                    landed,
                    spent(),
                    scope_records=(
                        staging.staged_count(connection, attempt.scope_table) if has_scope else None
                    ),
                    delta_records=delta_records,
                )

    def commit(self, plan: SyncPlan, attempt: ledger.SyncAttempt, lease: Lease | None) -> Committed:
        """One transaction: data, tombstones, watermark and ledger row.

        Commits into one object take turns, and one that the database refused because it crossed
        another's way is tried again. The lease is proved last: held any earlier it would keep its
        own heartbeat waiting.

        Raises:
            MassDisappearance: so many rows would vanish that a person must agree first.
            IncompleteRead: a record came twice, in the place of another perhaps.
            TransientError: staging is not what was verified.
            LeaseLost: another run owns the object now.
        """
        with noting_failure(self.warehouse, self.connector, plan, attempt) as spent:
            for trial in stamina.retry_context(on=_COLLISIONS, attempts=5, timeout=None):
                with trial, self.warehouse.connect() as connection:
                    state = ledger.lock_state(connection, plan.name)
                    self._require_whole_staging(connection, attempt)
                    merged, suspects = self._merge(connection, plan, attempt, state)
                    self._require_plausible(connection, plan, merged)
                    completeness = completeness_after(
                        plan,
                        attempt,
                        state,
                        overlap=self.overlap,
                        is_owed_repair=suspects is not None and bool(suspects.findings),
                    )
                    if plan.mode is not SyncMode.RECORD or plan.is_repair:
                        ledger.move_watermark(connection, plan.name, completeness)
                    outcome = outcome_of(
                        plan,
                        attempt,
                        merged,
                        state=state,
                        completeness=completeness,
                        findings=findings_of(plan, merged, suspects),
                        spent=spent(),
                    )
                    ledger.commit_attempt(connection, attempt, outcome)
                    if lease is not None:
                        lease.prove(connection)
        if attempt.read_token:
            plan.source.forget(attempt.read_token)
        return Committed(outcome, suspects)

    def _compare(self, plan: SyncPlan, attempt: ledger.SyncAttempt) -> int | None:
        """Where everything was read: what differs from the live table; None without one."""
        if not plan.counts_everything:
            return None
        with self.warehouse.connect() as connection:
            if not table_is_live(connection, plan.shape):
                return None
            return comparison.compare(connection, plan.staged_shape, attempt)

    def _require_whole_staging(
        self, connection: psycopg.Connection, attempt: ledger.SyncAttempt
    ) -> None:
        """Raise if staging does not hold what was verified.

        Raises:
            TransientError: it was emptied in between; the next run reads again.
        """
        expected = {
            attempt.staging_table: attempt.records_read - attempt.rejected,
            attempt.scope_table: attempt.scope_records,
            attempt.delta_table: attempt.delta_records,
        }
        if any(
            count is not None and staging.staged_count(connection, table) != count
            for table, count in expected.items()
        ):
            raise TransientError(
                f"{attempt.object_name}: what had been read was lost in a restart of the "
                "database. Nothing was changed; run the sync again."
            )

    def _merge(
        self,
        connection: psycopg.Connection,
        plan: SyncPlan,
        attempt: ledger.SyncAttempt,
        state: ledger.ObjectState,
    ) -> tuple[merge.Merged, census.Suspects | None]:
        """Merge what is staged; of rows that turn out too wide for the table, without those."""
        shape, source = plan.staged_shape, attempt.delta_table
        if attempt.delta_records is None:
            source = attempt.staging_table
            merge.key_staging(connection, shape, source)
        try:
            with connection.transaction():
                return self._merge_from(connection, plan, attempt, state, source=source)
        except psycopg.errors.ProgramLimitExceeded:
            rejected = too_wide.set_apart(connection, shape, attempt, source)
        merged, suspects = self._merge_from(connection, plan, attempt, state, source=source)
        return replace(merged, rejected=rejected), suspects

    def _merge_from(
        self,
        connection: psycopg.Connection,
        plan: SyncPlan,
        attempt: ledger.SyncAttempt,
        state: ledger.ObjectState,
        *,
        source: str,
    ) -> tuple[merge.Merged, census.Suspects | None]:
        """The statements of this mode."""
        shape = plan.staged_shape
        scope_table = None if attempt.scope_records is None else attempt.scope_table
        if plan.is_census:
            ledger.release_the_gone(connection, attempt, shape)
            return census.take_census(
                connection, shape, attempt, scope_table=scope_table, watermark=state.watermark
            )
        if plan.mode is SyncMode.REFRESH:
            return merge.refresh(connection, shape, attempt), None
        ledger.release_from_quarantine(connection, attempt, shape)
        if table_is_live(connection, shape):
            merged = merge.merge(connection, shape, attempt, source=source, scope_table=scope_table)
            return merged, None
        if not plan.makes_table:
            raise UsageError(NEVER_SYNCED.format(name=plan.name))
        published = merge.publish(connection, shape, attempt)
        history.keep(connection, shape, is_wanted=plan.keeps_history)
        return published, None

    def _require_plausible(
        self, connection: psycopg.Connection, plan: SyncPlan, merged: merge.Merged
    ) -> None:
        """Reference data is small, partly our own, and kept for good: nobody is asked about it."""
        if plan.mode is SyncMode.REFERENCE:
            return
        has_consent = disappearance.require_plausible(
            connection,
            plan.name,
            merged.unexplained,
            lambda: count_live_rows(connection, plan.shape),
        )
        disappearance.settle(connection, plan.name, plan.mode, has_consent=has_consent)
