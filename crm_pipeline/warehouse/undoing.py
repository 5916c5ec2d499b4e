"""What a batch wrote, and the rows that take it back.

Belongs here: the statements of undo. Does not belong here: asking the CRM what its records hold now
(writeback/undo.py).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql
from psycopg.types.json import set_json_loads

from crm_pipeline.model.writeback import UNDO, Enqueued, Lane, Value, WriteOptions
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.exact_json import exact_json
from crm_pipeline.warehouse.outbox import enqueue_from

# Of a field that was written again since, the record no longer holds what this batch wrote, or
# holds it because somebody wanted it once more.
_WRITTEN = """
SELECT o.write_id, o.object_name, coalesce(o.written_id, o.record_id), o.field, o.value
FROM crm_sync.outbox o
WHERE o.batch = %(batch)s AND o.state = 'applied' AND o.operation = 'update'
AND o.before IS NOT NULL
ORDER BY o.object_name, o.write_id
"""
_FACTS = """
SELECT count(*),
       coalesce(bool_or(lane = %(consent)s), false),
       count(*) FILTER (WHERE state = 'applied' AND operation = 'update' AND before IS NULL),
       count(*) FILTER (WHERE state IN ('waiting', 'held', 'sending')),
       coalesce(array_agg(object_name || ' ' || written_id ORDER BY write_id)
                FILTER (WHERE state = 'applied' AND is_created), '{}')
FROM crm_sync.outbox WHERE batch = %(batch)s
"""
# Newer than what it takes back, and older than whatever comes after that.
_REVERSED = """
SELECT 'undo/' || o.write_id AS idempotency_key, {lane}::smallint AS lane, {origin} AS origin,
       {batch} AS batch, o.object_name, coalesce(o.written_id, o.record_id) AS record_id, o.field,
       o.before AS value, o.value AS before,
       {options}::jsonb AS options,
       o.value_at + interval '1 microsecond' AS value_at
FROM crm_sync.outbox o WHERE o.write_id = ANY({ids}) AND o.batch = {undone}
"""


@dataclass(frozen=True, slots=True)
class BatchFacts:
    """What a batch is.

    Attributes:
        writes: rows of the outbox.
        has_consent: whether it ticks boxes of consent.
        unknown_before: applied changes of which nobody knows what they replaced.
        pending: not sent yet.
        created: records that it made, each with its object.
    """

    writes: int
    has_consent: bool
    unknown_before: int
    pending: int
    created: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WrittenValue:
    """One change that a batch made."""

    write_id: int
    object_name: str
    record_id: str
    field: str
    value: Value


def batch_facts(warehouse: Warehouse, batch: str) -> BatchFacts:
    """What a batch is; without writes if nobody knows it."""
    facts = {"batch": batch, "consent": int(Lane.CONSENT)}
    with warehouse.connect(autocommit=True) as connection:
        row = connection.execute(_FACTS, facts).fetchone()
    assert row is not None
    writes, has_consent, unknown, pending, created = row
    return BatchFacts(writes, has_consent, unknown, pending, tuple(created))


def written_values(warehouse: Warehouse, batch: str) -> list[WrittenValue]:
    """Changes of which it is known what they replaced, by object; numbers keep their digits."""
    with warehouse.connect(autocommit=True) as connection:
        set_json_loads(exact_json, connection)
        rows = connection.execute(_WRITTEN, {"batch": batch}).fetchall()
        set_json_loads(json.loads, connection)
    return [WrittenValue(*row) for row in rows]


def enqueue_reversed(
    connection: psycopg.Connection, undone: str, ids: Sequence[int], batch: str
) -> Enqueued:
    """Let fields get back what they held, in the caller's transaction; twice is once."""
    query = sql.SQL(_REVERSED).format(
        lane=sql.Literal(int(Lane.ACTION)),
        origin=sql.Literal(UNDO),
        options=sql.Literal(json.dumps(WriteOptions(if_unchanged=True).as_json())),
        batch=sql.Literal(batch),
        ids=sql.Literal(list(ids)),
        undone=sql.Literal(undone),
    )
    return enqueue_from(connection, query)
