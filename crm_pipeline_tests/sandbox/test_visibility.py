"""What the API user does not see: records, fields, objects; and that no stamp tells of it."""

import csv
import io
from typing import Any

import pytest

from crm_pipeline.sandbox.salesforce.failures import OrgError
from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline_tests.sandbox.client import Client

LEAD = {"LastName": "Doe", "Company": "Acme"}
SOQL = "SELECT Id, SystemModstamp FROM Lead ORDER BY Id"
WINDOW = {"start": "2026-03-02T11:00:00Z", "end": "2026-03-02T13:00:00Z"}


def seen(client: Client) -> list[str]:
    """The leads that REST shows; Bulk, replication and single reads must agree."""
    rows = [row["Id"] for row in client.rows(SOQL)]
    job = client.finished_job(SOQL)
    text = client.get(f"/jobs/query/{job['id']}/results", maxRecords=100).text
    assert [row[0] for row in csv.reader(io.StringIO(text))][1:] == rows
    assert sorted(client.get("/sobjects/Lead/updated", **WINDOW).json()["ids"]) == rows
    assert client.get("/query", q="SELECT COUNT() FROM Lead").json()["totalSize"] == len(rows)
    return rows


def status(client: Client, method: str, lead: str, body: Any = None) -> int:
    return client.call(method, f"/sobjects/Lead/{lead}", body).status_code


def test_records_are_hidden_one_by_one_and_come_back_without_a_stamp(
    client: Client, noon_org: SandboxOrg
) -> None:
    first, second, third = noon_org.create_many("Lead", [LEAD] * 3)
    noon_org.clock.advance(seconds=60)
    before = noon_org.truth_at("Lead")
    client.sandbox("sharing", object="Lead", ids=[first, second])
    assert seen(client) == [third]
    assert status(client, "GET", first) == 404
    assert status(client, "PATCH", first, {"City": "Bonn"}) == 403
    assert status(client, "DELETE", first) == 403
    client.sandbox("sharing", object="Lead", action="show", ids=[first])
    assert seen(client) == [first, third]
    client.sandbox("sharing", object="Lead", action="show")
    assert seen(client) == [first, second, third]
    assert noon_org.truth_at("Lead") == before
    assert status(client, "PATCH", first, {"City": "Bonn"}) == 204


def test_a_rule_hides_whoever_meets_it(client: Client, noon_org: SandboxOrg) -> None:
    here, there = noon_org.create_many("Lead", [{**LEAD, "City": "Bonn"}, {**LEAD, "City": "Ulm"}])
    noon_org.hide_records("Lead", where="City = 'Ulm'")
    assert seen(client) == [here]
    noon_org.update("Lead", there, {"City": "Bonn"}, stamps="none")
    assert seen(client) == [here, there]
    noon_org.update("Lead", here, {"City": "Ulm"})
    assert seen(client) == [there]
    noon_org.show_records("Lead")
    assert seen(client) == [here, there]
    with pytest.raises(OrgError, match="INVALID_FIELD"):
        noon_org.hide_records("Lead", where="Nope = 1")


def test_a_change_of_owner_can_take_a_record_out_of_sight(
    client: Client, noon_org: SandboxOrg
) -> None:
    lead = noon_org.create("Lead", LEAD)
    user = {"Username": "b@x.example", "LastName": "B", "Email": "b@x.example", "Alias": "b"}
    owner = noon_org.create("User", user)
    noon_org.hide_records("Lead", where=f"OwnerId = '{owner}'")
    assert seen(client) == [lead]
    noon_org.update("Lead", lead, {"OwnerId": owner})
    assert seen(client) == []


def test_the_administrator_sees_what_the_user_does_not(
    client: Client, noon_org: SandboxOrg
) -> None:
    lead = noon_org.create("Lead", {**LEAD, "Phone": "0123456"})
    noon_org.hide_field("Lead", "Phone")
    noon_org.hide_records("Lead", [lead])
    soql = "SELECT Phone FROM Lead"
    assert client.sandbox("query", soql=soql)["records"] == [{"Phone": "0123456"}]
    assert noon_org.query("SELECT Id FROM Lead", as_user=True) == []
    with pytest.raises(OrgError, match="INVALID_FIELD"):
        noon_org.query(soql, as_user=True)


def test_a_masked_field_shows_its_last_four_characters(
    client: Client, noon_org: SandboxOrg
) -> None:
    phones = ("0123456", "123", None)
    noon_org.create_many("Lead", [{**LEAD, "Phone": phone} for phone in phones])
    client.sandbox("field", object="Lead", field="Phone", action="mask")
    soql = "SELECT Phone FROM Lead ORDER BY Id"
    masked = ["XXX3456", "XXX", None]
    assert [row["Phone"] for row in client.rows(soql)] == masked
    job = client.finished_job(soql)
    text = client.get(f"/jobs/query/{job['id']}/results").text
    assert [row[0] or None for row in csv.reader(io.StringIO(text))][1:] == masked
    fields = {one["name"]: one for one in client.get("/sobjects/Lead/describe").json()["fields"]}
    shown = {name: fields["Phone"][name] for name in ("encrypted", "mask", "filterable")}
    assert shown == {"encrypted": True, "mask": "X", "filterable": False}
    answer = client.get("/query", q="SELECT Id FROM Lead WHERE Phone = '123'")
    assert answer.json()[0]["errorCode"] == "INVALID_FIELD"
    client.sandbox("field", object="Lead", field="Phone", action="show")
    assert [row["Phone"] for row in client.rows(soql)] == list(phones)


def test_a_field_can_be_read_and_not_written(client: Client, noon_org: SandboxOrg) -> None:
    lead = noon_org.create("Lead", LEAD)
    client.sandbox("field", object="Lead", field="City", action="read_only")
    answer = client.call("PATCH", f"/sobjects/Lead/{lead}", {"City": "Bonn"})
    assert answer.json()[0]["errorCode"] == "INVALID_FIELD_FOR_INSERT_UPDATE"
    fields = {one["name"]: one for one in client.get("/sobjects/Lead/describe").json()["fields"]}
    assert fields["City"]["updateable"] is False
    assert client.rows("SELECT City FROM Lead")[0]["City"] is None
