"""The one way into a table, from top to bottom: stage, verify, merge.

Every mode takes it. `stage` reads into a staging table and verifies the count; `commit` verifies
once more and, in one transaction, merges, moves the watermark, closes the ledger row and proves the
lease. A process that dies anywhere leaves the old table with the old watermark, or the new one with
the new.

Belongs here: the order of these steps. Does not belong here: what a mode reads (plan.py), how pages
land (reading.py), the statements (warehouse/merge.py), who holds the lease (engine.py).
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta

import psycopg
import stamina

from crm_pipeline.config.fingerprint import selection_fingerprint
from crm_pipeline.crm.port import CrmConnector
from crm_pipeline.errors import (
    CrmPipelineError,
    IncompleteRead,
    Interrupted,
    MassDisappearance,
    TransientError,
    UsageError,
)
from crm_pipeline.model.sync import Finding, SyncMode, SyncOutcome
from crm_pipeline.sync.absence import look_after, look_before
from crm_pipeline.sync.completeness import completeness_after
from crm_pipeline.sync.plan import SyncPlan
from crm_pipeline.sync.reading import PageLander, Report
from crm_pipeline.warehouse import disappearance, ledger, merge, staging
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.lease import Lease
from crm_pipeline.warehouse.tables import count_live_rows, table_is_live

NEVER_SYNCED = (
    "{name} has never been fully synced, so there is nothing to add changes to. Launch a full sync "
    "first: crm-pipeline sync full --objects {name}"
)
_COLLISIONS = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)


@dataclass(frozen=True, slots=True)
class Committed:
    """What a commit did, and what a census found to be read again."""

    outcome: SyncOutcome
    suspects: merge.Suspects | None = None


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

        attempt, becomes_live = self._open_attempt(plan, restart=restart)
        lander = PageLander(plan.source, self.warehouse, self.streams, check_interrupts, report)
        with self._noting_failure(plan, attempt) as spent:
            has_scope = look_before(plan, attempt, lander, self.connector)
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
        with self._noting_failure(plan, attempt) as spent:
            for trial in stamina.retry_context(on=_COLLISIONS, attempts=5, timeout=None):
                with trial, self.warehouse.connect() as connection:
                    state = ledger.lock_state(connection, plan.name)
                    self._require_whole_staging(connection, attempt)
                    merged, suspects = self._merge(connection, plan, attempt, state)
                    self._require_plausible(connection, plan, merged)
                    completeness = completeness_after(plan, attempt, state, overlap=self.overlap)
                    if plan.mode is not SyncMode.RECORD:
                        ledger.move_watermark(connection, plan.name, completeness)
                    outcome = _outcome(
                        plan,
                        attempt,
                        merged,
                        state=state,
                        completeness=completeness,
                        findings=_findings(plan, merged, suspects),
                        spent=spent(),
                    )
                    ledger.commit_attempt(connection, attempt, outcome)
                    if lease is not None:
                        lease.prove(connection)
        if attempt.read_token:
            plan.source.forget(attempt.read_token)
        return Committed(outcome, suspects)

    def _open_attempt(self, plan: SyncPlan, *, restart: bool) -> tuple[ledger.SyncAttempt, bool]:
        """Resume an interrupted full sync of the same selection, or begin; sweep left-overs.

        Returns:
            The attempt, and whether its staging will be renamed into place.
        """
        fingerprint = selection_fingerprint(plan.selection)
        forgotten: list[str] = []
        with self.warehouse.connect() as connection:
            ledger.note_object(connection, plan.name, plan.selection.table)
            state = ledger.read_state(connection, plan.name)
            is_live = table_is_live(connection, plan.shape)
            watermark = state.watermark if state and is_live else None
            if watermark is None and not plan.makes_table:
                raise UsageError(NEVER_SYNCED.format(name=plan.name))
            attempt: ledger.SyncAttempt | None = None
            for left_over in ledger.unfinished_attempts(connection, plan.name):
                is_same = (left_over.mode, left_over.fingerprint) == (SyncMode.FULL, fingerprint)
                if attempt is None and is_same and plan.mode is SyncMode.FULL and not restart:
                    attempt = ledger.reopen_attempt(connection, left_over, plan.run_id)
                elif plan.mode is SyncMode.FULL or left_over.mode == plan.mode:
                    ledger.discard_attempt(connection, left_over)
                    forgotten += [left_over.read_token] if left_over.read_token else []
            if attempt is None:
                attempt = ledger.open_attempt(
                    connection,
                    run_id=plan.run_id,
                    object_name=plan.name,
                    mode=plan.mode,
                    fingerprint=fingerprint,
                    changed_since=(
                        watermark if plan.mode is SyncMode.DIFFERENTIAL else plan.changed_since
                    ),
                )
        for token in forgotten:
            plan.source.forget(token)
        return attempt, not is_live

    def _compare(self, plan: SyncPlan, attempt: ledger.SyncAttempt) -> int | None:
        """Where everything was read: what differs from the live table; None without one."""
        if not plan.counts_everything:
            return None
        with self.warehouse.connect() as connection:
            if not table_is_live(connection, plan.shape):
                return None
            return merge.compare(connection, plan.staged_shape, attempt)

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
    ) -> tuple[merge.Merged, merge.Suspects | None]:
        """The statements of this mode."""
        shape = plan.staged_shape
        scope_table = None if attempt.scope_records is None else attempt.scope_table
        if plan.is_census:
            return merge.take_census(
                connection, shape, attempt, scope_table=scope_table, watermark=state.watermark
            )
        source = attempt.delta_table
        if attempt.delta_records is None:
            merge.key_staging(connection, shape, attempt.staging_table)
            source = attempt.staging_table
        if plan.mode is SyncMode.REFRESH:
            return merge.refresh(connection, shape, attempt), None
        ledger.release_from_quarantine(connection, attempt, shape)
        if table_is_live(connection, shape):
            merged = merge.merge(connection, shape, attempt, source=source, scope_table=scope_table)
            return merged, None
        if not plan.makes_table:
            raise UsageError(NEVER_SYNCED.format(name=plan.name))
        return merge.publish(connection, shape, attempt.staging_table), None

    def _require_plausible(
        self, connection: psycopg.Connection, plan: SyncPlan, merged: merge.Merged
    ) -> None:
        """Reference data is small, partly our own, and kept for good: nobody is asked about it."""
        if plan.mode in (SyncMode.REFERENCE, SyncMode.RECORD):
            return
        disappearance.require_plausible(
            connection,
            plan.name,
            merged.unexplained,
            lambda: count_live_rows(connection, plan.shape),
        )
        disappearance.settle(connection, plan.name, plan.mode, used=merged.unexplained)

    @contextmanager
    def _noting_failure(
        self, plan: SyncPlan, attempt: ledger.SyncAttempt
    ) -> Iterator[Callable[[], ledger.Spent]]:
        """Write down what stopped an attempt, and what it had cost by then.

        Yields:
            What the block has cost so far.
        """
        started, calls = time.monotonic(), self.connector.usage.calls

        def spent() -> ledger.Spent:
            return ledger.Spent(self.connector.usage.calls - calls, time.monotonic() - started)

        try:
            yield spent
        except BaseException as error:
            is_deliberate = isinstance(error, Interrupted) or not isinstance(error, Exception)
            with suppress(CrmPipelineError, psycopg.Error), self.warehouse.connect() as connection:
                ledger.note_failure(
                    connection,
                    attempt,
                    status="interrupted" if is_deliberate else "failed",
                    error=str(error) or type(error).__name__,
                    spent=spent(),
                )
                if isinstance(error, IncompleteRead):
                    ledger.forget_pages(connection, attempt)  # nobody may go on with a wrong read
                if isinstance(error, MassDisappearance):
                    disappearance.hold(connection, error, plan.mode)
            raise


def _findings(
    plan: SyncPlan, merged: merge.Merged, suspects: merge.Suspects | None
) -> Mapping[str, int]:
    """What a reconciliation found; an object without a stamp was read whole for it."""
    if plan.mode is not SyncMode.RECONCILE:
        return {}
    if suspects is not None:
        return {**merged.vanished, **suspects.findings}
    read_whole = {Finding.MISSING.value: merged.inserted, Finding.STALE.value: merged.updated}
    return {**merged.vanished, **{kind: count for kind, count in read_whole.items() if count}}


def _outcome(
    plan: SyncPlan,
    attempt: ledger.SyncAttempt,
    merged: merge.Merged,
    *,
    state: ledger.ObjectState,
    completeness: ledger.Completeness,
    findings: Mapping[str, int],
    spent: ledger.Spent,
) -> SyncOutcome:
    return SyncOutcome(
        object_name=plan.name,
        table=f"{plan.shape.schema}.{plan.shape.table}",
        mode=plan.mode,
        records_read=attempt.records_read,
        inserted=merged.inserted,
        updated=merged.updated,
        deleted=merged.deleted,
        rejected=attempt.rejected,
        replaced_characters=attempt.replaced_characters,
        watermark_before=state.watermark,
        watermark_after=completeness.watermark,
        api_calls=attempt.api_calls + spent.api_calls,
        seconds=attempt.seconds + spent.seconds,
        transport=attempt.transport or "",
        transport_reason=attempt.transport_reason or "",
        broken_fields=plan.broken_fields,
        due_reason=completeness.due_reason,
        findings=findings,
    )
