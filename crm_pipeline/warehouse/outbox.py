"""Into the outbox: intents become rows, in the transaction of whoever wants them.

Intents are staged by COPY or by the caller's own query, and then judged by statements over all of
them: what is known already, what is older than what we know, what takes whose place. Python touches
no row that comes from a query.

Belongs here: enqueuing. Does not belong here: taking rows out to send them (claims.py), and what
people do with rows by command (outbox_desk.py).
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime, time
from decimal import Decimal

import psycopg
from psycopg import sql

from crm_pipeline.errors import UsageError
from crm_pipeline.model.writeback import Enqueued, Intent, Lane, Operation, Value

MOST_EQUAL_REWRITES = 3
"""So often one value may be written by itself into one field of one record in a week. Something in
the CRM changes it back each time, and would for ever. Whoever acts may say the same as often as she
likes."""

_ATTEMPTS = 5
_JSON = json.JSONEncoder(allow_nan=False)

_COLUMNS: Mapping[str, str] = {
    "idempotency_key": 'text COLLATE "C"',
    "lane": "smallint",
    "origin": "text",
    "batch": "text",
    "operation": "text",
    "object_name": 'text COLLATE "C"',
    "record_id": 'text COLLATE "C"',
    "external_id_field": "text",
    "external_id": 'text COLLATE "C"',
    "field": 'text COLLATE "C"',
    "value": "jsonb",
    "fields": "jsonb",
    "before": "jsonb",
    "options": "jsonb",
    "parent_id": "text",
    "value_at": "timestamp with time zone",
    "is_held": "boolean",
}
_REQUIRED = ("idempotency_key", "lane", "origin", "object_name")
_NUMBERS = frozenset({700, 701, 1700})
_INSTANTS = frozenset({1082, 1114, 1184})
_JSONB = 3802
_NO_VALUES = {**dict.fromkeys(_NUMBERS, "NaN"), **dict.fromkeys(_INSTANTS, "infinity")}

_STAGE = sql.SQL(
    "CREATE TEMPORARY TABLE outbox_staged"
    " (ordinal bigint GENERATED ALWAYS AS IDENTITY, {}, code text) ON COMMIT DROP"
).format(
    sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind))
        for name, kind in _COLUMNS.items()
    )
)
_DROP = "DROP TABLE IF EXISTS pg_temp.outbox_staged, pg_temp.outbox_new, pg_temp.outbox_judged"
# One row per key; of one record and field the newest is rank 1. Nothing needs writing where the
# record holds the value already.
_SIFT = """
CREATE TEMPORARY TABLE outbox_new ON COMMIT DROP AS
SELECT n.*,
       CASE WHEN n.field IS NULL OR n.code IS NOT NULL THEN 1
            ELSE row_number() OVER (
                PARTITION BY n.object_name, n.record_id, n.field, n.code IS NULL
                ORDER BY n.value_at DESC, n.ordinal DESC) END AS rank
FROM (
    SELECT DISTINCT ON (s.idempotency_key)
           s.ordinal, s.idempotency_key, s.lane, s.origin, s.batch,
           coalesce(s.operation, 'update') AS operation,
           s.object_name,
           events.full_crm_id(s.record_id) AS record_id,
           s.external_id_field,
           CASE WHEN coalesce(s.operation, 'update') = 'update' THEN NULL
                ELSE coalesce(s.external_id, left(
                    encode(sha256(convert_to(s.idempotency_key, 'UTF8')), 'hex'), 32))
                END AS external_id,
           s.field, s.value, s.fields, s.before,
           coalesce(s.options, '{}') AS options,
           s.parent_id,
           least(coalesce(s.value_at, now()), clock_timestamp()) AS value_at,
           coalesce(s.is_held, false) AS is_held,
           s.code
    FROM pg_temp.outbox_staged s
    WHERE NOT EXISTS (
        SELECT FROM crm_sync.outbox o WHERE o.idempotency_key = s.idempotency_key)
    AND (s.before IS NULL OR s.before <> s.value)
    ORDER BY s.idempotency_key, s.ordinal
) n
"""
# In one order for everybody, so that two who enqueue at once wait for each other and never in a
# circle.
_LOCK = """
SELECT count(*) FROM (
    SELECT FROM crm_sync.outbox o JOIN pg_temp.outbox_new n USING (object_name, record_id, field)
    WHERE o.state IN ('waiting', 'held') AND n.rank = 1
    ORDER BY object_name, record_id, field FOR UPDATE OF o
) locked
"""
# What gives way to people does so to what waits already, too.
_JUDGE = f"""
CREATE TEMPORARY TABLE outbox_judged ON COMMIT DROP AS
SELECT nextval(pg_get_serial_sequence('crm_sync.outbox', 'write_id')) AS write_id, j.*
FROM (
    SELECT n.*,
           newer.write_id AS newer_id,
           n.field IS NOT NULL AND n.rank = 1 AND n.code IS NULL AND n.lane <> {int(Lane.ACTION)}
           AND (
               SELECT count(*) FILTER (WHERE l.value = n.value) FROM (
                   SELECT a.value FROM crm_sync.outbox a
                   WHERE a.object_name = n.object_name AND a.record_id = n.record_id
                   AND a.field = n.field AND a.state = 'applied'
                   AND a.ended_at > now() - interval '7 days'
                   ORDER BY a.value_at DESC LIMIT {MOST_EQUAL_REWRITES}) l
           ) >= {MOST_EQUAL_REWRITES} AS is_war
    FROM pg_temp.outbox_new n
    LEFT JOIN LATERAL (
        SELECT max(o.write_id) AS write_id FROM (
            SELECT p.write_id FROM crm_sync.outbox p
            WHERE p.object_name = n.object_name AND p.record_id = n.record_id
            AND p.field = n.field AND p.state IN ('waiting', 'held')
            AND (p.value_at > n.value_at
                 OR n.options ? 'if_unchanged' AND NOT p.options ? 'if_unchanged')
            UNION ALL
            SELECT s.write_id FROM crm_sync.outbox s
            WHERE s.object_name = n.object_name AND s.record_id = n.record_id
            AND s.field = n.field AND s.value_at > n.value_at AND s.state = 'sending'
            UNION ALL (
            SELECT a.write_id FROM crm_sync.outbox a
            WHERE a.object_name = n.object_name AND a.record_id = n.record_id
            AND a.field = n.field AND a.value_at > n.value_at AND a.state = 'applied' LIMIT 1)
        ) o
    ) newer ON n.field IS NOT NULL AND n.rank = 1
    ORDER BY n.ordinal
) j
"""
_SUPERSEDE = """
UPDATE crm_sync.outbox o
SET state = 'superseded', ended_at = now(), successor_id = j.write_id, code = 'NEWER_VALUE',
    reason = 'A newer value for the field took its place before it was sent.'
FROM pg_temp.outbox_judged j
WHERE o.object_name = j.object_name AND o.record_id = j.record_id AND o.field = j.field
AND o.state IN ('waiting', 'held')
AND j.rank = 1 AND j.newer_id IS NULL AND j.code IS NULL AND NOT j.is_war
"""
_INSERT = """
INSERT INTO crm_sync.outbox (
    write_id, idempotency_key, lane, origin, batch, operation, object_name, record_id,
    external_id_field, external_id, field, value, fields, before, options, parent_id, value_at,
    state, ended_at, successor_id, code, reason, remedy)
SELECT j.write_id, j.idempotency_key, j.lane, j.origin, j.batch, j.operation, j.object_name,
       j.record_id, j.external_id_field, j.external_id, j.field, j.value, j.fields, j.before,
       j.options, j.parent_id, j.value_at, v.state,
       CASE WHEN v.state IN ('superseded', 'parked') THEN now() END,
       j.newer_id,
       CASE WHEN v.state = 'parked' THEN coalesce(j.code, 'CHANGED_BACK')
            WHEN v.state = 'superseded' THEN 'NEWER_VALUE' END,
       CASE WHEN v.state = 'superseded' THEN 'A newer value for the field was known already.'
            WHEN j.code IS NOT NULL THEN 'The value is no number or instant that a CRM can hold.'
            WHEN v.state = 'parked' THEN 'The same value was written three times within a week, and'
                 ' each time something in the CRM changed it back.' END,
       CASE WHEN v.state <> 'parked' THEN NULL
            WHEN j.code IS NOT NULL THEN 'Correct the calculation that it comes from.'
            ELSE 'Find the flow, trigger or integration that changes the field, then requeue.' END
FROM pg_temp.outbox_judged j
CROSS JOIN LATERAL (
    SELECT CASE WHEN j.code IS NOT NULL THEN 'parked'
                WHEN j.rank > 1 OR j.newer_id IS NOT NULL THEN 'superseded'
                WHEN j.is_war THEN 'parked'
                WHEN j.is_held THEN 'held'
                ELSE 'waiting' END AS state
) v
ORDER BY j.object_name, j.record_id, j.field
RETURNING state
"""
_COUNTED = """
SELECT (SELECT count(*) FROM pg_temp.outbox_staged),
       (SELECT count(*) FROM pg_temp.outbox_staged s WHERE s.before = s.value),
       (SELECT count(*) FROM pg_temp.outbox_new)
"""


def enqueue(connection: psycopg.Connection, intents: Iterable[Intent]) -> Enqueued:
    """Make rows of intents, in the caller's transaction: they exist if and only if it commits.

    An update becomes a row per field, so that the latest value wins for each field by itself; a
    create or upsert is one row. A transaction that enqueues more than once should do so for the
    same records in the same order as others do, or PostgreSQL may have to end a deadlock.
    """
    with _within_the_callers(connection):
        _begin(connection)
        names = sql.SQL(", ").join(map(sql.Identifier, _COLUMNS))
        statement = sql.SQL("COPY pg_temp.outbox_staged ({}) FROM STDIN").format(names)
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            for intent in intents:
                for row in _rows(intent):
                    copy.write_row(row)
        return _take(connection)


def enqueue_from(
    connection: psycopg.Connection,
    query: sql.Composable,
    parameters: Mapping[str, object] | None = None,
) -> Enqueued:
    """The same for the rows of a query, which never leave the server.

    Args:
        connection: in a transaction, or in autocommit.
        query: gives `idempotency_key`, `lane`, `origin`, `object_name`; for updates `record_id`,
            `field` and `value` of any type; and what else of an intent it wants to say (`before`,
            `value_at`, `parent_id`, `batch`, `is_held`, `operation`, `fields`, ...). A null in
            `before` says that the field is empty. A value that no CRM can hold is parked at once,
            and the others go on.
        parameters: for the query.

    Raises:
        UsageError: the query lacks a column, or has one that means nothing.
    """
    with _within_the_callers(connection):
        _begin(connection)
        inner = sql.SQL("SELECT * FROM ({}) q").format(query)
        described = connection.execute(sql.SQL("{} LIMIT 0").format(inner), parameters).description
        types = {column.name: column.type_code for column in described or ()}
        _check_columns(types)
        selected = [_selected(name, types[name]) for name in types]
        connection.execute(
            sql.SQL(
                "INSERT INTO pg_temp.outbox_staged ({}, code) SELECT {}, {} FROM ({}) q"
            ).format(
                sql.SQL(", ").join(map(sql.Identifier, types)),
                sql.SQL(", ").join(selected),
                _impossible(types.get("value")),
                query,
            ),
            parameters,
        )
        return _take(connection)


@contextmanager
def _within_the_callers(connection: psycopg.Connection) -> Iterator[None]:
    """A savepoint of the caller's transaction; only in autocommit, a transaction of our own."""
    if not connection.autocommit:
        # A block around nothing would commit at its end: let the transaction begin before it.
        connection.execute("SELECT")
    with connection.transaction():
        yield


def _begin(connection: psycopg.Connection) -> None:
    connection.execute(_DROP)
    connection.execute(_STAGE)


def _take(connection: psycopg.Connection) -> Enqueued:
    connection.execute("ANALYZE pg_temp.outbox_staged")
    connection.execute(_SIFT)
    connection.execute("ANALYZE pg_temp.outbox_new")
    for attempt in range(_ATTEMPTS):
        try:
            with connection.transaction():
                states = _judged(connection)
            break
        except psycopg.errors.UniqueViolation:
            # Somebody enqueued for the same field, or the same key, since we looked; now we see it.
            if attempt == _ATTEMPTS - 1:
                raise
            connection.execute("DROP TABLE pg_temp.outbox_new")
            connection.execute(_SIFT)
    counted = connection.execute(_COUNTED).fetchone()
    assert counted is not None
    staged, unneeded, new = counted
    connection.execute(_DROP)
    return Enqueued(**states, known=staged - unneeded - new, unneeded=unneeded)


def _judged(connection: psycopg.Connection) -> dict[str, int]:
    connection.execute(_LOCK)
    connection.execute(_JUDGE)
    connection.execute("ANALYZE pg_temp.outbox_judged")
    connection.execute(_SUPERSEDE)
    inserted = connection.execute(
        f"WITH inserted AS ({_INSERT}) SELECT state, count(*) FROM inserted GROUP BY state"
    ).fetchall()
    return {str(state): int(count) for state, count in inserted}


def _check_columns(types: Mapping[str, int]) -> None:
    missing = [name for name in _REQUIRED if name not in types]
    unknown = [name for name in types if name not in _COLUMNS]
    if missing or unknown:
        raise UsageError(
            "A query that enqueues write-backs must give "
            f"{', '.join(_REQUIRED)}, and may give {', '.join(c for c in _COLUMNS)}; "
            + (f"it lacks {', '.join(missing)}." if missing else f"{unknown[0]} is none of them.")
        )


def _selected(name: str, type_code: int) -> sql.Composable:
    column = sql.SQL("q.{}").format(sql.Identifier(name))
    if name in {"value", "before"} and type_code != _JSONB:
        return sql.SQL("coalesce(to_jsonb({}), 'null')").format(column)
    kind = _COLUMNS[name].partition(" COLLATE")[0]
    return sql.SQL("{}::{}").format(column, sql.SQL(kind))


def _impossible(type_code: int | None) -> sql.Composable:
    """The code of values that are none: to JSON they would be words like any other text."""
    if type_code not in _NO_VALUES:
        return sql.SQL("NULL")
    return sql.SQL(
        "CASE WHEN q.value::text IN ('NaN', 'Infinity', '-Infinity', 'infinity', '-infinity')"
        " THEN 'NOT_A_VALUE' END"
    )


def _rows(intent: Intent) -> Iterable[tuple[object, ...]]:
    common = {
        "lane": int(intent.lane),
        "origin": intent.origin,
        "batch": intent.batch,
        "operation": intent.operation.value,
        "object_name": intent.object_name,
        "parent_id": intent.parent_id,
        "options": json.dumps(intent.options.as_json()),
        "value_at": intent.value_at,
        "is_held": intent.is_held,
    }
    if intent.operation is not Operation.UPDATE:
        own = {
            "idempotency_key": intent.key,
            "external_id_field": intent.external_id_field,
            "external_id": intent.external_id,
            "fields": as_json(dict(intent.fields)),
        }
        yield tuple({**common, **own}.get(name) for name in _COLUMNS)
        return
    for name, value in intent.fields.items():
        before = as_json(intent.before[name]) if name in intent.before else None
        own = {
            "idempotency_key": f"{intent.key}/{name}",
            "record_id": intent.record_id,
            "field": name,
            "value": as_json(value),
            "before": before,
        }
        yield tuple({**common, **own}.get(column) for column in _COLUMNS)


def as_json(value: Value | Mapping[str, Value]) -> str:
    """JSON that keeps every digit: a Decimal is written as the number that it is."""
    match value:
        case dict():
            parts = (f"{_JSON.encode(name)}:{as_json(one)}" for name, one in value.items())
            return "{" + ",".join(parts) + "}"
        case Decimal():
            return f"{value:f}"
        case datetime() | date() | time():
            return json.dumps(value.isoformat())
        case _:
            return _JSON.encode(value)
