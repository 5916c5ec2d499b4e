"""What is written to the CRM by itself: opt-outs, scores, visits, touches.

A decision asks what differs now and enqueues it, in one transaction. It does not follow events: if
a run dies, the next one finds the same difference. One write-back is decided by one process at a
time.

Belongs here: which write-backs there are, when one is due, what must be approved. Does not belong
here: the queries (warehouse/differences.py), sending what was decided (drain.py).
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from uuid import uuid4

import psycopg

from crm_pipeline.config.settings import Settings
from crm_pipeline.config.write_back_settings import PEOPLE, EditedInCrm, FieldsOfPeople
from crm_pipeline.errors import UsageError
from crm_pipeline.model.writeback import Enqueued, Lane
from crm_pipeline.warehouse import decisions, differences, inheriting, withdrawing
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.decisions import Seen
from crm_pipeline.warehouse.differences import Target, Wishes

CONSENT, LEAD_SCORES, VISITS, TOUCHES = "consent", "lead_scores", "visits", "touches"
FEWEST_RECORDS_FOR_PERCENT = 200
"""A share of an object is no reason to ask anybody while it is no more records than this."""


@dataclass(frozen=True, slots=True)
class Filling:
    """One meaning that a write-back gives to fields, and the wish behind it.

    Attributes:
        keeps_edited: what people entered in the CRM is left alone, so the field must be mapped:
            nobody may guess what it holds.
        replaces: what the field holds may be written over, so whose it is matters.
        needs_email: records are found by their address.
    """

    fields: FieldsOfPeople
    wishes: Callable[[Target, str], Wishes]
    keeps_edited: bool = False
    replaces: bool = True
    needs_email: bool = False


@dataclass(frozen=True, slots=True)
class WriteBack:
    """One automatic write-back.

    Attributes:
        marts: what it reads, as tables of the marts' schema.
        may_be_held: opt-outs never wait for a person.
    """

    name: str
    lane: Lane
    marts: tuple[str, ...]
    is_on: Callable[[Settings], bool]
    fillings: Callable[[Settings], tuple[Filling, ...]]
    may_be_held: bool = True


@dataclass(frozen=True, slots=True)
class Decision:
    """What a decision found and did.

    Attributes:
        batch: what its rows of the outbox carry; None when there was nothing to enqueue.
        records: how many records differ.
        held_because: why a person must approve it.
        notes: what was left out, and why, in sentences.
    """

    name: str
    batch: str | None = None
    records: int = 0
    enqueued: Enqueued = field(default_factory=Enqueued)
    held_because: str | None = None
    seconds: float = 0.0
    notes: tuple[str, ...] = ()


def _consent(settings: Settings) -> tuple[Filling, ...]:
    chosen = settings.write_backs.consent
    return (
        Filling(chosen.unsubscribed, differences.opted_out, needs_email=True),
        Filling(chosen.hard_bounced, differences.hard_bounced, needs_email=True),
    )


def _lead_scores(settings: Settings) -> tuple[Filling, ...]:
    chosen = settings.write_backs.lead_scores

    def wishes(target: Target, marts: str) -> Wishes:
        return differences.scores(
            target,
            marts,
            kind=chosen.score.value,
            smallest_change=chosen.smallest_change,
            thresholds=chosen.thresholds,
        )

    return (Filling(chosen.fields, wishes, keeps_edited=chosen.edited_in_crm is EditedInCrm.KEEP),)


def _visits(settings: Settings) -> tuple[Filling, ...]:
    return (Filling(settings.write_backs.visits.fields, differences.visits),)


def _touches(settings: Settings) -> tuple[Filling, ...]:
    chosen = settings.write_backs.touches
    keeps = chosen.edited_in_crm is EditedInCrm.KEEP

    def first(word: str) -> Callable[[Target, str], Wishes]:
        return lambda target, marts: differences.first_touch(target, marts, of=word)

    def last(word: str) -> Callable[[Target, str], Wishes]:
        return lambda target, marts: differences.last_touch(target, marts, of=word)

    return (
        Filling(chosen.first_channel, first("channel"), keeps_edited=True, replaces=False),
        Filling(chosen.first_source, first("source"), keeps_edited=True, replaces=False),
        Filling(chosen.last_channel, last("channel"), keeps_edited=keeps),
        Filling(chosen.last_source, last("source"), keeps_edited=keeps),
    )


WRITE_BACKS: Mapping[str, WriteBack] = {
    one.name: one
    for one in (
        WriteBack(
            CONSENT,
            Lane.CONSENT,
            ("fct_consent",),
            lambda settings: settings.write_backs.consent.direction.is_written,
            _consent,
            may_be_held=False,
        ),
        WriteBack(
            VISITS,
            Lane.TOUCH,
            ("fct_web_visits",),
            lambda settings: settings.write_backs.visits.enabled,
            _visits,
        ),
        WriteBack(
            TOUCHES,
            Lane.TOUCH,
            ("fct_touches",),
            lambda settings: settings.write_backs.touches.enabled,
            _touches,
        ),
        WriteBack(
            LEAD_SCORES,
            Lane.SCORE,
            ("fct_lead_scores",),
            lambda settings: settings.write_backs.lead_scores.enabled,
            _lead_scores,
        ),
    )
}
"""By name, in the order of their lanes."""


def enabled_write_backs(settings: Settings) -> tuple[str, ...]:
    """The write-backs that the operator wants, the most urgent first."""
    if not settings.write_backs.enabled:
        return ()
    return tuple(name for name, one in WRITE_BACKS.items() if one.is_on(settings))


def is_due(settings: Settings, warehouse: Warehouse, name: str) -> str | None:
    """Why a write-back should be decided now, in a sentence; None when it need not.

    It is cheap: it compares what dbt remembers of its builds with what the last decision saw.
    """
    if name not in enabled_write_backs(settings):
        return None
    now = _seen_now(settings, warehouse, WRITE_BACKS[name])
    before = decisions.last_seen(warehouse, name)
    if now is None or now == before:
        return None
    if before is None:
        return "It was never decided."
    if now.settings != before.settings:
        return "Its settings have changed."
    return "The marts were built anew since it was last decided."


def decide(
    settings: Settings,
    warehouse: Warehouse,
    name: str,
    *,
    run_id: str,
    require_enabled: Callable[[], None],
) -> Decision:
    """Find what differs and enqueue it, whole or not at all.

    Args:
        settings: pinned for this decision.
        warehouse: holds marts, copies and the outbox.
        name: of the write-back.
        run_id: for the record of decisions.
        require_enabled: raises `SyncsDisabled` while the operator's switch is off.

    Raises:
        UsageError: there is no write-back of that name.
        SyncsDisabled: nothing moves now.
    """
    if name not in WRITE_BACKS:
        raise UsageError(f"No write-back is called {name}; there are {', '.join(WRITE_BACKS)}.")
    require_enabled()
    if name not in enabled_write_backs(settings):
        return Decision(
            name, notes=(f"{name} is not written to the CRM: {_switch(settings, name)}",)
        )
    began = time.monotonic()
    write_back = WRITE_BACKS[name]
    with warehouse.connect() as connection:
        decisions.take_turn(connection, name)
        # Before the marts themselves are read: a build in between makes it due again.
        seen = _seen(connection, settings, write_back)
        if seen is None:
            return Decision(name, notes=(_not_built(settings, write_back),))
        notes = _collect(connection, settings, warehouse, write_back)
        decision = _enqueue(connection, settings, warehouse, write_back, run_id)
        # Last of all: a drainer that settles these rows waits until we are done.
        withdrawing.end_unwanted(connection, "What it was to say is no longer so.")
        decisions.remember(connection, name, seen)
    return Decision(
        name,
        decision.batch,
        decision.records,
        decision.enqueued,
        decision.held_because,
        time.monotonic() - began,
        notes,
    )


def _switch(settings: Settings, name: str) -> str:
    if not settings.write_backs.enabled:
        return "set `write_backs.enabled: true`."
    if name == CONSENT:
        return "set `write_backs.consent.direction` to `both` or `to_crm`."
    return f"set `write_backs.{name}.enabled: true`."


def _not_built(settings: Settings, write_back: WriteBack) -> str:
    schema = settings.marketing.target_schema
    marts = ", ".join(f"{schema}.{mart}" for mart in write_back.marts)
    if not settings.marketing.enabled:
        return f"{write_back.name} is made of {marts}, and `marketing.enabled` is false."
    return f"{write_back.name} is made of {marts}, which was never built; launch a sync first."


def _collect(
    connection: psycopg.Connection, settings: Settings, warehouse: Warehouse, write_back: WriteBack
) -> tuple[str, ...]:
    differences.collect(connection)
    withdrawing.collect_unwanted(connection)
    notes: list[str] = []
    for filling in write_back.fillings(settings):
        targets = tuple(_targets(connection, settings, warehouse, filling, notes))
        if filling.keeps_edited:
            inheriting.collect_inherited(
                connection, targets if filling.replaces else (), origin=write_back.name
            )
        for target in targets:
            wishes = filling.wishes(target, settings.marketing.target_schema)
            if not write_back.may_be_held:
                differences.find_unwanted(connection, target, wishes, origin=write_back.name)
            differences.find(
                connection,
                target,
                wishes,
                origin=write_back.name,
                keeps_edited=filling.keeps_edited,
            )
    return tuple(dict.fromkeys(notes))


def _targets(
    connection: psycopg.Connection,
    settings: Settings,
    warehouse: Warehouse,
    filling: Filling,
    notes: list[str],
) -> Iterator[Target]:
    """The fields that can be filled; of the others, the notes tell why not."""
    for object_name, name in filling.fields.by_object.items():
        target = _target(connection, settings, warehouse, object_name, name)
        lack = _lack(filling, target, object_name, name)
        if lack is not None:
            notes.append(lack)
        elif target is not None:
            yield target


def _target(
    connection: psycopg.Connection,
    settings: Settings,
    warehouse: Warehouse,
    object_name: str,
    field_name: str,
) -> Target | None:
    chosen = settings.enabled_objects.get(object_name)
    if chosen is None:
        return None
    return differences.find_target(
        connection, warehouse.crm_schema, object_name, chosen, field_name
    )


def _lack(filling: Filling, target: Target | None, object_name: str, name: str) -> str | None:
    """Why a field cannot be filled; the others are."""
    if target is None:
        return (
            f"{object_name} is left out: it is not among the objects of the settings, or was never"
            " fully synced."
        )
    if filling.needs_email and target.email_column is None:
        return (
            f"{object_name} is left out: its records are found by their address; add `Email` to"
            f" `objects.{object_name}.fields`."
        )
    if filling.keeps_edited and target.column is None:
        return (
            f"{object_name}.{name} is left out: nobody can see whether people filled it; add"
            f" `{name}` to"
            f" `objects.{object_name}.fields`."
        )
    return None


def _enqueue(
    connection: psycopg.Connection,
    settings: Settings,
    warehouse: Warehouse,
    write_back: WriteBack,
    run_id: str,
) -> Decision:
    found = differences.found_records(connection)
    if not found:
        return Decision(write_back.name)
    batch = f"{write_back.name}-{uuid4().hex[:10]}"
    because = None
    if write_back.may_be_held:
        because = next(_reasons_to_hold(connection, settings, warehouse, found), None)
    enqueued = decisions.enqueue_found(
        connection,
        batch=batch,
        name=write_back.name,
        lane=write_back.lane,
        is_held=because is not None,
    )
    records = sum(found.values())
    decisions.note_decision(
        connection,
        batch=batch,
        name=write_back.name,
        run_id=run_id,
        records=records,
        enqueued=enqueued,
        held_because=because,
    )
    return Decision(write_back.name, batch, records, enqueued, because)


def _reasons_to_hold(
    connection: psycopg.Connection,
    settings: Settings,
    warehouse: Warehouse,
    found: Mapping[str, int],
) -> Iterator[str]:
    limits = settings.write_backs.approval
    for object_name, records in found.items():
        if records > limits.most_records:
            yield (
                f"{records:,} records of {object_name} would change; more than"
                f" {limits.most_records:,} need approval (`write_backs.approval.most_records`)."
            )
        if records <= FEWEST_RECORDS_FOR_PERCENT:
            continue
        target = _target(connection, settings, warehouse, object_name, "")
        assert target is not None, "it has just been compared"
        living = differences.living_records(connection, target)
        if 100 * records > limits.most_percent * living:
            yield (
                f"{records:,} of {living:,} records of {object_name} would change; more than"
                f" {limits.most_percent} percent need approval"
                " (`write_backs.approval.most_percent`)."
            )


def _seen_now(settings: Settings, warehouse: Warehouse, write_back: WriteBack) -> Seen | None:
    with warehouse.connect(autocommit=True) as connection:
        return _seen(connection, settings, write_back)


def _seen(connection: psycopg.Connection, settings: Settings, write_back: WriteBack) -> Seen | None:
    """What there is to look at; None while the marts are not there."""
    if not settings.marketing.enabled:
        return None
    marts = decisions.state_of_marts(connection, settings.marketing.target_schema, write_back.marts)
    return None if marts is None else Seen(marts, _fingerprint(settings, write_back))


def _fingerprint(settings: Settings, write_back: WriteBack) -> str:
    """What of the settings a decision depends on."""
    relevant = [
        getattr(settings.write_backs, write_back.name).model_dump(mode="json"),
        settings.write_backs.approval.model_dump(mode="json"),
        *(
            chosen.model_dump(mode="json")
            for name in PEOPLE
            if (chosen := settings.enabled_objects.get(name)) is not None
        ),
    ]
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()[:16]
