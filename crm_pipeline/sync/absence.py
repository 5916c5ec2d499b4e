"""Rows that should have come and did not: asking the CRM what became of their records.

Where a filter may have kept them away, some ids are asked for one by one: only that tells a record
that left the filter from one that was merged or that we may not see any more. Then comes the log of
deletions, which answers for thousands at once.

Belongs here: whom to ask, how much, and in which order. Does not belong here: marking the rows
(warehouse/merge.py).
"""

from datetime import datetime, timedelta

from crm_pipeline.crm.port import CrmConnector
from crm_pipeline.errors import ReadExpired
from crm_pipeline.sync.plan import SyncPlan
from crm_pipeline.sync.questions import batched
from crm_pipeline.sync.reading import PageLander
from crm_pipeline.warehouse import comparison, ledger, scope

IDS_TO_ASK_FOR = 2_000
DELETIONS_FORGOTTEN_AFTER = timedelta(days=15)
"""A CRM keeps deleted records and its log of them that long at most."""
_IDS_PER_STATEMENT = 10_000


def look_before(plan: SyncPlan, attempt: ledger.SyncAttempt, lander: PageLander) -> bool:
    """Before the records are read: who changed, whether or not they pass the filter.

    Returns:
        Whether there is a scope table now.
    """
    if plan.looks_beyond_filter:
        lander.read_scope(plan.request(attempt), plan.shape, attempt.scope_table)
    elif plan.asks_delete_log:
        with lander.warehouse.connect() as connection:
            scope.create_scope(connection, plan.shape.narrowed(), attempt.scope_table)
    return plan.looks_beyond_filter or plan.asks_delete_log


def look_after(
    plan: SyncPlan, attempt: ledger.SyncAttempt, lander: PageLander, connector: CrmConnector
) -> None:
    """After the records were read: what became of those that were not among them.

    Where everything was read, the scope then holds every live row that did not come. The log is
    asked after the read, so that it covers all that came before.

    Raises:
        ReadExpired: only the log could tell, and it does not reach back far enough.
    """
    with lander.warehouse.connect() as connection:
        absent: list[str] = []
        if plan.counts_everything:
            absent = sorted(comparison.absent_ids(connection, attempt))
            scope.create_scope(connection, plan.shape.narrowed(), attempt.scope_table)
        is_needed = plan.asks_delete_log or scope.has_not_found(connection, attempt.scope_table)
        if not absent and not is_needed:
            return
    if plan.selection.record_filter is not None:
        lander.extend_scope(
            plan.request(attempt), plan.shape, attempt.scope_table, absent[:IDS_TO_ASK_FOR]
        )
    with lander.warehouse.connect() as connection:
        for batch in batched(absent, _IDS_PER_STATEMENT):
            scope.note_not_found(connection, plan.shape, attempt.scope_table, batch)
    _ask_log(plan, attempt, lander, connector)


def _ask_log(
    plan: SyncPlan, attempt: ledger.SyncAttempt, lander: PageLander, connector: CrmConnector
) -> None:
    """Let the log of deletions name those that are gone for good, as far back as it reaches."""
    if not plan.selection.crm_object.has_delete_log:
        return
    with lander.warehouse.connect() as connection:
        state = ledger.read_state(connection, plan.name)
    assert state is not None, "its attempt is open"
    known = state.deletions_through
    if plan.asks_delete_log:
        assert known is not None, "whoever does not know compares the ids first"
        _land_deletions(plan, attempt, lander, connector, known)
        return
    reach = connector.server_time() - DELETIONS_FORGOTTEN_AFTER + timedelta(minutes=5)
    since = max(known or reach, reach)
    try:
        _land_deletions(plan, attempt, lander, connector, since)
    except ReadExpired:
        return  # those rows are said to be invisible, which is all that is known


def _land_deletions(
    plan: SyncPlan,
    attempt: ledger.SyncAttempt,
    lander: PageLander,
    connector: CrmConnector,
    since: datetime,
) -> None:
    lander.check_interrupts()
    now = connector.server_time()
    ids = [
        record_id for record_id, _ in connector.deleted_since(plan.selection.crm_object, since, now)
    ]
    with lander.warehouse.connect() as connection:
        for batch in batched(ids, _IDS_PER_STATEMENT):
            scope.note_gone(connection, plan.shape, attempt.scope_table, batch)
