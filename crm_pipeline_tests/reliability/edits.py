"""Everything that people do to the records of an org, from a seed.

Belongs here: filling an org, and one of every kind of change. Does not belong here: syncing, and
what must come of it.
"""

import random
from collections.abc import Sequence
from typing import Any

from crm_pipeline.sandbox.salesforce.org import SandboxOrg


def lead(number: int, *, is_target: bool = True) -> dict[str, Any]:
    """A lead, with texts that are awkward on purpose."""
    awkward = ("Null", "NA", 'O"Brien, "Jr"', "line\nbreak", "emoji 🙂", "\\N", " spaces ")
    return {
        "FirstName": awkward[number % len(awkward)],
        "LastName": f"Lead {number}",
        "Company": f"Company {number % 7}",
        "Email": f"lead{number}@example.org",
        "AnnualRevenue": number * 1_000 + 0.25,
        "NumberOfEmployees": number,
        "HasOptedOutOfEmail": number % 3 == 0,
        "Is_Target__c": is_target,
    }


def fill(org: SandboxOrg, records: int) -> None:
    """So many leads, and a third as many accounts and contacts."""
    few = max(2, records // 3)
    accounts = org.create_many("Account", ({"Name": f"Account {n}"} for n in range(few)))
    org.create_many(
        "Contact",
        (
            {"LastName": f"Contact {n}", "Email": f"c{n}@example.org", "AccountId": accounts[n]}
            for n in range(few)
        ),
    )
    org.create_many("Lead", (lead(n, is_target=n % 10 != 9) for n in range(records)))


def ids(org: SandboxOrg, name: str, where: str = "") -> list[str]:
    """Living records, in order."""
    return [str(row["Id"]) for row in org.query(f"SELECT Id FROM {name} {where} ORDER BY Id")]


def one_of_every_kind(org: SandboxOrg, seed: int = 1) -> None:
    """Update, insert, delete, undelete, hard delete, merge, convert, leave and enter the filter."""
    rng = random.Random(seed)
    inside = ids(org, "Lead", "WHERE Is_Target__c = true AND IsConverted = false")
    outside = ids(org, "Lead", "WHERE Is_Target__c = false")
    chosen = rng.sample(inside, 12)
    for one in chosen[:3]:
        org.update("Lead", one, {"Company": f"Changed {seed}", "AnnualRevenue": None})
    org.create_many("Lead", (lead(10_000 * seed + n) for n in range(3)))
    org.delete("Lead", chosen[3])
    org.delete("Lead", chosen[4])
    org.undelete("Lead", chosen[4])
    org.delete("Lead", chosen[5])
    org.merge("Lead", chosen[6], [chosen[7], chosen[8]])
    org.convert_lead(chosen[9])
    org.update("Lead", chosen[10], {"Is_Target__c": False})
    org.update("Lead", outside[0], {"Is_Target__c": True, "Company": "Entered"})
    contact, gone, account = ids(org, "Contact")[:2] + ids(org, "Account")[-1:]
    org.update("Contact", contact, {"LastName": f"Changed {seed}"})
    org.delete("Contact", gone)
    org.update("Account", account, {"Name": f"Changed {seed}"})


def purge(org: SandboxOrg, name: str, records: Sequence[str]) -> None:
    """Gone for good: no query shows them any more."""
    for one in records:
        org.hard_delete(name, one)
