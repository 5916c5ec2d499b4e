"""The standard objects: that they say what Salesforce says and that the org can hold them."""

from collections.abc import Iterator
from decimal import Decimal

import pytest

from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.standard_objects import STANDARD_OBJECTS, standard_object
from crm_pipeline.sandbox.salesforce.standard_objects_formulas import STAGES

KEY_PREFIXES = {
    "Lead": "00Q",
    "Account": "001",
    "Contact": "003",
    "Opportunity": "006",
    "Case": "500",
    "Task": "00T",
    "Campaign": "701",
    "CampaignMember": "00v",
    "User": "005",
    "Group": "00G",
    "QueueSobject": "03g",
    "GroupMember": "011",
    "AssignmentRule": "01Q",
    "RecordType": "012",
    "Organization": "00D",
    "Event_Registration__c": "a00",
    "PermissionSet": "0PS",
    "PermissionSetAssignment": "0Pa",
    "FieldPermissions": "01k",
}
NO_BIN = {
    "User",
    "Group",
    "QueueSobject",
    "GroupMember",
    "AssignmentRule",
    "RecordType",
    "Organization",
    "PermissionSet",
    "PermissionSetAssignment",
    "FieldPermissions",
}


@pytest.fixture
def org() -> Iterator[SandboxOrg]:
    sandbox = SandboxOrg()
    yield sandbox
    sandbox.close()


def test_every_object_has_the_key_prefix_salesforce_gave_it() -> None:
    assert {one.name: one.key_prefix for one in STANDARD_OBJECTS} == KEY_PREFIXES


def test_setup_objects_have_no_recycle_bin_and_the_others_do() -> None:
    assert {one.name for one in STANDARD_OBJECTS if not one.soft_delete} == NO_BIN
    assert not standard_object("CampaignMember").undeletable


def test_every_object_has_an_id_and_a_stamp() -> None:
    for definition in STANDARD_OBJECTS:
        assert definition.field("Id") is not None, definition.name
        assert definition.field("SystemModstamp") is not None, definition.name


def test_no_field_is_declared_twice_and_names_keep_their_case() -> None:
    for definition in STANDARD_OBJECTS:
        names = [one.name for one in definition.fields]
        assert len({name.lower() for name in names}) == len(names), definition.name
    assert standard_object("Lead").field("hasoptedoutofemail") is not None
    assert "HasOptedOutOfEmail" in [one.name for one in standard_object("Lead").fields]


def test_every_reference_names_a_relationship_and_its_objects() -> None:
    for definition in STANDARD_OBJECTS:
        for field in definition.fields:
            assert (field.type == "reference") == bool(field.reference_to), field.name
            assert field.type != "reference" or field.relationship_name, field.name


def test_every_compound_part_names_a_compound_that_exists() -> None:
    for definition in STANDARD_OBJECTS:
        for field in definition.fields:
            if field.compound_field_name:
                whole = definition.field(field.compound_field_name)
                assert whole is not None
                assert whole.type == "address"


def test_every_cascade_names_a_lookup_of_the_child_to_the_parent() -> None:
    for definition in STANDARD_OBJECTS:
        for child, name in definition.cascade:
            field = standard_object(child).field(name)
            assert field is not None
            assert definition.name in field.reference_to


def test_every_object_shows_one_name_field_at_most() -> None:
    for definition in STANDARD_OBJECTS:
        assert sum(one.name_field for one in definition.fields) <= 1, definition.name


def test_a_leads_name_is_made_of_its_parts(org: SandboxOrg) -> None:
    both = org.create("Lead", {"FirstName": "Ada", "LastName": "Byron", "Company": "Engine"})
    one = org.create("Lead", {"LastName": "Null", "Company": "N/A"})
    assert [row["Name"] for row in org.query("SELECT Name FROM Lead ORDER BY Id")] == [
        "Ada Byron",
        "Null",
    ]
    assert both != one


@pytest.mark.parametrize("stage", STAGES, ids=lambda one: one.name)
def test_an_opportunitys_stage_says_whether_it_is_closed_and_won(
    org: SandboxOrg, stage: object
) -> None:
    name = getattr(stage, "name", "")
    row = {"Name": "Deal", "StageName": name, "CloseDate": "4000-12-31"}
    record = org.get("Opportunity", org.create("Opportunity", row)) or {}
    assert record["IsClosed"] == name.startswith("Closed")
    assert record["IsWon"] == (name == "Closed Won")
    assert (record["FiscalYear"], record["FiscalQuarter"]) == (4000, 4)


def test_expected_revenue_is_exact_to_the_cent(org: SandboxOrg) -> None:
    row = {
        "Name": "Deal",
        "StageName": "Needs Analysis",
        "CloseDate": "2030-01-01",
        "Amount": "99999999999999.99",
        "Probability": 50,
    }
    record = org.get("Opportunity", org.create("Opportunity", row)) or {}
    assert record["Amount"] == Decimal("99999999999999.99")
    assert record["ExpectedRevenue"] == Decimal("50000000000000.00")


def test_cases_and_registrations_are_numbered_by_the_org(org: SandboxOrg) -> None:
    cases = org.create_many("Case", [{"Subject": "one"}, {"Subject": "two"}])
    numbers = [(org.get("Case", one) or {})["CaseNumber"] for one in cases]
    registration = org.create("Event_Registration__c", {"Event_Date__c": "2030-01-01"})
    assert numbers[0] != numbers[1]
    assert (org.get("Event_Registration__c", registration) or {})["Name"]


def test_deleting_a_lead_takes_its_tasks_and_memberships_along(org: SandboxOrg) -> None:
    lead = org.create("Lead", {"LastName": "Gone", "Company": "Soon"})
    campaign = org.create("Campaign", {"Name": "Spring"})
    org.create("CampaignMember", {"CampaignId": campaign, "LeadId": lead})
    org.create("Task", {"WhoId": lead, "Subject": "Call"})
    org.delete("Lead", lead)
    assert (org.count("CampaignMember"), org.count("Task")) == (0, 0)
    assert org.count("Task", include_deleted=True) == 1
