"""How long the ledger remembers.

Belongs here: deleting rows of the ledger that nothing is decided by any more. Does not belong here:
data of the CRM, which is never pruned, and left-overs of dead syncs (ledger.py sweeps those).
"""

from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.decisions import prune_decisions

# The status shows the newest rows; a row with staging may still be gone on with.
_PRUNE = """
DELETE FROM crm_sync.sync_run r
WHERE r.started_at < now() - make_interval(days => %s) AND NOT r.has_staging
AND EXISTS (
    SELECT FROM crm_sync.sync_run n
    WHERE n.object_name = r.object_name AND n.mode = r.mode AND n.status = 'committed'
    AND n.sync_run_id > r.sync_run_id)
"""

# The newest value of each field stays, for older ones must go on losing to it; so does what a
# person has not looked at yet.
_PRUNE_OUTBOX = """
DELETE FROM crm_sync.outbox o
WHERE o.ended_at < now() - make_interval(days => %s)
AND (o.state <> 'parked' OR o.is_dismissed)
AND (o.state <> 'applied' OR o.field IS NULL OR EXISTS (
    SELECT FROM crm_sync.outbox n
    WHERE n.object_name = o.object_name AND n.record_id = o.record_id AND n.field = o.field
    AND n.state = 'applied' AND n.value_at > o.value_at))
"""
_PRUNE_CLAIMS = """
DELETE FROM crm_sync.outbox_claim c
WHERE c.settled_at < now() - make_interval(days => %s)
"""


def prune_outbox(warehouse: Warehouse, *, days: int) -> int:
    """Delete write-backs that had their end so long ago.

    Returns:
        How many.
    """
    with warehouse.connect() as connection:
        connection.execute("SET LOCAL crm_pipeline.is_erasing = 'on'")
        pruned = connection.execute(_PRUNE_OUTBOX, [days]).rowcount
        connection.execute(_PRUNE_CLAIMS, [days])
        prune_decisions(connection, days)
    return pruned


def prune_ledger(warehouse: Warehouse, *, days: int) -> int:
    """Delete rows that are older, but for the newest committed one of each object and mode.

    Returns:
        How many.
    """
    with warehouse.connect() as connection:
        return connection.execute(_PRUNE, [days]).rowcount
