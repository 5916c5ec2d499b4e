"""Out of the outbox: which write-backs go next, and what became of them.

A portion is claimed in one transaction (rows become `sending`), sent, and settled in another. Both
prove the lease of the drainer, of which there is one: so no record is ever on its way twice. What a
dead drainer left behind as `sending` has an unknown outcome, and is recovered before anything else
is claimed.

Belongs here: the statements of claiming, settling and recovering. Does not belong here: enqueuing
(outbox.py), deciding how a portion is sent (writeback/), sending it (crm/).
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import set_json_loads

from crm_pipeline.model.writeback import Operation, Outcome, Value, Verdict, WriteOptions
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.lease import Lease
from crm_pipeline.warehouse.outbox import enqueue_from

MOST_REFUSALS = 12
"""So often a record is tried that the CRM keeps refusing for reasons that should pass."""

_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Portion:
    """Write-backs that can travel together: one lane, object, operation and set of options.

    Attributes:
        due: how many could be sent now; counted up to the limit that was asked for.
        is_uncertain: they were sent before, and nobody knows what became of them.
        is_alone: each field must travel by itself.
    """

    lane: int
    object_name: str
    operation: Operation
    external_id_field: str | None
    options: WriteOptions
    is_uncertain: bool
    is_alone: bool
    due: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A portion that is on its way.

    Attributes:
        writes: rows of the outbox that were taken.
        key_field: by which the CRM finds the records of a create or upsert.
        job: the CRM's bulk job, once there is one.
    """

    claim_id: int
    portion: Portion
    transport: str
    writes: int
    key_field: str | None = None
    job: str | None = None


@dataclass(frozen=True, slots=True)
class ClaimedWrite:
    """One row of the outbox that is on its way.

    Attributes:
        values: by field: one for an update, the whole map for a create or upsert.
        refusals: so often it was refused for reasons that should pass.
        hops: so often it was handed on to another record.
    """

    write_id: int
    record_id: str | None
    external_id: str | None
    parent_id: str | None
    values: Mapping[str, Value]
    refusals: int
    hops: int


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


_FIRST = """
SELECT lane, object_name, operation, external_id_field, options, is_uncertain, is_alone
FROM crm_sync.outbox w
WHERE state = 'waiting' AND not_before <= now() AND lane <= %(lane)s
AND NOT (w.object_name = ANY(%(without)s))
AND NOT EXISTS (SELECT FROM crm_sync.outbox s WHERE s.state = 'sending'
                AND s.object_name = w.object_name AND s.record_id = w.record_id)
ORDER BY lane, write_id LIMIT 1
"""
_OF_PORTION = """
w.state = 'waiting' AND w.not_before <= now() AND w.lane = %(lane)s
AND w.object_name = %(object)s AND w.operation = %(operation)s
AND w.external_id_field IS NOT DISTINCT FROM %(key_field)s AND w.options = %(options)s::jsonb
AND w.is_uncertain = %(is_uncertain)s AND w.is_alone = %(is_alone)s
"""
_COUNT = f"""
SELECT count(*) FROM (SELECT FROM crm_sync.outbox w WHERE {_OF_PORTION} LIMIT %(limit)s) due
"""
# To a bulk job `#N/A` means null, so a person of that name must not travel by it; nor may a text
# of more than 32,000 characters.
_NEEDS_CARE = """
(coalesce(w.value, w.fields)::text LIKE '%%"#N/A"%%'
 OR length(coalesce(w.value, w.fields)::text) > 32000)
"""
_OPEN_CLAIM = """
INSERT INTO crm_sync.outbox_claim (
    run_id, epoch, lane, object_name, operation, key_field, transport, reason)
VALUES (%(run)s, %(epoch)s, %(lane)s, %(object)s, %(operation)s, %(key_sent)s, %(transport)s,
        %(reason)s)
RETURNING claim_id
"""
_CLAIM = f"""
WITH due AS (
    SELECT w.write_id,
           sum(octet_length(coalesce(w.value, w.fields)::text) + 64)
               OVER (ORDER BY w.write_id) AS bytes
    FROM (
        SELECT w.write_id, w.value, w.fields FROM crm_sync.outbox w WHERE {_OF_PORTION}
        AND NOT (%(without_care)s AND {_NEEDS_CARE})
        AND NOT EXISTS (SELECT FROM crm_sync.outbox s WHERE s.state = 'sending'
                        AND s.object_name = w.object_name AND s.record_id = w.record_id)
        AND (w.external_id IS NULL OR NOT EXISTS (
            SELECT FROM crm_sync.outbox e WHERE e.state IN ('waiting', 'sending')
            AND e.object_name = w.object_name AND e.external_id = w.external_id
            AND e.external_id_field IS NOT DISTINCT FROM w.external_id_field
            AND (e.write_id < w.write_id OR e.state = 'sending')))
        AND NOT (w.is_alone AND EXISTS (
            SELECT FROM crm_sync.outbox a WHERE a.state = 'waiting' AND a.is_alone
            AND a.object_name = w.object_name AND a.record_id = w.record_id
            AND a.write_id < w.write_id))
        ORDER BY w.write_id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    ) w
)
UPDATE crm_sync.outbox o
SET state = 'sending', claim_id = %(claim)s, attempts = attempts + 1, sent_at = now()
FROM due WHERE o.write_id = due.write_id AND (due.bytes <= %(bytes)s OR due.bytes IS NULL)
"""
_CLAIMED = """
SELECT write_id, record_id, external_id, parent_id,
       coalesce(fields, jsonb_build_object(field, value)), refusals,
       (length(idempotency_key) - length(replace(idempotency_key, '=>', ''))) / 2
FROM crm_sync.outbox WHERE claim_id = %s AND state = 'sending' ORDER BY write_id
"""
_SETTLED = """
CREATE TEMPORARY TABLE outbox_settled (
    write_id bigint, verdict text, written_id text, is_created boolean, code text, reason text,
    remedy text, delay double precision, is_uncertain boolean, counts boolean, is_alone boolean
) ON COMMIT DROP
"""
# The newer value of a field waits already: what did not get through is superseded by it. Whoever is
# refused too often is parked with the last refusal.
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
           CASE WHEN s.verdict = 'applied' THEN 'applied'
                WHEN n.newer_id IS NOT NULL THEN 'superseded'
                WHEN s.verdict IN ('retry', 'wait')
                     AND o.refusals + s.counts::int < {MOST_REFUSALS} THEN 'waiting'
                WHEN s.verdict = 'superseded' THEN 'superseded'
                ELSE 'parked' END AS state
    FROM pg_temp.outbox_settled s
    JOIN crm_sync.outbox o ON o.write_id = s.write_id
    LEFT JOIN newer n ON n.write_id = s.write_id
)
UPDATE crm_sync.outbox o
SET state = j.state,
    ended_at = CASE WHEN j.state = 'waiting' THEN NULL ELSE now() END,
    not_before = now() + make_interval(secs => j.delay),
    refusals = o.refusals + CASE WHEN j.verdict = 'applied' THEN 0 ELSE j.counts::int END,
    is_uncertain = j.is_uncertain AND j.state = 'waiting',
    is_alone = j.is_alone OR o.is_alone,
    written_id = coalesce(j.written_id, o.written_id),
    is_created = coalesce(j.is_created, o.is_created),
    successor_id = coalesce(j.newer_id, o.successor_id),
    code = CASE WHEN j.state = 'superseded' AND j.newer_id IS NOT NULL THEN 'NEWER_VALUE'
                ELSE coalesce(j.code, CASE WHEN j.state = 'parked' THEN 'UNKNOWN' END) END,
    reason = CASE WHEN j.state = 'superseded' AND j.newer_id IS NOT NULL
                  THEN 'A newer value for the field took its place before it got through.'
                  ELSE coalesce(j.reason, CASE WHEN j.state = 'parked'
                                               THEN 'The CRM gave no reason.' END) END,
    remedy = CASE WHEN j.state = 'parked'
                  THEN coalesce(j.remedy, 'Look at the record in the CRM, then requeue.') END,
    claim_id = CASE WHEN j.state = 'waiting' THEN NULL ELSE o.claim_id END
FROM judged j WHERE o.write_id = j.write_id AND o.state = 'sending'
RETURNING o.state
"""
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
_OPEN_CLAIMS = """
SELECT claim_id, lane, object_name, operation, key_field, transport, job
FROM crm_sync.outbox_claim WHERE settled_at IS NULL ORDER BY claim_id
"""
_STRANDED = """
SELECT write_id FROM crm_sync.outbox WHERE claim_id = %s AND state = 'sending'
"""


_MOVED = """
SELECT o.idempotency_key || '=>' || m.record_id AS idempotency_key, o.lane, o.origin, o.batch,
       m.object_name, m.record_id, o.field, o.value, o.options, o.value_at
FROM pg_temp.outbox_moved m JOIN crm_sync.outbox o ON o.write_id = m.write_id
WHERE o.state = 'sending'
"""
_HAND_OVER = """
UPDATE crm_sync.outbox o
SET state = 'superseded', ended_at = now(), successor_id = n.write_id, code = m.code,
    reason = m.reason
FROM pg_temp.outbox_moved m, crm_sync.outbox n
WHERE o.write_id = m.write_id AND o.state = 'sending'
AND n.idempotency_key = o.idempotency_key || '=>' || m.record_id
"""


@dataclass(frozen=True, slots=True)
class Move:
    """An update that goes to another record, because its own became that one."""

    write_id: int
    object_name: str
    record_id: str
    code: str
    reason: str


def follow(warehouse: Warehouse, lease: Lease, taken: Claim, moves: Sequence[Move]) -> None:
    """Let updates go on for other records; there, too, the newest value wins.

    The update itself ends as superseded by the one that it became.
    """
    for attempt in range(_ATTEMPTS):
        try:
            with warehouse.connect() as connection:
                connection.execute(
                    "CREATE TEMPORARY TABLE outbox_moved (write_id bigint, object_name text,"
                    " record_id text, code text, reason text) ON COMMIT DROP"
                )
                with (
                    connection.cursor() as cursor,
                    cursor.copy("COPY pg_temp.outbox_moved FROM STDIN") as copy,
                ):
                    for one in moves:
                        copy.write_row(
                            (one.write_id, one.object_name, one.record_id, one.code, one.reason)
                        )
                enqueue_from(connection, sql.SQL(_MOVED))
                connection.execute(_HAND_OVER)
                connection.execute(_CLOSE_CLAIM, {"calls": 0, "claim": taken.claim_id})
                lease.prove(connection)
            return
        except psycopg.errors.UniqueViolation:
            if attempt == _ATTEMPTS - 1:
                raise


_TABLE_OF = """
SELECT s.table_name, a.attname,
       EXISTS (SELECT FROM pg_attribute b WHERE b.attrelid = i.indrelid
               AND b.attname = '_converted_into' AND NOT b.attisdropped)
FROM crm_sync.object_state s
JOIN pg_index i ON i.indrelid = to_regclass(format('%%I.%%I', %(schema)s::text, s.table_name))
 AND i.indisprimary
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
WHERE s.object_name = %(object)s
"""


def known_whereabouts(
    warehouse: Warehouse, object_name: str, ids: Sequence[str]
) -> dict[str, tuple[str | None, str | None]]:
    """What tombstones say of records: the winner of a merge, and the fruit of a conversion."""
    with warehouse.connect(autocommit=True) as connection:
        found = connection.execute(
            _TABLE_OF, {"schema": warehouse.crm_schema, "object": object_name}
        ).fetchone()
        if found is None:
            return {}
        table, key, is_convertible = found
        rows = connection.execute(
            sql.SQL("SELECT {key}, _merged_into, {into} FROM {table} WHERE {key} = ANY(%s)").format(
                key=sql.Identifier(key),
                into=sql.SQL("_converted_into" if is_convertible else "NULL::text"),
                table=sql.Identifier(warehouse.crm_schema, table),
            ),
            [list(ids)],
        ).fetchall()
    return {str(record_id): (merged, converted) for record_id, merged, converted in rows}


def next_portion(
    warehouse: Warehouse, *, limit: int, lowest_lane: int, without: Sequence[str] = ()
) -> Portion | None:
    """What goes next; None when nothing is due.

    Args:
        warehouse: holds the outbox.
        limit: count no further; a larger portion is one that a bulk job takes.
        lowest_lane: leave the lanes behind it alone.
        without: objects to leave alone.
    """
    with warehouse.connect(autocommit=True) as connection:
        first = connection.execute(
            _FIRST, {"lane": lowest_lane, "without": list(without)}
        ).fetchone()
        if first is None:
            return None
        lane, object_name, operation, key_field, options, is_uncertain, is_alone = first
        portion = Portion(
            lane=lane,
            object_name=object_name,
            operation=Operation(operation),
            external_id_field=key_field,
            options=WriteOptions.from_json(options),
            is_uncertain=is_uncertain,
            is_alone=is_alone,
            due=0,
        )
        counted = connection.execute(_COUNT, {**_facts(portion), "limit": limit}).fetchone()
    assert counted is not None
    return replace(portion, due=int(counted[0]))


def claim(
    warehouse: Warehouse,
    lease: Lease,
    portion: Portion,
    *,
    transport: str,
    reason: str,
    most_writes: int,
    most_bytes: int,
    key_field: str | None = None,
    without_care: bool = False,
) -> Claim:
    """Take a portion, or as much of it as the limits allow; committed before anything is sent.

    Args:
        warehouse: holds the outbox.
        lease: proven before the commit.
        portion: what `next_portion` said.
        transport: how it will travel.
        reason: why so, for people.
        most_writes: rows of the outbox.
        most_bytes: about how much they may weigh.
        key_field: by which the CRM finds the records of a create or upsert.
        without_care: leave what a bulk job would misunderstand.
    """
    with warehouse.connect() as connection:
        facts = _facts(portion)
        row = connection.execute(
            _OPEN_CLAIM,
            {
                **facts,
                "run": lease.owner,
                "epoch": lease.epoch,
                "transport": transport,
                "reason": reason,
                "key_sent": key_field,
            },
        ).fetchone()
        assert row is not None
        claim_id = int(row[0])
        taken = connection.execute(
            _CLAIM,
            {
                **facts,
                "claim": claim_id,
                "limit": most_writes,
                "bytes": most_bytes,
                "without_care": without_care,
            },
        ).rowcount
        connection.execute(
            "UPDATE crm_sync.outbox_claim SET writes = %s,"
            " settled_at = CASE WHEN %s = 0 THEN now() END WHERE claim_id = %s",
            [taken, taken, claim_id],
        )
        lease.prove(connection)
    return Claim(claim_id, portion, transport, taken, key_field)


def claimed_writes(warehouse: Warehouse, taken: Claim) -> list[ClaimedWrite]:
    """The rows of a claim that are still on their way; numbers keep their digits."""
    with warehouse.connect(autocommit=True) as connection:
        set_json_loads(_exactly, connection)
        rows = connection.execute(_CLAIMED, [taken.claim_id]).fetchall()
        set_json_loads(json.loads, connection)
    return [ClaimedWrite(*row) for row in rows]


def note_job(warehouse: Warehouse, lease: Lease, taken: Claim, job: str) -> None:
    """Remember the bulk job of a claim before it is given any record."""
    with warehouse.connect() as connection:
        connection.execute(
            "UPDATE crm_sync.outbox_claim SET job = %s WHERE claim_id = %s", [job, taken.claim_id]
        )
        lease.prove(connection)


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
    for attempt in range(_ATTEMPTS):
        try:
            with warehouse.connect() as connection:
                connection.execute(_SETTLED)
                fill(connection)
                connection.execute("ANALYZE pg_temp.outbox_settled")
                counted = connection.execute(
                    f"WITH done AS ({_SETTLE}) SELECT state, count(*) FROM done GROUP BY state"
                ).fetchall()
                connection.execute(_RELIEVE, [taken.claim_id])
                connection.execute(_CLOSE_CLAIM, {"calls": api_calls, "claim": taken.claim_id})
                lease.prove(connection)
            return Counter({str(state): int(count) for state, count in counted})
        except psycopg.errors.UniqueViolation:
            # A newer value was enqueued since we looked; the next look supersedes ours by it.
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable: the last attempt raises")


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


def open_claims(warehouse: Warehouse) -> list[Claim]:
    """Claims that a drainer before us did not settle."""
    with warehouse.connect(autocommit=True) as connection:
        rows = connection.execute(_OPEN_CLAIMS).fetchall()
    return [
        Claim(
            int(claim_id),
            Portion(
                lane=lane,
                object_name=object_name,
                operation=Operation(operation),
                external_id_field=None,
                options=WriteOptions(),
                is_uncertain=True,
                is_alone=False,
                due=0,
            ),
            transport,
            0,
            key_field,
            job,
        )
        for claim_id, lane, object_name, operation, key_field, transport, job in rows
    ]


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


def _facts(portion: Portion) -> dict[str, Any]:
    return {
        "lane": portion.lane,
        "object": portion.object_name,
        "operation": portion.operation.value,
        "key_field": portion.external_id_field,
        "options": json.dumps(portion.options.as_json()),
        "is_uncertain": portion.is_uncertain,
        "is_alone": portion.is_alone,
    }


def _exactly(text: str | bytes) -> Any:
    return json.loads(text, parse_float=Decimal)
