"""How long the ledger remembers.

Belongs here: deleting rows of the ledger that nothing is decided by any more. Does not belong here:
data of the CRM, which is never pruned, and left-overs of dead syncs (ledger.py sweeps those).
"""

from crm_pipeline.warehouse.connection import Warehouse

# The status shows the newest rows; a row with staging may still be gone on with.
_PRUNE = """
DELETE FROM crm_sync.sync_run r
WHERE r.started_at < now() - make_interval(days => %s) AND NOT r.has_staging
AND EXISTS (
    SELECT FROM crm_sync.sync_run n
    WHERE n.object_name = r.object_name AND n.mode = r.mode AND n.status = 'committed'
    AND n.sync_run_id > r.sync_run_id)
"""


def prune_ledger(warehouse: Warehouse, *, days: int) -> int:
    """Delete rows that are older, but for the newest committed one of each object and mode.

    Returns:
        How many.
    """
    with warehouse.connect() as connection:
        return connection.execute(_PRUNE, [days]).rowcount
