"""The table of actions: asking, taking what is not decided, keeping decisions, and looking.

Belongs here: the statements on `crm_sync.action`, and what is looked up in tables to decide one.
Does not belong here: deciding (actions/), delivery (outbox.py), what rules ask for
(actions/rules.py).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString

from psycopg import sql
from psycopg.rows import class_row, dict_row

from crm_pipeline.model.actions import Action, ActionKind, ActionState
from crm_pipeline.model.writeback import Intent
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.exact_json import exact_json
from crm_pipeline.warehouse.lease import Lease
from crm_pipeline.warehouse.outbox import enqueue
from crm_pipeline.warehouse.schema import is_relation

ACTIONS_LEASE = "actions"
"""Of the one who decides actions; no object is called so."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of one action.

    Attributes:
        match_email: the person's address, where it was found among the fields.
        matched_object: which object the matches are of.
        waits_for: the action that must end first; then nothing is decided yet.
        intents: what is to be enqueued; of an update, fields that give way go by themselves.
    """

    action_id: str
    state: ActionState
    code: str | None = None
    reason: str | None = None
    remedy: str | None = None
    match_email: str | None = None
    matched_object: str | None = None
    matches: tuple[str, ...] = ()
    waits_for: str | None = None
    intents: tuple[Intent, ...] = ()


@dataclass(frozen=True, slots=True)
class BeingMade:
    """A record that an action creates just now, or may: what tells it from others.

    Attributes:
        email: in lower case, of any object.
        campaign: of a campaign member, by id; so is the person.
    """

    action_id: str
    object_name: str
    email: str | None
    external_id_field: str | None
    external_id: str | None
    campaign: str | None
    person: str | None


@dataclass(frozen=True, slots=True)
class OwnerFound:
    """A user or a queue that somebody named."""

    name: str
    record_id: str
    is_active: bool
    is_queue: bool
    owns: tuple[str, ...] = ()


_ASK = """
INSERT INTO crm_sync.action (action_id, kind, object_name, record_id, match_email,
    external_id_field, external_id, fields, options, requested_by)
VALUES (%(action_id)s, %(kind)s, %(object)s, %(record_id)s, %(email)s, %(key_field)s, %(key)s,
        %(fields)s, %(options)s, %(by)s)
ON CONFLICT (action_id) DO NOTHING
"""
_TAKE = """
SELECT action_id, kind, object_name, record_id, match_email, external_id_field, external_id,
       fields::text AS fields, options::text AS options, requested_by, requested_at, ordinal,
       idempotency_key AS key,
       -- Of several records a person named the one that is meant.
       CASE WHEN cardinality(matches) > 1 AND record_id IS NOT NULL
            THEN matched_object END AS record_object
FROM crm_sync.action WHERE state = 'requested' AND ordinal > %s ORDER BY ordinal LIMIT %s
"""
_BEING_MADE = """
SELECT a.action_id, o.object_name,
       lower(btrim(coalesce(o.fields ->> 'Email', a.match_email))) AS email,
       a.external_id_field, a.external_id, o.fields ->> 'CampaignId' AS campaign,
       coalesce(o.fields ->> 'ContactId', o.fields ->> 'LeadId') AS person
FROM crm_sync.action a JOIN crm_sync.outbox o USING (idempotency_key)
WHERE a.state = 'enqueued' AND o.operation IN ('create', 'upsert')
AND o.state IN ('waiting', 'held', 'sending')
ORDER BY a.ordinal
"""
_DECIDED = """
CREATE TEMPORARY TABLE action_decided (
    action_id text COLLATE "C", state text, code text, reason text, remedy text, match_email text,
    matched_object text, matches text[], waits_for text
) ON COMMIT DROP
"""
_STILL_ASKED = """
SELECT a.action_id FROM crm_sync.action a JOIN pg_temp.action_decided d USING (action_id)
WHERE a.state = 'requested' ORDER BY a.ordinal FOR UPDATE OF a
"""
_SETTLE = """
UPDATE crm_sync.action a
SET state = d.state, code = d.code, reason = d.reason, remedy = d.remedy,
    match_email = coalesce(a.match_email, d.match_email), waits_for = d.waits_for,
    matched_object = coalesce(d.matched_object, a.matched_object),
    matches = CASE WHEN d.matched_object IS NULL THEN a.matches ELSE d.matches END,
    resolved_at = CASE WHEN d.state <> 'requested' THEN now() END
FROM pg_temp.action_decided d WHERE a.action_id = d.action_id AND a.state = 'requested'
RETURNING a.state
"""
# One that waits for a record to be made is due when that has ended, well or badly.
_IS_DUE = """
SELECT EXISTS (
    SELECT FROM crm_sync.action a WHERE a.state = 'requested' AND (
        a.waits_for IS NULL OR NOT EXISTS (
            SELECT FROM crm_sync.action m JOIN crm_sync.outbox o USING (idempotency_key)
            WHERE m.action_id = a.waits_for AND o.state IN ('waiting', 'held', 'sending'))))
"""
_LOG: LiteralString = """
SELECT * FROM crm_sync.action_log l
WHERE (%(state)s::text IS NULL OR l.state = %(state)s)
AND (%(ids)s::text[] IS NULL OR l.action_id = ANY(%(ids)s))
AND (%(since)s::timestamptz IS NULL OR l.resolved_at >= %(since)s)
ORDER BY l.requested_at DESC, l.action_id LIMIT %(limit)s
"""
_CHOSEN: LiteralString = """
a.state IN ('held', 'refused')
AND (%(code)s::text IS NULL OR a.code = %(code)s)
AND (%(by)s::text IS NULL OR a.requested_by = %(by)s)
AND (%(ids)s::text[] IS NULL OR a.action_id = ANY(%(ids)s))
"""
_REQUEUE = f"""
UPDATE crm_sync.action a
SET state = 'requested', resolved_at = NULL, is_dismissed = false, waits_for = NULL,
    record_id = coalesce(events.full_crm_id(btrim(%(record_id)s)), a.record_id)
WHERE {_CHOSEN}
"""
_DISMISS = f"UPDATE crm_sync.action a SET is_dismissed = true WHERE {_CHOSEN} AND NOT is_dismissed"
# A rule looks back by a day, and must find what it asked for already.
_PRUNE = """
DELETE FROM crm_sync.action a
WHERE a.resolved_at < now() - make_interval(days => greatest(%s, 7))
AND (a.state IN ('enqueued', 'unneeded') OR a.is_dismissed)
AND NOT EXISTS (
    SELECT FROM crm_sync.action_log l WHERE l.action_id = a.action_id
    AND l.state IN ('waiting', 'parked'))
"""
_USERS = """
SELECT w.name, t.id, coalesce((to_jsonb(t) ->> 'isactive')::boolean, true), false, '{{}}'::text[]
FROM unnest(%s::text[]) w(name) JOIN {users} t
ON w.name IN (t.id, left(t.id, 15))
OR lower(w.name) IN (lower(to_jsonb(t) ->> 'username'), lower(to_jsonb(t) ->> 'email'))
WHERE t._deleted_at IS NULL
"""
_QUEUES = """
SELECT w.name, t.id, true, true,
       ARRAY(SELECT o.sobjecttype FROM {objects} o
             WHERE o.queueid = t.id AND o._deleted_at IS NULL)
FROM unnest(%s::text[]) w(name) JOIN {queues} t
ON w.name IN (t.id, left(t.id, 15))
OR lower(w.name) IN (lower(to_jsonb(t) ->> 'name'), lower(to_jsonb(t) ->> 'developername'))
WHERE t._deleted_at IS NULL
"""


def ask(warehouse: Warehouse, action: Action) -> bool:
    """Ask for an action.

    Returns:
        Whether it is new: the same id is the same action.
    """
    with warehouse.connect() as connection:
        return bool(
            connection.execute(
                _ASK,
                {
                    "action_id": action.action_id,
                    "kind": action.kind.value,
                    "object": action.object_name,
                    "record_id": action.record_id,
                    "email": action.match_email,
                    "key_field": action.external_id_field,
                    "key": action.external_id,
                    "fields": json.dumps(action.fields),
                    "options": json.dumps(action.options),
                    "by": action.requested_by,
                },
            ).rowcount
        )


def requested(warehouse: Warehouse, *, after: int, limit: int) -> tuple[list[Action], int]:
    """The next actions that are not decided, and the place of the last of them."""
    with warehouse.connect(autocommit=True) as connection:
        rows = connection.cursor(row_factory=dict_row).execute(_TAKE, [after, limit]).fetchall()
    return [_action(row) for row in rows], int(rows[-1]["ordinal"]) if rows else after


def is_any_due(warehouse: Warehouse) -> bool:
    """Whether something was asked for that can be decided now; by an index."""
    with warehouse.connect(autocommit=True) as connection:
        found = connection.execute(_IS_DUE).fetchone()
    return bool(found and found[0])


def being_made(warehouse: Warehouse) -> list[BeingMade]:
    """Records that are on their way to the CRM, the first asked for first."""
    with warehouse.connect(autocommit=True) as connection:
        cursor = connection.cursor(row_factory=class_row(BeingMade))
        return cursor.execute(_BEING_MADE).fetchall()


def keep_decisions(
    warehouse: Warehouse, lease: Lease, decisions: Sequence[Decision]
) -> dict[ActionState, int]:
    """Enqueue what was decided and mark it, in one transaction: both happen, or neither.

    An action that is gone, or that somebody else has decided meanwhile, is left as it is.

    Returns:
        How many actions have which state now.

    Raises:
        LeaseLost: another process decides by now.
    """
    with warehouse.connect() as connection:
        connection.execute(_DECIDED)
        with (
            connection.cursor() as cursor,
            cursor.copy("COPY pg_temp.action_decided FROM STDIN") as copy,
        ):
            for one in decisions:
                copy.write_row(
                    (
                        one.action_id,
                        one.state.value,
                        one.code,
                        one.reason,
                        one.remedy,
                        one.match_email,
                        one.matched_object,
                        list(one.matches),
                        one.waits_for,
                    )
                )
        still = {row[0] for row in connection.execute(_STILL_ASKED)}
        intents = [i for one in decisions if one.action_id in still for i in one.intents]
        if intents:
            enqueue(connection, intents)
        states = [ActionState(row[0]) for row in connection.execute(_SETTLE)]
        lease.prove(connection)
    return {state: states.count(state) for state in ActionState}


def read_log(
    warehouse: Warehouse,
    *,
    state: str | None = None,
    action_ids: Sequence[str] | None = None,
    decided_since: datetime | None = None,
    limit: int,
) -> list[dict[str, object]]:
    """The newest rows of `crm_sync.action_log`."""
    facts = {
        "state": state,
        "ids": None if action_ids is None else list(action_ids),
        "since": decided_since,
        "limit": limit,
    }
    with warehouse.connect(autocommit=True) as connection:
        return connection.cursor(row_factory=dict_row).execute(_LOG, facts).fetchall()


def warehouse_time(warehouse: Warehouse) -> datetime:
    """The warehouse's clock, by which decisions are dated."""
    with warehouse.connect(autocommit=True) as connection:
        found = connection.execute("SELECT now()").fetchone()
    assert found is not None
    instant: datetime = found[0]
    return instant


def requeue(
    warehouse: Warehouse,
    *,
    action_ids: Sequence[str] | None = None,
    code: str | None = None,
    requested_by: str | None = None,
    record_id: str | None = None,
) -> int:
    """Let held and refused actions be decided again; a record that is named is the one meant."""
    facts = _facts(action_ids, code, requested_by) | {"record_id": record_id}
    with warehouse.connect() as connection:
        return connection.execute(_REQUEUE, facts).rowcount


def dismiss(
    warehouse: Warehouse,
    *,
    action_ids: Sequence[str] | None = None,
    code: str | None = None,
    requested_by: str | None = None,
) -> int:
    """Let held and refused actions rest for good."""
    with warehouse.connect() as connection:
        return connection.execute(_DISMISS, _facts(action_ids, code, requested_by)).rowcount


def prune_actions(warehouse: Warehouse, *, days: int) -> int:
    """Delete actions that had their end so long ago, at least a week.

    Returns:
        How many.
    """
    with warehouse.connect() as connection:
        return connection.execute(_PRUNE, [days]).rowcount


def owners_named(warehouse: Warehouse, names: Sequence[str]) -> list[OwnerFound] | None:
    """Users and queues of those names or ids; None where there is no reference data."""
    tables = {
        word: sql.Identifier(warehouse.crm_schema, table)
        for word, table in (("users", "users"), ("queues", "queues"), ("objects", "queue_objects"))
    }
    with warehouse.connect(autocommit=True) as connection:
        if not all(is_relation(connection, table) for table in tables.values()):
            return None
        rows = [
            row
            for query in (_USERS, _QUEUES)
            for row in connection.execute(sql.SQL(query).format(**tables), [list(names)])
        ]
    return [
        OwnerFound(name, record_id, is_active, is_queue, tuple(owns))
        for name, record_id, is_active, is_queue, owns in rows
    ]


def assignment_rules(warehouse: Warehouse) -> dict[str, str] | None:
    """The object of each assignment rule by its id; None where there is no reference data."""
    table = sql.Identifier(warehouse.crm_schema, "assignment_rules")
    with warehouse.connect(autocommit=True) as connection:
        if not is_relation(connection, table):
            return None
        rows = connection.execute(
            sql.SQL("SELECT id, sobjecttype FROM {} WHERE _deleted_at IS NULL").format(table)
        ).fetchall()
    return {str(record_id): str(object_name) for record_id, object_name in rows}


def _facts(
    action_ids: Sequence[str] | None, code: str | None, requested_by: str | None
) -> dict[str, object]:
    ids = None if action_ids is None else list(action_ids)
    return {"ids": ids, "code": code, "by": requested_by}


def _action(row: Mapping[str, object]) -> Action:
    requested_at = row["requested_at"]
    assert isinstance(requested_at, datetime)
    try:
        fields, options = exact_json(str(row["fields"])), exact_json(str(row["options"]))
        is_readable = True
    except RecursionError:  # nested without end
        fields, options, is_readable = {}, {}, False
    return Action(
        action_id=str(row["action_id"]),
        kind=ActionKind(str(row["kind"])),
        object_name=str(row["object_name"]),
        fields=fields,
        options=options,
        record_id=_text(row["record_id"]),
        match_email=_text(row["match_email"]),
        external_id_field=_text(row["external_id_field"]),
        external_id=_text(row["external_id"]),
        record_object=_text(row["record_object"]),
        requested_by=str(row["requested_by"]),
        requested_at=requested_at,
        key=str(row["key"]),
        is_readable=is_readable,
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)
