"""A change that we want in the CRM: what it says, where it stands in the queue, how it ended.

Belongs here: the values that the outbox, the connector and the drainer hand to each other. Does not
belong here: storing them (warehouse/outbox.py), sending them (crm/<vendor>/), and what is to be
written (writeback/).

Three things are kept apart everywhere: a field that is absent from a write keeps its value in the
CRM, a field that is None is emptied, and any other value replaces what is there.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from enum import IntEnum, StrEnum

from crm_pipeline.errors import UsageError
from crm_pipeline.model.objects import CrmObject

UNDO = "undo"
"""Origin of write-backs that take others back. What they took back is not asked again by itself."""

DELETED = "ENTITY_IS_DELETED"
"""Code of the outcome that says that the record is deleted, whichever CRM says so."""

Value = str | bool | int | float | Decimal | date | datetime | time | None
"""What a field may be given. None empties it; instants are aware."""


class Lane(IntEnum):
    """Who goes first; a lower number never waits for a higher one."""

    CONSENT = 0
    ACTION = 1
    TOUCH = 2
    SCORE = 3


class Operation(StrEnum):
    """What is done to a record.

    UPDATE changes a record of which the id is known. UPSERT changes or creates the record with an
    external id of the caller's. CREATE makes a record; it is sent as an upsert by a key of our own,
    fixed before the first send, so that sending it twice makes one record.
    """

    UPDATE = "update"
    UPSERT = "upsert"
    CREATE = "create"


class WriteState(StrEnum):
    """Where one write-back stands.

    APPLIED, SUPERSEDED and PARKED are ends; a parked one can be queued again by a person. HELD
    waits for a person's approval. SENDING is on its way: its outcome is unknown until settled.
    """

    WAITING = "waiting"
    HELD = "held"
    SENDING = "sending"
    APPLIED = "applied"
    SUPERSEDED = "superseded"
    PARKED = "parked"


class OnDuplicate(StrEnum):
    """What to do when the CRM's duplicate rules know the record that is to be created.

    PARK leaves it to a person. LINK takes the record that is there, if it is exactly one. ALLOW
    creates it nevertheless.
    """

    PARK = "park"
    LINK = "link"
    ALLOW = "allow"


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """How the CRM's own rules shall treat a write.

    Attributes:
        on_duplicate: when its duplicate rules object.
        assignment: `none` keeps the owner that the write says, `default` lets the active assignment
            rule choose, anything else is the id of a rule.
        if_unchanged: whether an update gives way where the record holds something else by now than
            when it was wanted: what people entered meanwhile stays.
        if_absent: whether a create or an upsert is for a new record alone, because nothing was
            found when it was wanted. If it waits, it is looked for once more.
    """

    on_duplicate: OnDuplicate = OnDuplicate.PARK
    assignment: str = "none"
    if_unchanged: bool = False
    if_absent: bool = False

    def as_json(self) -> dict[str, str]:
        """Only what differs from the default, so that equal options are equal texts."""
        found = {}
        if self.on_duplicate is not OnDuplicate.PARK:
            found["on_duplicate"] = self.on_duplicate.value
        if self.assignment != "none":
            found["assignment"] = self.assignment
        if self.if_unchanged:
            found["if_unchanged"] = "yes"
        if self.if_absent:
            found["if_absent"] = "yes"
        return found

    @classmethod
    def from_json(cls, stored: Mapping[str, str]) -> "WriteOptions":
        """What `as_json` wrote."""
        return cls(
            OnDuplicate(stored.get("on_duplicate", "park")),
            stored.get("assignment", "none"),
            stored.get("if_unchanged") == "yes",
            stored.get("if_absent") == "yes",
        )


@dataclass(frozen=True, slots=True)
class Intent:
    """One wish: fields of one record, with everything that delivery and people need to know.

    Attributes:
        key: the idempotency key; a second intent with the same key is the same intent.
        fields: by API name. Absent fields are left alone, None empties.
        origin: which write-back or action wants it.
        record_id: of an UPDATE.
        external_id_field: of an UPSERT; of a CREATE it is the key field of the settings.
        external_id: of an UPSERT; of a CREATE it is made from `key`.
        value_at: the instant that the values speak of; None is now. The newer one wins, whichever
            was asked for first.
        before: what the fields held when the intent was made, as far as known. A field that holds
            its value already is not written.
        parent_id: the record that the CRM locks together with this one, so that children of one
            parent travel together.
        batch: what can be approved or undone together.
        is_held: whether a person must approve it first.
    """

    key: str
    operation: Operation
    object_name: str
    fields: Mapping[str, Value]
    lane: Lane
    origin: str
    record_id: str | None = None
    external_id_field: str | None = None
    external_id: str | None = None
    value_at: datetime | None = None
    before: Mapping[str, Value] = field(default_factory=dict)
    parent_id: str | None = None
    batch: str | None = None
    options: WriteOptions = WriteOptions()
    is_held: bool = False

    def __post_init__(self) -> None:
        """Refuse what could never be sent, where the one who asks still sees it.

        Raises:
            UsageError: a field holds NaN or an infinity, or the record is not named.
        """
        if not self.fields:
            raise UsageError(f"A write-back of {self.object_name} names no field.")
        for name, value in self.fields.items():
            if not is_finite(value):
                raise UsageError(
                    f"{self.object_name}.{name} would get a number that is none (NaN or infinity); "
                    "correct the calculation that it comes from."
                )
        is_named = {
            Operation.UPDATE: bool(self.record_id),
            Operation.UPSERT: bool(self.external_id_field and self.external_id),
            Operation.CREATE: True,
        }
        if not is_named[self.operation]:
            lacks = "a record id" if self.operation is Operation.UPDATE else "an external id"
            raise UsageError(f"A write-back that is an {self.operation} needs {lacks}.")


def is_finite(value: Value) -> bool:
    """Whether a CRM could hold the value: no CRM has a NaN."""
    if isinstance(value, float):
        return math.isfinite(value)
    return value.is_finite() if isinstance(value, Decimal) else True


@dataclass(frozen=True, slots=True)
class Enqueued:
    """What became of intents in the moment they were enqueued, in rows of the outbox.

    Attributes:
        waiting: will be sent.
        held: wait for a person.
        superseded: a newer value was known already, or came in the same breath.
        parked: could never be sent.
        known: their key was there already; nothing was added.
        unneeded: the record holds the value already; nothing was added.
    """

    waiting: int = 0
    held: int = 0
    superseded: int = 0
    parked: int = 0
    known: int = 0
    unneeded: int = 0


@dataclass(frozen=True, slots=True)
class WriteRow:
    """One record in a batch.

    Attributes:
        writes: the rows of the outbox that it carries.
        values: what the connector is to send, by API name.
    """

    writes: tuple[int, ...]
    values: Mapping[str, Value]
    record_id: str | None = None
    external_id: str | None = None
    parent_id: str | None = None

    @property
    def target(self) -> str:
        """What tells this record from others of its object."""
        return self.record_id or self.external_id or ""


@dataclass(frozen=True, slots=True)
class WriteBatch:
    """Records of one object that go to the CRM in one call, each once."""

    crm_object: CrmObject
    operation: Operation
    rows: tuple[WriteRow, ...]
    external_id_field: str | None = None
    options: WriteOptions = WriteOptions()


class Verdict(StrEnum):
    """What the CRM's answer about one record means for us.

    RETRY: it may succeed in a moment. WAIT: a person or a process of the CRM's must be done first.
    PARK: it cannot succeed as it is. GONE: the record is not there any more. CONVERTED: it became
    another record. DUPLICATE: the CRM's duplicate rules know it already. SPARED: the record holds
    something else by now, and was to be left alone then.
    """

    APPLIED = "applied"
    RETRY = "retry"
    WAIT = "wait"
    PARK = "park"
    GONE = "gone"
    CONVERTED = "converted"
    DUPLICATE = "duplicate"
    SPARED = "spared"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the CRM answered about one record.

    Attributes:
        record_id: the record that was changed, made or found.
        code: the CRM's own word for a refusal.
        reason: what that means, without any value.
        remedy: what a person can do.
        fields: those at fault, where the CRM names them.
        matches: records that the duplicate rules found.
        is_contagious: code in the CRM broke, which refuses the other records of the call as well.
        needs_owner: with another owner, the record might be taken.
    """

    verdict: Verdict
    record_id: str | None = None
    is_created: bool = False
    code: str | None = None
    reason: str | None = None
    remedy: str | None = None
    fields: tuple[str, ...] = ()
    matches: tuple[str, ...] = ()
    is_contagious: bool = False
    needs_owner: bool = False


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """What became of a record that cannot be written any more.

    Attributes:
        merged_into: the winner of its merge.
        converted_into: object and id of what it was converted to.
    """

    merged_into: str | None = None
    converted_into: tuple[str, str] | None = None
