"""Definitions that change under a client: types, names, picklists, features, whole objects."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from crm_pipeline.sandbox.salesforce.clock import OrgClock
from crm_pipeline.sandbox.salesforce.custom_objects import custom_object, invented_rows
from crm_pipeline.sandbox.salesforce.failures import OrgError
from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.schema import FieldDefinition, PicklistValue
from crm_pipeline_tests.sandbox.client import Client
from crm_pipeline_tests.sandbox.conftest import NOON

LEAD = {"LastName": "Doe", "Company": "Acme"}
DATE = FieldDefinition("X__c", "X", "date")
RETYPES: tuple[tuple[FieldDefinition, Any, dict[str, Any], Any], ...] = (
    (FieldDefinition("X__c", "X", "int", precision=9), 42, {"type": "string", "length": 9}, "42"),
    (FieldDefinition("X__c", "X", "int", precision=9), 42, {"type": "double"}, Decimal("42.0")),
    (FieldDefinition("X__c", "X", "double"), "4.5", {"type": "string", "length": 9}, "4.5"),
    (FieldDefinition("X__c", "X", "double"), "4.5", {"type": "int"}, None),
    (FieldDefinition("X__c", "X", "double"), "4.55", {"precision": 9, "scale": 1}, Decimal("4.6")),
    (FieldDefinition("X__c", "X", "string", length=9), "00123", {"type": "int"}, 123),
    (FieldDefinition("X__c", "X", "string", length=9), "no", {"type": "int"}, None),
    (FieldDefinition("X__c", "X", "string", length=9), "abc", {"type": "boolean"}, False),
    (FieldDefinition("X__c", "X", "string", length=9), "abcdef", {"length": 3}, None),
    (FieldDefinition("X__c", "X", "boolean"), True, {"type": "string", "length": 9}, "true"),
    (DATE, "2026-01-02", {"type": "datetime"}, "2026-01-02T00:00:00.000Z"),
    (FieldDefinition("X__c", "X", "datetime"), NOON, {"type": "date"}, "2026-03-02"),
)


@pytest.mark.parametrize("retype", RETYPES)
def test_a_field_takes_another_type_and_no_stamp_moves(
    client: Client, noon_org: SandboxOrg, retype: tuple[FieldDefinition, Any, dict[str, Any], Any]
) -> None:
    field, value, facts, expected = retype
    noon_org.add_field("Lead", field)
    lead = noon_org.create("Lead", {**LEAD, "X__c": value})
    noon_org.clock.advance(seconds=60)
    client.sandbox("field", object="Lead", field="X__c", action="retype", facts=facts)
    record = noon_org.get("Lead", lead) or {}
    assert record["X__c"] == expected
    assert record["SystemModstamp"] == "2026-03-02T12:00:00.000Z"
    fields = {one["name"]: one for one in client.get("/sobjects/Lead/describe").json()["fields"]}
    assert fields["X__c"]["type"] == facts.get("type", field.type)


def test_text_in_a_field_that_was_a_number_keeps_its_zeros(noon_org: SandboxOrg) -> None:
    noon_org.add_field("Lead", FieldDefinition("X__c", "X", "int", precision=9))
    lead = noon_org.create("Lead", {**LEAD, "X__c": 7})
    noon_org.retype_field("Lead", "X__c", type="string", length=9)
    noon_org.clock.advance(seconds=60)
    noon_org.update("Lead", lead, {"X__c": "00123"})
    noon_org.update("Lead", lead, {"X__c": "x"})
    assert [one["record"]["X__c"] for one in noon_org.versions("Lead", lead)][-2:] == ["00123", "x"]


def test_a_field_takes_another_name(client: Client, noon_org: SandboxOrg) -> None:
    noon_org.add_field("Lead", FieldDefinition("Old__c", "Old", "string", length=9))
    lead = noon_org.create("Lead", {**LEAD, "Old__c": "kept"})
    client.sandbox("field", object="Lead", field="Old__c", action="rename", to="New__c")
    answer = client.get("/query", q="SELECT Old__c FROM Lead")
    assert answer.json()[0]["errorCode"] == "INVALID_FIELD"
    assert client.rows("SELECT New__c FROM Lead")[0]["New__c"] == "kept"
    noon_org.update("Lead", lead, {"New__c": "changed"})
    assert [one["record"]["New__c"] for one in noon_org.versions("Lead", lead)] == [
        "kept",
        "changed",
    ]


def test_changed_definitions_survive_a_restart(tmp_path: Path) -> None:
    org = SandboxOrg(tmp_path / "org.sqlite", clock=OrgClock(NOON))
    org.add_field("Lead", FieldDefinition("A__c", "A", "int", precision=9))
    lead = org.create("Lead", {**LEAD, "A__c": 7, "LeadSource": "Web"})
    org.rename_field("Lead", "A__c", "B__c")
    org.retype_field("Lead", "B__c", type="string", length=9)
    org.retype_field("Lead", "LeadSource", type="string", length=9)
    org.close()
    org = SandboxOrg(tmp_path / "org.sqlite", clock=OrgClock(NOON))
    record = org.get("Lead", lead) or {}
    assert (record["B__c"], record["LeadSource"]) == ("7", "Web")
    assert org.catalogue.object("Lead").field("A__c") is None
    org.update("Lead", lead, {"B__c": "007"})
    assert (org.get("Lead", lead) or {})["B__c"] == "007"
    org.close()


def test_renaming_a_picklist_value_moves_the_system_stamp_of_its_holders_alone(
    client: Client, noon_org: SandboxOrg
) -> None:
    values = (PicklistValue("It's new"), PicklistValue("Other"))
    field = FieldDefinition(
        "X__c", "X", "picklist", length=40, picklist_values=values, restricted_picklist=True
    )
    noon_org.add_field("Lead", field)
    noon_org.create_many("Lead", [{**LEAD, "X__c": one.value} for one in values])
    noon_org.clock.advance(seconds=60)
    done = client.sandbox("picklist", object="Lead", field="X__c", value="It's new", to="Newest")
    assert done == {"holders": 1}
    soql = "SELECT X__c, LastModifiedDate, SystemModstamp FROM Lead ORDER BY Id"
    noon, later = "2026-03-02T12:00:00.000Z", "2026-03-02T12:01:00.000Z"
    assert [tuple(row.values()) for row in noon_org.query(soql)] == [
        ("Newest", noon, later),
        ("Other", noon, noon),
    ]
    client.sandbox("picklist", object="Lead", field="X__c", value="Other")
    fields = {one["name"]: one for one in client.get("/sobjects/Lead/describe").json()["fields"]}
    shown = [(one["value"], one["active"]) for one in fields["X__c"]["picklistValues"]]
    assert shown == [("Newest", True), ("Other", False)]
    assert noon_org.query(soql)[1]["X__c"] == "Other"
    with pytest.raises(OrgError, match="no value"):
        noon_org.edit_picklist("Lead", "X__c", "Nope")


def test_currencies_appear_without_a_stamp_and_rates_change_without_one(
    client: Client, noon_org: SandboxOrg
) -> None:
    account = noon_org.create("Account", {"Name": "Acme", "AnnualRevenue": 5})
    noon_org.clock.advance(seconds=60)
    client.sandbox("enable", feature="currencies", rates={"CHF": "1", "EUR": "1.05"})
    record = noon_org.get("Account", account) or {}
    assert record["CurrencyIsoCode"] == "CHF"
    assert record["SystemModstamp"] == "2026-03-02T12:00:00.000Z"
    noon_org.create("Account", {"Name": "B", "CurrencyIsoCode": "EUR"})
    with pytest.raises(OrgError, match="RESTRICTED_PICKLIST"):
        noon_org.create("Account", {"Name": "C", "CurrencyIsoCode": "XXX"})
    [rate] = noon_org.query("SELECT Id FROM CurrencyType WHERE IsoCode = 'EUR'")
    noon_org.update("CurrencyType", rate["Id"], {"ConversionRate": "1.06"})
    assert (noon_org.get("Account", account) or {}) == record
    fields = {one["name"] for one in client.get("/sobjects/Lead/describe").json()["fields"]}
    assert "CurrencyIsoCode" in fields


def test_a_person_account_is_two_records_that_stay_one(
    client: Client, noon_org: SandboxOrg
) -> None:
    noon_org.add_field("Contact", FieldDefinition("Hobby__c", "Hobby", "string", length=20))
    company = noon_org.create("Account", {"Name": "Acme"})
    client.sandbox("enable", feature="person_accounts")
    assert (noon_org.get("Account", company) or {})["IsPersonAccount"] is False
    body = {"FirstName": "Ada", "LastName": "Doe", "PersonEmail": "a@x.example", "Hobby__pc": "Go"}
    account = client.call("POST", "/sobjects/Account", body).json()["id"]
    soql = "SELECT Id, Email, Hobby__c, IsPersonAccount, SystemModstamp FROM Contact"
    [twin] = client.rows(f"{soql} WHERE AccountId = '{account}'")
    assert (twin["Email"], twin["Hobby__c"], twin["IsPersonAccount"]) == ("a@x.example", "Go", True)
    noon_org.clock.advance(seconds=60)
    change = {"LastName": "Roe", "PersonEmail": "r@x.example"}
    assert client.call("PATCH", f"/sobjects/Account/{account}", change).status_code == 204
    record = noon_org.get("Account", account) or {}
    assert (record["Name"], record["PersonContactId"]) == ("Ada Roe", twin["Id"])
    after = noon_org.get("Contact", twin["Id"]) or {}
    assert (after["LastName"], after["Email"]) == ("Roe", "r@x.example")
    assert after["SystemModstamp"] == "2026-03-02T12:01:00.000Z"
    refused = client.call("PATCH", f"/sobjects/Contact/{twin['Id']}", {"LastName": "No"})
    assert refused.status_code == 403
    noon_org.delete("Account", account)
    assert (noon_org.get("Contact", twin["Id"]) or {})["IsDeleted"] is True


def test_an_object_can_be_wide_and_without_a_bin_and_its_stamp_of_no_use(
    client: Client, noon_org: SandboxOrg
) -> None:
    client.sandbox(
        "object",
        object="Wide__c",
        action="create",
        fields=900,
        soft_delete=False,
        bulk=False,
        unfilterable=["SystemModstamp"],
        records=3,
    )
    described = client.get("/sobjects/Wide__c/describe").json()
    fields = {one["name"]: one for one in described["fields"]}
    assert sum(name.startswith("F") for name in fields) == 900
    assert "IsDeleted" not in fields
    assert fields["SystemModstamp"]["filterable"] is False
    stamped = "SELECT Id FROM Wide__c WHERE SystemModstamp > 2020-01-01T00:00:00Z"
    assert client.get("/query", q=stamped).json()[0]["errorCode"] == "INVALID_FIELD"
    job = {"operation": "query", "query": "SELECT Id FROM Wide__c"}
    assert client.call("POST", "/jobs/query", job).json()[0]["errorCode"] == "INVALIDENTITY"
    names = ", ".join(name for name in fields if name != "Id")
    rows = client.rows(f"SELECT Id, {names} FROM Wide__c")
    assert len(rows) == 3
    noon_org.delete("Wide__c", rows[0]["Id"])
    assert len(client.rows("SELECT Id FROM Wide__c", path="/queryAll")) == 2


def test_objects_of_300_fields_are_read_by_bulk_and_keep_their_past(
    client: Client, noon_org: SandboxOrg
) -> None:
    made = custom_object(noon_org, "Broad__c", fields=300)
    noon_org.add_object(made)
    ids = noon_org.create_many("Broad__c", invented_rows(made, 50, seed=3))
    assert list(invented_rows(made, 2, seed=3)) == list(invented_rows(made, 2, seed=3))
    names = ", ".join(one.name for one in made.fields)
    job = client.finished_job(f"SELECT {names} FROM Broad__c ORDER BY Id")
    assert job["numberRecordsProcessed"] == 50
    noon_org.update("Broad__c", ids[0], {"F000__c": "changed"})
    assert len(noon_org.versions("Broad__c", ids[0])) == 2
    other = custom_object(noon_org, "Other__c")
    assert other.key_prefix != made.key_prefix
