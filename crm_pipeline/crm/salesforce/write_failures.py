"""The one table of what Salesforce answers about a record that it did not write.

Belongs here: which status code means which verdict, why, and what a person can do. Does not belong
here: refusals of whole requests (failures.py), and acting on a verdict (writeback/).
docs/reference/write-back-statuses.md shows the same table; a test compares them. Salesforce's own
messages are read to recognise a case and never passed on: they quote values.

Sources: SOAP API guide "StatusCode"; REST guide "Collections" and "Duplicate Rule Header"; Help
000386981 on row locks; answers quoted in issues of open connectors.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crm_pipeline.model.writeback import Outcome, Verdict


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a status code means: the verdict, the reason in our words, what to do.

    `is_contagious`: an exception in a trigger takes the whole call back, and every record of it is
    refused with the code.
    """

    verdict: Verdict
    reason: str
    remedy: str = ""
    is_contagious: bool = False


OWNER_FIELD = "OwnerId"
"""Where a record names the user or the queue that it belongs to."""

_LOOK = "Look at the record in Salesforce, then requeue."
_BY_ITSELF = "Nothing: it is tried again by itself."

MEANINGS: Mapping[str, Meaning] = {
    # It may pass in a moment.
    "UNABLE_TO_LOCK_ROW": Meaning(
        Verdict.RETRY, "Somebody else is changing the record or its parent.", _BY_ITSELF
    ),
    "ALL_OR_NONE_OPERATION_ROLLED_BACK": Meaning(
        Verdict.RETRY, "It was taken back because of another record.", _BY_ITSELF
    ),
    "PROCESSING_HALTED": Meaning(
        Verdict.RETRY, "It was not looked at because of another record.", _BY_ITSELF
    ),
    "REQUEST_RUNNING_TOO_LONG": Meaning(
        Verdict.RETRY, "Salesforce took too long over it.", _BY_ITSELF
    ),
    "SERVER_UNAVAILABLE": Meaning(Verdict.RETRY, "Salesforce is too busy.", _BY_ITSELF),
    "API_CURRENTLY_DISABLED": Meaning(Verdict.RETRY, "The API rests.", _BY_ITSELF),
    "UNKNOWN_EXCEPTION": Meaning(Verdict.RETRY, "Something failed in Salesforce.", _BY_ITSELF),
    "TXN_SECURITY_METERING_ERROR": Meaning(
        Verdict.RETRY, "A transaction security policy could not be asked.", _BY_ITSELF
    ),
    # Somebody must be done first.
    "ENTITY_IS_LOCKED": Meaning(
        Verdict.WAIT,
        "The record is locked, most likely by an approval.",
        "Approve, reject or unlock it in Salesforce, then requeue.",
    ),
    "RECORD_IN_USE_BY_WORKFLOW": Meaning(
        Verdict.WAIT, "A workflow is at work on the record.", _LOOK
    ),
    "INSERT_UPDATE_DELETE_NOT_ALLOWED_DURING_MAINTENANCE": Meaning(
        Verdict.WAIT, "Salesforce is read-only for maintenance.", _BY_ITSELF
    ),
    "STORAGE_LIMIT_EXCEEDED": Meaning(
        Verdict.WAIT, "The organisation's storage is full.", "Free storage, then requeue."
    ),
    # The record is elsewhere.
    "ENTITY_IS_DELETED": Meaning(
        Verdict.GONE,
        "The record is deleted.",
        "Nothing, or restore it in Salesforce and requeue. Nothing here revives a record.",
    ),
    "NOT_FOUND": Meaning(
        Verdict.GONE,
        "The record is not there, or not for our user.",
        "Give the integration user access to it, then requeue; or dismiss it.",
    ),
    "CANNOT_UPDATE_CONVERTED_LEAD": Meaning(
        Verdict.CONVERTED,
        "The lead was converted.",
        "Map the same field on Contact, then requeue; or dismiss it.",
    ),
    # It is there already.
    "DUPLICATES_DETECTED": Meaning(
        Verdict.DUPLICATE,
        "A duplicate rule knows the record already.",
        "Merge or update the record that is there and dismiss this; or let the action link or allow"
        " duplicates.",
    ),
    "DUPLICATE_VALUE": Meaning(
        Verdict.PARK,
        "Another record has the value of a unique field.",
        "Find the record that holds the value, then dismiss this or requeue.",
    ),
    "DUPLICATE_EXTERNAL_ID": Meaning(
        Verdict.PARK,
        "Several records have that external id, so none was written.",
        "Make the external id field unique in Salesforce, mend the records, then requeue.",
    ),
    # The value.
    "FIELD_CUSTOM_VALIDATION_EXCEPTION": Meaning(
        Verdict.PARK,
        "A validation rule refuses it.",
        "Change the rule or exempt the integration user, then requeue.",
    ),
    "FIELD_FILTER_VALIDATION_EXCEPTION": Meaning(
        Verdict.PARK,
        "A lookup filter refuses the related record.",
        "Change the filter or the value.",
    ),
    "FIELD_INTEGRITY_EXCEPTION": Meaning(
        Verdict.PARK, "The value does not fit the others of the record.", _LOOK
    ),
    "REQUIRED_FIELD_MISSING": Meaning(
        Verdict.PARK,
        "A field that must have a value has none.",
        "Give the action a value for it, or make the field optional, then requeue.",
    ),
    "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST": Meaning(
        Verdict.PARK,
        "The value is not among the options of the drop-down.",
        "Add the option in Salesforce, then requeue.",
    ),
    "STRING_TOO_LONG": Meaning(
        Verdict.PARK, "The text is longer than the field.", "Lengthen the field, then requeue."
    ),
    "NUMBER_OUTSIDE_VALID_RANGE": Meaning(
        Verdict.PARK, "The number has more digits than the field.", "Widen the field, then requeue."
    ),
    "INVALID_EMAIL_ADDRESS": Meaning(
        Verdict.PARK, "Salesforce does not take it for an e-mail address.", "Correct the address."
    ),
    "INVALID_TYPE_ON_FIELD_IN_RECORD": Meaning(
        Verdict.PARK, "The value is not of the field's type.", "Map another field, or correct it."
    ),
    "INVALID_CURRENCY_ISO": Meaning(
        Verdict.PARK, "The currency is not active.", "Activate it in Salesforce, then requeue."
    ),
    "MALFORMED_ID": Meaning(Verdict.PARK, "An id is none of that object.", "Correct the id."),
    "INVALID_CROSS_REFERENCE_KEY": Meaning(
        Verdict.PARK,
        "A related record is not there, or not for our user.",
        "Restore it, or give the integration user access, then requeue.",
    ),
    "INACTIVE_OWNER_OR_USER": Meaning(
        Verdict.PARK,
        "The owner is inactive.",
        "Give the record an active owner, or set `write_backs.default_owner`; then requeue.",
    ),
    "OP_WITH_INVALID_USER_TYPE_EXCEPTION": Meaning(
        Verdict.PARK,
        "That user or queue cannot own the record.",
        "Name another owner, or set `write_backs.default_owner`; then requeue.",
    ),
    "INVALID_STATUS": Meaning(
        Verdict.PARK, "The status cannot be chosen for the record.", "Correct the status."
    ),
    # What our user may do.
    "INVALID_FIELD_FOR_INSERT_UPDATE": Meaning(
        Verdict.PARK,
        "Our user may not write the field, or only the system does.",
        "Give the integration user Edit on the field, then requeue.",
    ),
    "INVALID_FIELD": Meaning(
        Verdict.PARK,
        "The field does not exist for our user.",
        "Create it, or make it visible to the integration user, then requeue.",
    ),
    "INSUFFICIENT_ACCESS_OR_READONLY": Meaning(
        Verdict.PARK,
        "Our user may not change the record.",
        "Give the integration user Edit on it, then requeue.",
    ),
    "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY": Meaning(
        Verdict.PARK,
        "Our user may not use a related record.",
        "Give the integration user access to it, then requeue.",
    ),
    "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY": Meaning(
        Verdict.PARK,
        "A trigger in Salesforce failed on the record, or the object cannot be written.",
        "Ask the administrator for the trigger's error, mend it, then requeue.",
        is_contagious=True,
    ),
    "CANNOT_EXECUTE_FLOW_TRIGGER": Meaning(
        Verdict.PARK,
        "A flow failed on the record.",
        "Mend the flow, then requeue.",
        is_contagious=True,
    ),
    "APEX_ERROR": Meaning(
        Verdict.PARK,
        "Code in Salesforce failed on the record.",
        "Mend it, then requeue.",
        is_contagious=True,
    ),
    "MISSING_ARGUMENT": Meaning(Verdict.PARK, "The id is missing.", "Report it: it is our bug."),
}
UNKNOWN = Meaning(Verdict.PARK, "Salesforce refuses it with a code that we do not know.", _LOOK)

_ABOUT_OWNERS = frozenset({"INACTIVE_OWNER_OR_USER", "OP_WITH_INVALID_USER_TYPE_EXCEPTION"})
_ABOUT_A_QUEUE = re.compile(r"queue not associated", re.IGNORECASE)
_CODE = re.compile(r"[A-Z][A-Z0-9_]{2,79}")
_ABOUT_THE_RECORD_ITSELF = re.compile(r"invalid cross reference id", re.IGNORECASE)
_BULK_ERROR = re.compile(
    r"^(?P<code>[A-Z][A-Z0-9_]+):(?P<message>.*):(?P<fields>[\w, ]*)--\s*$", re.DOTALL
)


def refused_row(
    code: str, message: str = "", fields: Sequence[str] = (), matches: Sequence[str] = ()
) -> Outcome:
    """The outcome of a record that Salesforce refuses with a status code."""
    known = code.upper() if _CODE.fullmatch(code.upper()) else "UNKNOWN"
    meaning = MEANINGS.get(known, UNKNOWN)
    verdict = meaning.verdict
    if known == "INVALID_CROSS_REFERENCE_KEY" and not fields:
        # Of a record that has left the recycle bin Salesforce says this, and names no field.
        verdict = Verdict.GONE if _ABOUT_THE_RECORD_ITSELF.search(message) else verdict
    if known == "INVALID_OPERATION" and _ABOUT_A_QUEUE.search(message):
        return refused_row("OP_WITH_INVALID_USER_TYPE_EXCEPTION", fields=(OWNER_FIELD,))
    if known == "INSUFFICIENT_ACCESS_OR_READONLY" and "lock" in message.lower():
        return refused_row("ENTITY_IS_LOCKED")
    return Outcome(
        verdict,
        code=known,
        reason=meaning.reason,
        remedy=meaning.remedy,
        fields=tuple(name for name in fields if name),
        matches=tuple(matches),
        is_contagious=meaning.is_contagious,
        needs_owner=known in _ABOUT_OWNERS
        or (known == "INVALID_CROSS_REFERENCE_KEY" and OWNER_FIELD in fields),
    )


def outcome_of(entry: Mapping[str, Any]) -> Outcome:
    """One entry of the answer to a collection."""
    record_id = entry.get("id")
    if entry.get("success"):
        return Outcome(
            Verdict.APPLIED,
            record_id=str(record_id) if record_id else None,
            is_created=bool(entry.get("created")),
        )
    errors = entry.get("errors") or [{}]
    first: Mapping[str, Any] = errors[0] if isinstance(errors[0], Mapping) else {}
    code = str(first.get("statusCode") or first.get("errorCode") or "UNKNOWN")
    fields = [str(name) for name in first.get("fields") or ()]
    return refused_row(code, str(first.get("message") or ""), fields, _matches(first))


def bulk_outcome(error: str) -> Outcome:
    """The outcome of a row of a bulk job, from its `sf__Error`: `CODE:message:fields--`."""
    found = _BULK_ERROR.match(error)
    if found is None:
        return refused_row(error.partition(":")[0].strip(), error)
    fields = [name.strip() for name in found["fields"].split(",")]
    return refused_row(found["code"], found["message"], [name for name in fields if name])


def _matches(error: Mapping[str, Any]) -> list[str]:
    """Ids of the records that a duplicate rule found."""
    result = error.get("duplicateResult") or error.get("duplicateResut") or {}
    found = []
    for match in result.get("matchResults") or ():
        for one in match.get("matchRecords") or ():
            record = one.get("record") or {}
            record_id = record.get("Id") or record.get("id")
            if record_id:
                found.append(str(record_id))
    return sorted(set(found))
