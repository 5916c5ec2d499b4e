"""What happened since a rule last looked, as actions that it asks for.

| a rule watches | what happened stands in | a cause is |
|---|---|---|
| events | events.marketing_events, by the snapshot that was last seen | an event |
| a score | fct_lead_score_changes, by time | a change of a person's score |
| an audience | audiences, by time | a membership, begun or ended |
| a field of a record | history.version, by time | a version of a record |

A cause has one action, whose id is made from the rule and the cause: so it acts once, however often
and in whatever order it is looked at. Times are looked at again for a day, because what is noted by
a time may be committed after it; a snapshot needs no such overlap. A rule acts only on what happens
after it was first seen.

Belongs here: the statements that find causes and make actions of them. Does not belong here: what a
rule may say (config/action_settings.py), and deciding an action (deciding.py).
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import psycopg
from psycopg import sql

from crm_pipeline.config.action_settings import (
    EVENT_COLUMNS,
    PROPERTY,
    Constant,
    RuleKind,
    RuleSettings,
    Taken,
)
from crm_pipeline.config.settings import Settings
from crm_pipeline.model.audiences import FACTS
from crm_pipeline.model.objects import ValueType
from crm_pipeline.warehouse.conditions import condition
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.schema import is_relation

_OVERLAP = "1 day"
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,19})(\.[0-9]{1,20})?")
_FORGET = "DELETE FROM crm_sync.action_rule WHERE NOT rule_name = ANY(%s)"
# A rule that watches for something else is a new one; so is any whose memory is of another server.
_BEGIN = """
INSERT INTO crm_sync.action_rule AS r (rule_name, watches, seen)
VALUES (%(rule)s, %(watches)s, pg_current_snapshot())
ON CONFLICT (rule_name) DO UPDATE
SET watches = excluded.watches, seen = excluded.seen, first_seen_at = now(), looked_at = now()
WHERE r.watches <> excluded.watches
OR pg_snapshot_xmax(r.seen) > pg_snapshot_xmax(excluded.seen)
RETURNING rule_name
"""
_LOOK = """
SELECT seen::text, greatest(first_seen_at, looked_at - %(overlap)s::interval),
       pg_current_snapshot()::text, clock_timestamp()
FROM crm_sync.action_rule WHERE rule_name = %(rule)s FOR UPDATE
"""
_LOOKED = """
UPDATE crm_sync.action_rule SET seen = %(next)s::pg_snapshot, looked_at = %(at)s
WHERE rule_name = %(rule)s
"""
_ASK = """
WITH happened AS (
    SELECT DISTINCT ON (h.cause)
           'rule.' || {rule} || '.' ||
           left(encode(sha256(convert_to(h.cause, 'UTF8')), 'hex'), 32) AS action_id,
           h.cause, {record_id} AS record_id, {email} AS match_email,
           {constants}::jsonb || jsonb_strip_nulls({taken}) AS fields,
           {options}::jsonb || jsonb_build_object('only_new', {only_new}) AS options
    FROM ({source}) h
    WHERE {condition}
    ORDER BY h.cause
), fresh AS (
    SELECT h.* FROM happened h
    WHERE NOT EXISTS (SELECT FROM crm_sync.action a WHERE a.action_id = h.action_id)
), judged AS (
    SELECT f.*, (SELECT count(*) FROM fresh) > {most} AS are_many FROM fresh f
)
INSERT INTO crm_sync.action (action_id, kind, object_name, record_id, match_email, fields, options,
    requested_by, cause, state, code, reason, remedy, resolved_at)
SELECT j.action_id, {kind}, {object}, j.record_id, j.match_email, j.fields, j.options, {rule},
       j.cause,
       CASE WHEN j.are_many THEN 'held' ELSE 'requested' END,
       CASE WHEN j.are_many THEN 'MANY_AT_ONCE' END,
       CASE WHEN j.are_many THEN {many_reason} END,
       CASE WHEN j.are_many THEN {many_remedy} END,
       CASE WHEN j.are_many THEN now() END
FROM judged j
ON CONFLICT (action_id) DO NOTHING
"""
_EVENTS = """
SELECT 'event ' || e.event_id AS cause, e.crm_id AS record_id, {columns}
FROM events.marketing_events e
WHERE e.kind = {kind} AND e.loaded_in >= pg_snapshot_xmin({seen}::pg_snapshot)
AND NOT pg_visible_in_snapshot(e.loaded_in, {seen}::pg_snapshot)
"""
_SCORES = """
SELECT c.person_id || ' scored at ' || c.scored_at AS cause, NULL::text AS record_id,
       {people}, c.{score} AS score, coalesce(b.{score}, 0) AS former_score
FROM {changes} c
LEFT JOIN LATERAL (
    SELECT f.{score} FROM {changes} f
    WHERE f.person_id = c.person_id AND f.scored_at < c.scored_at
    ORDER BY f.scored_at DESC LIMIT 1
) b ON true
LEFT JOIN {personalization} p ON p.person_id = c.person_id
WHERE c.scored_at > {since} AND c.{score} {crosses} AND coalesce(b.{score}, 0) {before}
"""
_AUDIENCES = """
SELECT m.person_id || ' ' || {change} || ' at ' || m.{at} AS cause, NULL::text AS record_id,
       {people}, m.audience
FROM {audiences} m
LEFT JOIN {personalization} p ON p.person_id = m.person_id
WHERE m.audience = {audience} AND m.{at} > {since}
"""
# What a version was replaced by: what the next one that differs in the field tells, or the record.
_RECORDS = """
SELECT v.record_id || ' version ' || v.version_id AS cause, v.record_id, {columns},
       n.value, v.former -> {column} AS former_value
FROM history.version v
JOIN {table} t ON t.{id} = v.record_id AND t._deleted_at IS NULL
CROSS JOIN LATERAL (
    SELECT coalesce((
        SELECT l.former -> {column} FROM history.version l
        WHERE l.table_name = v.table_name AND l.record_id = v.record_id
        AND l.version_id > v.version_id AND l.former ? {column}
        ORDER BY l.version_id LIMIT 1), to_jsonb(t.{column_name})) AS value
) n
WHERE v.table_name = {full_name} AND v.valid_to > {since} AND v.former ? {column}
AND (lower(n.value #>> '{{}}') = lower({becomes})
     OR (jsonb_typeof(n.value) = 'number' AND n.value = {number}::jsonb))
"""
_TAKEN = """
(SELECT CASE jsonb_typeof(q.x) WHEN 'null' THEN NULL
             WHEN 'string' THEN to_jsonb(nullif(btrim(q.x #>> '{{}}'), '')) ELSE q.x END
 FROM (SELECT to_jsonb(h.{column}) AS x) q)
"""


@dataclass(frozen=True, slots=True)
class Looked:
    """What a look of all rules came to.

    Attributes:
        asked: actions that they asked for.
        problems: why a rule could not look, in sentences.
    """

    asked: int = 0
    problems: tuple[str, ...] = ()


def apply_rules(settings: Settings, warehouse: Warehouse) -> Looked:
    """Ask for what the rules want because of what happened; costs no call to the CRM.

    Each rule has a transaction of its own, and one that fails stops no other. A rule that is seen
    for the first time only notes it.
    """
    rules = settings.actions.enabled_rules
    with warehouse.connect() as connection:
        connection.execute(_FORGET, [list(rules)])
    asked, problems = 0, []
    for name, rule in rules.items():
        try:
            with warehouse.connect() as connection:
                asked += _apply(connection, settings, warehouse.crm_schema, name, rule)
        except (psycopg.ProgrammingError, psycopg.DataError) as error:
            problems.append(f"The rule {name} cannot look: PostgreSQL says {error.sqlstate}.")
    return Looked(asked, tuple(problems))


def _apply(
    connection: psycopg.Connection,
    settings: Settings,
    crm_schema: str,
    name: str,
    rule: RuleSettings,
) -> int:
    watches = json.dumps(rule.when.model_dump(mode="json", exclude_none=True), sort_keys=True)
    if connection.execute(_BEGIN, {"rule": name, "watches": watches}).fetchone() is not None:
        return 0
    looked = connection.execute(_LOOK, {"rule": name, "overlap": _OVERLAP}).fetchone()
    if looked is None:  # the settings of another process do not have it any more
        return 0
    seen, since, next_seen, at = looked
    source = _source(connection, settings, crm_schema, rule, seen=seen, since=since)
    asked = 0
    if source is not None:
        query = _asking(name, rule, source, most=settings.actions.most_at_once)
        asked = connection.execute(query).rowcount
    connection.execute(_LOOKED, {"rule": name, "next": next_seen, "at": at})
    return asked


def _asking(name: str, rule: RuleSettings, source: sql.Composable, *, most: int) -> sql.Composed:
    """The statement that makes actions of causes."""
    taken = rule.taken
    match = rule.match
    by_email = match == "email"
    conditions: list[sql.Composable] = []
    if by_email:
        conditions.append(sql.SQL("h.email IS NOT NULL"))
    if match == "record":
        conditions.append(sql.SQL("h.record_id IS NOT NULL"))
    if rule.when.condition is not None:
        conditions.append(sql.SQL(condition(rule.when.condition, _event_columns(rule))))
    options = {
        "on_duplicate": rule.options.on_duplicate.value,
        "assignment": rule.options.assignment,
        "if_found": rule.do.if_found.value,
        "match": "email" if by_email else "none",
        "owner": rule.options.owner,
        "campaign": rule.options.campaign,
        "only_empty": rule.options.only_empty or None,
    }
    return sql.SQL(_ASK).format(
        rule=sql.Literal(name),
        record_id=sql.SQL("h.record_id" if match == "record" else "NULL::text"),
        email=sql.SQL("lower(btrim(h.email))" if by_email else "NULL::text"),
        constants=sql.Literal(json.dumps(dict(rule.constants), default=_plain)),
        taken=_taken(taken),
        options=sql.Literal(json.dumps({k: v for k, v in options.items() if v is not None})),
        only_new=_only_new(rule),
        source=source,
        condition=sql.SQL(" AND ").join(conditions) if conditions else sql.SQL("true"),
        most=sql.Literal(most),
        kind=sql.Literal("create" if rule.do.create else "update"),
        object=sql.Literal(rule.do.object_name),
        many_reason=sql.Literal(f"The rule {name} asks for more than {most:,} actions at once."),
        many_remedy=sql.Literal(
            "Look at what the rule asks for. Let it go with crm-pipeline actions requeue --code"
            " MANY_AT_ONCE, or dismiss it."
        ),
    )


def _taken(taken: Mapping[str, Taken]) -> sql.Composable:
    if not taken:
        return sql.SQL("'{}'::jsonb")
    pairs = [
        sql.SQL("{}::text, coalesce({}, {}::jsonb)").format(
            sql.Literal(name),
            _value_of(one),
            sql.Literal(json.dumps(one.otherwise, default=_plain)),
        )
        for name, one in taken.items()
    ]
    return sql.SQL("jsonb_build_object({})").format(sql.SQL(", ").join(pairs))


def _only_new(rule: RuleSettings) -> sql.Composable:
    """Fields that only a new record gets: those that are listed, and whatever stands in."""
    stands_in = [
        sql.SQL("CASE WHEN {} IS NULL THEN {} END").format(_value_of(one), sql.Literal(name))
        for name, one in rule.taken.items()
        if one.otherwise is not None
    ]
    listed = [sql.Literal(name) for name in rule.options.only_new]
    return sql.SQL("to_jsonb(array_remove(ARRAY[{}]::text[], NULL))").format(
        sql.SQL(", ").join([*listed, *stands_in])
    )


def _value_of(taken: Taken) -> sql.Composable:
    return sql.SQL(_TAKEN).format(column=sql.Identifier(_column(taken.source)))


def _column(source: str) -> str:
    """How the sources below name a column; a property in lower case, as conditions do."""
    return f"taken {source}" if source.startswith(PROPERTY) else source


def _event_columns(rule: RuleSettings) -> Mapping[str, ValueType]:
    return {**EVENT_COLUMNS, **{name.lower(): ValueType.TEXT for name in rule.when.properties}}


def _source(
    connection: psycopg.Connection,
    settings: Settings,
    crm_schema: str,
    rule: RuleSettings,
    *,
    seen: str,
    since: object,
) -> sql.Composable | None:
    """A query of causes; None while the tables that it would read are not there yet."""
    when, marts = rule.when, settings.marketing.target_schema
    people = sql.Identifier(marts, "personalization")
    match when.kind:
        case RuleKind.EVENT:
            return sql.SQL(_EVENTS).format(
                columns=_columns_of_events(rule),
                kind=sql.Literal(when.event),
                seen=sql.Literal(seen),
            )
        case RuleKind.SCORE:
            changes = sql.Identifier(marts, "fct_lead_score_changes")
            limit = when.rises_above if when.rises_above is not None else when.falls_below
            crosses, before = (">", "<=") if when.rises_above is not None else ("<", ">=")
            source = sql.SQL(_SCORES).format(
                people=_people(),
                score=sql.Identifier(f"{when.score}_score"),
                changes=changes,
                personalization=people,
                since=sql.Literal(since),
                crosses=sql.SQL(f"{crosses} {{}}").format(sql.Literal(limit)),
                before=sql.SQL(f"{before} {{}}").format(sql.Literal(limit)),
            )
            return source if _are_there(connection, changes, people) else None
        case RuleKind.AUDIENCE:
            audiences = sql.Identifier(marts, "audiences")
            source = sql.SQL(_AUDIENCES).format(
                people=_people(),
                change=sql.Literal(f"{when.change} {when.audience}"),
                at=sql.Identifier(f"{when.change}_at"),
                audiences=audiences,
                personalization=people,
                audience=sql.Literal(when.audience),
                since=sql.Literal(since),
            )
            return source if _are_there(connection, audiences, people) else None
        case RuleKind.RECORD:
            return _records(connection, settings, crm_schema, rule, since)


def _are_there(connection: psycopg.Connection, *tables: sql.Identifier) -> bool:
    return all(is_relation(connection, table) for table in tables)


def _columns_of_events(rule: RuleSettings) -> sql.Composable:
    asked = [
        sql.SQL("nullif(btrim(e.properties ->> {}), '') AS {}").format(
            sql.Literal(name[len(PROPERTY) :]), sql.Identifier(name.lower())
        )
        for name in rule.when.properties
    ]
    taken = [
        sql.SQL("e.properties -> {} AS {}").format(
            sql.Literal(one.source[len(PROPERTY) :]), sql.Identifier(_column(one.source))
        )
        for one in {one.source: one for one in rule.taken.values()}.values()
        if one.source.startswith(PROPERTY)
    ]
    own = [sql.SQL("e.{}").format(sql.Identifier(name)) for name in EVENT_COLUMNS]
    return sql.SQL(", ").join([*own, *asked, *taken])


def _people() -> sql.Composable:
    return sql.SQL(", ").join(sql.SQL("p.{}").format(sql.Identifier(name)) for name in FACTS)


def _records(
    connection: psycopg.Connection,
    settings: Settings,
    crm_schema: str,
    rule: RuleSettings,
    since: object,
) -> sql.Composable | None:
    name = rule.when.record or ""
    chosen = settings.objects[name]
    columns = {mapping.field: mapping.column for mapping in chosen.columns}
    table = sql.Identifier(crm_schema, chosen.table_name(name))
    if not is_relation(connection, table):
        return None
    # The address has a name of its own, by which every source tells it.
    wanted = {
        taken.source: columns[taken.source]
        for taken in rule.taken.values()
        if taken.source in columns
    }
    shown: list[sql.Composable] = [
        sql.SQL("t.{} AS {}").format(sql.Identifier(column), sql.Identifier(field))
        for field, column in wanted.items()
    ]
    by_folded = {field.casefold(): column for field, column in columns.items()}
    email = by_folded.get("email")
    shown.append(
        sql.SQL("t.{} AS email").format(sql.Identifier(email))
        if email
        else sql.SQL("NULL::text AS email")
    )
    column = columns[rule.when.field or ""]
    becomes = rule.when.becomes
    spelt = str(becomes).lower() if isinstance(becomes, bool) else str(becomes)
    return sql.SQL(_RECORDS).format(
        columns=sql.SQL(", ").join(shown),
        column=sql.Literal(column),
        column_name=sql.Identifier(column),
        table=table,
        id=sql.Identifier(chosen.columns[0].column),
        full_name=sql.Literal(f"{crm_schema}.{chosen.table_name(name)}"),
        since=sql.Literal(since),
        becomes=sql.Literal(spelt),
        number=sql.Literal(spelt if _NUMBER.fullmatch(spelt) else None),
    )


def _plain(value: Constant) -> str:
    """Days and instants as texts; everything else is JSON by itself."""
    assert isinstance(value, date)
    return value.isoformat()
