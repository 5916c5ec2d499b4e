"""Taking write-backs out of the outbox: which go next, and what is on its way.

A portion is claimed in one transaction (its rows become `sending`) before anything is sent. It
proves the lease of the drainer, of which there is one: so no record is ever on its way twice.

Belongs here: the statements of claiming, and what a dead drainer left claimed. Does not belong
here: what became of a claim (settling.py), deciding how a portion is sent (writeback/).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from psycopg.types.json import set_json_loads

from crm_pipeline.model.writeback import Operation, Value, WriteOptions
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.exact_json import exact_json
from crm_pipeline.warehouse.lease import Lease


@dataclass(frozen=True, slots=True)
class Portion:
    """Write-backs that can travel together: one lane, object, operation and set of options.

    Attributes:
        due: how many could be sent now; counted up to the limit that was asked for.
        first: the oldest of them; whoever looked at the older ones again would look at all of them
            for each portion.
        is_uncertain: they were sent before, and nobody knows what became of them.
        is_alone: each field must travel by itself.
        is_late: they make records, and whether those are there already was known too long ago.
    """

    lane: int
    object_name: str
    operation: Operation
    external_id_field: str | None
    options: WriteOptions
    is_uncertain: bool
    is_alone: bool
    due: int
    first: int = 0
    is_late: bool = False


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
        before: what the field held when the write-back was wanted; None is nothing.
    """

    write_id: int
    record_id: str | None
    external_id: str | None
    parent_id: str | None
    values: Mapping[str, Value]
    refusals: int
    hops: int
    before: Value = None


# One write per record on its way, those of one external id in their order (to a CRM, `ab` and `AB`
# are one), and of the fields that travel by themselves one at a time. The OFFSET makes the planner
# ask for each record by its id, where it would read all that is on its way.
_IS_FREE = """
NOT EXISTS (SELECT FROM crm_sync.outbox s WHERE s.state = 'sending'
            AND s.object_name = w.object_name AND s.record_id = w.record_id OFFSET 0)
AND (w.external_id IS NULL OR NOT EXISTS (
    SELECT FROM crm_sync.outbox e WHERE e.state IN ('waiting', 'sending')
    AND e.object_name = w.object_name AND lower(e.external_id) = lower(w.external_id)
    AND e.external_id_field IS NOT DISTINCT FROM w.external_id_field
    AND (e.write_id < w.write_id OR e.state = 'sending')))
AND NOT (w.is_alone AND EXISTS (
    SELECT FROM crm_sync.outbox a WHERE a.state = 'waiting' AND a.is_alone
    AND a.object_name = w.object_name AND a.record_id = w.record_id
    AND a.not_before <= now() AND a.write_id < w.write_id))
"""
_FIRST = f"""
SELECT lane, object_name, operation, external_id_field, options, is_uncertain, is_alone, write_id,
       (operation = 'upsert' OR options ? 'if_absent')
       AND (attempts > 0 OR enqueued_at < now() - make_interval(secs => %(late_after)s))
FROM crm_sync.outbox w
WHERE state = 'waiting' AND not_before <= now() AND lane <= %(lane)s
AND NOT (w.object_name = ANY(%(without)s)) AND {_IS_FREE}
ORDER BY lane, write_id LIMIT 1
"""
_OF_PORTION = """
w.write_id >= %(first)s
AND w.state = 'waiting' AND w.not_before <= now() AND w.lane = %(lane)s
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
        AND {_IS_FREE}
        ORDER BY w.write_id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    ) w
)
UPDATE crm_sync.outbox o
SET state = 'sending', claim_id = %(claim)s, attempts = attempts + 1, sent_at = now(),
    external_id_field = coalesce(o.external_id_field, %(key_sent)s)
FROM due WHERE o.write_id = due.write_id AND (due.bytes <= %(bytes)s OR due.bytes IS NULL)
"""
_CLAIMED = """
SELECT write_id, record_id, external_id, parent_id,
       coalesce(fields, jsonb_build_object(field, value)), refusals,
       length(substring(idempotency_key FROM '(?:=>[A-Za-z0-9]{18})*$')) / 20, before
FROM crm_sync.outbox WHERE claim_id = %s AND state = 'sending' ORDER BY write_id
"""
_OPEN_CLAIMS = """
SELECT claim_id, lane, object_name, operation, key_field, transport, job
FROM crm_sync.outbox_claim WHERE settled_at IS NULL ORDER BY claim_id
"""


def next_portion(
    warehouse: Warehouse,
    *,
    limit: int,
    lowest_lane: int,
    without: Sequence[str] = (),
    late_after_seconds: float,
) -> Portion | None:
    """What goes next; None when nothing is due.

    Args:
        warehouse: holds the outbox.
        limit: count no further; a larger portion is one that a bulk job takes.
        lowest_lane: leave the lanes behind it alone.
        without: objects to leave alone.
        late_after_seconds: so long it is good to know that a record is not there.
    """
    with warehouse.connect(autocommit=True) as connection:
        first = connection.execute(
            _FIRST,
            {"lane": lowest_lane, "without": list(without), "late_after": late_after_seconds},
        ).fetchone()
        if first is None:
            return None
        lane, object_name, operation, key_field, options, *flags, write_id, is_late = first
        is_uncertain, is_alone = flags
        portion = Portion(
            lane=lane,
            object_name=object_name,
            operation=Operation(operation),
            external_id_field=key_field,
            options=WriteOptions.from_json(options),
            is_uncertain=is_uncertain,
            is_alone=is_alone,
            due=0,
            first=int(write_id),
            is_late=is_late,
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
                "key_sent": key_field,
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
        set_json_loads(exact_json, connection)
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


def _facts(portion: Portion) -> dict[str, Any]:
    return {
        "lane": portion.lane,
        "object": portion.object_name,
        "operation": portion.operation.value,
        "key_field": portion.external_id_field,
        "options": json.dumps(portion.options.as_json()),
        "is_uncertain": portion.is_uncertain,
        "is_alone": portion.is_alone,
        "first": portion.first,
    }
