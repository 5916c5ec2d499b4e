"""Creates and upserts that waited: which are to be looked for again, and handing them back.

A write-back that should make a record goes back to the action that it comes of, when the record is
there by now: the action is asked for once more, and its next decision finds the record. One that
comes of no action is parked.

Belongs here: the statements. Does not belong here: looking (writeback/looking_again.py), deciding
(actions/), and upserts that go on as updates (handing_over.py).
"""

from collections import Counter
from collections.abc import Sequence

import psycopg

from crm_pipeline.warehouse.claims import Claim
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.lease import Lease
from crm_pipeline.warehouse.settling import settle_from

FOUND_MEANWHILE = "FOUND_MEANWHILE"
"""Code of what was to make a record that is there by now."""

_OF_ACTION = """
a.action_id = split_part(o.idempotency_key, '/', 2) AND a.idempotency_key = o.idempotency_key
"""
# A person who queued again what was parked for this has looked herself.
_LATE = f"""
SELECT o.write_id, lower(btrim(coalesce(a.match_email, o.fields ->> 'Email')))
FROM crm_sync.outbox o LEFT JOIN crm_sync.action a ON {_OF_ACTION}
WHERE o.claim_id = %(claim)s AND o.state = 'sending' AND o.code IS DISTINCT FROM '{FOUND_MEANWHILE}'
AND (o.attempts > 1 OR o.enqueued_at < now() - make_interval(secs => %(late_after)s))
"""
_HAND_BACK = f"""
WITH asked AS (
    UPDATE crm_sync.action a
    SET state = 'requested', resolved_at = NULL, waits_for = NULL, handed_back = a.handed_back + 1,
        code = '{FOUND_MEANWHILE}', remedy = NULL,
        reason = 'Its record was there by the time of delivery, so it is decided again.'
    FROM crm_sync.outbox o
    WHERE o.claim_id = %(claim)s AND o.state = 'sending' AND o.write_id = ANY(%(writes)s)
    AND {_OF_ACTION} AND a.state = 'enqueued'
    RETURNING o.write_id
)
INSERT INTO pg_temp.outbox_settled (
    write_id, verdict, code, reason, remedy, delay, is_uncertain, counts, is_alone)
SELECT o.write_id, CASE WHEN asked.write_id IS NULL THEN 'park' ELSE 'spared' END,
       '{FOUND_MEANWHILE}', 'Its record was there by the time of delivery.',
       CASE WHEN asked.write_id IS NULL
            THEN 'Update the record that is there and dismiss this, or requeue it to write it'
                 ' nevertheless.' END,
       0, false, false, false
FROM crm_sync.outbox o LEFT JOIN asked USING (write_id)
WHERE o.claim_id = %(claim)s AND o.state = 'sending' AND o.write_id = ANY(%(writes)s)
"""


def late_makers(
    warehouse: Warehouse, taken: Claim, *, late_after_seconds: float
) -> dict[int, str | None]:
    """Creates and upserts of a claim that waited that long, or were tried before.

    Returns:
        By write-back, the address of the person whom it may be about, in lower case.
    """
    facts = {"claim": taken.claim_id, "late_after": late_after_seconds}
    with warehouse.connect(autocommit=True) as connection:
        return {int(row[0]): row[1] for row in connection.execute(_LATE, facts)}


def hand_back(
    warehouse: Warehouse, lease: Lease, taken: Claim, write_ids: Sequence[int]
) -> Counter[str]:
    """End write-backs whose record is there, and ask for their actions again, in one transaction.

    Returns:
        How many rows have which state now.
    """

    def fill(connection: psycopg.Connection) -> None:
        connection.execute(_HAND_BACK, {"claim": taken.claim_id, "writes": list(write_ids)})

    return settle_from(warehouse, lease, taken, fill)
