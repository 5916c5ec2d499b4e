"""Why an action is not carried out as it was asked for, in words that say what to do.

Belongs here: every code of a refused or held action, with its reason and remedy. Does not belong
here: finding out (reading.py, deciding.py), and what the CRM itself refuses
(crm/<vendor>/write_failures.py). docs/how-to/actions.md shows the same codes; a test compares them.
"""

from collections.abc import Mapping
from types import MappingProxyType


class Refusal(Exception):
    """Ends the decision about one action; never leaves this room.

    Attributes:
        code: one of REMEDIES.
        reason: what is wrong with this one.
        remedy: what to do, where it is not the code's usual remedy.
    """

    def __init__(self, code: str, reason: str, *, remedy: str | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.remedy = remedy or REMEDIES[code]


REMEDIES: Mapping[str, str] = MappingProxyType(
    {
        "AMBIGUOUS": "Merge the records in the CRM and requeue, or requeue with the id of the one"
        " that is meant: crm-pipeline actions requeue ID --record-id RECORD",
        "AMBIGUOUS_OWNER": "Name the owner by id, under another action id.",
        "BAD_ASSIGNMENT_RULE": "Write `none`, `default`, or the id of one of the object's rules in"
        " the table assignment_rules, under another action id; if the rule is new, run the job"
        " reference_data, then requeue.",
        "BAD_CAMPAIGN": "Name an existing campaign by its id or its exact name, under another"
        " action id; or create it, then requeue.",
        "BAD_ID": "Copy the id again, 15 or 18 letters and digits: a record's with crm-pipeline"
        " actions requeue ID --record-id RECORD, one among the fields under another action id.",
        "BAD_KEY": "Write a key of 1 to 320 characters, none of them a control"
        " character, and ask again under another action id.",
        "BAD_OPTION": "Correct the option, and ask again under another action id.",
        "BAD_OWNER": "Name an active user by id, user name or e-mail address, or a queue that may"
        " own the object by id or name, under another action id; if it is new, run the job"
        " reference_data, then requeue.",
        "BAD_VALUE": "Send a text, a number, true, false or null, under another action id.",
        "CONSENT_NOT_LOOSENED": "Record the opt-in as consent; no action takes an opt-out back.",
        "INVALID_FIELD": "Correct the field's name under another action id; or let the integration"
        " user see it, then requeue.",
        "MANY_AT_ONCE": "Look at what the rule asks for. Let it go with crm-pipeline actions"
        " requeue --code MANY_AT_ONCE, or dismiss it.",
        "NOT_CREATEABLE": "Let the integration user create records of the object, then requeue.",
        "NOT_FOUND": "Ask for a create, or correct what the record is found by, under another"
        " action id; or create the record, then requeue.",
        "NOT_AMONG_OBJECTS": "Add the object with a field or two under `objects:` in the settings"
        " file, then requeue.",
        "NOT_NAMED": "Give record_id, match_email, or external_id_field and"
        " external_id, and ask again under another action id.",
        "NOT_UPDATEABLE": "Let the integration user edit records of the object, then requeue.",
        "NO_ADDRESS": "Name the record by its id or by an external id, and ask again"
        " under another action id.",
        "NO_FIELDS": "Name at least one field, and ask again under another action id.",
        "NO_KEY_FIELD": "Make the field External ID and Unique in the CRM, let the integration user"
        " edit it, then requeue.",
        "NO_OBJECT": "Correct the object's name under another action id; or let the integration"
        " user see it, then requeue.",
        "NO_PERSON": "Create the lead or contact first, then requeue.",
        "NO_REFERENCE_DATA": "Set `reference_data: true`, run that job, then requeue.",
        "NO_SUCH_OPTION": "Write one of the options of the drop-down under another action id; or"
        " add it in the CRM, then requeue.",
        "READ_ONLY_FIELD": "Leave the field out under another action id; or give the integration"
        " user Edit on it, then requeue.",
        "REQUIRED_FIELD_MISSING": "Give the field a value, and ask again under another action id.",
        "UNFIT_VALUE": "Correct the value, and ask again under another action id.",
    }
)
