"""The REST API over real HTTP: describe, cursors, rows, collections, what changed, the budget."""

import json
from collections.abc import Mapping

import pytest
import requests

from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.running import RunningOrg
from crm_pipeline.sandbox.salesforce.schema import FieldDefinition
from crm_pipeline_tests.sandbox.client import Client

LEAD = {"LastName": "Doe", "Company": "Acme"}
HOSTILE = "a,b\"c'd\\e\r\nf\u2028g\u0085h\ti 😀 é \x1b null #N/A =1+1 "


def error(answer: requests.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()[0]["errorCode"]


def test_the_version_list_needs_no_session(served: RunningOrg) -> None:
    versions = requests.get(f"{served.url}/services/data", timeout=5).json()
    assert versions[-1]["version"] == "66.0"
    assert versions[10] == {
        "label": "Spring '24",
        "url": "/services/data/v60.0",
        "version": "60.0",
    }


def test_unknown_and_retired_versions_are_told_apart(served: RunningOrg) -> None:
    assert error(Client(served, "20.0").get("/limits")) == (410, "UNSUPPORTED_API_VERSION")
    assert error(Client(served, "99.0").get("/limits")) == (404, "NOT_FOUND")


def test_describe_says_what_clients_read(client: Client, noon_org: SandboxOrg) -> None:
    lead = client.get("/sobjects/Lead/describe").json()
    fields = {field["name"]: field for field in lead["fields"]}
    assert lead["keyPrefix"] == "00Q"
    assert lead["replicateable"] is True
    assert lead["urls"]["describe"] == "/services/data/v60.0/sobjects/Lead/describe"
    assert lead["recordTypeInfos"][0]["master"] is True
    assert fields["Id"]["type"] == "id"
    assert fields["Id"]["soapType"] == "tns:ID"
    assert fields["OwnerId"]["referenceTo"][0] == "Group"
    assert fields["OwnerId"]["relationshipName"] == "Owner"
    assert fields["Status"]["picklistValues"][0]["active"] is True
    assert fields["Street"]["compoundFieldName"] == "Address"
    assert fields["Address"]["type"] == "address"
    assert fields["SystemModstamp"]["updateable"] is False
    names = {one["name"] for one in client.get("/sobjects").json()["sobjects"]}
    assert {"Lead", "Account", "User"} <= names


def test_a_hidden_field_and_a_forbidden_object_do_not_exist_for_the_user(
    client: Client, noon_org: SandboxOrg
) -> None:
    lead = noon_org.create("Lead", {**LEAD, "Phone": "1"})
    noon_org.hide_field("Lead", "Phone")
    names = {one["name"] for one in client.get("/sobjects/Lead/describe").json()["fields"]}
    assert "Phone" not in names
    assert error(client.get("/query", q="SELECT Phone FROM Lead")) == (400, "INVALID_FIELD")
    written = client.call("PATCH", f"/sobjects/Lead/{lead}", {"Phone": "2"})
    assert error(written) == (400, "INVALID_FIELD")
    noon_org.forbid_object("Account")
    assert error(client.get("/query", q="SELECT Id FROM Account")) == (400, "INVALID_TYPE")
    assert error(client.get("/sobjects/Account/describe")) == (404, "NOT_FOUND")


def test_a_field_added_while_the_org_runs_is_there_at_once(
    client: Client, noon_org: SandboxOrg
) -> None:
    lead = noon_org.create("Lead", LEAD)
    client.sandbox("field", object="Lead", field={"name": "New__c", "label": "N", "type": "string"})
    assert client.call("PATCH", f"/sobjects/Lead/{lead}", {"New__c": "x"}).status_code == 204
    assert client.rows("SELECT New__c FROM Lead")[0]["New__c"] == "x"


def test_a_cursor_keeps_its_records_whatever_happens_meanwhile(
    client: Client, noon_org: SandboxOrg
) -> None:
    leads = noon_org.create_many("Lead", [LEAD] * 450)
    options = {"Sforce-Query-Options": "batchSize=10"}
    soql = {"q": "SELECT Id FROM Lead ORDER BY Id"}
    page = client.http.get(client.url + "/query", params=soql, headers=options).json()
    assert (page["totalSize"], page["done"], len(page["records"])) == (450, False, 200)
    noon_org.create("Lead", LEAD)
    noon_org.delete("Lead", leads[300])
    noon_org.hard_delete("Lead", leads[301])
    found = [row["Id"] for row in page["records"]]
    while not page["done"]:
        page = client.http.get(client.served.url + page["nextRecordsUrl"]).json()
        assert page["totalSize"] == 450
        found += [row["Id"] for row in page["records"]]
    assert found == leads[:301] + leads[302:]


def test_a_locator_that_is_gone_is_invalid(client: Client, noon_org: SandboxOrg) -> None:
    noon_org.create_many("Lead", [LEAD] * 2001)
    page = client.get("/query", q="SELECT Id FROM Lead").json()
    client.sandbox("forget_cursors")
    answer = client.http.get(client.served.url + page["nextRecordsUrl"])
    assert error(answer) == (400, "INVALID_QUERY_LOCATOR")


def test_records_are_nested_and_carry_their_urls(client: Client, noon_org: SandboxOrg) -> None:
    account = noon_org.create("Account", {"Name": "Acme", "AnnualRevenue": "1234567890123456"})
    contact = noon_org.create("Contact", {"LastName": "Doe", "AccountId": account})
    answer = client.get(
        "/query", q="SELECT Id, Account.Name, Account.AnnualRevenue, CreatedDate FROM Contact"
    )
    root = "/services/data/v60.0/sobjects"
    assert answer.json()["records"] == [
        {
            "attributes": {"type": "Contact", "url": f"{root}/Contact/{contact}"},
            "Id": contact,
            "Account": {
                "attributes": {"type": "Account", "url": f"{root}/Account/{account}"},
                "Name": "Acme",
                "AnnualRevenue": 1234567890123456.0,
            },
            "CreatedDate": "2026-03-02T12:00:00.000+0000",
        }
    ]
    assert '"AnnualRevenue":1234567890123456.0' in answer.text


def test_counting_returns_no_records(client: Client, noon_org: SandboxOrg) -> None:
    noon_org.create_many("Lead", [LEAD] * 3)
    answer = client.get("/query", q="SELECT COUNT() FROM Lead").json()
    assert answer == {"totalSize": 3, "done": True, "records": []}


def test_a_row_is_created_read_changed_and_deleted(client: Client) -> None:
    made = client.call("POST", "/sobjects/Lead", {**LEAD, "Description": HOSTILE})
    lead = made.json()["id"]
    assert made.status_code == 201
    assert made.headers["Location"] == f"/services/data/v60.0/sobjects/Lead/{lead}"
    assert client.call("PATCH", f"/sobjects/Lead/{lead[:15]}", {"City": "Bonn"}).status_code == 204
    read = client.get(f"/sobjects/Lead/{lead}", fields="City,Description").json()
    assert (read["City"], read["Description"]) == ("Bonn", HOSTILE)
    assert client.get(f"/sobjects/Lead/{lead}").json()["LastName"] == "Doe"
    assert client.call("DELETE", f"/sobjects/Lead/{lead}").status_code == 204
    assert error(client.call("DELETE", f"/sobjects/Lead/{lead}")) == (404, "ENTITY_IS_DELETED")
    changed = client.call("PATCH", f"/sobjects/Lead/{lead}", {"City": "X"})
    assert error(changed) == (404, "ENTITY_IS_DELETED")
    gone = client.get("/sobjects/Lead/00Q000000000001EAA")
    assert error(gone) == (404, "NOT_FOUND")


def test_system_fields_are_not_for_the_api(client: Client) -> None:
    stamped = client.call("POST", "/sobjects/Lead", {**LEAD, "SystemModstamp": "2020-01-01"})
    assert error(stamped) == (400, "INVALID_FIELD_FOR_INSERT_UPDATE")
    assert stamped.json()[0]["fields"] == ["SystemModstamp"]


def test_a_decimal_keeps_its_digits_both_ways(client: Client, noon_org: SandboxOrg) -> None:
    field = FieldDefinition("Exact__c", "Exact", "currency", precision=18, scale=2)
    noon_org.add_field("Lead", field)
    body = json.dumps({**LEAD, "Exact__c": 0}).replace(
        '"Exact__c": 0', '"Exact__c": 99999999999999.99'
    )
    made = client.http.post(client.url + "/sobjects/Lead", data=body)
    assert made.status_code == 201
    answer = client.get("/query", q="SELECT Exact__c FROM Lead")
    assert '"Exact__c":99999999999999.99' in answer.text


def test_an_upsert_creates_then_changes_by_a_key_of_any_characters(client: Client) -> None:
    path = "/sobjects/Lead/External_Key__c/a%20b%2Fc.d"
    first = client.call("PATCH", path, LEAD)
    again = client.call("PATCH", path, {"Company": "Two"})
    assert (first.status_code, first.json()["created"]) == (201, True)
    assert (again.status_code, again.json()["created"]) == (200, False)
    assert first.json()["id"] == again.json()["id"]
    assert client.get(path).json()["External_Key__c"] == "a b/c.d"


def test_an_upsert_by_an_ambiguous_key_writes_nothing(client: Client, noon_org: SandboxOrg) -> None:
    key = FieldDefinition("Loose__c", "Loose", "string", length=20, external_id=True)
    noon_org.add_field("Lead", key)
    noon_org.create_many("Lead", [{**LEAD, "Loose__c": "x"}] * 2)
    answer = client.call("PATCH", "/sobjects/Lead/Loose__c/x", {"Company": "Two"})
    assert answer.status_code == 300
    assert len(answer.json()) == 2
    assert noon_org.query("SELECT Id FROM Lead WHERE Company = 'Two'") == []


def collection(*rows: Mapping[str, object], all_or_none: bool = False) -> dict[str, object]:
    records = [{"attributes": {"type": "Lead"}, **row} for row in rows]
    return {"allOrNone": all_or_none, "records": records}


def test_a_collection_answers_row_by_row(client: Client, noon_org: SandboxOrg) -> None:
    body = collection(LEAD, {"LastName": "No company"}, LEAD)
    outcome = client.call("POST", "/composite/sobjects", body).json()
    assert [one["success"] for one in outcome] == [True, False, True]
    assert outcome[1]["errors"][0] == {
        "statusCode": "REQUIRED_FIELD_MISSING",
        "message": "Required fields are missing: [Company]",
        "fields": ["Company"],
    }
    assert noon_org.count("Lead") == 2
    ids = [outcome[0]["id"], outcome[2]["id"]]
    changes = [{"Id": one, "City": "Bonn"} for one in ids]
    changed = client.call("PATCH", "/composite/sobjects", collection(*changes))
    assert all(one["success"] for one in changed.json())
    read = client.call(
        "POST",
        "/composite/sobjects/Lead",
        {"ids": [*ids, "00Q000000000001EAA"], "fields": ["City"]},
    ).json()
    assert [one and one["City"] for one in read] == ["Bonn", "Bonn", None]
    gone = client.http.delete(
        client.url + "/composite/sobjects", params={"ids": ",".join([*ids, "zzz"])}
    ).json()
    assert [one["success"] for one in gone] == [True, True, False]


def test_all_or_none_takes_the_good_rows_back(client: Client, noon_org: SandboxOrg) -> None:
    body = collection(LEAD, {"LastName": "No company"}, all_or_none=True)
    outcome = client.call("POST", "/composite/sobjects", body).json()
    codes = [one["errors"][0]["statusCode"] for one in outcome]
    assert codes == ["ALL_OR_NONE_OPERATION_ROLLED_BACK", "REQUIRED_FIELD_MISSING"]
    assert noon_org.count("Lead") == 0


def test_a_collection_upserts_by_external_id(client: Client) -> None:
    path = "/composite/sobjects/Lead/External_Key__c"
    rows = [{**LEAD, "External_Key__c": f"k{n}"} for n in range(3)]
    first = client.call("PATCH", path, collection(*rows)).json()
    again = client.call("PATCH", path, collection(*rows)).json()
    assert [one["created"] for one in first + again] == [True] * 3 + [False] * 3


def test_a_collection_takes_two_hundred_rows_and_no_more(client: Client) -> None:
    answer = client.call("POST", "/composite/sobjects", collection(*[LEAD] * 201))
    assert error(answer) == (400, "EXCEEDED_ID_LIMIT")


def test_a_row_that_the_plan_refuses_fails_alone(client: Client) -> None:
    client.fault(code="UNABLE_TO_LOCK_ROW", object_name="Lead", match={"City": "Bonn"})
    body = collection(LEAD, {**LEAD, "City": "Bonn"})
    outcome = client.call("POST", "/composite/sobjects", body).json()
    assert [one["success"] for one in outcome] == [True, False]
    assert outcome[1]["errors"][0]["statusCode"] == "UNABLE_TO_LOCK_ROW"


def test_a_tree_plants_parents_with_their_children(client: Client, noon_org: SandboxOrg) -> None:
    child = {"attributes": {"type": "Contact", "referenceId": "c"}, "LastName": "Doe"}
    parent = {"attributes": {"type": "Account", "referenceId": "a"}, "Name": "Acme",
              "Contacts": {"records": [child]}}  # fmt: skip
    answer = client.call("POST", "/composite/tree/Account", {"records": [parent]})
    assert answer.status_code == 201
    assert [one["referenceId"] for one in answer.json()["results"]] == ["a", "c"]
    [row] = noon_org.query("SELECT Account.Name FROM Contact")
    assert row == {"Account": {"Name": "Acme"}}


def window(
    client: Client, what: str, start: str = "11:00", end: str = "13:00"
) -> requests.Response:
    return client.get(
        f"/sobjects/Lead/{what}",
        start=f"2026-03-02T{start}:00+00:00",
        end=f"2026-03-02T{end}:00+00:00",
    )


def test_updated_and_deleted_say_what_changed_in_a_window(
    client: Client, noon_org: SandboxOrg
) -> None:
    kept, binned, gone, back = noon_org.create_many("Lead", [LEAD] * 4)
    for lead in (binned, gone, back):
        noon_org.delete("Lead", lead)
    noon_org.hard_delete("Lead", gone)
    noon_org.undelete("Lead", back)
    updated, deleted = window(client, "updated").json(), window(client, "deleted").json()
    assert updated["ids"] == [kept, back]
    assert updated["latestDateCovered"] == "2026-03-02T12:00:00.000+0000"
    assert {one["id"] for one in deleted["deletedRecords"]} == {binned, gone}
    assert deleted["deletedRecords"][0]["deletedDate"] == "2026-03-02T12:00:00.000+0000"
    assert deleted["earliestDateAvailable"] == "2026-03-02T11:00:00.000+0000", "nothing is lost"


def test_windows_are_checked(client: Client, noon_org: SandboxOrg) -> None:
    refused = (400, "INVALID_REPLICATION_DATE")
    assert error(window(client, "deleted", "12:00", "12:00")) == refused
    noon_org.clock.advance(seconds=31 * 86_400)
    client.login()
    assert error(window(client, "updated")) == refused


def test_a_trimmed_delete_log_refuses_what_it_no_longer_knows(
    client: Client, noon_org: SandboxOrg
) -> None:
    noon_org.delete("Lead", noon_org.create("Lead", LEAD))
    client.sandbox("trim_delete_log", before="2026-03-02T12:30:00Z")
    assert error(window(client, "deleted", "11:00", "12:15"))[1] == "INVALID_REPLICATION_DATE"
    assert window(client, "deleted").json()["deletedRecords"] == []


def test_the_budget_is_shown_and_ends(client: Client) -> None:
    client.sandbox("limit", remaining=2, max=10)
    answer = client.get("/limits")
    assert answer.headers["Sforce-Limit-Info"] == "api-usage=9/10"
    assert answer.json()["DailyApiRequests"] == {"Max": 10, "Remaining": 1}
    assert client.get("/limits").status_code == 200
    assert error(client.get("/limits")) == (403, "REQUEST_LIMIT_EXCEEDED")


def test_the_date_header_follows_the_orgs_clock(client: Client) -> None:
    client.sandbox("clock", set="2027-05-06T07:08:09Z")
    answer = client.get("/limits")
    assert answer.headers["Date"] == "Thu, 06 May 2027 07:08:09 GMT"


def test_answers_are_packed_only_for_clients_that_unpack(
    client: Client, noon_org: SandboxOrg
) -> None:
    noon_org.create_many("Lead", [LEAD] * 50)
    url, query = client.url + "/query", {"q": "SELECT Id, Name FROM Lead"}
    packed = client.http.get(url, params=query, headers={"Accept-Encoding": "gzip"})
    plain = client.http.get(url, params=query, headers={"Accept-Encoding": "identity"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    assert packed.json() == plain.json()


def test_an_address_too_long_is_refused(client: Client) -> None:
    assert client.get("/query", q="x" * 17_000).status_code == 414


def test_unknown_paths_methods_and_bodies_are_refused_in_list_form(client: Client) -> None:
    assert error(client.get("/nowhere")) == (404, "NOT_FOUND")
    assert error(client.call("DELETE", "/query")) == (405, "METHOD_NOT_ALLOWED")
    broken = client.http.post(client.url + "/sobjects/Lead", data="{")
    assert error(broken) == (400, "JSON_PARSER_ERROR")


@pytest.mark.parametrize("path", ["/query", "/queryAll"])
def test_only_query_all_shows_the_bin(client: Client, noon_org: SandboxOrg, path: str) -> None:
    noon_org.delete("Lead", noon_org.create("Lead", LEAD))
    found = client.rows("SELECT Id, IsDeleted FROM Lead", path=path)
    assert [row["IsDeleted"] for row in found] == ([True] if path == "/queryAll" else [])
