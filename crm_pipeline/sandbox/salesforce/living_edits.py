"""What an edit of a record looks like, and what a new record does: believable, small.

Belongs here: a record in, changed fields out; fields of newcomers. Does not belong here: which
records are touched and how many (living.py).
"""

import random
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Protocol

from crm_pipeline.sandbox.salesforce.people_cast import Cast
from crm_pipeline.sandbox.salesforce.people_words import CASE_SUBJECTS, TITLES, TOPICS
from crm_pipeline.sandbox.salesforce.standard_objects_fields import LEAD_SOURCES, RATINGS
from crm_pipeline.sandbox.salesforce.standard_objects_formulas import (
    CASE_STATUSES,
    STAGE_BY_NAME,
    STAGES,
)
from crm_pipeline.sandbox.salesforce.standard_objects_marketing import LEAD_STATUSES

Row = dict[str, Any]


class Edit(Protocol):
    """Says which fields of a record change; the record is left alone."""

    def __call__(self, row: Row, /, rng: random.Random) -> Row:
        """The changed fields."""


def _lead_edit(lead: Row, rng: random.Random) -> Row:
    choice = rng.randrange(5)
    if choice == 0:
        others = [one for one in (*LEAD_STATUSES[:2], LEAD_STATUSES[3]) if one != lead["Status"]]
        return {"Status": rng.choice(others)}
    if choice == 1:
        return {"Rating": rng.choice([one for one in RATINGS if one != lead["Rating"]])}
    if choice == 2:
        return {"HasOptedOutOfEmail": not lead["HasOptedOutOfEmail"]}
    if choice == 3:
        return {"Phone": _another_phone(lead, rng)}
    score = Decimal(rng.randrange(10_000)) / 100
    return {"Lead_Score__c": score if score != lead["Lead_Score__c"] else score + 1}


def _another_phone(record: Row, rng: random.Random) -> str:
    start = (record["Phone"] or "+1 555 0100 ")[:-1].rstrip("0123456789") or "+1 555 "
    number = f"{start}{rng.randrange(1_000, 10_000)}"[:40]
    return number if number != record["Phone"] else number + "0"


def _contact_edit(contact: Row, rng: random.Random) -> Row:
    if rng.random() < 0.5:
        return {"Phone": _another_phone(contact, rng)}
    return {"HasOptedOutOfEmail": not contact["HasOptedOutOfEmail"]}


def _account_edit(account: Row, rng: random.Random) -> Row:
    return {
        "NumberOfEmployees": (account["NumberOfEmployees"] or 0) % 90_000 + rng.randrange(1, 50)
    }


def _opportunity_edit(deal: Row, rng: random.Random) -> Row:
    others = [one for one in STAGES if one.name != deal["StageName"]]
    now = STAGE_BY_NAME.get(deal["StageName"])
    place = STAGES.index(now) if now else 0
    # Most deals take the next step; some fall back or are lost.
    stage = STAGES[place + 1] if place < 8 and rng.random() < 0.7 else rng.choice(others)
    return {"StageName": stage.name, "Probability": stage.probability}


def _case_edit(case: Row, rng: random.Random) -> Row:
    return {"Status": rng.choice([one for one in CASE_STATUSES if one != case["Status"]])}


def _task_edit(task: Row, rng: random.Random) -> Row:
    done = task["Status"] == "Completed"
    return {"Status": "In Progress" if done else "Completed"}


def _member_edit(member: Row, rng: random.Random) -> Row:
    return {"Status": "Sent" if member["Status"] == "Responded" else "Responded"}


def _registration_edit(registration: Row, rng: random.Random) -> Row:
    attended = registration["Attendance__c"] == "Attended"
    return {"Attendance__c": "Cancelled" if attended else "Attended"}


EDITS: Mapping[str, tuple[int, Edit]] = {
    "Lead": (50, _lead_edit),
    "Contact": (15, _contact_edit),
    "Account": (5, _account_edit),
    "Opportunity": (15, _opportunity_edit),
    "Case": (5, _case_edit),
    "Task": (6, _task_edit),
    "CampaignMember": (2, _member_edit),
    "Event_Registration__c": (2, _registration_edit),
}
"""How often each object is edited, and how; every edit changes a value."""


def _person(cast: Cast) -> Row:
    company = cast.company(cast.rng.randrange(10**6, 10**9))
    person = cast.person(company.language)
    return {
        "FirstName": person.first_name,
        "LastName": person.last_name,
        "Email": f"{person.mailbox}@{company.domain}",
        "Title": cast.rng.choice(TITLES),
        "LeadSource": cast.rng.choice(LEAD_SOURCES),
        "Phone": cast.phone(person.language),
        "Description": cast.remark(),
    }


def _new_lead(cast: Cast) -> Row:
    company = cast.company(cast.rng.randrange(10**6, 10**9))
    return {
        **_person(cast),
        "Company": company.name,
        "Industry": company.industry,
        "NumberOfEmployees": company.employees,
        "Lead_Score__c": Decimal(cast.rng.randrange(4_000)) / 100,
        **cast.address(company.language),
    }


def _new_account(cast: Cast) -> Row:
    company = cast.company(cast.rng.randrange(10**6, 10**9))
    return {
        "Name": company.name,
        "Industry": company.industry,
        "NumberOfEmployees": company.employees,
        **cast.address(company.language, "Billing"),
    }


def _new_opportunity(cast: Cast) -> Row:
    stage = STAGES[0]
    return {
        "Name": f"{cast.company(0).name} - {cast.rng.choice(TOPICS)}",
        "StageName": stage.name,
        "Probability": stage.probability,
        "Amount": Decimal(cast.rng.randrange(10**5, 10**8)) / 100,
        "CloseDate": f"20{cast.rng.randrange(27, 30)}-0{cast.rng.randrange(1, 10)}-15",
    }


def _new_case(cast: Cast) -> Row:
    subject = cast.rng.choice(CASE_SUBJECTS)
    return {
        "Subject": subject.format(n=cast.rng.randrange(2, 9_000), w=cast.rng.choice(TOPICS)),
        "Origin": cast.rng.choice(("Phone", "Email", "Web")),
        "Description": cast.remark(),
    }


def _new_task(cast: Cast) -> Row:
    return {
        "Subject": cast.rng.choice(("Call", "Email", "Send Quote")),
        "Description": cast.remark(),
    }


NEWCOMERS: Mapping[str, tuple[int, Callable[[Cast], Row]]] = {
    "Lead": (70, _new_lead),
    "Contact": (10, _person),
    "Account": (3, _new_account),
    "Opportunity": (5, _new_opportunity),
    "Case": (4, _new_case),
    "Task": (8, _new_task),
}
"""How often each object gets a new record, and what it says."""
