"""One attempt at a sync, as the ledger sees it: opened or resumed, failed, or told as an outcome.

Belongs here: what is written down about an attempt besides its data. Does not belong here: the data
and the order of steps (merge_path.py).
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

import psycopg

from crm_pipeline.config.fingerprint import selection_fingerprint
from crm_pipeline.crm.port import CrmConnector
from crm_pipeline.errors import (
    CrmPipelineError,
    IncompleteRead,
    Interrupted,
    MassDisappearance,
    UsageError,
)
from crm_pipeline.model.sync import Finding, SyncMode, SyncOutcome
from crm_pipeline.sync.plan import SyncPlan
from crm_pipeline.warehouse import disappearance, ledger
from crm_pipeline.warehouse.census import Suspects
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.merge import Merged
from crm_pipeline.warehouse.tables import table_is_live
from crm_pipeline.warehouse.wording import told

NEVER_SYNCED = (
    "{name} has never been fully synced, so there is nothing to add changes to. Launch a full sync "
    "first: crm-pipeline sync full --objects {name}"
)


def open_attempt(
    warehouse: Warehouse, plan: SyncPlan, *, restart: bool
) -> tuple[ledger.SyncAttempt, bool]:
    """Resume an interrupted full sync of the same selection, or begin; sweep left-overs.

    Returns:
        The attempt, and whether its staging will be renamed into place.
    """
    fingerprint = selection_fingerprint(plan.selection)
    forgotten: list[str] = []
    with warehouse.connect() as connection:
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


@contextmanager
def noting_failure(
    warehouse: Warehouse, connector: CrmConnector, plan: SyncPlan, attempt: ledger.SyncAttempt
) -> Iterator[Callable[[], ledger.Spent]]:
    """Write down what stopped an attempt, and what it had cost by then.

    Yields:
        What the block has cost so far.
    """
    started, calls = time.monotonic(), connector.usage.calls

    def spent() -> ledger.Spent:
        return ledger.Spent(connector.usage.calls - calls, time.monotonic() - started)

    try:
        yield spent
    except BaseException as error:
        is_deliberate = isinstance(error, Interrupted) or not isinstance(error, Exception)
        with suppress(CrmPipelineError, psycopg.Error), warehouse.connect() as connection:
            ledger.note_failure(
                connection,
                attempt,
                status="interrupted" if is_deliberate else "failed",
                error=told(error),
                spent=spent(),
            )
            if isinstance(error, IncompleteRead):
                ledger.forget_pages(connection, attempt)  # nobody may go on with a wrong read
            if isinstance(error, MassDisappearance):
                # Of syncs by id, only a reconciliation's repair reads so many.
                is_repair = plan.mode is SyncMode.RECORD
                mode = SyncMode.RECONCILE if is_repair else plan.mode
                disappearance.hold(connection, error, mode)
        raise


def findings_of(plan: SyncPlan, merged: Merged, suspects: Suspects | None) -> Mapping[str, int]:
    """What a reconciliation found; an object without a stamp was read whole for it."""
    if plan.mode is not SyncMode.RECONCILE:
        return {}
    if suspects is not None:
        return {**merged.vanished, **suspects.findings}
    read_whole = {Finding.MISSING.value: merged.inserted, Finding.STALE.value: merged.updated}
    return {**merged.vanished, **{kind: count for kind, count in read_whole.items() if count}}


def outcome_of(
    plan: SyncPlan,
    attempt: ledger.SyncAttempt,
    merged: Merged,
    *,
    state: ledger.ObjectState,
    completeness: ledger.Completeness,
    findings: Mapping[str, int],
    spent: ledger.Spent,
) -> SyncOutcome:
    """What the ledger, the CLI and Dagster show of a commit."""
    return SyncOutcome(
        object_name=plan.name,
        table=f"{plan.shape.schema}.{plan.shape.table}",
        mode=plan.mode,
        records_read=attempt.records_read,
        inserted=merged.inserted,
        updated=merged.updated,
        deleted=merged.deleted,
        rejected=attempt.rejected + merged.rejected,
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
