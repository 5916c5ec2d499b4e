"""Handing a write-back over to a record: its own became that one, or an upsert's is there already.

Belongs here: the statement, and what our tombstones know. Does not belong here: deciding where it
goes (writeback/following.py, writeback/looking_again.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from crm_pipeline.warehouse.claims import Claim
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.lease import Lease
from crm_pipeline.warehouse.outbox import enqueue_from
from crm_pipeline.warehouse.settling import MOST_COLLISIONS, close_claim
from crm_pipeline.warehouse.withdrawing import WITHDRAWN, lock_against_withdrawing

# An upsert becomes what an update with its key would be: a row per field. No assignment rule gets a
# record that is there.
_PARTS = """
pg_temp.outbox_moved m JOIN crm_sync.outbox o ON o.write_id = m.write_id AND o.state = 'sending'
CROSS JOIN LATERAL (
    SELECT o.field AS field, o.value AS value, o.idempotency_key || '=>' || m.record_id AS key
    WHERE o.field IS NOT NULL
    UNION ALL
    SELECT f.key, f.value, o.idempotency_key || '/' || f.key FROM jsonb_each(o.fields) f
) v
"""
_MOVED = f"""
SELECT v.key AS idempotency_key, o.lane, o.origin, o.batch, m.object_name, m.record_id, v.field,
       v.value, o.value_at,
       CASE WHEN o.field IS NULL THEN o.options - 'assignment' ELSE o.options END AS options
FROM {_PARTS}
"""
# What was taken back while it was on its way goes nowhere else.
_WITHDRAWN = f"""
UPDATE crm_sync.outbox o
SET state = 'superseded', ended_at = now(), code = '{WITHDRAWN}',
    reason = 'It was taken back while it was on its way, and its record has become another one.'
FROM pg_temp.outbox_moved m
WHERE o.write_id = m.write_id AND o.state = 'sending' AND o.is_withdrawn
"""
_HAND_OVER = f"""
UPDATE crm_sync.outbox u
SET state = 'superseded', ended_at = now(), successor_id = s.write_id, code = s.code,
    reason = s.reason
FROM (
    SELECT m.write_id AS moved_id, m.code, m.reason, min(n.write_id) AS write_id
    FROM {_PARTS} JOIN crm_sync.outbox n ON n.idempotency_key = v.key
    GROUP BY m.write_id, m.code, m.reason
) s
WHERE u.write_id = s.moved_id
"""
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


@dataclass(frozen=True, slots=True)
class Move:
    """An update or upsert that goes on as an update of this record."""

    write_id: int
    object_name: str
    record_id: str
    code: str
    reason: str


def follow(warehouse: Warehouse, lease: Lease, taken: Claim, moves: Sequence[Move]) -> None:
    """Let write-backs go on as updates of these records; there, too, the newest value wins.

    The write-back itself ends as superseded by what it became. One that was taken back
    meanwhile ends here.
    """
    for attempt in range(MOST_COLLISIONS):
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
                lock_against_withdrawing(connection, "outbox_moved")
                connection.execute(_WITHDRAWN)
                enqueue_from(connection, sql.SQL(_MOVED))
                connection.execute(_HAND_OVER)
                close_claim(connection, taken)
                lease.prove(connection)
            return
        except psycopg.errors.UniqueViolation:
            if attempt == MOST_COLLISIONS - 1:
                raise


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
