"""Actions: something to create or update in the CRM because a person, a tool or a rule wants it.

Holds what is asked for and what is decided of it. Belongs here: values that the settings, the
warehouse and the room of actions share. Does not belong here: deciding (actions/), and delivery,
which is the outbox's (model/writeback.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

REQUEST_COLUMNS = (
    "action_id",
    "kind",
    "object_name",
    "record_id",
    "match_email",
    "external_id_field",
    "external_id",
    "fields",
    "options",
    "requested_by",
)
"""What a sender may say of an action; everything else is ours."""

OPTIONS = (
    "on_duplicate",
    "assignment",
    "if_found",
    "match",
    "owner",
    "campaign",
    "only_new",
    "only_empty",
)
"""Names of options."""

OPTIONS_THAT_LIST_FIELDS = ("only_new", "only_empty")
"""Those of them that take a list."""

PEOPLE = ("Contact", "Lead")
"""Objects whose records are people, in the order in which they speak for a person."""

MEMBER = "CampaignMember"
"""The object whose records name their campaign and person once, and never change them."""

CARRIERS = ("Task", "Case", MEMBER)
"""Objects whose records are about a person who is found by her address."""


class ActionKind(StrEnum):
    """CREATE makes a record, unless it finds it. UPDATE never makes one. UPSERT goes by a key."""

    CREATE = "create"
    UPDATE = "update"
    UPSERT = "upsert"


class ActionState(StrEnum):
    """What was decided; how it ended in the CRM, the outbox tells.

    REQUESTED waits for a decision. HELD waits for a person, REFUSED for somebody to mend the
    request or the CRM. UNNEEDED leaves the CRM as it is, on purpose.
    """

    REQUESTED = "requested"
    ENQUEUED = "enqueued"
    UNNEEDED = "unneeded"
    HELD = "held"
    REFUSED = "refused"


class IfFound(StrEnum):
    """What a create does with the record that is there already."""

    UPDATE = "update"
    LEAVE = "leave"


@dataclass(frozen=True, slots=True)
class ActionOptions:
    """How an action is carried out.

    Attributes:
        on_duplicate: when the CRM's duplicate rules object to a new record: park, link or allow.
        assignment: who chooses the owner of a new record: `none`, `default` or a rule's id.
        if_found: what a create does with the record that is there already.
        by_email: whether a record is looked for by the person's address before it is made.
        owner: a user's id, user name or e-mail address, or a queue's id or name.
        campaign: of a campaign member: the campaign's id or name.
        only_new: fields that a new record gets and a record that is there keeps.
        only_empty: fields that a record that is there gets only where it holds nothing in them.
    """

    on_duplicate: str = "park"
    assignment: str = "none"
    if_found: IfFound = IfFound.UPDATE
    by_email: bool = True
    owner: str | None = None
    campaign: str | None = None
    only_new: frozenset[str] = frozenset()
    only_empty: frozenset[str] = frozenset()

    @property
    def depends_on_record(self) -> bool:
        """Whether a record that is there is treated unlike a new one."""
        gives_owner = self.owner is not None or self.assignment != "none"
        is_sparing = bool(self.only_new or self.only_empty) or self.if_found is IfFound.LEAVE
        return is_sparing or gives_owner


@dataclass(frozen=True, slots=True)
class Action:
    """One action as it was asked for.

    Attributes:
        fields: values by API name, as JSON gives them; numbers are exact.
        options: as the sender wrote them, not yet judged.
        record_object: the object of the record, where a person chose it among those found; it
            need not be the one that was asked for.
        key: the idempotency key of its write-back, given when it is stored.
        is_readable: false where fields or options are no JSON that anybody could handle.
    """

    action_id: str
    kind: ActionKind
    object_name: str
    fields: Mapping[str, object] = field(default_factory=dict)
    options: Mapping[str, object] = field(default_factory=dict)
    record_id: str | None = None
    match_email: str | None = None
    external_id_field: str | None = None
    external_id: str | None = None
    record_object: str | None = None
    requested_by: str = "cli"
    requested_at: datetime | None = None
    key: str = ""
    is_readable: bool = True


@dataclass(frozen=True, slots=True)
class ActionsOutcome:
    """What one look at the actions did.

    Attributes:
        asked_by_rules: actions that rules asked for.
        problems: why a rule could not look, in sentences.
        waiting: not decided yet, because the same person is being created just now.
    """

    enqueued: int = 0
    unneeded: int = 0
    held: int = 0
    refused: int = 0
    waiting: int = 0
    asked_by_rules: int = 0
    problems: tuple[str, ...] = ()
    api_calls: int = 0
