"""Which record an action is about.

| found by | nothing there | one record | several |
|---|---|---|---|
| a record's id | - | that one; whether it lives, the CRM says | - |
| an external id, update | refused | that one | held |
| an external id, upsert | to be made | that one | held |
| an address, create or upsert | to be made | that one | held |
| an address, update | refused | that one | held |
| campaign and person | to be made | that membership | held |
| nothing, create | to be made | - | - |

Belongs here: this table. Does not belong here: gathering what it rests on (facts.py), and what is
written (deciding.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from crm_pipeline.actions.facts import Describer, Facts
from crm_pipeline.actions.reading import Asked, field_value
from crm_pipeline.actions.refusing import Refusal
from crm_pipeline.config.names import show
from crm_pipeline.crm.port import CrmConnector
from crm_pipeline.errors import UsageError
from crm_pipeline.model.actions import CARRIERS, MEMBER, ActionKind
from crm_pipeline.model.objects import CrmObject, ValueType
from crm_pipeline.model.writeback import Value

MEMBER_FIELDS = ("CampaignId", "LeadId", "ContactId")
"""What a membership is; it never changes."""


@dataclass(frozen=True, slots=True)
class Target:
    """The record that an action is about.

    Attributes:
        record_id: None where it is to be made.
        how: how it was found, as a sentence begins; empty where the sender named it.
        links: fields by which a record that is to be made names its person and its campaign.
    """

    crm_object: CrmObject
    record_id: str | None = None
    how: str = ""
    links: Mapping[str, Value] = field(default_factory=dict)


class Ambiguous(Exception):
    """Several records may be meant, and none is guessed; never leaves this room.

    Attributes:
        ids: of the records, all of `object_name`.
        what: what they have in common.
    """

    def __init__(self, object_name: str, ids: tuple[str, ...], what: str) -> None:
        super().__init__(what)
        self.object_name = object_name
        self.ids = ids
        self.what = what


@dataclass(frozen=True, slots=True)
class Finder:
    """Finds the record of one action among the facts of its portion."""

    connector: CrmConnector
    describe: Describer
    facts: Facts

    def find(self, asked: Asked) -> Target:
        """The record, or that it is to be made.

        Raises:
            Refusal: the action does not name one, or the one that it names is not there.
            Ambiguous: it may be any of several.
        """
        action = asked.action
        if asked.record_id:
            crm_object = self._object(action.record_object or action.object_name)
            how = "A person chose the record" if action.record_object else ""
            return Target(crm_object, self._id(asked.record_id, crm_object), how)
        if action.external_id_field:
            return self._by_key(asked)
        if asked.crm_object.name == MEMBER:
            return self._member(asked)
        if asked.crm_object.name in CARRIERS:
            return self._about_a_person(asked)
        return self._by_email(asked)

    def _by_email(self, asked: Asked) -> Target:
        person = self._person(asked)
        if person is not None:
            name, record_id = person
            return Target(self._object(name), record_id, f"A {name.lower()} has the address")
        if asked.email is None and asked.action.kind is not ActionKind.CREATE:
            raise Refusal(
                "NOT_NAMED", f"The {asked.action.kind} does not say which record it means."
            )
        if asked.action.kind is ActionKind.UPDATE:
            raise Refusal("NOT_FOUND", "No lead or contact has the address.")
        return Target(asked.crm_object)

    def _person(self, asked: Asked) -> tuple[str, str] | None:
        """Object and id of the person with the address; None where there is none."""
        if asked.is_about_chosen:
            crm_object = self._object(asked.action.record_object or "")
            return crm_object.name, self._id(asked.action.record_id or "", crm_object)
        people = self.facts.people.get(asked.email or "")
        speaking = people.speaking() if people else None
        if speaking is None:
            return None
        name, ids = speaking
        # What cannot name its person need not know which of them it is.
        if len(ids) > 1 and _person_fields(asked.crm_object.name, name, ids[0]):
            raise Ambiguous(name, ids, "the address")
        return name, ids[0]

    def _by_key(self, asked: Asked) -> Target:
        crm_object, action = asked.crm_object, asked.action
        found = crm_object.find(action.external_id_field or "")
        if found is None:
            raise Refusal(
                "INVALID_FIELD",
                f"{crm_object.name} has no field {show(action.external_id_field)} for our user.",
            )
        if not found.is_filterable or found.value_type is not ValueType.TEXT:
            is_spared = action.kind is not ActionKind.UPDATE and asked.options.depends_on_record
            sparing = "`only_new`, `only_empty`, `if_found`, `owner` and `assignment`"
            or_else = f", or without {sparing}" if is_spared else ""
            raise Refusal(
                "NO_KEY_FIELD",
                f"Records are not looked for by {found.name}, which is no text to search by.",
                remedy="Ask again under another action id: by the record's own id or an external id"
                f" that is a text{or_else}.",
            )
        ids = self.facts.keyed.get(
            (crm_object.name, found.name, (action.external_id or "").lower()), ()
        )
        if not ids and action.kind is ActionKind.UPDATE:
            raise Refusal("NOT_FOUND", f"No record has that {found.name}.")
        if not ids:  # a person is a member of a campaign once, whatever the key
            return self._member(asked) if crm_object.name == MEMBER else self.to_be_made(asked)
        if len(ids) > 1:
            raise Ambiguous(crm_object.name, ids, f"that {found.name}")
        return Target(crm_object, ids[0], f"A record has that {found.name}")

    def _about_a_person(self, asked: Asked) -> Target:
        """A task or a case is always a new one, unless it is named by its id."""
        if asked.action.kind is ActionKind.UPDATE:
            raise Refusal("NOT_NAMED", "The update does not say which record it means.")
        return self.to_be_made(asked)

    def to_be_made(self, asked: Asked) -> Target:
        """A record that is not looked for, with the person whom it is about.

        Raises:
            Refusal: there is no such person.
            Ambiguous: it may be any of several people.
        """
        is_about_a_person = asked.crm_object.name in CARRIERS
        return Target(asked.crm_object, links=self._links(asked) if is_about_a_person else {})

    def _links(self, asked: Asked) -> dict[str, Value]:
        """Fields by which a new record names its person and its campaign."""
        name, person = asked.crm_object.name, self._person(asked)
        links: dict[str, Value] = {}
        if person is not None:
            links = _person_fields(name, *person)
        if asked.email and name == "Case" and not links:
            # So the CRM's own intake of e-mails notes a stranger, or a lead, which has no cases.
            links = {"SuppliedEmail": asked.email}
        elif asked.email and person is None:
            raise Refusal("NO_PERSON", "No lead or contact has the address.")
        if name == MEMBER and asked.options.campaign:
            links["CampaignId"] = self._campaign(asked.options.campaign)
        # What the sender says herself goes first.
        return {key: v for key, v in links.items() if field_value(asked.action, key) is None}

    def _campaign(self, named: str) -> str:
        ids = self.facts.campaigns.get(named.lower())
        if ids is None:
            try:
                return self._id(named, self._object("Campaign"))
            except Refusal:
                raise Refusal("BAD_CAMPAIGN", "There is no campaign of that name.") from None
        if len(ids) > 1:
            raise Refusal("BAD_CAMPAIGN", f"{len(ids)} campaigns have that name.")
        return ids[0]

    def _member(self, asked: Asked) -> Target:
        links = self._links(asked)
        said = {name: field_value(asked.action, name) or links.get(name) for name in MEMBER_FIELDS}
        person_field = "ContactId" if said["ContactId"] else "LeadId"
        if not said["CampaignId"] or not said[person_field]:
            raise Refusal(
                "REQUIRED_FIELD_MISSING",
                "A campaign member needs a campaign and a person.",
                remedy="Give the option `campaign`, and match_email, LeadId or ContactId, under"
                " another action id.",
            )
        campaign = self._id(str(said["CampaignId"]), self.describe("Campaign"))
        person = self._id(str(said[person_field]), self.describe(person_field.removesuffix("Id")))
        ids = self.facts.members.get((campaign, person), ())
        if len(ids) > 1:
            raise Ambiguous(MEMBER, ids, "this campaign and person")
        if ids:
            return Target(asked.crm_object, ids[0], "The person is a member already")
        if asked.action.kind is ActionKind.UPDATE:
            raise Refusal("NOT_FOUND", "The person is no member of the campaign.")
        # Spelt in full, so that two actions for one membership are seen to be for one.
        links |= {"CampaignId": campaign, person_field: person}
        return Target(asked.crm_object, links=links)

    def _object(self, name: str) -> CrmObject:
        crm_object = self.describe(name)
        if crm_object is None:
            raise Refusal("NO_OBJECT", f"There is no object {show(name)} for our user.")
        return crm_object

    def _id(self, text: str, crm_object: CrmObject | None = None) -> str:
        try:
            record_id = self.connector.full_id(text)
        except UsageError as error:
            raise Refusal("BAD_ID", str(error)) from None
        if crm_object is not None and not record_id.startswith(crm_object.id_prefix or ""):
            raise Refusal("BAD_ID", f"{show(text)} is no id of a record of {crm_object.name}.")
        return record_id


def _person_fields(object_name: str, person: str, record_id: str) -> dict[str, Value]:
    """How a record of an object names its person."""
    if object_name == "Task":
        return {"WhoId": record_id}
    if object_name == "Case" and person != "Contact":
        return {}
    return {f"{person}Id": record_id}
