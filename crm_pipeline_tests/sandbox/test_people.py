"""The seeded people: the same for the same seed, belonging together, some of them awkward."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice

import pytest

from crm_pipeline.sandbox.salesforce.clock import OrgClock
from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.people import lead_rows, seed_org
from crm_pipeline.sandbox.salesforce.people_hostile import HOSTILE_TEXTS, VERY_LONG_TEXT
from crm_pipeline.sandbox.salesforce.standard_objects import standard_object

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
RECORDS = 2_000
SETUP = (
    "User",
    "Group",
    "QueueSobject",
    "GroupMember",
    "AssignmentRule",
    "RecordType",
    "Organization",
)


def seeded(seed: int = 1, records: int = RECORDS) -> tuple[SandboxOrg, dict[str, int]]:
    org = SandboxOrg(clock=OrgClock(NOW))
    return org, seed_org(org, records=records, seed=seed)


@pytest.fixture(scope="module")
def world() -> Iterator[tuple[SandboxOrg, dict[str, int]]]:
    org, counts = seeded()
    yield org, counts
    org.close()


@pytest.fixture(scope="module")
def org(world: tuple[SandboxOrg, dict[str, int]]) -> SandboxOrg:
    return world[0]


def everything(org: SandboxOrg) -> dict[str, list[tuple[object, ...]]]:
    tables = {}
    for definition in org.catalogue.all():
        names = ", ".join(one.name for one in definition.fields if one.stored)
        rows = org.store.reader().execute(f'SELECT {names} FROM "{definition.name}" ORDER BY Id')
        tables[definition.name] = [tuple(row) for row in rows]
    return tables


def test_as_many_records_are_made_as_were_asked_for(
    world: tuple[SandboxOrg, dict[str, int]],
) -> None:
    org, counts = world
    assert sum(made for name, made in counts.items() if name not in SETUP) == RECORDS
    for name, made in counts.items():
        assert org.count(name) == made + (name == "User")  # and the integration user
    assert counts["Lead"] == 900
    assert counts["Contact"] == 440


def test_the_same_seed_gives_the_same_org_and_another_seed_another_one() -> None:
    first, second, other = (seeded(seed, 600)[0] for seed in (7, 7, 8))
    for one in (first, second, other):
        one.set_api_limit(1)
    assert everything(first) == everything(second)
    assert everything(first) != everything(other)


def test_a_small_org_still_has_all_awkward_records() -> None:
    org, _ = seeded(records=50)
    assert org.count("Lead") > len(HOSTILE_TEXTS)


def test_an_org_is_seeded_only_once(org: SandboxOrg) -> None:
    with pytest.raises(ValueError, match="seeded people already"):
        seed_org(org, records=100)


@pytest.mark.parametrize("what", [one for one, value in HOSTILE_TEXTS.items() if value.strip()])
def test_hostile_text_is_held_exactly(org: SandboxOrg, what: str) -> None:
    [lead] = org.query(
        f"SELECT Company, Description FROM Lead WHERE FirstName = 'Hostile' AND LastName = '{what}'"
    )
    assert lead == {"Company": HOSTILE_TEXTS[what], "Description": HOSTILE_TEXTS[what]}


def test_a_lead_named_null_lives_in_the_state_na(org: SandboxOrg) -> None:
    [lead] = org.query("SELECT State, PostalCode, Company FROM Lead WHERE LastName = 'Null'")
    assert lead == {"State": "NA", "PostalCode": "00123", "Company": "N/A"}


def test_very_long_text_and_spaces_are_held_exactly(org: SandboxOrg) -> None:
    [long] = org.query("SELECT Description FROM Lead WHERE LastName = 'long'")
    [spaces] = org.query("SELECT Description FROM Lead WHERE LastName = 'only spaces'")
    assert long["Description"] == VERY_LONG_TEXT
    assert len(VERY_LONG_TEXT) == 32_000
    assert spaces["Description"] == "   "


def test_amounts_and_dates_reach_the_edges(org: SandboxOrg) -> None:
    deals = org.query("SELECT Name, Amount, CloseDate FROM Opportunity")
    by_name = {one["Name"]: (one["Amount"], str(one["CloseDate"])) for one in deals}
    assert by_name["Largest amount"] == (Decimal("99999999999999.99"), "4000-12-31")
    assert by_name["Smallest step"] == (Decimal("0.1"), "1700-01-01")


def test_nothing_is_created_after_now_or_changed_before_it_was_made(org: SandboxOrg) -> None:
    now = org.clock.stamp()
    for name in ("Lead", "Contact", "Opportunity", "Task", "CampaignMember"):
        rows = org.store.reader().execute(
            f'SELECT CreatedDate, LastModifiedDate, SystemModstamp FROM "{name}"'
        )
        for created, modified, stamp in rows:
            assert created <= modified <= stamp <= now
    oldest = org.query("SELECT MIN(CreatedDate) first FROM Lead")[0]["first"]
    assert str(oldest) < "2022"


def test_some_leads_share_their_mail_address_with_a_contact(org: SandboxOrg) -> None:
    contacts = {one["Email"] for one in org.query("SELECT Email FROM Contact")}
    leads = org.query("SELECT Email FROM Lead WHERE IsConverted = FALSE AND Email != NULL")
    shared = [one for one in leads if one["Email"] in contacts]
    assert len(shared) > 40


def test_converted_leads_point_to_what_they_became(org: SandboxOrg) -> None:
    converted = org.query(
        "SELECT ConvertedContactId, ConvertedAccountId, Status FROM Lead WHERE IsConverted = TRUE"
    )
    assert len(converted) > 30
    assert all(one["ConvertedContactId"] and one["ConvertedAccountId"] for one in converted)
    assert {one["Status"] for one in converted} == {"Closed - Converted"}


def test_queues_own_leads_and_cases_and_have_members(org: SandboxOrg) -> None:
    queues = org.query("SELECT Id FROM Group WHERE Type = 'Queue'")
    assert len(queues) == 4
    kinds = org.query("SELECT QueueId, SobjectType FROM QueueSobject")
    assert {one["SobjectType"] for one in kinds} == {"Lead", "Case"}
    owned = org.query("SELECT OwnerId FROM Lead WHERE OwnerId LIKE '00G%'")
    assert owned
    members = org.query("SELECT GroupId FROM GroupMember")
    assert {one["GroupId"] for one in members} == {one["Id"] for one in queues}


def test_one_rule_per_object_is_active_and_two_users_are_not(org: SandboxOrg) -> None:
    active = org.query("SELECT SobjectType FROM AssignmentRule WHERE Active = TRUE")
    assert sorted(one["SobjectType"] for one in active) == ["Case", "Lead"]
    assert org.count("AssignmentRule") == 3
    assert len(org.query("SELECT Id FROM User WHERE IsActive = FALSE")) == 2


def test_no_mail_address_can_belong_to_anybody(org: SandboxOrg) -> None:
    for name in ("Lead", "Contact", "User"):
        for row in org.query(f"SELECT Email FROM {name} WHERE Email != NULL"):
            assert str(row["Email"]).endswith(".example")


def test_wide_leads_have_25_writable_fields_and_fit_into_an_org() -> None:
    lead = standard_object("Lead")
    rows = list(lead_rows(500, seed=3))
    fields = [lead.field(name) for name in rows[0]]
    assert len(fields) == 25
    assert all(one is not None and one.createable and one.stored for one in fields)
    org = SandboxOrg()
    assert len(org.create_many("Lead", rows)) == 500
    org.close()


def test_wide_leads_repeat_by_seed_and_are_unique_where_they_must_be() -> None:
    rows = list(lead_rows(2_000, seed=3))
    assert rows[:1_000] == list(islice(lead_rows(1_000, seed=3), 1_000))
    assert len({one["External_Key__c"] for one in rows}) == 2_000
    assert len({one["Email"] for one in rows}) == 2_000


def test_wide_leads_come_fast_enough_for_benchmarks() -> None:
    started = time.perf_counter()
    made = sum(1 for _ in lead_rows(50_000))
    # A quarter of what an idle core does: the floor must hold on a busy machine too.
    assert made / (time.perf_counter() - started) > 50_000
