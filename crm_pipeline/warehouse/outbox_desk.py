"""What people do with the outbox: look, count, approve, queue again, dismiss.

Belongs here: commands on rows that a person or a write-back's owner names. Does not belong here:
enqueuing (outbox.py) and delivery (claims.py, settling.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString

import psycopg
from psycopg.rows import class_row, dict_row

from crm_pipeline.warehouse.connection import Warehouse

_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Totals:
    """How many write-backs stand where; `enqueued` is always the sum of the others.

    Attributes:
        waiting: to be sent, or on their way.
    """

    enqueued: int
    applied: int
    superseded: int
    parked: int
    held: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Stopped:
    """Write-backs of an object that go on only if a person says so.

    Attributes:
        parked: refused for good, and not dismissed.
        held: wait for approval.
    """

    object_name: str
    parked: int
    held: int


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which parked write-backs are meant; what is None does not choose.

    Attributes:
        object_name: of an object.
        code: with this code.
        origin: of one write-back or action.
        write_ids: these alone.
    """

    object_name: str | None = None
    code: str | None = None
    origin: str | None = None
    write_ids: tuple[int, ...] | None = None


_TOTALS = """
SELECT count(*) AS enqueued,
       count(*) FILTER (WHERE state = 'applied') AS applied,
       count(*) FILTER (WHERE state = 'superseded') AS superseded,
       count(*) FILTER (WHERE state = 'parked') AS parked,
       count(*) FILTER (WHERE state = 'held') AS held,
       count(*) FILTER (WHERE state IN ('waiting', 'sending')) AS waiting
FROM crm_sync.outbox
"""
_CHOSEN: LiteralString = """
o.state = 'parked'
AND (%(object)s::text IS NULL OR o.object_name = %(object)s)
AND (%(code)s::text IS NULL OR o.code = %(code)s)
AND (%(origin)s::text IS NULL OR o.origin = %(origin)s)
AND (%(ids)s::bigint[] IS NULL OR o.write_id = ANY(%(ids)s))
"""
# A field for which a newer value waits or was written takes no older one any more; of several
# parked values for one field, the newest goes.
_REQUEUE = f"""
WITH chosen AS (
    SELECT o.write_id,
           (SELECT n.write_id FROM crm_sync.outbox n
            WHERE n.object_name = o.object_name AND n.record_id = o.record_id
            AND n.field = o.field AND n.write_id <> o.write_id
            AND (n.state IN ('waiting', 'held')
                 OR (n.state IN ('sending', 'applied') AND n.value_at >= o.value_at)
                 OR (n.state = 'parked' AND NOT n.is_dismissed
                     AND (n.value_at, n.write_id) > (o.value_at, o.write_id)))
            ORDER BY n.value_at DESC LIMIT 1) AS newer_id
    FROM crm_sync.outbox o WHERE {_CHOSEN} FOR UPDATE
)
UPDATE crm_sync.outbox o
SET state = CASE WHEN c.newer_id IS NULL THEN 'waiting' ELSE 'superseded' END,
    ended_at = CASE WHEN c.newer_id IS NULL THEN NULL ELSE now() END,
    successor_id = c.newer_id, refusals = 0, not_before = '-infinity', is_alone = false,
    is_dismissed = false, remedy = NULL,
    -- It was refused for certain, so another key field than that of the refusal does no harm.
    external_id_field = CASE WHEN o.operation <> 'create' THEN o.external_id_field END,
    code = CASE WHEN c.newer_id IS NULL THEN o.code ELSE 'NEWER_VALUE' END,
    reason = CASE WHEN c.newer_id IS NULL THEN o.reason
                  ELSE 'A newer value for the field was known when it was queued again.' END
FROM chosen c WHERE o.write_id = c.write_id
RETURNING o.state
"""
_DISMISS = f"UPDATE crm_sync.outbox o SET is_dismissed = true WHERE {_CHOSEN} AND NOT is_dismissed"
_APPROVE = "UPDATE crm_sync.outbox SET state = 'waiting' WHERE state = 'held' AND batch = %s"
_APPROVED = "UPDATE crm_sync.write_back_decision SET approved_at = now() WHERE batch = %s"
# An end that a person chose: nobody is asked to look, and the same value is not asked for again.
_REJECT = """
UPDATE crm_sync.outbox
SET state = 'parked', ended_at = now(), is_dismissed = true, code = 'REJECTED',
    reason = 'A person rejected its batch; the value is not asked for again until it changes.',
    remedy = 'To write it nevertheless, requeue it.'
WHERE state = 'held' AND batch = %s
"""
_REJECTED = "UPDATE crm_sync.write_back_decision SET rejected_at = now() WHERE batch = %s"
_PLAN: LiteralString = """
SELECT o.write_id, o.state, o.origin, o.batch, o.object_name,
       coalesce(o.record_id, o.external_id) AS record_id,
       coalesce(o.field, (SELECT string_agg(name, ', ' ORDER BY name)
                          FROM jsonb_object_keys(o.fields) name)) AS field_names,
       o.before IS NOT NULL AS is_before_known, o.before #>> '{}' AS before,
       coalesce(o.value, o.fields) #>> '{}' AS after
FROM crm_sync.outbox o
WHERE o.state IN ('waiting', 'held')
AND (%(object)s::text IS NULL OR o.object_name = %(object)s)
AND (%(origin)s::text IS NULL OR o.origin = %(origin)s)
ORDER BY o.lane, o.write_id LIMIT %(limit)s
"""
_PLANNED: LiteralString = """
SELECT count(*) FILTER (WHERE o.state = 'waiting') AS waiting,
       count(*) FILTER (WHERE o.state = 'held') AS held
FROM crm_sync.outbox o
WHERE o.state IN ('waiting', 'held')
AND (%(object)s::text IS NULL OR o.object_name = %(object)s)
AND (%(origin)s::text IS NULL OR o.origin = %(origin)s)
"""
_HELD: LiteralString = """
SELECT o.batch, o.origin, count(*) AS writes, count(DISTINCT o.record_id) AS records,
       max(d.held_because) AS held_because
FROM crm_sync.outbox o LEFT JOIN crm_sync.write_back_decision d USING (batch)
WHERE o.state = 'held'
AND (%(object)s::text IS NULL OR o.object_name = %(object)s)
AND (%(origin)s::text IS NULL OR o.origin = %(origin)s)
GROUP BY o.batch, o.origin ORDER BY min(o.write_id)
"""
_STOPPED: LiteralString = """
SELECT object_name, count(*) FILTER (WHERE state = 'parked') AS parked,
       count(*) FILTER (WHERE state = 'held') AS held
FROM crm_sync.outbox WHERE state = 'held' OR (state = 'parked' AND NOT is_dismissed)
GROUP BY object_name ORDER BY object_name
"""
_LOG: LiteralString = """
SELECT * FROM crm_sync.write_back_log l
WHERE (%(state)s::text IS NULL OR l.state = %(state)s)
AND (%(object)s::text IS NULL OR l.object_name = %(object)s)
ORDER BY l.write_id DESC LIMIT %(limit)s
"""
_RESULTS: LiteralString = """
SELECT l.* FROM crm_sync.write_back_log l
JOIN crm_sync.outbox o USING (write_id) JOIN crm_sync.outbox_claim c USING (claim_id)
WHERE c.run_id = %(run)s AND l.ended_at IS NOT NULL
ORDER BY l.state = 'applied', l.write_id LIMIT %(limit)s
"""
_BALANCE: LiteralString = """
SELECT origin, object_name, enqueued, applied, superseded, parked, pending, oldest_pending_at
FROM crm_sync.write_back_balance ORDER BY origin, object_name
"""


def totals(warehouse: Warehouse) -> Totals:
    """How the outbox stands."""
    with (
        warehouse.connect(autocommit=True) as connection,
        connection.cursor(row_factory=class_row(Totals)) as cursor,
    ):
        found = cursor.execute(_TOTALS).fetchone()
    assert found is not None
    return found


def waiting(warehouse: Warehouse) -> tuple[int, datetime | None]:
    """How many write-backs are to be sent, and when the first of them may be; by an index."""
    with warehouse.connect(autocommit=True) as connection:
        found = connection.execute(
            "SELECT count(*), min(greatest(not_before, enqueued_at)) FROM crm_sync.outbox"
            " WHERE state = 'waiting'"
        ).fetchone()
    assert found is not None
    return int(found[0]), found[1]


def read_stopped(connection: psycopg.Connection) -> list[Stopped]:
    """What waits for a person, by object; nothing of an object where nothing does."""
    return connection.cursor(row_factory=class_row(Stopped)).execute(_STOPPED).fetchall()


def read_log(
    warehouse: Warehouse, *, state: str | None = None, object_name: str | None = None, limit: int
) -> list[dict[str, object]]:
    """The newest rows of `crm_sync.write_back_log`."""
    facts = {"state": state, "object": object_name, "limit": limit}
    with warehouse.connect(autocommit=True) as connection:
        return connection.cursor(row_factory=dict_row).execute(_LOG, facts).fetchall()


def read_results(warehouse: Warehouse, run_id: str, *, limit: int) -> list[dict[str, object]]:
    """What became of write-backs that a drainer sent, those that were refused first."""
    facts = {"run": run_id, "limit": limit}
    with warehouse.connect(autocommit=True) as connection:
        return connection.cursor(row_factory=dict_row).execute(_RESULTS, facts).fetchall()


def read_balance(warehouse: Warehouse) -> list[dict[str, object]]:
    """`crm_sync.write_back_balance`: per origin and object, how many stand where."""
    with warehouse.connect(autocommit=True) as connection:
        return connection.cursor(row_factory=dict_row).execute(_BALANCE).fetchall()


def requeue(warehouse: Warehouse, chosen: Chosen) -> tuple[int, int]:
    """Let parked write-backs wait again.

    Returns:
        How many wait, and how many a newer value has superseded instead.
    """
    for attempt in range(_ATTEMPTS):
        try:
            with warehouse.connect() as connection:
                states = [row[0] for row in connection.execute(_REQUEUE, _facts(chosen))]
            return states.count("waiting"), states.count("superseded")
        except psycopg.errors.UniqueViolation:
            # A newer value was enqueued since we looked.
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable: the last attempt raises")


def dismiss(warehouse: Warehouse, chosen: Chosen) -> int:
    """Let parked write-backs rest: they stay parked, and nobody is asked to look any more."""
    with warehouse.connect() as connection:
        return connection.execute(_DISMISS, _facts(chosen)).rowcount


def approve(connection: psycopg.Connection, batch: str) -> int:
    """Let held write-backs of a batch go, in the caller's transaction."""
    approved = connection.execute(_APPROVE, [batch]).rowcount
    if approved:
        connection.execute(_APPROVED, [batch])
    return approved


def reject(connection: psycopg.Connection, batch: str) -> int:
    """End held write-backs of a batch without sending them, in the caller's transaction.

    They are parked and dismissed. Each can still be queued again.
    """
    rejected = connection.execute(_REJECT, [batch]).rowcount
    if rejected:
        connection.execute(_REJECTED, [batch])
    return rejected


@dataclass(frozen=True, slots=True)
class Plan:
    """What the CRM is about to be told, values included.

    Attributes:
        rows: the next ones, in the order in which they go.
        held: batches that wait for approval, with the reason.
    """

    waiting_writes: int
    held_writes: int
    rows: tuple[Mapping[str, object], ...]
    held: tuple[Mapping[str, object], ...]


def read_plan(
    warehouse: Warehouse, *, object_name: str | None, origin: str | None, limit: int
) -> Plan:
    """What waits or is held, with the value that each field had when it was enqueued."""
    facts = {"object": object_name, "origin": origin, "limit": limit}
    with warehouse.connect() as connection, connection.cursor(row_factory=dict_row) as cursor:
        counted = cursor.execute(_PLANNED, facts).fetchone()
        assert counted is not None
        return Plan(
            counted["waiting"],
            counted["held"],
            tuple(cursor.execute(_PLAN, facts).fetchall()),
            tuple(cursor.execute(_HELD, facts).fetchall()),
        )


def _facts(chosen: Chosen) -> Mapping[str, object]:
    return {
        "object": chosen.object_name,
        "code": chosen.code,
        "origin": chosen.origin,
        "ids": None if chosen.write_ids is None else list(chosen.write_ids),
    }
