"""The ledger of writes: order, outcomes, what was sent twice, what changed nothing."""

from typing import Any

import requests

from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline_tests.sandbox.client import Client

LEAD = {"LastName": "Doe", "Company": "Acme"}


def rows(client: Client) -> list[dict[str, Any]]:
    return [row for one in client.writes()["requests"] for row in one["rows"]]


def counts(client: Client, **parameters: str) -> dict[str, Any]:
    url = f"{client.served.url}/sandbox/writes/counts"
    found: dict[str, Any] = client.http.get(url, params=parameters).json()
    return found


def test_every_write_is_kept_in_order_with_its_values(client: Client) -> None:
    lead = client.call("POST", "/sobjects/Lead", LEAD).json()["id"]
    client.call("PATCH", f"/sobjects/Lead/{lead}", {"Lead_Score__c": 12.5})
    client.call("DELETE", f"/sobjects/Lead/{lead}")
    client.get(f"/sobjects/Lead/{lead}")
    requests_ = client.writes()["requests"]
    assert [(one["method"], one["status"]) for one in requests_] == [
        ("POST", 201),
        ("PATCH", 204),
        ("DELETE", 204),
    ]
    assert [one["number"] for one in requests_] == [1, 2, 3]
    kept = rows(client)
    assert [(one["operation"], one["id"], one["outcome"]) for one in kept] == [
        ("create", lead, "OK"),
        ("update", lead, "OK"),
        ("delete", lead, "OK"),
    ]
    assert kept[1]["values"] == {"Lead_Score__c": 12.5}


def test_what_changed_nothing_is_told_apart(client: Client, noon_org: SandboxOrg) -> None:
    lead = noon_org.create("Lead", {**LEAD, "City": "Bonn", "Lead_Score__c": 10})
    client.call("PATCH", f"/sobjects/Lead/{lead}", {"City": "Bonn", "Lead_Score__c": "10.00"})
    client.call("PATCH", f"/sobjects/Lead/{lead}", {"City": "Bonn", "Lead_Score__c": 11})
    assert [one["changed"] for one in rows(client)] == [[], ["Lead_Score__c"]]
    counted = counts(client, id=lead)["records"][lead]
    assert (counted["writes"], counted["unchanged"], counted["creates"]) == (2, 1, 0)
    assert counted["fields"] == {
        "City": {"writes": 2, "changed": 0},
        "Lead_Score__c": {"writes": 2, "changed": 1},
    }


def test_refused_rows_are_counted_by_their_codes(client: Client) -> None:
    records = [{"attributes": {"type": "Lead"}, **row} for row in (LEAD, {}, LEAD)]
    client.call("POST", "/composite/sobjects", {"records": records})
    client.call("POST", "/composite/sobjects", {"records": records, "allOrNone": True})
    assert [one["outcome"] for one in rows(client)] == [
        *("OK", "REQUIRED_FIELD_MISSING", "OK"),
        *("ROLLED_BACK", "REQUIRED_FIELD_MISSING", "ROLLED_BACK"),
    ]
    counted = counts(client, object="Lead")
    assert counted["outcomes"] == {"OK": 2, "REQUIRED_FIELD_MISSING": 2, "ROLLED_BACK": 2}
    assert len(counted["records"]) == 2


def test_a_lost_answer_and_its_repetition_are_one_create(client: Client) -> None:
    client.fault(kind="lost_answer", path="*/k1", method="PATCH")
    path = "/sobjects/Lead/External_Key__c/k1"
    try:
        client.call("PATCH", path, LEAD)
    except requests.ConnectionError:
        client.call("PATCH", path, LEAD)
    first, second = client.writes()["requests"]
    assert (first["fault"], first["status"], second["fault"]) == ("lost_answer", 201, "")
    kept = rows(client)
    assert [(one["operation"], one["key"]) for one in kept] == [
        ("create", "External_Key__c=k1"),
        ("update", "External_Key__c=k1"),
    ]
    [record] = counts(client)["records"].values()
    assert (record["creates"], record["writes"]) == (1, 2)


def test_bulk_jobs_and_parts_of_composite_requests_are_kept_too(client: Client) -> None:
    done = client.ingested("insert", "LastName,Company,City\nDoe,Acme,\nRoe,,Ulm\n")
    part = {
        "method": "POST",
        "url": "/services/data/v60.0/sobjects/Lead",
        "referenceId": "lead",
        "body": LEAD,
        "httpHeaders": {"Sforce-Auto-Assign": "FALSE"},
    }
    client.call("POST", "/composite", {"compositeRequest": [part]})
    bulk, inner = client.writes()["requests"]
    assert (bulk["method"], bulk["path"].endswith(done["id"])) == ("BULK", True)
    assert [one["outcome"] for one in bulk["rows"]] == ["OK", "REQUIRED_FIELD_MISSING"]
    assert bulk["rows"][0]["values"] == {"LastName": "Doe", "Company": "Acme"}
    assert (inner["path"], inner["headers"]) == (
        "/services/data/v60.0/sobjects/Lead",
        {"sforce-auto-assign": "FALSE"},
    )


def test_the_ledger_comes_in_pages_and_begins_anew(client: Client) -> None:
    for _ in range(5):
        client.call("POST", "/sobjects/Lead", LEAD)
    page = client.writes(limit=2)
    assert (page["total"], [one["number"] for one in page["requests"]]) == (5, [1, 2])
    later = client.writes(after=page["next"], limit=3)
    assert ([one["number"] for one in later["requests"]], later["next"]) == ([3, 4, 5], None)
    client.http.delete(f"{client.served.url}/sandbox/writes")
    assert client.writes() == {"total": 0, "requests": [], "next": None}


def test_strange_texts_are_kept_as_well(client: Client) -> None:
    client.call("POST", "/sobjects/Lead", {**LEAD, "Description": "a\0b \ud800"})
    assert rows(client)[0]["values"]["Description"] == "a\0b \ud800"
