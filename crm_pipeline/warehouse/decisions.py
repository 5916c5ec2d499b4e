"""What automatic write-backs saw and decided, and whose turn it is.

Belongs here: the statements of that memory, and the state of the marts as dbt remembers it. Does
not belong here: finding differences (differences.py), and when to decide (writeback/automatic.py).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from crm_pipeline.model.writeback import Enqueued, WriteOptions
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.outbox import enqueue_from

_MEMORY = "build_progress"
_MARTS = """
SELECT model, seen::text || ' ' || extract(epoch FROM built_at)
FROM {} WHERE model = ANY(%s) ORDER BY model
"""
_TAKE_TURN = """
INSERT INTO crm_sync.write_back (name) VALUES (%s)
ON CONFLICT (name) DO UPDATE SET name = excluded.name
"""
_REMEMBER = """
UPDATE crm_sync.write_back SET marts = %s, settings = %s, looked_at = now() WHERE name = %s
"""
_ENQUEUE = """
SELECT {batch} || '/' || f.object_name || '/' || f.record_id || '/' || f.field AS idempotency_key,
       {lane}::smallint AS lane, {origin} AS origin, {batch} AS batch, f.object_name, f.record_id,
       f.field, f.value, f.before, f.value_at, {is_held}::boolean AS is_held,
       CASE WHEN f.is_kept_if_edited THEN {if_unchanged} ELSE '{{}}' END::jsonb AS options
FROM pg_temp.write_back_found f
"""
_DECIDED = """
INSERT INTO crm_sync.write_back_decision (
    batch, name, run_id, records, waiting, held, superseded, parked, held_because)
VALUES (%(batch)s, %(name)s, %(run)s, %(records)s, %(waiting)s, %(held)s, %(superseded)s,
        %(parked)s, %(because)s)
"""
_PRUNE = """
DELETE FROM crm_sync.write_back_decision d
WHERE d.decided_at < now() - make_interval(days => %s)
AND NOT EXISTS (SELECT FROM crm_sync.outbox o WHERE o.state = 'held' AND o.batch = d.batch)
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a decision looked at.

    Attributes:
        marts: which builds, as one text.
        settings: which settings, as one text.
    """

    marts: str
    settings: str


def state_of_marts(
    connection: psycopg.Connection, marts_schema: str, marts: Sequence[str]
) -> str | None:
    """Which builds of marts are there; None while one of them was never built."""
    memory = sql.Identifier(f"{marts_schema}_staging", _MEMORY)
    names = [memory, *(sql.Identifier(marts_schema, name) for name in marts)]
    there = connection.execute(
        "SELECT bool_and(to_regclass(name) IS NOT NULL) FROM unnest(%s::text[]) name",
        [[name.as_string(connection) for name in names]],
    ).fetchone()
    if there is None or not there[0]:
        return None
    rows = connection.execute(sql.SQL(_MARTS).format(memory), [list(marts)]).fetchall()
    return json.dumps(rows) if len(rows) == len(marts) else None


def last_seen(warehouse: Warehouse, name: str) -> Seen | None:
    """What the last decision of a write-back looked at; None when there was none."""
    with warehouse.connect(autocommit=True) as connection:
        row = connection.execute(
            "SELECT marts, settings FROM crm_sync.write_back"
            " WHERE name = %s AND looked_at IS NOT NULL",
            [name],
        ).fetchone()
    return None if row is None else Seen(str(row[0]), str(row[1]))


def take_turn(connection: psycopg.Connection, name: str) -> None:
    """Wait until nobody else decides this write-back, to the end of the caller's transaction."""
    connection.execute(_TAKE_TURN, [name])


def remember(connection: psycopg.Connection, name: str, seen: Seen) -> None:
    """Note what a decision looked at, in its own transaction."""
    connection.execute(_REMEMBER, [seen.marts, seen.settings, name])


def enqueue_found(
    connection: psycopg.Connection, *, batch: str, name: str, lane: int, is_held: bool
) -> Enqueued:
    """Every difference that was collected goes into the outbox, in the caller's transaction."""
    query = sql.SQL(_ENQUEUE).format(
        batch=sql.Literal(batch),
        lane=sql.Literal(lane),
        origin=sql.Literal(name),
        is_held=sql.Literal(is_held),
        if_unchanged=sql.Literal(json.dumps(WriteOptions(if_unchanged=True).as_json())),
    )
    return enqueue_from(connection, query)


def note_decision(
    connection: psycopg.Connection,
    *,
    batch: str,
    name: str,
    run_id: str,
    records: int,
    enqueued: Enqueued,
    held_because: str | None,
) -> None:
    """One row for people, in the caller's transaction."""
    connection.execute(
        _DECIDED,
        {
            "batch": batch,
            "name": name,
            "run": run_id,
            "records": records,
            "waiting": enqueued.waiting,
            "held": enqueued.held,
            "superseded": enqueued.superseded,
            "parked": enqueued.parked,
            "because": held_because,
        },
    )


def prune_decisions(connection: psycopg.Connection, days: int) -> None:
    """Forget decisions that are so old and of which nothing is held any more."""
    connection.execute(_PRUNE, [days])
