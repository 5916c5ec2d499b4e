"""What must be known to decide a portion of actions, asked for all of them at once.

Who has an address, the CRM itself is asked: our tables are as old as the last sync, and since then
people were created, deleted, merged, or got another address.

Belongs here: gathering. Does not belong here: what follows from it (deciding.py).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from crm_pipeline.actions.reading import Asked, field_value
from crm_pipeline.config.settings import Settings
from crm_pipeline.crm.port import CrmConnector
from crm_pipeline.errors import ObjectUnavailable, UsageError
from crm_pipeline.model.actions import CARRIERS, MEMBER, PEOPLE
from crm_pipeline.model.objects import CrmObject, ValueType
from crm_pipeline.warehouse.actions import (
    OwnerFound,
    assignment_rules,
    being_made,
    owners_named,
)
from crm_pipeline.warehouse.connection import Warehouse

Place = tuple[str, ...]
"""What a record is found by; there is at most one record at a place."""
_PERSON_FIELDS = ("LeadId", "ContactId")


@dataclass(frozen=True, slots=True)
class People:
    """The living records with one address, by object; a contact speaks before a lead."""

    by_object: Mapping[str, tuple[str, ...]]

    def speaking(self) -> tuple[str, tuple[str, ...]] | None:
        """The object that speaks for the person, and its records; None where there is none."""
        return next(
            (pair for one in PEOPLE if (pair := (one, self.by_object.get(one, ())))[1]), None
        )


@dataclass(slots=True)
class Facts:
    """Everything that the decisions about one portion rest on.

    Attributes:
        people: by address.
        keyed: ids of the records that hold a key, by object, field and key in lower case.
        owners: by the name that was given; None without reference data.
        rules: object of each assignment rule; None without reference data.
        campaigns: ids by name in lower case.
        members: ids of campaign members by campaign and person.
        making: places of records that are being created, with the action that does it.
    """

    people: Mapping[str, People] = field(default_factory=dict)
    keyed: Mapping[tuple[str, str, str], tuple[str, ...]] = field(default_factory=dict)
    owners: Mapping[str, tuple[OwnerFound, ...]] | None = None
    rules: Mapping[str, str] | None = None
    campaigns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    members: Mapping[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    making: dict[Place, str] = field(default_factory=dict)


class Describer:
    """Objects as our user sees them now, each asked for once."""

    def __init__(self, connector: CrmConnector) -> None:
        self._connector = connector
        self._known: dict[str, CrmObject | None] = {}

    def __call__(self, name: str) -> CrmObject | None:
        """The object; None where our user sees none of that name."""
        if name not in self._known:
            try:
                self._known[name] = self._connector.describe(name)
            except ObjectUnavailable:
                self._known[name] = None
        return self._known[name]


@dataclass(frozen=True, slots=True)
class Gatherer:
    """Asks the warehouse and the CRM."""

    settings: Settings
    connector: CrmConnector
    warehouse: Warehouse
    describe: Describer

    def gather(self, portion: Sequence[Asked]) -> Facts:
        """Everything for a portion; calls to the CRM grow with its size by hundreds."""
        emails = sorted({one.email for one in portion if one.email})
        owners = sorted({one.options.owner for one in portion if one.options.owner})
        facts = Facts(
            people=self._people(emails),
            keyed=self._keyed(portion),
            owners=self._owners(owners),
            rules=assignment_rules(self.warehouse),
            campaigns=self._campaigns(portion),
            making=self._making(),
        )
        facts.members = self._members(portion, facts)
        return facts

    def _making(self) -> dict[Place, str]:
        """Records that earlier portions make, or earlier looks."""
        found: dict[Place, str] = {}
        for one in being_made(self.warehouse):
            places = []
            if one.object_name in PEOPLE and one.email:
                places.append(person_place(one.email))
            if one.external_id_field and one.external_id:
                places.append(key_place(one.object_name, one.external_id_field, one.external_id))
            if one.object_name == MEMBER and one.campaign and one.person:
                places.append(member_place(one.campaign, one.person))
            for place in places:
                found.setdefault(place, one.action_id)
        return found

    def _people(self, emails: Sequence[str]) -> dict[str, People]:
        found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        for name in PEOPLE:
            for email, object_name, record_id in self._living(name, emails):
                found[email][object_name].add(record_id)
        return {
            email: People({name: tuple(sorted(ids)) for name, ids in by_object.items()})
            for email, by_object in found.items()
        }

    def _living(self, name: str, emails: Sequence[str]) -> Iterable[tuple[str, str, str]]:
        """People of one object as the CRM holds them now; a converted lead is its contact."""
        crm_object = self.describe(name)
        if crm_object is None or not emails or crm_object.find("Email") is None:
            return
        converted = crm_object.converted_into_field
        asked = (converted,) if converted else ()
        for row in self.connector.find_by(crm_object, "Email", emails, asked):
            email = str(row["Email"]).strip().lower()
            contact = row.get(converted) if converted else None
            yield email, "Contact" if contact else name, str(contact or row[crm_object.id_field])

    def _keyed(self, portion: Sequence[Asked]) -> dict[tuple[str, str, str], tuple[str, ...]]:
        """Records by their keys, where the CRM cannot be left to find or make them by itself."""
        wanted: dict[tuple[str, str], set[str]] = defaultdict(set)
        objects = {}
        for one in portion:
            action = one.action
            if one.record_id or not action.external_id or not one.looks_first:
                continue
            found = one.crm_object.find(action.external_id_field or "")
            if found is not None and found.is_filterable and found.value_type is ValueType.TEXT:
                wanted[one.crm_object.name, found.name].add(action.external_id)
                objects[one.crm_object.name] = one.crm_object
        ids: dict[tuple[str, str, str], tuple[str, ...]] = defaultdict(tuple)
        for (name, key_field), keys in wanted.items():
            for row in self.connector.find_by(objects[name], key_field, sorted(keys)):
                place = (name, key_field, str(row[key_field]).lower())
                ids[place] = (*ids[place], str(row[objects[name].id_field]))
        return ids

    def _owners(self, names: Sequence[str]) -> dict[str, tuple[OwnerFound, ...]] | None:
        found = owners_named(self.warehouse, names)
        if found is None:
            return None
        by_name: dict[str, tuple[OwnerFound, ...]] = {}
        for one in found:
            by_name[one.name] = (*by_name.get(one.name, ()), one)
        return by_name

    def _campaigns(self, portion: Sequence[Asked]) -> dict[str, tuple[str, ...]]:
        names = sorted({one.options.campaign for one in portion if one.options.campaign})
        crm_object = self.describe("Campaign") if names else None
        found: dict[str, tuple[str, ...]] = {}
        if crm_object is not None:
            for row in self.connector.find_by(crm_object, "Name", names):
                name = str(row["Name"]).lower()
                found[name] = (*found.get(name, ()), str(row[crm_object.id_field]))
        return found

    def _members(
        self, portion: Sequence[Asked], facts: Facts
    ) -> dict[tuple[str, str], tuple[str, ...]]:
        """Memberships of the people at hand."""
        crm_object = self.describe(MEMBER) if _has(portion, MEMBER) else None
        found: dict[tuple[str, str], tuple[str, ...]] = {}
        if crm_object is None:
            return found
        people = self._people_of_members(portion, facts)
        for name in _PERSON_FIELDS:
            if not people[name] or crm_object.find(name) is None:
                continue
            for row in self.connector.find_by(
                crm_object, name, sorted(people[name]), ["CampaignId"]
            ):
                place = (str(row["CampaignId"]), str(row[name]))
                found[place] = (*found.get(place, ()), str(row[crm_object.id_field]))
        return found

    def _people_of_members(self, portion: Sequence[Asked], facts: Facts) -> dict[str, set[str]]:
        people: dict[str, set[str]] = {name: set() for name in _PERSON_FIELDS}
        for one in portion:
            if one.crm_object.name != MEMBER:
                continue
            known = facts.people.get(one.email or "")
            speaking = known.speaking() if known else None
            if speaking is not None:
                people[f"{speaking[0]}Id"].update(speaking[1])
            for name in _PERSON_FIELDS:
                record_id = self._id_or_none(name, field_value(one.action, name))
                if record_id is not None:
                    people[name].add(record_id)
            if one.is_about_chosen:
                name = f"{one.action.record_object}Id"
                chosen = self._id_or_none(name, one.action.record_id)
                if chosen is not None:
                    people[name].add(chosen)
        return people

    def _id_or_none(self, name: str, given: object) -> str | None:
        """A person's full id; None where it is none, by which a CRM may refuse to search."""
        if not isinstance(given, str):
            return None
        try:
            record_id = self.connector.full_id(given)
        except UsageError:
            return None
        crm_object = self.describe(name.removesuffix("Id"))
        prefix = crm_object.id_prefix if crm_object else None
        return record_id if record_id.startswith(prefix or "") else None


def person_place(email: str) -> Place:
    """A lead or contact by its address."""
    return ("person", email)


def key_place(object_name: str, field_name: str, key: str) -> Place:
    """A record by its external id, as the CRM compares them."""
    return ("key", object_name, field_name.casefold(), key.casefold())


def member_place(campaign: str, person: str) -> Place:
    """A membership."""
    return ("member", campaign, person)


def _has(portion: Sequence[Asked], name: str) -> bool:
    assert name in CARRIERS
    return any(one.crm_object.name == name for one in portion)
