"""Webhook bodies of mail services as events of the contract: SendGrid's and Postmark's.

A receiver stores each body as a .json file; nothing is lost of it, for what the contract has no
column for goes into properties. The id is the service's own, or made of what tells two of its
events apart, so that a webhook that is sent again is stored once.

Belongs here: what a service's words mean. Does not belong here: whether a value is right
(loading.py).

Sources: Twilio SendGrid, "Event Webhook Reference"; Postmark, "Webhooks overview" with a page each
for Open, Click, Bounce, Delivery, SpamComplaint and SubscriptionChange.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256

import orjson

from crm_pipeline.model.events import EventKind

Row = Mapping[str, object]
_SENDGRID = {
    "processed": EventKind.EMAIL_SENT,
    "delivered": EventKind.EMAIL_DELIVERED,
    "open": EventKind.EMAIL_OPENED,
    "click": EventKind.EMAIL_CLICKED,
    "unsubscribe": EventKind.EMAIL_UNSUBSCRIBED,
    "group_unsubscribe": EventKind.EMAIL_UNSUBSCRIBED,
    "spamreport": EventKind.EMAIL_COMPLAINED,
    "deferred": "custom_email_deferred",
    "dropped": "custom_email_dropped",
    # No opt-in by itself: the ledger of consent only tightens.
    "group_resubscribe": "custom_email_resubscribed",
}
_SENDGRID_KNOWN = frozenset({"event", "sg_event_id", "timestamp", "email", "url", "crm_id"})
_POSTMARK_TIMES = {
    "Delivery": "DeliveredAt",
    "Open": "ReceivedAt",
    "Click": "ReceivedAt",
    "Bounce": "BouncedAt",
    "SpamComplaint": "BouncedAt",
    "SubscriptionChange": "ChangedAt",
}
_POSTMARK_KINDS = {
    "Delivery": EventKind.EMAIL_DELIVERED,
    "Open": EventKind.EMAIL_OPENED,
    "Click": EventKind.EMAIL_CLICKED,
    "SpamComplaint": EventKind.EMAIL_COMPLAINED,
}
_POSTMARK_BOUNCES = {
    "HardBounce": EventKind.EMAIL_HARD_BOUNCED,
    "BadEmailAddress": EventKind.EMAIL_HARD_BOUNCED,
    "SpamComplaint": EventKind.EMAIL_COMPLAINED,
    "Unsubscribe": EventKind.EMAIL_UNSUBSCRIBED,
}
_POSTMARK_SUPPRESSIONS = {
    "HardBounce": EventKind.EMAIL_HARD_BOUNCED,
    "SpamComplaint": EventKind.EMAIL_COMPLAINED,
}
_POSTMARK_KNOWN = frozenset(
    {"RecordType", "Recipient", "Email", "OriginalLink", *_POSTMARK_TIMES.values()}
)


class Unreadable(Exception):  # a row's fault never leaves this room
    """A row that is no event.

    Attributes:
        column: the part of it that is wrong.
        reason: what is wrong with it.
    """

    def __init__(self, column: str, reason: str) -> None:
        super().__init__(column)
        self.column = column
        self.reason = reason


def contract_row(row: object) -> Row:
    """A row of the contract as it is, and a webhook's body as one.

    Raises:
        Unreadable: it is neither.
    """
    if not isinstance(row, dict):
        raise Unreadable("(whole row)", "is no JSON object")
    if "RecordType" in row:
        return _from_postmark(row)
    if "sg_event_id" in row or {"event", "timestamp"} <= row.keys():
        return _from_sendgrid(row)
    return row


def _from_sendgrid(row: Row) -> Row:
    event = row.get("event")
    kind = _SENDGRID.get(str(event))
    if event == "bounce":
        is_hard = row.get("type", "bounce") == "bounce"
        kind = EventKind.EMAIL_HARD_BOUNCED if is_hard else EventKind.EMAIL_SOFT_BOUNCED
    if kind is None:
        raise Unreadable("event", "is none of SendGrid's events about mails that we know")
    return {
        "event_id": f"sendgrid:{_needed(row, 'sg_event_id')}",
        "occurred_at": _from_epoch(row.get("timestamp")),
        "kind": kind,
        "email": row.get("email"),
        "crm_id": row.get("crm_id"),
        "campaign": row.get("marketing_campaign_name") or _first(row.get("category")),
        "channel": "email",
        "source": "sendgrid",
        "url": row.get("url"),
        "properties": {k: v for k, v in row.items() if k not in _SENDGRID_KNOWN},
    }


def _from_postmark(row: Row) -> Row:
    record_type = str(row["RecordType"])
    if record_type not in _POSTMARK_TIMES:
        raise Unreadable("RecordType", "is none of Postmark's webhooks about mails that we know")
    metadata = row.get("Metadata")
    return {
        "event_id": _postmark_id(row, record_type),
        "occurred_at": row.get(_POSTMARK_TIMES[record_type]),
        "kind": _postmark_kind(row, record_type),
        "email": row.get("Recipient") or row.get("Email"),
        "crm_id": metadata.get("crm_id") if isinstance(metadata, dict) else None,
        "campaign": row.get("Tag") or None,
        "channel": "email",
        "source": "postmark",
        "url": row.get("OriginalLink"),
        "properties": {k: v for k, v in row.items() if k not in _POSTMARK_KNOWN},
    }


def _postmark_kind(row: Row, record_type: str) -> str:
    if record_type == "Bounce":
        return _POSTMARK_BOUNCES.get(str(row.get("Type")), EventKind.EMAIL_SOFT_BOUNCED)
    if record_type == "SubscriptionChange":
        if row.get("SuppressSending") is not True:
            return "custom_email_resubscribed"
        reason = str(row.get("SuppressionReason"))
        return _POSTMARK_SUPPRESSIONS.get(reason, EventKind.EMAIL_UNSUBSCRIBED)
    return _POSTMARK_KINDS[record_type]


def _postmark_id(row: Row, record_type: str) -> str:
    """Postmark gives ids to mails and bounces only: an event is told by what and when it was."""
    told = [
        record_type,
        row.get("ID") or _needed(row, "MessageID"),
        row.get("Recipient") or row.get("Email"),
        row.get(_POSTMARK_TIMES[record_type]),
        row.get("OriginalLink"),
    ]
    return f"postmark:{sha256(orjson.dumps(told)).hexdigest()[:40]}"


def _needed(row: Row, column: str) -> object:
    value = row.get(column)
    if value is None or value == "":
        raise Unreadable(column, "is missing")
    return value


def _from_epoch(seconds: object) -> str:
    try:
        moment = datetime.fromtimestamp(float(str(seconds)), UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise Unreadable("timestamp", "is no number of seconds since 1970") from error
    return moment.isoformat()


def _first(category: object) -> object:
    return category[0] if isinstance(category, list) and category else category or None
