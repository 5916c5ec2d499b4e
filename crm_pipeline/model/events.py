"""Marketing events: what a person did, or what happened to a mail, as one contract.

Holds the kinds of events, the columns of the contract, and the facts of loading a file of them.
Belongs here: values that readers of files, the warehouse and everybody who shows them share. Does
not belong here: how a file is read (events/formats.py) or stored (events/loading.py).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class EventKind(StrEnum):
    """The kinds that the marketing models know. Any other is named `custom_...`."""

    EMAIL_SENT = "email_sent"
    EMAIL_DELIVERED = "email_delivered"
    EMAIL_OPENED = "email_opened"
    EMAIL_CLICKED = "email_clicked"
    EMAIL_UNSUBSCRIBED = "email_unsubscribed"
    EMAIL_HARD_BOUNCED = "email_hard_bounced"
    EMAIL_SOFT_BOUNCED = "email_soft_bounced"
    EMAIL_COMPLAINED = "email_complained"
    PAGE_VISITED = "page_visited"
    FORM_SUBMITTED = "form_submitted"
    LIST_IMPORTED = "list_imported"
    WEBINAR_REGISTERED = "webinar_registered"
    WEBINAR_ATTENDED = "webinar_attended"
    SCORE_ADJUSTED = "score_adjusted"


CUSTOM_KIND = "^custom_[a-z0-9_]{1,50}$"
CONSENT_KINDS = (
    EventKind.EMAIL_UNSUBSCRIBED,
    EventKind.EMAIL_HARD_BOUNCED,
    EventKind.EMAIL_COMPLAINED,
)
"""Kinds that say that an address must not be written to any more."""
COLUMNS = (
    "event_id",
    "occurred_at",
    "kind",
    "email",
    "crm_id",
    "campaign",
    "channel",
    "source",
    "url",
    "properties",
)
"""The contract: what a file may carry, and a tool may insert."""
REQUIRED_COLUMNS = ("event_id", "occurred_at", "kind")
LONGEST_EVENT_ID = 200
LONGEST_EMAIL = 320


def is_kind(name: str) -> bool:
    """Whether an event may be of that kind."""
    return name in list(EventKind) or re.search(CUSTOM_KIND, name) is not None


@dataclass(frozen=True, slots=True)
class MarketingEvent:
    """One event.

    Attributes:
        event_id: the sender's own, the same whenever the event is sent again; by it an event is
            stored once.
        occurred_at: when it happened, not when it was sent.
        email: the address; with `crm_id` it says whose event it is. Both lack for an unknown
            visitor.
        channel: such as email, web, event, paid_search, social, referral.
        source: where in the channel: a site, an advertiser, a newsletter.
        properties: everything else; `points` of a `score_adjusted`.
    """

    event_id: str
    occurred_at: datetime
    kind: str
    email: str | None = None
    crm_id: str | None = None
    campaign: str | None = None
    channel: str | None = None
    source: str | None = None
    url: str | None = None
    properties: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rejected:
    """One row of a file that is no event, and why.

    Attributes:
        row_number: as an editor counts: a line, a CSV's row with its header as row 1, a place in a
            JSON list from 1 on.
        column: which part is wrong; `(whole row)` where it cannot be told.
        reason: what is wrong, and what to write instead.
    """

    file: str
    row_number: int
    column: str
    reason: str
    row: str


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """What the load of one file did.

    Attributes:
        rows: rows that the file holds; each is loaded, known or rejected.
        loaded: events that are new.
        known: events that were there already, from this file or another.
        rejected: rows in the quarantine.
        refusal: why nothing of the file could be read; None if it was.
    """

    file: str
    rows: int = 0
    loaded: int = 0
    known: int = 0
    rejected: int = 0
    seconds: float = 0.0
    refusal: str | None = None
