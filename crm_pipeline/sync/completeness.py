"""What is true of every row after a commit, and what is not true yet.

A differential cannot fill a newly mapped field in rows that did not change, nor judge them by a new
filter. It says so and goes on; a refresh fills the field, a reconciliation judges the rows.

Belongs here: those rules. Does not belong here: storing them (warehouse/ledger.py).
"""

from datetime import timedelta

from crm_pipeline.config.fingerprint import filter_fingerprint
from crm_pipeline.model.sync import SyncMode
from crm_pipeline.sync.plan import SyncPlan
from crm_pipeline.warehouse.ledger import Completeness, ObjectState, SyncAttempt

_SEVERAL_FILTERS = "several"
"""Rows were judged by one filter and then by another: none is true of all of them."""


def completeness_after(
    plan: SyncPlan,
    attempt: SyncAttempt,
    state: ObjectState,
    *,
    overlap: timedelta,
    is_owed_repair: bool,
) -> Completeness:
    """What holds for every row once this attempt commits.

    Args:
        plan: what was read.
        attempt: when it was read.
        state: what held before.
        overlap: how much of the CRM's time before the read may still have been committing.
        is_owed_repair: a census found rows out of step, which only its repair brings in step.
    """
    assert attempt.read_started_at is not None, "a staged attempt was opened"
    read_through = attempt.read_started_at - overlap
    reads_all_whole = plan.counts_everything and plan.is_whole
    follows_changes = reads_all_whole or plan.mode is SyncMode.DIFFERENTIAL
    record_filter = filter_fingerprint(plan.selection.record_filter)
    fields = [column.filling for column in plan.shape.kept]
    fills = reads_all_whole or plan.mode is SyncMode.REFRESH
    filled = fields if fills else [name for name in fields if name in state.fields]
    judged = state.record_filter or record_filter
    if plan.is_repair or (plan.counts_everything and not is_owed_repair):
        judged = record_filter
    elif judged != record_filter and (follows_changes or plan.counts_everything):
        judged = _SEVERAL_FILTERS
    return Completeness(
        watermark=read_through if follows_changes else state.watermark,
        deletions_through=(
            read_through
            if plan.counts_everything or plan.asks_delete_log
            else state.deletions_through
        ),
        is_full=plan.makes_table,
        is_refreshed=fills,
        record_filter=judged,
        fields=filled,
        due_reason=_due(
            plan.name,
            [name for name in fields if name not in filled],
            is_filter_new=judged != record_filter,
        ),
    )


def _due(name: str, unfilled: list[str], *, is_filter_new: bool) -> str | None:
    reasons = []
    if unfilled:
        reasons.append(
            f"newly mapped and not yet filled in older rows: {', '.join(unfilled)} (fill them: "
            f"crm-pipeline sync refresh --objects {name})"
        )
    if is_filter_new:
        reasons.append(
            "the record filter changed, and older rows were judged by the former one (judge them: "
            f"crm-pipeline sync reconcile --objects {name})"
        )
    return "; ".join(reasons) or None
