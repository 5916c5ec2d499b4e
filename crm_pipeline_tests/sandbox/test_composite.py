"""Composite requests over HTTP, upserts by external id, and the headers that a write may carry."""

from typing import Any

import pytest

from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.schema import FieldDefinition
from crm_pipeline_tests.sandbox.client import Client

LEAD = {"LastName": "Doe", "Company": "Acme"}
DATA = "/services/data/v60.0"
ACCOUNT = {
    "method": "POST",
    "url": f"{DATA}/sobjects/Account",
    "referenceId": "account",
    "body": {"Name": "Acme"},
}
CONTACT = {
    "method": "POST",
    "url": f"{DATA}/sobjects/Contact",
    "referenceId": "contact",
    "body": {"LastName": "Doe", "AccountId": "@{account.id}"},
}


def composite(client: Client, *requests: dict[str, Any], **facts: Any) -> list[dict[str, Any]]:
    answer = client.call("POST", "/composite", {"compositeRequest": list(requests), **facts})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["compositeResponse"]
    return found


def test_a_request_may_refer_to_the_answer_of_another(client: Client, noon_org: SandboxOrg) -> None:
    query = f"{DATA}/query?q=SELECT+Name+FROM+Account+WHERE+Id='@{{account.id}}'"
    asked = {"method": "GET", "url": query, "referenceId": "found"}
    first, second, third = composite(client, ACCOUNT, CONTACT, asked)
    assert (first["httpStatusCode"], first["referenceId"]) == (201, "account")
    assert first["httpHeaders"]["Location"].endswith(first["body"]["id"])
    contact = noon_org.get("Contact", second["body"]["id"])
    assert contact is not None
    assert contact["AccountId"] == first["body"]["id"]
    assert third["body"]["records"][0]["Name"] == "Acme"


def test_what_refers_to_a_failure_is_halted_and_the_rest_goes_on(
    client: Client, noon_org: SandboxOrg
) -> None:
    nameless = {**ACCOUNT, "body": {}}
    lead = {**ACCOUNT, "url": f"{DATA}/sobjects/Lead", "referenceId": "lead", "body": LEAD}
    answers = composite(client, nameless, CONTACT, lead)
    assert [one["httpStatusCode"] for one in answers] == [400, 400, 201]
    assert answers[0]["body"][0]["errorCode"] == "REQUIRED_FIELD_MISSING"
    assert answers[1]["body"][0] == {
        "errorCode": "PROCESSING_HALTED",
        "message": "Invalid reference specified. No value for account.id found in account",
    }
    assert (noon_org.count("Contact"), noon_org.count("Lead")) == (0, 1)


def test_all_or_none_takes_everything_back(client: Client, noon_org: SandboxOrg) -> None:
    nameless = {**CONTACT, "body": {"AccountId": "@{account.id}"}}
    good, bad = composite(client, ACCOUNT, nameless, allOrNone=True)
    assert (good["httpStatusCode"], good["body"][0]["errorCode"]) == (400, "PROCESSING_HALTED")
    assert bad["body"][0]["errorCode"] == "REQUIRED_FIELD_MISSING"
    assert noon_org.count("Account") == 0
    outcomes = [row["outcome"] for one in client.writes()["requests"] for row in one["rows"]]
    assert outcomes == ["ROLLED_BACK", "REQUIRED_FIELD_MISSING"]


def test_an_apex_failure_fails_its_own_part_only(client: Client, noon_org: SandboxOrg) -> None:
    client.sandbox("rule", kind="poison", object="Lead", condition="City = 'x'", scope="request")
    lead = {**ACCOUNT, "url": f"{DATA}/sobjects/Lead", "referenceId": "lead"}
    poisoned = {**lead, "body": {**LEAD, "City": "x"}}
    answers = composite(client, ACCOUNT, poisoned)
    assert [one["httpStatusCode"] for one in answers] == [201, 500]
    assert (noon_org.count("Account"), noon_org.count("Lead")) == (1, 0)
    outcomes = [row["outcome"] for one in client.writes()["requests"] for row in one["rows"]]
    assert outcomes == ["OK", "UNKNOWN_EXCEPTION"]


def test_a_composite_request_has_limits(client: Client) -> None:
    many = [{**ACCOUNT, "referenceId": f"a{place}"} for place in range(26)]
    for given in (many, [ACCOUNT, ACCOUNT], [{"method": "GET", "url": DATA}], []):
        assert client.call("POST", "/composite", {"compositeRequest": given}).status_code == 400


def test_a_batch_holds_requests_that_know_nothing_of_each_other(client: Client) -> None:
    requests = [
        {"method": "POST", "url": "v60.0/sobjects/Lead", "richInput": LEAD},
        {"method": "GET", "url": "v60.0/sobjects/Lead/00Q8d0000000999"},
        {"method": "GET", "url": "v60.0/limits"},
    ]
    body = client.call("POST", "/composite/batch", {"batchRequests": requests}).json()
    assert (body["hasErrors"], [one["statusCode"] for one in body["results"]]) == (
        True,
        [201, 404, 200],
    )
    halted = {"batchRequests": requests, "haltOnError": True}
    body = client.call("POST", "/composite/batch", halted).json()
    assert body["results"][2]["statusCode"] == 412
    assert body["results"][2]["result"][0]["errorCode"] == "BATCH_PROCESSING_HALTED"


def test_an_upsert_may_be_an_update_only(client: Client, noon_org: SandboxOrg) -> None:
    path = "/sobjects/Lead/External_Key__c/k1"
    refused = client.call("PATCH", path + "?updateOnly=true", LEAD)
    assert (refused.status_code, refused.json()[0]["errorCode"]) == (404, "NOT_FOUND")
    created = client.call("PATCH", path, LEAD)
    assert (created.status_code, created.json()["created"]) == (201, True)
    changed = client.call("PATCH", path + "?updateOnly=true", {"City": "Bonn"})
    assert (changed.status_code, changed.json()["created"]) == (200, False)
    named = client.call("PATCH", path, {"External_Key__c": "k1"}).json()[0]
    assert named["message"] == (
        "The External_Key__c field should not be specified in the sobject data."
    )
    assert noon_org.count("Lead") == 1


def test_an_external_id_that_several_records_have_is_answered_with_their_addresses(
    client: Client, noon_org: SandboxOrg
) -> None:
    noon_org.add_field(
        "Lead", FieldDefinition("Loose__c", "Loose", "string", length=20, external_id=True)
    )
    leads = noon_org.create_many("Lead", [{**LEAD, "Loose__c": "x"}] * 2)
    answer = client.call("PATCH", "/sobjects/Lead/Loose__c/x", {"City": "Bonn"})
    assert (answer.status_code, answer.json()) == (
        300,
        [f"{DATA}/sobjects/Lead/{one}" for one in leads],
    )
    rows = {"records": [{"attributes": {"type": "Lead"}, "Loose__c": "x", "City": "Bonn"}]}
    [row] = client.call("PATCH", "/composite/sobjects/Lead/Loose__c", rows).json()
    assert row["errors"][0]["statusCode"] == "DUPLICATE_EXTERNAL_ID"
    assert noon_org.query("SELECT Id FROM Lead WHERE City = 'Bonn'") == []


def test_a_key_in_an_address_that_ends_like_a_file_is_not_found(client: Client) -> None:
    path = "/sobjects/Lead/External_Key__c/doe@acme.inc"
    assert client.call("PATCH", path, LEAD).status_code == 404
    record = {"attributes": {"type": "Lead"}, "External_Key__c": "doe@acme.inc", **LEAD}
    [row] = client.call(
        "PATCH", "/composite/sobjects/Lead/External_Key__c", {"records": [record]}
    ).json()
    assert row["success"] is True


def test_a_collection_may_not_name_an_external_id_twice(client: Client) -> None:
    records = [{"attributes": {"type": "Lead"}, **LEAD, "External_Key__c": k} for k in "aAb"]
    body = {"allOrNone": False, "records": records}
    rows = client.call("PATCH", "/composite/sobjects/Lead/External_Key__c", body).json()
    assert [one["success"] for one in rows] == [False, False, True]
    assert rows[0]["errors"][0]["message"] == "Duplicate external id specified: a"


def test_a_record_that_was_changed_since_takes_no_conditional_update(
    client: Client, noon_org: SandboxOrg
) -> None:
    lead = noon_org.create("Lead", LEAD)
    path = f"/sobjects/Lead/{lead}"
    before, after = "Mon, 02 Mar 2026 11:59:59 GMT", "Mon, 02 Mar 2026 12:00:00 GMT"
    refused = client.call("PATCH", path, {"City": "Ulm"}, If_Unmodified_Since=before)
    assert (refused.status_code, refused.text) == (412, "")
    done = client.call("PATCH", path, {"City": "Bonn"}, If_Unmodified_Since=after)
    assert done.status_code == 204
    wrong = client.call("PATCH", path, {"City": "Jena"}, If_Unmodified_Since="yesterday")
    assert wrong.status_code == 400
    assert client.call("GET", path, If_Modified_Since=after).status_code == 304
    assert client.call("GET", path, If_Modified_Since=before).json()["City"] == "Bonn"


def test_the_client_of_a_write_is_noted(client: Client) -> None:
    client.call("POST", "/sobjects/Lead", LEAD, Sforce_Call_Options="client=CrmPipeline")
    [request] = client.writes()["requests"]
    assert request["headers"]["sforce-call-options"] == "client=CrmPipeline"
    assert "authorization" not in request["headers"]


@pytest.mark.parametrize("value", ["01Q8d0000000999", "nonsense"])
def test_an_assignment_rule_must_be_there(client: Client, value: str) -> None:
    answer = client.call("POST", "/sobjects/Lead", LEAD, Sforce_Auto_Assign=value)
    assert answer.json()[0]["errorCode"] in {"INVALID_ASSIGNMENT_RULE", "MALFORMED_ID"}
