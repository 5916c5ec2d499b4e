"""Where a record of the CRM differs from what marketing knows: the queries of the write-backs.

Each compares a wish with what the record holds as far as we know. That is our copy, where the field
is mapped and was read since we last wrote it; else it is what we wrote last. What is on its way
already counts as written. So nothing is asked twice, and nothing can be stranded: whatever became
of a decision, the next one sees what still differs.

Belongs here: the comparison, and the wish of each write-back. Does not belong here: which of them
are on, and what is done with a difference (writeback/automatic.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from crm_pipeline.config.object_settings import FieldMapping, ObjectSettings
from crm_pipeline.model.objects import Direction
from crm_pipeline.model.writeback import DELETED, UNDO
from crm_pipeline.warehouse.schema import column_types
from crm_pipeline.warehouse.withdrawing import PENDING, UNWANTED

FOUND = sql.Identifier("pg_temp", "write_back_found")
"""Where the differences of one decision are collected; it ends with the transaction."""

INHERITED = sql.Identifier("pg_temp", "write_back_inherited")
"""Values that came to a record from one that became it, as this write-back wrote them there."""

_CREATE = """
CREATE TEMPORARY TABLE write_back_found (
    object_name text, record_id text COLLATE "C", field text, value jsonb, before jsonb,
    value_at timestamptz, is_kept_if_edited boolean
) ON COMMIT DROP
"""
# Of the newest row of a field that was not superseded, one that waits tells what the record will
# hold; one that was taken back on its way tells nothing. What was refused or taken back is not
# asked again until it is another value, or until a record that was gone has come back.
_FIND = """
WITH said AS (
    SELECT DISTINCT ON (o.record_id)
           o.record_id, o.state, o.origin, o.value, o.before, o.value_at, o.code, o.ended_at
    FROM crm_sync.outbox o
    WHERE o.object_name = {object} AND o.field = {field} AND o.state <> 'superseded'
    AND NOT (o.state = 'sending' AND o.is_withdrawn)
    ORDER BY o.record_id, o.write_id DESC
), written AS (
    SELECT DISTINCT ON (o.record_id) o.record_id, o.value, o.value_at, o.ended_at
    FROM crm_sync.outbox o
    WHERE o.object_name = {object} AND o.field = {field} AND o.state = 'applied'
    ORDER BY o.record_id, o.value_at DESC, o.write_id DESC
), compared AS (
    SELECT w.record_id, w.value AS wanted, to_jsonb(w.value) AS value, w.value_at, k.held,
           s.code = {deleted} AND s.ended_at < ({last_read}) AS is_back,
           CASE WHEN s.state IN ('waiting', 'held', 'sending') THEN s.value ELSE k.held END
               #>> '{{}}' AS known,
           s.state, s.origin, s.value AS said, s.before AS replaced,
           a.record_id IS NOT NULL AS was_written,
           greatest(
               a.value_at, CASE WHEN s.state IN ('waiting', 'held', 'sending') THEN s.value_at END
           ) AS newest_at
    FROM ({wishes}) w
    JOIN {table} t ON t.{id} = w.record_id
    LEFT JOIN said s ON s.record_id = w.record_id
    LEFT JOIN written a ON a.record_id = w.record_id
    CROSS JOIN LATERAL (SELECT {held} AS held) k
    WHERE {living}
)
INSERT INTO {found} (object_name, record_id, field, value, before, value_at, is_kept_if_edited)
SELECT {object}, c.record_id, {field}, c.value,
       CASE WHEN c.held <> c.value THEN c.held END, c.value_at, {keeps_edited}
FROM compared c
WHERE {differs} AND {may_replace}
AND (c.state = 'parked' AND c.said = c.value AND c.is_back IS NOT TRUE) IS NOT TRUE
AND (c.origin = {undo} AND c.replaced = c.value) IS NOT TRUE
"""
_LAST_READ = """
SELECT max(r.started_at) FROM crm_sync.sync_run r
WHERE r.object_name = {object} AND r.mode <> 'record' AND r.status = 'committed'
"""
# A copy that was on its way here while we wrote may be older than what we wrote.
_COPY = """
CASE WHEN a.record_id IS NULL OR (t._synced_at > a.ended_at AND a.ended_at < ({last_read}))
THEN coalesce(to_jsonb(t.{column}), 'null') ELSE a.value END
"""
_OPTED_OUT = """
SELECT t.{id} AS record_id, true AS value, now() AS value_at
FROM {table} t JOIN {marts}.fct_consent c ON c.email = lower(btrim(t.{email}))
WHERE c.is_opted_out AND (c.complained_at IS NOT NULL OR NOT EXISTS (
    SELECT FROM events.consent_ledger l
    WHERE l.email = c.email AND l.status = 'subscribed'
    AND least(l.occurred_at, l.noted_at) > c.unsubscribed_at))
"""
_HARD_BOUNCED = """
SELECT t.{id} AS record_id, true AS value, now() AS value_at
FROM {table} t JOIN {marts}.fct_consent c ON c.email = lower(btrim(t.{email}))
WHERE c.hard_bounced_at IS NOT NULL
"""
_SCORE = """
SELECT r.record_id, m.{score} AS value, now() AS value_at
FROM {marts}.fct_lead_scores m
JOIN {staging}.int_people__records r ON r.person_id = m.person_id
WHERE NOT r.is_gone AND r.record_type = {record_type}
"""
_TOUCH = """
SELECT r.record_id, btrim(m.{word}) AS value, m.{at} AS value_at
FROM {marts}.fct_touches m
JOIN {staging}.int_people__records r ON r.person_id = m.person_id
WHERE NOT r.is_gone AND r.record_type = {record_type} AND btrim(m.{word}) <> ''
"""
# The CRM keeps whole seconds; a visit of tomorrow is a wrong clock's.
_LAST_VISIT = """
SELECT r.record_id, v.ended_at AS value, v.ended_at AS value_at
FROM (
    SELECT person_id, date_trunc('second', max(ended_at)) AS ended_at
    FROM {marts}.fct_web_visits WHERE ended_at <= now() GROUP BY person_id
) v
JOIN {staging}.int_people__records r ON r.person_id = v.person_id
WHERE NOT r.is_gone AND r.record_type = {record_type}
"""
_NEWER_SCORE = """
(abs(c.wanted - coalesce({known}, 0)) >= {smallest} OR EXISTS (
    SELECT FROM unnest({thresholds}::int[]) x
    WHERE (coalesce({known}, 0) < x) <> (c.wanted < x)))
"""
# What is neither nothing nor what this write-back once wrote, somebody entered.
_NOT_ENTERED = """
(coalesce(c.held, 'null') = 'null' OR EXISTS (
    SELECT FROM crm_sync.outbox x
    WHERE x.object_name = {object} AND x.record_id = c.record_id AND x.field = {field}
    AND x.state = 'applied' AND x.origin = {origin} AND x.value = c.held) OR EXISTS (
    SELECT FROM {inherited} i
    WHERE i.object_name = {object} AND i.record_id = c.record_id AND i.value = c.held))
"""
_PENDING = """
SELECT o.write_id, o.record_id FROM crm_sync.outbox o
WHERE {pending} AND o.object_name = {object} AND o.field = {field} AND o.origin = {origin}
"""
_UNWANTED = """
INSERT INTO {unwanted}
SELECT p.write_id FROM ({pending}) p
WHERE NOT EXISTS (SELECT FROM ({wishes}) w WHERE w.record_id = p.record_id)
"""


@dataclass(frozen=True, slots=True)
class Target:
    """One field of one object that a write-back fills.

    Attributes:
        table: the typed table.
        living: which of its rows are records that can be written.
        converted_columns: where the contact is that a lead became.
        column: where our copy of the field is; None where the field is not mapped.
        email_column: where the address is; None where it is not mapped.
    """

    object_name: str
    field: str
    table: sql.Identifier
    id_column: str
    living: sql.Composable
    converted_columns: tuple[str, ...]
    column: str | None
    email_column: str | None


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a write-back wants of the records of a target, and which of it is worth writing.

    Attributes:
        query: gives record_id, value and value_at.
        differs: a condition over `c`: `wanted` and what is `known`, as text; null is nothing.
    """

    query: sql.Composable
    differs: sql.Composable


def find_target(
    connection: psycopg.Connection,
    crm_schema: str,
    object_name: str,
    chosen: ObjectSettings,
    field: str,
) -> Target | None:
    """Where the records of an object are; None when it was never fully synced."""
    table = chosen.table_name(object_name)
    present = column_types(connection, crm_schema, table)
    if not present:
        return None
    contact = _column_of(chosen, present, "ConvertedContactId")
    converted = tuple(name for name in present if name in {"_converted_into", contact})
    living = [
        sql.SQL("t.{} IS NULL").format(sql.Identifier(name)) for name in ("_deleted_at", *converted)
    ]
    flag = _column_of(chosen, present, "IsConverted")
    if flag is not None:
        living.append(sql.SQL("t.{} IS NOT TRUE").format(sql.Identifier(flag)))
    return Target(
        object_name=object_name,
        field=field,
        table=sql.Identifier(crm_schema, table),
        id_column=chosen.columns[0].column,
        living=sql.SQL(" AND ").join(living),
        converted_columns=converted,
        column=_column_of(chosen, present, field),
        email_column=_column_of(chosen, present, "Email"),
    )


def opted_out(target: Target, marts: str) -> Wishes:
    """A tick on every record whose address opted out or complained."""
    return _of_addresses(_OPTED_OUT, target, marts)


def hard_bounced(target: Target, marts: str) -> Wishes:
    """A tick on every record to whose address mail came back for good."""
    return _of_addresses(_HARD_BOUNCED, target, marts)


def scores(
    target: Target, marts: str, *, kind: str, smallest_change: int, thresholds: Sequence[int]
) -> Wishes:
    """Scores that moved far enough, or over a threshold; an empty field counts as none."""
    differs = sql.SQL(_NEWER_SCORE).format(
        smallest=sql.Literal(smallest_change),
        thresholds=sql.Literal(list(thresholds)),
        known=_known_as("numeric"),
    )
    query = sql.SQL(_SCORE).format(**_places(target, marts), score=sql.Identifier(f"{kind}_score"))
    return Wishes(query, differs)


def visits(target: Target, marts: str) -> Wishes:
    """The most recent page, where it is later than what the CRM holds."""
    query = sql.SQL(_LAST_VISIT).format(**_places(target, marts))
    differs = sql.SQL("({} < c.wanted) IS NOT FALSE").format(_known_as("timestamptz"))
    return Wishes(query, differs)


def first_touch(target: Target, marts: str, *, of: str) -> Wishes:
    """A word of the first touch, where the field is empty and was never written.

    Args:
        target: its field must be mapped, or nobody knows whether it is empty.
        marts: their schema.
        of: `channel` or `source`.
    """
    return Wishes(
        _touches(target, marts, "first", of), sql.SQL("c.known IS NULL AND NOT c.was_written")
    )


def last_touch(target: Target, marts: str, *, of: str) -> Wishes:
    """A word of the last touch, where the CRM holds another one and none of a later touch."""
    return Wishes(
        _touches(target, marts, "last", of),
        sql.SQL("c.known IS DISTINCT FROM c.wanted AND (c.newest_at > c.value_at) IS NOT TRUE"),
    )


def collect(connection: psycopg.Connection) -> None:
    """Make the table of differences, in the caller's transaction."""
    connection.execute(_CREATE)


def find(
    connection: psycopg.Connection,
    target: Target,
    wishes: Wishes,
    *,
    origin: str,
    keeps_edited: bool,
) -> None:
    """Add what differs to the table of differences.

    Args:
        connection: the caller's transaction.
        target: the field.
        wishes: what it should hold.
        origin: the write-back's name.
        keeps_edited: leave alone what people entered in the CRM; the field must be mapped, and the
            table of inherited values there.
    """
    names = {**_names(target, origin), "inherited": INHERITED}
    held: sql.Composable = sql.SQL("a.value")
    if target.column is not None:
        held = sql.SQL(_COPY).format(
            last_read=sql.SQL(_LAST_READ).format(**names), column=sql.Identifier(target.column)
        )
    connection.execute(
        sql.SQL(_FIND).format(
            object=names["object"],
            field=names["field"],
            wishes=wishes.query,
            table=target.table,
            id=sql.Identifier(target.id_column),
            held=held,
            living=target.living,
            found=FOUND,
            differs=wishes.differs,
            keeps_edited=sql.Literal(keeps_edited),
            may_replace=sql.SQL(_NOT_ENTERED if keeps_edited else "true").format(**names),
            deleted=sql.Literal(DELETED),
            last_read=sql.SQL(_LAST_READ).format(**names),
            undo=sql.Literal(UNDO),
        )
    )


def find_unwanted(
    connection: psycopg.Connection, target: Target, wishes: Wishes, *, origin: str
) -> None:
    """Add what is pending and wanted no more to the table of what is taken back.

    Almost always nothing is pending; then nobody looks at the wishes.
    """
    pending = sql.SQL(_PENDING).format(**_names(target, origin), pending=PENDING)
    if connection.execute(pending + sql.SQL(" LIMIT 1")).fetchone() is not None:
        connection.execute(
            sql.SQL(_UNWANTED).format(unwanted=UNWANTED, pending=pending, wishes=wishes.query)
        )


def found_records(connection: psycopg.Connection) -> dict[str, int]:
    """How many records differ, by object."""
    rows = connection.execute(
        sql.SQL("SELECT object_name, count(DISTINCT record_id) FROM {} GROUP BY 1").format(FOUND)
    ).fetchall()
    return {str(name): int(count) for name, count in rows}


def living_records(connection: psycopg.Connection, target: Target) -> int:
    """How many records of the object could be written."""
    row = connection.execute(
        sql.SQL("SELECT count(*) FROM {} t WHERE {}").format(target.table, target.living)
    ).fetchone()
    assert row is not None
    return int(row[0])


def _known_as(kind: str) -> sql.Composable:
    """What is known, as a value of a type; nothing where an action says what is no such value."""
    return sql.SQL("CASE WHEN pg_input_is_valid(c.known, {}) THEN c.known::{} END").format(
        sql.Literal(kind), sql.SQL(kind)
    )


def _of_addresses(query: str, target: Target, marts: str) -> Wishes:
    assert target.email_column is not None
    return Wishes(
        sql.SQL(query).format(
            id=sql.Identifier(target.id_column),
            table=target.table,
            marts=sql.Identifier(marts),
            email=sql.Identifier(target.email_column),
        ),
        sql.SQL("c.known IS DISTINCT FROM 'true'"),
    )


def _touches(target: Target, marts: str, which: str, of: str) -> sql.Composable:
    return sql.SQL(_TOUCH).format(
        **_places(target, marts),
        word=sql.Identifier(f"{which}_touch_{of}"),
        at=sql.Identifier(f"{which}_touch_at"),
    )


def _names(target: Target, origin: str) -> dict[str, sql.Composable]:
    """Whose rows of the outbox are meant."""
    return {
        "object": sql.Literal(target.object_name),
        "field": sql.Literal(target.field),
        "origin": sql.Literal(origin),
    }


def _places(target: Target, marts: str) -> dict[str, sql.Composable]:
    return {
        "marts": sql.Identifier(marts),
        "staging": sql.Identifier(f"{marts}_staging"),
        "record_type": sql.Literal(target.object_name.lower()),
    }


def _column_of(chosen: ObjectSettings, present: dict[str, str], field: str) -> str | None:
    """The column of a field that is read; the last full sync may not have made it yet."""

    def is_meant(mapping: FieldMapping) -> bool:
        return (
            mapping.field.casefold() == field.casefold()
            and mapping.direction is not Direction.UP
            and mapping.column in present
        )

    return next((mapping.column for mapping in chosen.columns if is_meant(mapping)), None)
