"""Custom fields made over the Tooling API: who sees them, which names are taken, what is told."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from crm_pipeline.sandbox.salesforce.failures import OrgError
from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.running import RunningOrg
from crm_pipeline_tests.sandbox.client import Client

LEAD = {"LastName": "Doe", "Company": "Acme"}
NUMBER = {"label": "Score", "type": "Number", "precision": 18, "scale": 2}
FIELDS = "/tooling/sobjects/CustomField"


def made(client: Client, name: str = "Lead.Score__c", **metadata: Any) -> Any:
    body = {"FullName": name, "Metadata": {**NUMBER, **metadata}}
    return client.call("POST", FIELDS, body)


def described(client: Client, name: str = "Score__c") -> dict[str, Any] | None:
    fields = client.get("/sobjects/Lead/describe").json()["fields"]
    return next((one for one in fields if one["name"] == name), None)


def permit(client: Client, name: str = "Lead.Score__c", **facts: Any) -> Any:
    sets = client.rows(
        "SELECT PermissionSetId FROM PermissionSetAssignment "
        "WHERE Assignee.Username = 'integration@sandbox.example'"
    )
    body = {
        "ParentId": sets[0]["PermissionSetId"],
        "SobjectType": name.partition(".")[0],
        "Field": name,
        "PermissionsRead": True,
        "PermissionsEdit": True,
        **facts,
    }
    return client.call("POST", "/sobjects/FieldPermissions", body)


def test_a_new_field_is_seen_by_nobody_until_a_permission_set_says_so(
    client: Client, noon_org: SandboxOrg
) -> None:
    answer = made(client)
    assert (answer.status_code, answer.json()["success"]) == (201, True)
    assert answer.json()["id"].startswith("00N")
    lead = noon_org.create("Lead", {**LEAD, "Score__c": 7})
    assert described(client) is None
    refused = client.call("PATCH", f"/sobjects/Lead/{lead}", {"Score__c": 5}).json()[0]
    assert refused["message"] == "No such column 'Score__c' on sobject of type Lead"
    assert permit(client).status_code == 201
    shown = described(client)
    assert shown is not None
    assert (shown["type"], shown["precision"], shown["updateable"]) == ("double", 18, True)
    assert client.call("PATCH", f"/sobjects/Lead/{lead}", {"Score__c": 5}).status_code == 204
    assert client.rows("SELECT Score__c FROM Lead")[0]["Score__c"] == 5.0


def test_permission_to_read_is_none_to_write_and_can_be_taken_back(client: Client) -> None:
    made(client)
    permission = permit(client, PermissionsEdit=False).json()["id"]
    shown = described(client)
    assert shown is not None
    assert shown["updateable"] is False
    client.call("PATCH", f"/sobjects/FieldPermissions/{permission}", {"PermissionsEdit": True})
    shown = described(client)
    assert shown is not None
    assert shown["updateable"] is True
    client.call("DELETE", f"/sobjects/FieldPermissions/{permission}")
    assert described(client) is None


def test_permissions_of_a_set_that_the_user_does_not_have_mean_nothing(client: Client) -> None:
    made(client)
    other = client.call("POST", "/sobjects/PermissionSet", {"Name": "Other", "Label": "Other"})
    permit(client, ParentId=other.json()["id"])
    assert described(client) is None
    user = client.rows("SELECT Id FROM User WHERE LastName = 'Integration User'")[0]["Id"]
    assignment = {"PermissionSetId": other.json()["id"], "AssigneeId": user}
    client.call("POST", "/sobjects/PermissionSetAssignment", assignment)
    assert described(client) is not None


def test_wrong_field_permissions_are_refused(client: Client) -> None:
    made(client)
    unknown = permit(client, "Lead.Nope__c").json()[0]
    assert unknown["errorCode"] == "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST"
    blind = permit(client, PermissionsRead=False).json()[0]
    assert blind["errorCode"] == "FIELD_INTEGRITY_EXCEPTION"
    assert permit(client).status_code == 201
    assert permit(client).json()[0]["errorCode"] == "DUPLICATE_VALUE"


def test_a_required_field_needs_no_permission(client: Client) -> None:
    made(client, required=True)
    assert described(client) is not None


def test_a_name_is_taken_whatever_the_type_and_for_fifteen_days_after_deletion(
    client: Client, noon_org: SandboxOrg
) -> None:
    field = made(client).json()["id"]
    lead = noon_org.create("Lead", {**LEAD, "Score__c": 7})
    other: dict[str, Any] = {"precision": None, "scale": None}
    again = made(client, "Lead.score__c", type="DateTime", **other).json()[0]
    assert (again["errorCode"], again["message"]) == (
        "DUPLICATE_DEVELOPER_NAME",
        "There is already a field named score on Lead.",
    )
    assert client.call("DELETE", f"{FIELDS}/{field}").status_code == 204
    assert client.get(f"{FIELDS}/{field}").status_code == 404
    assert made(client).json()[0]["errorCode"] == "DUPLICATE_DEVELOPER_NAME"
    noon_org.clock.advance(seconds=16 * 86_400)
    client.login()
    assert made(client, type="DateTime", **other).status_code == 201
    record = noon_org.get("Lead", lead)
    assert record is not None
    assert record["Score__c"] is None


def test_of_two_who_make_a_field_at_once_one_is_told_that_the_name_is_taken(
    noon_org: SandboxOrg,
) -> None:
    at_once = Barrier(2)

    def makes(name: str) -> str:
        at_once.wait()
        try:
            noon_org.custom_fields.create(f"Lead.{name}", NUMBER)
        except OrgError as refused:
            return refused.code
        return "made"

    with ThreadPoolExecutor(2) as pool:
        for number in range(100):
            both = [pool.submit(makes, f"Score_{number}__c") for _ in range(2)]
            assert sorted(one.result() for one in both) == ["DUPLICATE_DEVELOPER_NAME", "made"]


def test_of_two_who_permit_a_field_at_once_one_is_told_that_it_is_permitted(
    client: Client, served: RunningOrg
) -> None:
    clients, at_once = (client, Client(served)), Barrier(2)
    own_set = client.rows(
        "SELECT PermissionSetId FROM PermissionSetAssignment "
        "WHERE Assignee.Username = 'integration@sandbox.example'"
    )[0]["PermissionSetId"]

    def permits(one: Client, name: str) -> int:
        body = {"ParentId": own_set, "SobjectType": "Lead", "Field": f"Lead.{name}"}
        at_once.wait()
        words = {"PermissionsRead": True}
        return one.call("POST", "/sobjects/FieldPermissions", {**body, **words}).status_code

    with ThreadPoolExecutor(2) as pool:
        for number in range(40):
            made(client, f"Lead.Score_{number}__c")
            both = [pool.submit(permits, one, f"Score_{number}__c") for one in clients]
            assert sorted(one.result() for one in both) == [201, 400]


def test_an_administrator_empties_the_bin_of_a_field(client: Client) -> None:
    field = made(client).json()["id"]
    client.call("DELETE", f"{FIELDS}/{field}")
    client.sandbox("field", object="Lead", field="Score__c", action="erase")
    assert made(client).status_code == 201


def test_a_checkbox_is_hidden_like_any_other_new_field(client: Client) -> None:
    facts = {"label": "Bounced", "type": "Checkbox", "defaultValue": "false"}
    client.call("POST", FIELDS, {"FullName": "Lead.Bounced__c", "Metadata": facts})
    assert described(client, "Bounced__c") is None
    permit(client, "Lead.Bounced__c")
    assert described(client, "Bounced__c") is not None


def test_an_object_has_room_for_so_many_custom_fields_and_the_bin_counts(client: Client) -> None:
    custom = [
        one for one in client.get("/sobjects/Lead/describe").json()["fields"] if one["custom"]
    ]
    client.sandbox("limit", custom_fields=len(custom) + 1)
    first = made(client).json()["id"]
    refused = made(client, "Lead.Other__c").json()[0]
    assert refused["errorCode"] == "LIMIT_EXCEEDED"
    assert "maximum number of custom fields" in refused["message"]
    client.call("DELETE", f"{FIELDS}/{first}")
    assert made(client, "Lead.Other__c").json()[0]["errorCode"] == "LIMIT_EXCEEDED"
    client.sandbox("field", object="Lead", field="Score__c", action="erase")
    assert made(client, "Lead.Other__c").status_code == 201


def test_an_external_id_made_so_is_unique_and_can_be_upserted_by(client: Client) -> None:
    text = {"label": "Key", "type": "Text", "length": 36, "externalId": True, "unique": True}
    body = {"FullName": "Lead.Key__c", "Metadata": text}
    assert client.call("POST", FIELDS, body).status_code == 201
    permit(client, "Lead.Key__c")
    path = "/sobjects/Lead/Key__c/one"
    assert [client.call("PATCH", path, LEAD).status_code for _ in range(2)] == [201, 200]
    taken = client.call("POST", "/sobjects/Lead", {**LEAD, "Key__c": "ONE"}).json()[0]
    assert taken["errorCode"] == "DUPLICATE_VALUE"
    shown = described(client, "Key__c")
    assert shown is not None
    assert (shown["externalId"], shown["unique"], shown["length"]) == (True, True, 36)


KINDS: tuple[tuple[dict[str, Any], str], ...] = (
    ({"type": "DateTime"}, "datetime"),
    ({"type": "Checkbox", "defaultValue": "false"}, "boolean"),
    ({"type": "Text", "length": 255}, "string"),
    ({"type": "Percent", "precision": 5, "scale": 1}, "percent"),
    ({"type": "LongTextArea", "length": 32768, "visibleLines": 3}, "textarea"),
    (
        {
            "type": "Picklist",
            "valueSet": {
                "restricted": True,
                "valueSetDefinition": {"value": [{"fullName": "Hot", "label": "Hot"}]},
            },
        },
        "picklist",
    ),
)


@pytest.mark.parametrize(("metadata", "kind"), KINDS)
def test_fields_of_each_kind_can_be_made(
    client: Client, metadata: dict[str, Any], kind: str
) -> None:
    body = {"FullName": "Contact.Made__c", "Metadata": {"label": "Made", **metadata}}
    answer = client.call("POST", FIELDS, body)
    assert answer.status_code == 201, answer.text
    read = client.get(f"{FIELDS}/{answer.json()['id']}").json()
    assert read["FullName"] == "Contact.Made__c"
    assert read["Metadata"]["type"] == metadata["type"]
    permit(client, "Contact.Made__c")
    fields = client.get("/sobjects/Contact/describe").json()["fields"]
    assert [one["type"] for one in fields if one["name"] == "Made__c"] == [kind]


WRONG: tuple[dict[str, Any], ...] = (
    {"type": "Nonsense"},
    {"type": "Text"},
    {"type": "Checkbox"},
    {"type": "Number", "precision": 19, "scale": 0},
    {"type": "DateTime", "length": 3},
)


@pytest.mark.parametrize("metadata", WRONG)
def test_wrong_metadata_are_refused(client: Client, metadata: dict[str, Any]) -> None:
    body = {"FullName": "Lead.Made__c", "Metadata": {"label": "Made", **metadata}}
    answer = client.call("POST", FIELDS, body)
    assert (answer.status_code, answer.json()[0]["errorCode"]) == (400, "FIELD_INTEGRITY_EXCEPTION")
    body = {"FullName": "Lead.Bad__Name_", "Metadata": NUMBER}
    assert client.call("POST", FIELDS, body).status_code == 400


def test_without_the_permission_nobody_makes_a_field(client: Client) -> None:
    client.sandbox("settings", customize_application=False)
    assert made(client).status_code == 403


def test_the_tables_of_fields_can_be_asked(client: Client) -> None:
    field = made(client).json()["id"]
    [found] = client.rows(
        "SELECT Id, DeveloperName, Metadata FROM CustomField "
        "WHERE TableEnumOrId = 'Lead' AND DeveloperName = 'Score'",
        path="/tooling/query",
    )
    assert (found["Id"], found["Metadata"]["precision"]) == (field, 18)
    asked = (
        "SELECT QualifiedApiName, DataType FROM FieldDefinition WHERE "
        "EntityDefinition.QualifiedApiName = 'Lead' AND QualifiedApiName IN ('Score__c', 'Email')"
    )
    for path in ("/tooling/query", "/query"):
        rows = client.rows(asked, path=path)
        assert {one["QualifiedApiName"]: one["DataType"] for one in rows} == {
            "Email": "Email",
            "Score__c": "Number(16, 2)",
        }
    [entity] = client.rows(
        "SELECT DurableId, Label FROM EntityDefinition WHERE QualifiedApiName = 'Lead'",
        path="/tooling/query",
    )
    assert (entity["DurableId"], entity["Label"]) == ("Lead", "Lead")


def test_long_answers_of_the_tables_come_in_pages(client: Client) -> None:
    rows = client.rows(
        "SELECT QualifiedApiName FROM FieldDefinition", batch=200, path="/tooling/query"
    )
    assert len(rows) > 250


def test_a_kept_org_still_knows_its_fields_and_who_may_see_them(tmp_path: Path) -> None:
    org = SandboxOrg(tmp_path / "org.sqlite")
    field = org.custom_fields.create("Lead.Score__c", NUMBER)
    org.close()
    again = SandboxOrg(tmp_path / "org.sqlite")
    assert again.custom_fields.id_of("Lead", "Score__c") == field
    assert again.catalogue.object("Lead").field("Score__c") is not None
    assert again.catalogue.visible("Lead").field("Score__c") is None
    again.show_field("Lead", "Score__c")
    assert again.catalogue.visible("Lead").field("Score__c") is not None
    again.close()


def test_metadata_can_be_changed(client: Client) -> None:
    field = made(client).json()["id"]
    permit(client)
    changed = {"Metadata": {"label": "Lead Score", "precision": 10}}
    assert client.call("PATCH", f"{FIELDS}/{field}", changed).status_code == 204
    shown = described(client)
    assert shown is not None
    assert (shown["label"], shown["precision"]) == ("Lead Score", 10)
