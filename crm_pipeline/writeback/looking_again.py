"""Creates and upserts that waited are looked for once more, right before they are sent.

Between a decision and its delivery lie seconds, an outage, or days of waiting for approval. Who
makes the record meanwhile makes a double of ours, or has all its fields written over.

| waited | its record is there now | then |
|---|---|---|
| what was looked for and not found | yes | its action is decided again |
| an upsert that nobody looked for | yes | it goes on as updates: the newest value wins |
| either | no | it is sent |

Belongs here: looking, as actions/finding.py does. Does not belong here: the statements
(warehouse/handing_back.py, handing_over.py).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from crm_pipeline.errors import ObjectUnavailable, PermanentError
from crm_pipeline.model.actions import MEMBER, PEOPLE
from crm_pipeline.model.objects import CrmObject, ValueType
from crm_pipeline.model.writeback import Operation, WriteRow, WriteState
from crm_pipeline.warehouse.claims import Claim
from crm_pipeline.warehouse.handing_back import FOUND_MEANWHILE, hand_back, late_makers
from crm_pipeline.warehouse.handing_over import Move, follow
from crm_pipeline.writeback.context import WriteContext

_REASON = "Its record was there by the time of delivery; each value goes there by itself."


def still_to_be_made(
    context: WriteContext, taken: Claim, crm_object: CrmObject, rows: list[WriteRow]
) -> list[WriteRow]:
    """The creates and upserts of a claim that are sent as they are; the others have ended.

    A call for each 200 that waited, two and a look at describe for people.

    Raises:
        CrmPipelineError: the CRM could not be asked, and nothing has ended.
    """
    portion = taken.portion
    if portion.operation is Operation.CREATE and not portion.options.if_absent:
        return rows
    late = late_makers(
        context.warehouse, taken, late_after_seconds=context.manners.look_again_seconds
    )
    waited = [row for row in rows if late.keys() & set(row.writes)]
    if not waited:
        return rows
    context.require_enabled()
    try:
        found = dict(_found(context, taken, crm_object, waited, late))
    except PermanentError:  # what cannot be asked for is left to the CRM's own answer
        return rows
    if not found:
        return rows
    if portion.options.if_absent:
        context.count(hand_back(context.warehouse, context.lease, taken, list(found)))
    else:
        moves = [
            Move(write_id, crm_object.name, record_id, FOUND_MEANWHILE, _REASON)
            for write_id, record_id in found.items()
        ]
        follow(context.warehouse, context.lease, taken, moves)
        context.count({WriteState.SUPERSEDED: len(moves)})
    return [row for row in rows if not found.keys() & set(row.writes)]


def _found(
    context: WriteContext,
    taken: Claim,
    crm_object: CrmObject,
    rows: Sequence[WriteRow],
    late: Mapping[int, str | None],
) -> Iterator[tuple[int, str]]:
    """Write-backs whose record is there, with its id."""
    email_of = {row.writes[0]: late.get(row.writes[0]) or "" for row in rows}
    keyed: Mapping[str, str] = {}
    people: Mapping[str, str] = {}
    members: Mapping[tuple[str, str], str] = {}
    if taken.portion.operation is Operation.UPSERT:
        keyed = _by_key(context, crm_object, taken.key_field or "", rows)
    elif crm_object.name in PEOPLE:
        people = _by_email(context, crm_object, email_of.values())
    if crm_object.name == MEMBER:
        members = _by_membership(context, crm_object, rows)
    for row in rows:
        found = (
            keyed.get((row.external_id or "").lower())
            or people.get(email_of[row.writes[0]])
            or members.get(_membership(row))
        )
        if found is not None:
            yield from ((write_id, found) for write_id in row.writes)


def _by_key(
    context: WriteContext, crm_object: CrmObject, name: str, rows: Sequence[WriteRow]
) -> dict[str, str]:
    """Records by their key in lower case; of a key that is no text, none are found."""
    field = crm_object.find(name)
    if field is None or not field.is_filterable or field.value_type is not ValueType.TEXT:
        return {}
    keys = sorted({row.external_id or "" for row in rows})
    return {
        str(found[field.name]).lower(): str(found[crm_object.id_field])
        for found in context.connector.find_by(crm_object, field.name, keys)
    }


def _by_email(
    context: WriteContext, crm_object: CrmObject, emails: Iterable[str]
) -> dict[str, str]:
    """People by their address, whichever object they are of; a converted lead is one, too."""
    asked = sorted(set(filter(None, emails)))
    people: dict[str, str] = {}
    for name in PEOPLE if asked else ():
        other = crm_object if name == crm_object.name else _described(context, name)
        if other is None or other.find("Email") is None:
            continue
        for found in context.connector.find_by(other, "Email", asked):
            people[str(found["Email"]).strip().lower()] = str(found[other.id_field])
    return people


def _by_membership(
    context: WriteContext, crm_object: CrmObject, rows: Sequence[WriteRow]
) -> dict[tuple[str, str], str]:
    """Campaign members by campaign and person."""
    members: dict[tuple[str, str], str] = {}
    for name in (f"{person}Id" for person in PEOPLE):
        ids = sorted({str(row.values[name]) for row in rows if row.values.get(name)})
        if not ids or crm_object.find(name) is None:
            continue
        for found in context.connector.find_by(crm_object, name, ids, ["CampaignId"]):
            place = (str(found["CampaignId"]), str(found[name]))
            members[place] = str(found[crm_object.id_field])
    return members


def _membership(row: WriteRow) -> tuple[str, str]:
    person = row.values.get("ContactId") or row.values.get("LeadId")
    return str(row.values.get("CampaignId")), str(person)


def _described(context: WriteContext, name: str) -> CrmObject | None:
    try:
        return context.connector.describe(name)
    except ObjectUnavailable:
        return None
