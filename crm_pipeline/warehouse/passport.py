"""What is known of one person, as a timeline: what was read, said, decided and written, and why.

Everything is told by what is kept anyway: former versions of records, events, the ledger of
consent, changes of scores, and the outbox. So a passport costs nothing until somebody asks.

Belongs here: the statements. Does not belong here: who the person is (erasure.py) and how a
passport is shown (cli/explain.py).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import psycopg
from psycopg import sql
from psycopg.rows import class_row, dict_row

from crm_pipeline.warehouse.erasure import Person
from crm_pipeline.warehouse.schema import is_relation


class Side(StrEnum):
    """Who speaks; at one instant, in this order."""

    CRM = "crm"
    EVENT = "event"
    CONSENT = "consent"
    SCORE = "score"
    ACTION = "action"
    WRITE_BACK = "write-back"


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened.

    Attributes:
        at: when it happened, as far as anybody knows.
        says: what, in a few words; it may hold values of the person's records.
        evidence: what proves it: a record, an event's id, a row of the ledger or of the outbox.
    """

    at: datetime
    side: Side
    says: str
    evidence: str


@dataclass(frozen=True, slots=True)
class Tables:
    """Where to look.

    Attributes:
        objects: tables of CRM objects, by object, with their column that holds the id.
        marts: schema of the marts.
    """

    crm_schema: str
    objects: Mapping[str, tuple[str, str]]
    marts: str


_EVENTS = """
SELECT e.occurred_at AS at, 'event' AS side,
       concat_ws(', ', replace(e.kind, '_', ' '), 'campaign ' || e.campaign, e.channel, e.source,
                 e.url) AS says,
       'event ' || e.event_id AS evidence
FROM events.marketing_events e
WHERE e.email = ANY(%(addresses)s) OR e.crm_id = ANY(%(ids)s)
"""
_CONSENT = """
SELECT l.occurred_at AS at, 'consent' AS side,
       replace(l.status, '_', ' ') || ', said by ' || l.side
       || ', noted ' || to_char(l.noted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') AS says,
       l.evidence
FROM events.consent_ledger l WHERE l.email = ANY(%(addresses)s)
"""
_SCORES = """
SELECT c.scored_at AS at, 'score' AS side,
       format('total %%s -> %%s (contact %%s, activity %%s, engagement %%s, manual %%s)',
              coalesce(c.previous_total_score::text, 'none'), c.total_score, c.contact_score,
              c.activity_score, c.engagement_score, c.manual_score) AS says,
       'person ' || c.person_id AS evidence
FROM {} c WHERE c.person_id = ANY(%(people)s::uuid[])
"""
_HERS = "(o.record_id = ANY(%(ids)s) OR o.written_id = ANY(%(ids)s))"
_WRITES = f"""
SELECT o.enqueued_at AS at, 'write-back' AS side,
       format('%%s wants %%s', o.origin, coalesce(
           o.field || ' = ' || (o.value #>> '{{}}'), 'a new ' || o.object_name)) AS says,
       'write-back ' || o.write_id AS evidence
FROM crm_sync.outbox o WHERE {_HERS}
UNION ALL
SELECT o.ended_at, 'write-back',
       concat_ws(': ', coalesce(o.field, o.object_name) || ' ' || o.state, o.reason),
       'write-back ' || o.write_id
FROM crm_sync.outbox o WHERE o.ended_at IS NOT NULL AND {_HERS}
"""
_ACTIONS = """
SELECT a.requested_at AS at, 'action' AS side,
       concat_ws(': ', format('%%s asks for %%s of a %%s', a.requested_by, a.kind, a.object_name),
                 CASE WHEN a.state <> 'enqueued' THEN a.state END, a.reason) AS says,
       'action ' || a.action_id AS evidence
FROM crm_sync.action a
WHERE a.match_email = ANY(%(addresses)s) OR a.record_id = ANY(%(ids)s) OR a.matches && %(ids)s
"""
_VERSIONS = """
SELECT v.valid_from AS at, 'crm' AS side,
       CASE WHEN v.changed IS NULL OR v.changed = '{}'
            THEN 'first kept as it was then'
            ELSE (SELECT string_agg(format('%%s = %%s', c, coalesce(
                      left(v.record ->> c, 60), 'null')), ', ' ORDER BY c)
                  FROM unnest(v.changed) c) END AS says,
       %(object)s || ' ' || %(id)s AS evidence
FROM history.of_record(%(table)s::regclass, %(id)s) v
"""
_CONSENT_NOW = """
SELECT email, status, may_be_emailed, since, side, evidence FROM {} WHERE email = ANY(%(addresses)s)
ORDER BY email
"""
_SCORE_NOW = "SELECT * FROM {} WHERE person_id = ANY(%(people)s::uuid[])"
_ADDRESSES = "SELECT DISTINCT email FROM {} WHERE person_id = ANY(%(people)s::uuid[])"


@dataclass(frozen=True, slots=True)
class Passport:
    """One person.

    Attributes:
        now: what holds: `records`, `consent`, `scores`; each may be empty.
        timeline: how it came to be, oldest first.
    """

    now: Mapping[str, Sequence[Mapping[str, object]]]
    timeline: tuple[Entry, ...]


def read_passport(connection: psycopg.Connection, person: Person, tables: Tables) -> Passport:
    """Everything that is known."""
    facts = _facts(connection, person, tables)
    records = tuple(_records(connection, person, tables))
    shown = ("object", "id", "is_living")
    now: dict[str, Sequence[Mapping[str, object]]] = {
        "records": [{name: record[name] for name in shown} for record in records]
    }
    with connection.cursor(row_factory=dict_row) as cursor:
        for name, mart, query in (
            ("consent", "fct_consent", _CONSENT_NOW),
            ("scores", "fct_lead_scores", _SCORE_NOW),
        ):
            relation = sql.Identifier(tables.marts, mart)
            is_there = is_relation(connection, relation)
            statement = sql.SQL(query).format(relation)
            now[name] = cursor.execute(statement, facts).fetchall() if is_there else []
    return Passport(now, _timeline(connection, facts, records, tables))


def _timeline(
    connection: psycopg.Connection,
    facts: Mapping[str, object],
    records: Iterable[Mapping[str, object]],
    tables: Tables,
) -> tuple[Entry, ...]:
    found: list[Entry] = []
    with connection.cursor(row_factory=class_row(Entry)) as cursor:
        for query in (_EVENTS, _CONSENT, _ACTIONS, _WRITES):
            found += cursor.execute(query, facts).fetchall()
        changes = sql.Identifier(tables.marts, "fct_lead_score_changes")
        if is_relation(connection, changes):
            found += cursor.execute(sql.SQL(_SCORES).format(changes), facts).fetchall()
        for record in records:
            found += cursor.execute(_VERSIONS, record).fetchall()
    order = list(Side)
    return tuple(sorted(found, key=lambda e: (e.at, order.index(e.side), e.evidence)))


def _facts(connection: psycopg.Connection, person: Person, tables: Tables) -> Mapping[str, object]:
    addresses = {person.address} if person.address else set()
    facts = {"people": sorted(person.person_ids)}
    records = sql.Identifier(f"{tables.marts}_staging", "int_people__records")
    if is_relation(connection, records):
        rows = connection.execute(sql.SQL(_ADDRESSES).format(records), facts).fetchall()
        addresses |= {row[0] for row in rows if row[0]}
    return {
        **facts,
        "addresses": sorted(addresses),
        "ids": sorted(person.record_ids),
    }


def _records(
    connection: psycopg.Connection, person: Person, tables: Tables
) -> Iterable[Mapping[str, object]]:
    """The person's records, each with its table."""
    ids = sorted(person.record_ids)
    for object_name, (table, key) in tables.objects.items():
        relation = sql.Identifier(tables.crm_schema, table)
        if not is_relation(connection, relation):
            continue
        query = sql.SQL(
            "SELECT {key}, _deleted_at IS NULL FROM {table} WHERE {key} = ANY(%s) ORDER BY {key}"
        ).format(key=sql.Identifier(key), table=relation)
        for record_id, is_living in connection.execute(query, [ids]).fetchall():
            yield {
                "object": object_name,
                "table": relation.as_string(connection),
                "id": record_id,
                "is_living": is_living,
            }
