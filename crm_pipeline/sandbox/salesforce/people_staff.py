"""Who works in the seeded org and how its leads and cases find them: users, queues, rules.

Belongs here: the records an administrator keeps. Does not belong here: customers (people.py).
"""

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from crm_pipeline.sandbox.salesforce.clock import stamp_text
from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.people_cast import HISTORY_DAYS, Cast

USERS, INACTIVE_USERS = 12, 2
_QUEUES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("Inbound Leads", "Inbound_Leads", ("Lead",)),
    ("EMEA Leads", "EMEA_Leads", ("Lead",)),
    ("Support Tier 1", "Support_Tier_1", ("Case",)),
    ("Partner Desk", "Partner_Desk", ("Lead", "Case")),
)
_RULES = (
    ("Standard lead routing", "Lead", True),
    ("Holiday lead routing", "Lead", False),
    ("Support routing", "Case", True),
)
_RECORD_TYPES = (("Marketing Lead", "Marketing_Lead"), ("Partner Lead", "Partner_Lead"))
_TITLES = ("Sales Representative", "Sales Manager", "Marketing Manager", "Support Agent")


@dataclass(frozen=True, slots=True)
class Staff:
    """Ids of the active users and of the queues, by what they may own."""

    users: tuple[str, ...]
    lead_queues: tuple[str, ...]
    case_queues: tuple[str, ...]
    record_types: tuple[str, ...]


def seed_staff(org: SandboxOrg, cast: Cast, counts: Counter[str]) -> Staff:
    """Fill the setup objects; everything is as old as the org's history."""
    born = {"CreatedDate": stamp_text(org.clock.now() - timedelta(days=HISTORY_DAYS + 1))}

    def make(object_name: str, rows: list[dict[str, Any]]) -> list[str]:
        counts[object_name] += len(rows)
        return org.create_many(object_name, [born | row for row in rows])

    users = make("User", [_user(cast, place) for place in range(USERS)])
    for user in users[1:4]:
        org.update("User", user, {"ManagerId": users[0], **_unstamped(born)})
    active = users[: USERS - INACTIVE_USERS]
    groups = [{"Name": name, "DeveloperName": api, "Type": "Queue"} for name, api, _ in _QUEUES]
    queues = make("Group", groups)
    make("Group", [{"Name": "All Sales", "DeveloperName": "All_Sales", "Type": "Regular"}])
    owned = [
        (queue, kind)
        for queue, (_, _, kinds) in zip(queues, _QUEUES, strict=True)
        for kind in kinds
    ]
    make("QueueSobject", [{"QueueId": queue, "SobjectType": kind} for queue, kind in owned])
    members = [(queue, user) for queue in queues for user in sorted(cast.rng.sample(active, 3))]
    make("GroupMember", [{"GroupId": queue, "UserOrGroupId": user} for queue, user in members])
    make(
        "AssignmentRule",
        [{"Name": name, "SobjectType": kind, "Active": on} for name, kind, on in _RULES],
    )
    record_types = make(
        "RecordType",
        [
            {"Name": name, "DeveloperName": api, "SobjectType": "Lead"}
            for name, api in _RECORD_TYPES
        ],
    )
    return Staff(
        tuple(active),
        tuple(queue for queue, kind in owned if kind == "Lead"),
        tuple(queue for queue, kind in owned if kind == "Case"),
        tuple(record_types),
    )


def _unstamped(born: dict[str, str]) -> dict[str, str]:
    """Stamps that make a change part of the past."""
    then = born["CreatedDate"]
    return {"LastModifiedDate": then, "SystemModstamp": then}


def _user(cast: Cast, place: int) -> dict[str, Any]:
    person = cast.person()
    mailbox = f"{person.mailbox}.{place + 1}"
    return {
        "FirstName": person.first_name,
        "LastName": person.last_name,
        "Username": f"{mailbox}@sandbox.example",
        "Email": f"{mailbox}@sandbox.example",
        "Alias": person.mailbox[:6] + f"{place + 1:02d}",
        "Title": _TITLES[place % len(_TITLES)],
        "CompanyName": "Sandbox Org",
        "Department": ("Sales", "Marketing", "Support")[place % 3],
        "Phone": cast.phone(person.language),
        "IsActive": place < USERS - INACTIVE_USERS,
        **cast.address(person.language),
    }
