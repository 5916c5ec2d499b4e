"""What became of write-backs that were on their way, one transaction for each batch.

What a dead drainer left behind as `sending` has an unknown outcome, and is released as uncertain.

Belongs here: what an outcome does to a row. Does not belong here: claiming (claims.py), what the
CRM's answer means (crm/, writeback/), other records (handing_over.py).
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import psycopg

from crm_pipeline.model.writeback import Lane, Outcome, Verdict, WriteState
from crm_pipeline.warehouse.claims import Claim
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.lease import Lease
from crm_pipeline.warehouse.withdrawing import WITHDRAWN, lock_against_withdrawing

MOST_REFUSALS = 12
"""So often a record is tried that the CRM keeps refusing for reasons that should pass."""

MOST_COLLISIONS = 5
"""So often a settlement is made anew because a newer value was enqueued meanwhile."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """How one row of the outbox goes on.

    Attributes:
        delay_seconds: before it may be sent again, where it is sent again.
        is_uncertain: whether it may have been written.
        counts: whether it counts as a refusal; an outage refuses nobody.
        is_alone: send it by itself next time.
    """

    write_id: int
    outcome: Outcome
    delay_seconds: float = 0.0
    is_uncertain: bool = False
    counts: bool = True
    is_alone: bool = False


# Without the key, whoever looks for what is not in it yet would compare all with all.
_SETTLED = """
CREATE TEMPORARY TABLE outbox_settled (
    write_id bigint PRIMARY KEY, verdict text, written_id text, is_created boolean, code text,
    reason text, remedy text, delay double precision, is_uncertain boolean, counts boolean,
    is_alone boolean
) ON COMMIT DROP
"""
_APPLY = """
UPDATE crm_sync.outbox o
SET state = 'applied', ended_at = now(), is_uncertain = false, code = s.code, reason = s.reason,
    written_id = coalesce(s.written_id, o.record_id), is_created = s.is_created
FROM pg_temp.outbox_settled s
WHERE s.verdict = 'applied' AND o.write_id = s.write_id AND o.state = 'sending'
"""
# The newer value of a field waits already: what did not get through is superseded by it. What was
# withdrawn meanwhile ends. Whoever is refused too often is parked with the last refusal.
_SETTLE = f"""
WITH newer AS (
    SELECT s.write_id, n.write_id AS newer_id
    FROM pg_temp.outbox_settled s
    JOIN crm_sync.outbox o ON o.write_id = s.write_id
    JOIN crm_sync.outbox n ON n.object_name = o.object_name AND n.record_id = o.record_id
     AND n.field = o.field AND n.state IN ('waiting', 'held')
    WHERE s.verdict <> 'applied'
), judged AS (
    SELECT s.*, n.newer_id,
           CASE WHEN n.newer_id IS NOT NULL OR o.is_withdrawn OR s.verdict = 'spared'
                     THEN 'superseded'
                WHEN s.verdict IN ('retry', 'wait')
                     AND o.refusals + s.counts::int < {MOST_REFUSALS} THEN 'waiting'
                ELSE 'parked' END AS state
    FROM pg_temp.outbox_settled s
    JOIN crm_sync.outbox o ON o.write_id = s.write_id
    LEFT JOIN newer n ON n.write_id = s.write_id
    WHERE s.verdict <> 'applied'
)
UPDATE crm_sync.outbox o
SET state = j.state,
    ended_at = CASE WHEN j.state = 'waiting' THEN NULL ELSE now() END,
    not_before = now() + make_interval(secs => j.delay),
    refusals = o.refusals + j.counts::int,
    is_uncertain = j.is_uncertain AND j.state = 'waiting',
    is_alone = j.is_alone OR o.is_alone,
    successor_id = coalesce(j.newer_id, o.successor_id),
    code = CASE WHEN j.newer_id IS NOT NULL THEN 'NEWER_VALUE'
                WHEN o.is_withdrawn THEN '{WITHDRAWN}'
                ELSE coalesce(j.code, CASE WHEN j.state = 'parked' THEN 'UNKNOWN' END) END,
    reason = CASE WHEN j.newer_id IS NOT NULL
                  THEN 'A newer value for the field took its place before it got through.'
                  WHEN o.is_withdrawn
                  THEN 'It was taken back while it was on its way, and did not get through.'
                  ELSE coalesce(j.reason, CASE WHEN j.state = 'parked'
                                               THEN 'The CRM gave no reason.' END) END,
    remedy = CASE WHEN j.state = 'parked'
                  THEN coalesce(j.remedy, 'Look at the record in the CRM, then requeue.') END,
    claim_id = CASE WHEN j.state = 'waiting' THEN NULL ELSE o.claim_id END
FROM judged j WHERE o.write_id = j.write_id AND o.state = 'sending'
RETURNING o.state
"""
_SETTLE_COUNTED = f"WITH done AS ({_SETTLE}) SELECT state, count(*) FROM done GROUP BY state"
# A value that got through makes older ones of its field that a person should look at needless.
_RELIEVE = """
UPDATE crm_sync.outbox p
SET state = 'superseded', ended_at = now(), successor_id = a.write_id, code = 'NEWER_VALUE',
    reason = 'A newer value for the field was applied.', remedy = NULL
FROM crm_sync.outbox a
WHERE p.state = 'parked' AND p.field IS NOT NULL AND a.claim_id = %s AND a.state = 'applied'
AND a.object_name = p.object_name AND a.record_id = p.record_id AND a.field = p.field
AND a.value_at >= p.value_at
"""
_CLOSE_CLAIM = """
UPDATE crm_sync.outbox_claim c SET settled_at = now(), api_calls = api_calls + %(calls)s
WHERE claim_id = %(claim)s AND NOT EXISTS (
    SELECT FROM crm_sync.outbox o WHERE o.claim_id = c.claim_id AND o.state = 'sending')
"""
_STRANDED = """
SELECT write_id FROM crm_sync.outbox WHERE claim_id = %s AND state = 'sending'
"""


def settle(
    warehouse: Warehouse,
    lease: Lease,
    taken: Claim,
    settlements: Iterable[Settlement],
    *,
    api_calls: int = 0,
) -> Counter[str]:
    """Write down what became of rows, in one transaction that proves the lease.

    Returns:
        How many rows have which state now.
    """

    def store(connection: psycopg.Connection) -> None:
        columns = (
            "write_id, verdict, written_id, is_created, code, reason, remedy, delay,"
            " is_uncertain, counts, is_alone"
        )
        with (
            connection.cursor() as cursor,
            cursor.copy(f"COPY pg_temp.outbox_settled ({columns}) FROM STDIN") as copy,
        ):
            for one in listed:
                copy.write_row(_settled_row(one))

    listed = list(settlements)
    return settle_from(warehouse, lease, taken, store, api_calls=api_calls)


def settle_from(
    warehouse: Warehouse,
    lease: Lease,
    taken: Claim,
    fill: Callable[[psycopg.Connection], None],
    *,
    api_calls: int = 0,
) -> Counter[str]:
    """The same for outcomes that `fill` brings into `pg_temp.outbox_settled`, set by set."""
    for attempt in range(MOST_COLLISIONS):
        try:
            with warehouse.connect() as connection:
                connection.execute(_SETTLED)
                fill(connection)
                connection.execute("ANALYZE pg_temp.outbox_settled")
                if taken.portion.lane == Lane.CONSENT:
                    lock_against_withdrawing(connection, "outbox_settled")
                applied = connection.execute(_APPLY).rowcount
                has_others, has_parked = _what_else(connection)
                counted = connection.execute(_SETTLE_COUNTED).fetchall() if has_others else []
                if applied and has_parked:
                    connection.execute(_RELIEVE, [taken.claim_id])
                close_claim(connection, taken, api_calls=api_calls)
                lease.prove(connection)
            states = {str(state): int(count) for state, count in counted}
            return Counter({**states, WriteState.APPLIED.value: applied})
        except psycopg.errors.UniqueViolation:
            # A newer value was enqueued since we looked; the next look supersedes ours by it.
            if attempt == MOST_COLLISIONS - 1:
                raise
    raise AssertionError("unreachable: the last attempt raises")


def _what_else(connection: psycopg.Connection) -> tuple[bool, bool]:
    """Whether anything was not applied, and whether a field waits for a person to look at it."""
    found = connection.execute(
        "SELECT EXISTS (SELECT FROM pg_temp.outbox_settled WHERE verdict <> 'applied'),"
        " EXISTS (SELECT FROM crm_sync.outbox WHERE state = 'parked' AND field IS NOT NULL)"
    ).fetchone()
    assert found is not None
    return bool(found[0]), bool(found[1])


def _settled_row(one: Settlement) -> tuple[object, ...]:
    outcome = one.outcome
    return (
        one.write_id,
        outcome.verdict.value,
        outcome.record_id,
        outcome.is_created if outcome.verdict is Verdict.APPLIED else None,
        outcome.code,
        outcome.reason,
        outcome.remedy,
        one.delay_seconds,
        one.is_uncertain,
        one.counts,
        one.is_alone,
    )


def release(
    warehouse: Warehouse,
    lease: Lease,
    taken: Claim,
    *,
    is_uncertain: bool,
    delay_seconds: float = 0.0,
    code: str | None = None,
    reason: str | None = None,
    api_calls: int = 0,
) -> int:
    """Let what is left of a claim wait again; a newer value that waits already takes its place.

    Returns:
        How many rows were left.
    """
    outcome = Outcome(Verdict.RETRY, code=code, reason=reason)
    with warehouse.connect(autocommit=True) as connection:
        left = [int(row[0]) for row in connection.execute(_STRANDED, [taken.claim_id])]
    settle(
        warehouse,
        lease,
        taken,
        (
            Settlement(
                write_id,
                outcome,
                delay_seconds=delay_seconds,
                is_uncertain=is_uncertain,
                counts=False,
            )
            for write_id in left
        ),
        api_calls=api_calls,
    )
    return len(left)


def close_claim(connection: psycopg.Connection, taken: Claim, *, api_calls: int = 0) -> None:
    """Close a claim of which nothing is on its way any more."""
    connection.execute(_CLOSE_CLAIM, {"calls": api_calls, "claim": taken.claim_id})
