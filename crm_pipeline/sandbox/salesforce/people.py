"""A lifelike org by seed: customers, deals, requests and campaigns that hang together.

Belongs here: which records a seeded org has, how many of each and how they refer to each
other. Does not belong here: words (people_words.py), drawing a person (people_cast.py), texts
that break loaders (people_hostile.py), the staff (people_staff.py).
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from crm_pipeline.sandbox.salesforce.clock import stamp_moment, stamp_text
from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.people_cast import Cast, Company, Person
from crm_pipeline.sandbox.salesforce.people_hostile import EXTREMES, hostile_leads
from crm_pipeline.sandbox.salesforce.people_staff import seed_staff
from crm_pipeline.sandbox.salesforce.people_wide import lead_rows
from crm_pipeline.sandbox.salesforce.people_words import CASE_SUBJECTS, TITLES, TOPICS
from crm_pipeline.sandbox.salesforce.standard_objects_fields import (
    LEAD_SOURCES,
    RATINGS,
    SALUTATIONS,
)
from crm_pipeline.sandbox.salesforce.standard_objects_formulas import (
    CASE_STATUSES,
    STAGES,
    TASK_STATUSES,
)
from crm_pipeline.sandbox.salesforce.standard_objects_marketing import (
    LEAD_STATUSES,
    REGIONS,
    SEGMENTS,
)

__all__ = ["lead_rows", "seed_org"]

Row = dict[str, Any]
SEED_MARK = "hostile-000"
"""The external key of a lead that every seeded org has."""

_SHARES = {
    "Lead": 0.45,
    "Account": 0.10,
    "Contact": 0.22,
    "Opportunity": 0.10,
    "Case": 0.03,
    "Campaign": 0.002,
    "CampaignMember": 0.035,
    "Event_Registration__c": 0.02,
}  # tasks are the rest
_CONVERTED, _TWIN, _SAME_MAIL = 0.08, 0.10, 0.03


def seed_org(org: SandboxOrg, *, records: int = 20_000, seed: int = 1) -> dict[str, int]:
    """Fill the org with people who belong together.

    The same seed at the same org time gives the same records with the same Ids. Below about
    500 records the awkward ones are still all there, so there are more than asked for.

    Args:
        org: An org without seeded records.
        records: How many records outside setup objects (users, queues and rules come on top).
        seed: Which cast.

    Returns:
        How many records each object received.

    Raises:
        ValueError: The org was seeded before.
    """
    if org.query(f"SELECT Id FROM Lead WHERE External_Key__c = '{SEED_MARK}'"):
        raise ValueError("this org has its seeded people already; begin with an empty one")
    return _Seeding(org, seed).run(records)


class _Seeding:
    """One filling of one org; later objects refer to what earlier ones left here."""

    def __init__(self, org: SandboxOrg, seed: int) -> None:
        self.org = org
        self.cast = Cast(seed)
        self.rng = self.cast.rng
        self.now = org.clock.now()
        self.counts: Counter[str] = Counter()
        self.staff = seed_staff(org, self.cast, self.counts)
        self.accounts: list[tuple[Row, Company]] = []
        self.contacts: list[tuple[Row, Person, Company]] = []
        self.opportunities: list[Row] = []
        self.leads: list[Row] = []
        self.campaigns: list[Row] = []

    def run(self, records: int) -> dict[str, int]:
        wanted = {name: max(4, round(records * share)) for name, share in _SHARES.items()}
        awkward = hostile_leads()
        wanted["Lead"] = max(wanted["Lead"], len(awkward) + 4)
        wanted["Opportunity"] = max(wanted["Opportunity"], len(EXTREMES) + 4)
        self._accounts(wanted["Account"])
        self._contacts(wanted["Contact"])
        self._opportunities(wanted["Opportunity"])
        self._leads(wanted["Lead"], awkward)
        self._campaigns(wanted["Campaign"])
        self._members(wanted["CampaignMember"])
        self._make("Case", [self._case() for _ in range(wanted["Case"])])
        registrations = wanted["Event_Registration__c"]
        self._make("Event_Registration__c", [self._registration() for _ in range(registrations)])
        tasks = max(4, records - sum(wanted.values()))
        self._make("Task", [self._task() for _ in range(tasks)])
        return dict(self.counts)

    def _make(self, object_name: str, rows: list[Row]) -> None:
        """Create the rows oldest first, as an org's Ids grow, and give each row its Id."""
        rows.sort(key=lambda row: str(row["CreatedDate"]))
        for row, identifier in zip(rows, self.org.create_many(object_name, rows), strict=True):
            row["Id"] = identifier
        self.counts[object_name] += len(rows)

    def _stamps(self, after: str | None = None) -> Row:
        """Who made the record and when, and when it was last touched."""
        made = self.cast.moment(self.now)
        if after is not None:
            made = self._between(stamp_moment(after), self.now)
        touched = made if self.rng.random() < 0.3 else self._between(made, self.now)
        # Salesforce touches records without anybody editing them: only SystemModstamp moves.
        swept = touched if self.rng.random() < 0.97 else self._between(touched, self.now)
        return {
            "CreatedDate": stamp_text(made),
            "CreatedById": self._user(),
            "LastModifiedDate": stamp_text(touched),
            "LastModifiedById": self._user(),
            "SystemModstamp": stamp_text(swept),
        }

    def _between(self, start: datetime, end: datetime) -> datetime:
        seconds = max(0, int((end - start).total_seconds()))
        return start + timedelta(seconds=int(seconds * self.rng.random()))

    def _user(self) -> str:
        return self.rng.choice(self.staff.users)

    def _maybe(self, chance: float, values: Sequence[Any]) -> Any:
        return self.rng.choice(values) if self.rng.random() < chance else None

    def _day(self, start: int, end: int) -> str:
        return (self.now + timedelta(days=self.rng.randrange(start, end))).date().isoformat()

    def _accounts(self, count: int) -> None:
        made = []
        for serial in range(count):
            company = self.cast.company(serial)
            row = {
                **self._stamps(),
                "Name": company.name,
                "Type": self.rng.choice(("Prospect", "Customer - Direct", "Other")),
                "Industry": company.industry,
                "NumberOfEmployees": company.employees,
                "AnnualRevenue": company.revenue,
                "Website": f"https://www.{company.domain}",
                "Phone": self.cast.phone(company.language),
                "AccountNumber": f"{serial:07d}",
                "AccountSource": self._maybe(0.8, LEAD_SOURCES),
                "Rating": self._maybe(0.6, RATINGS),
                "Description": self.cast.remark(),
                "OwnerId": self._user(),
                "External_Key__c": f"A-{serial:07d}",
                **self.cast.address(company.language, "Billing"),
            }
            if self.rng.random() < 0.5:
                row |= self.cast.address(company.language, "Shipping")
            made.append((row, company))
        made.sort(key=lambda pair: str(pair[0]["CreatedDate"]))
        self._make("Account", [row for row, _ in made])
        self.accounts = made

    def _contacts(self, count: int) -> None:
        made = []
        for serial in range(count):
            account, company = self.rng.choice(self.accounts)
            person = self.cast.person(company.language)
            row = {
                **self._stamps(after=account["CreatedDate"]),
                **self._person(person),
                "AccountId": account["Id"],
                "Email": f"{person.mailbox}.{serial}@{company.domain}",
                "Department": self._maybe(0.5, ("Sales", "IT", "Purchasing", "Finance", "Legal")),
                "Birthdate": self._maybe(0.2, ("1964-02-29", "1971-07-14", "1989-11-09")),
                "OwnerId": account["OwnerId"],
                "External_Key__c": f"C-{serial:07d}",
                **self.cast.address(company.language, "Mailing"),
            }
            made.append((row, person, company))
        self._make("Contact", [row for row, _, _ in made])
        self.contacts = made

    def _person(self, person: Person) -> Row:
        """What lead and contact say alike about a person."""
        return {
            "Salutation": self._maybe(0.5, SALUTATIONS),
            "FirstName": person.first_name,
            "LastName": person.last_name,
            "Title": self._maybe(0.8, TITLES),
            "LeadSource": self._maybe(0.9, LEAD_SOURCES),
            "Description": self.cast.remark(),
            **self.cast.reach(person.language),
        }

    def _opportunities(self, count: int) -> None:
        self.opportunities = [self._opportunity() for _ in range(count - len(EXTREMES))]
        extremes = [self._opportunity() | extreme for extreme in EXTREMES]
        self._make("Opportunity", [*self.opportunities, *extremes])

    def _opportunity(self) -> Row:
        account, company = self.rng.choice(self.accounts)
        stage = self.rng.choice(STAGES)
        cents = int(10 ** self.rng.uniform(5, 9))
        return {
            **self._stamps(after=account["CreatedDate"]),
            "AccountId": account["Id"],
            "Name": f"{company.name} - {self.rng.choice(TOPICS)}"[:120],
            "StageName": stage.name,
            "Probability": stage.probability,
            "Amount": Decimal(cents) / 100 if self.rng.random() < 0.95 else None,
            "CloseDate": self._day(-700, 0) if stage.closed else self._day(1, 200),
            "Type": self._maybe(0.8, ("New Customer", "Existing Customer - Upgrade")),
            "LeadSource": self._maybe(0.8, LEAD_SOURCES),
            "NextStep": self._maybe(0.3, ("Send contract", "Call back", "Angebot schicken")),
            "OwnerId": account["OwnerId"],
        }

    def _leads(self, count: int, awkward: list[Row]) -> None:
        leads = [self._lead(serial) for serial in range(count - len(awkward))]
        for lead in leads:
            if not lead["IsConverted"] and self.rng.random() < _SAME_MAIL:
                lead["Email"] = self.rng.choice(leads)["Email"]
        self._make("Lead", [*leads, *(self._awkward(one) for one in awkward)])
        self.leads = [lead for lead in leads if not lead["IsConverted"]]

    def _lead(self, serial: int) -> Row:
        chance = self.rng.random()
        contact: Row = {}
        if chance < _CONVERTED + _TWIN:
            contact, person, company = self.rng.choice(self.contacts)
        else:
            company = self.cast.company(100_000 + serial)
            person = self.cast.person(company.language)
        segments = [one for one in SEGMENTS if self.rng.random() < 0.25]
        row = {
            **self._stamps(),
            **self._person(person),
            "Company": company.name,
            "Email": contact.get("Email", f"{person.mailbox}@{company.domain}"),
            "Website": f"https://www.{company.domain}",
            "Industry": company.industry,
            "NumberOfEmployees": company.employees,
            "AnnualRevenue": company.revenue,
            "Rating": self._maybe(0.5, RATINGS),
            "Status": self.rng.choice((*LEAD_STATUSES[:2], LEAD_STATUSES[3])),
            "OwnerId": self._owner(self.staff.lead_queues),
            "RecordTypeId": self.rng.choice(self.staff.record_types),
            "IsUnreadByOwner": self.rng.random() < 0.3,
            "IsConverted": False,
            "LastActivityDate": self._day(-300, 0) if self.rng.random() < 0.4 else None,
            "Lead_Score__c": Decimal(self.rng.randrange(10_000)) / 100,
            "Marketing_Segments__c": ";".join(segments) or None,
            "Preferred_Call_Time__c": self._maybe(0.3, ("09:00:00.000Z", "14:30:00.000Z")),
            "Is_Target__c": self.rng.random() < 0.2,
            "Region__c": self._maybe(0.8, REGIONS),
            "External_Key__c": f"L-{serial:07d}" if self.rng.random() < 0.7 else None,
            **self.cast.address(person.language),
        }
        if chance < _CONVERTED:
            return row | self._conversion(contact, row)
        return row | self._bounce(row) if self.rng.random() < 0.02 else row

    def _owner(self, queues: Sequence[str]) -> str:
        return self.rng.choice(queues) if self.rng.random() < 0.15 else self._user()

    def _conversion(self, contact: Row, lead: Row) -> Row:
        deals = [one["Id"] for one in self.rng.sample(self.opportunities, 1)]
        return {
            "Status": "Closed - Converted",
            "IsConverted": True,
            "ConvertedDate": lead["LastModifiedDate"][:10],
            "ConvertedAccountId": contact["AccountId"],
            "ConvertedContactId": contact["Id"],
            "ConvertedOpportunityId": self._maybe(0.5, deals),
        }

    def _bounce(self, lead: Row) -> Row:
        return {
            "EmailBouncedReason": "550 5.1.1 mailbox unavailable",
            "EmailBouncedDate": lead["LastModifiedDate"],
        }

    def _awkward(self, values: Row) -> Row:
        # Stamped like any other, so that they fall on every page of a load.
        return {**self._stamps(), "OwnerId": self._user(), "IsConverted": False, **values}

    def _campaigns(self, count: int) -> None:
        for serial in range(count):
            kind = self.rng.choice(("Webinar", "Email", "Trade Show", "Conference"))
            start = self.rng.randrange(-900, 60)
            self.campaigns.append(
                {
                    **self._stamps(),
                    "Name": f"{kind} on {self.rng.choice(TOPICS)} {serial + 1}",
                    "Type": kind,
                    "Status": "Planned" if start > 0 else "Completed",
                    "StartDate": self._day(start, start + 1),
                    "EndDate": self._day(start + 1, start + 30),
                    "IsActive": start > -60,
                    "BudgetedCost": self.rng.randrange(1, 60) * 500,
                    "ExpectedResponse": Decimal(self.rng.randrange(100, 2_000)) / 100,
                    "OwnerId": self._user(),
                }
            )
        self._make("Campaign", self.campaigns)

    def _members(self, count: int) -> None:
        pairs: set[tuple[str, str]] = set()
        rows: list[Row] = []
        while len(rows) < count:
            campaign = self.rng.choice(self.campaigns)
            field, person = self._somebody()
            if (campaign["Id"], person["Id"]) in pairs:
                continue
            pairs.add((campaign["Id"], person["Id"]))
            after = max(campaign["CreatedDate"], person["CreatedDate"])
            responded = self.rng.random() < 0.3
            rows.append(
                {
                    **self._stamps(after=after),
                    "CampaignId": campaign["Id"],
                    f"{field}Id": person["Id"],
                    "Status": "Responded" if responded else "Sent",
                    "FirstRespondedDate": self._day(-300, 0) if responded else None,
                }
            )
        self._make("CampaignMember", rows)

    def _somebody(self) -> tuple[str, Row]:
        """A lead or a contact, with the name of its object."""
        if self.rng.random() < 0.6:
            return "Lead", self.rng.choice(self.leads)
        return "Contact", self.rng.choice(self.contacts)[0]

    def _case(self) -> Row:
        contact, person, _ = self.rng.choice(self.contacts)
        stamps = self._stamps(after=contact["CreatedDate"])
        status = self.rng.choice(CASE_STATUSES)
        subject = self.rng.choice(CASE_SUBJECTS)
        return {
            **stamps,
            "ContactId": contact["Id"],
            "AccountId": contact["AccountId"],
            "Subject": subject.format(n=self.rng.randrange(2, 9_000), w=self.rng.choice(TOPICS)),
            "Description": self.cast.remark(),
            "Status": status,
            "ClosedDate": stamps["LastModifiedDate"] if status == "Closed" else None,
            "Priority": self.rng.choice(("High", "Medium", "Medium", "Low")),
            "Origin": self.rng.choice(("Phone", "Email", "Web")),
            "SuppliedName": person.first_name,
            "OwnerId": self._owner(self.staff.case_queues),
        }

    def _registration(self) -> Row:
        field, person = self._somebody()
        return {
            **self._stamps(after=person["CreatedDate"]),
            f"{field}__c": person["Id"],
            "Campaign__c": self._maybe(0.7, [one["Id"] for one in self.campaigns]),
            "Event_Date__c": self._day(-400, 120),
            "Attendance__c": self.rng.choice(("Registered", "Attended", "No Show", "Cancelled")),
            "Ticket_Price__c": Decimal(self.rng.choice((0, 4_990, 12_000, 29_950))) / 100,
            "OwnerId": self._user(),
        }

    def _task(self) -> Row:
        _, person = self._somebody()
        status = self.rng.choice(TASK_STATUSES)
        stamps = self._stamps(after=person["CreatedDate"])
        return {
            **stamps,
            "WhoId": person["Id"],
            "WhatId": person.get("AccountId"),
            "Subject": self.rng.choice(("Call", "Email", "Send Quote", "Rückruf", "Demo")),
            "Status": status,
            "CompletedDateTime": stamps["LastModifiedDate"] if status == "Completed" else None,
            "Priority": self.rng.choice(("High", "Normal", "Normal", "Low")),
            "ActivityDate": self._day(-200, 60),
            "Description": self.cast.remark(),
            "OwnerId": self._user(),
        }
