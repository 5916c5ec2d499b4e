"""Rules that an org has for writes, over HTTP: what they refuse, what they change themselves."""

from typing import Any

import pytest

from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline_tests.sandbox.client import Client

LEAD = {"LastName": "Doe", "Company": "Acme"}


def refusal(client: Client, values: dict[str, Any], lead: str = "", **headers: str) -> Any:
    method, path = ("PATCH", f"/sobjects/Lead/{lead}") if lead else ("POST", "/sobjects/Lead")
    answer = client.call(method, path, values, **headers)
    return None if answer.status_code < 300 else answer.json()[0]


def collected(client: Client, rows: list[dict[str, Any]], method: str = "POST") -> list[Any]:
    records = [{"attributes": {"type": "Lead"}, **row} for row in rows]
    body = {"allOrNone": False, "records": records}
    found: list[Any] = client.call(method, "/composite/sobjects", body).json()
    return found


# Duplicates


def test_a_duplicate_is_refused_with_the_records_it_resembles(
    client: Client, noon_org: SandboxOrg
) -> None:
    contact = noon_org.create("Contact", {"LastName": "Doe", "Email": "doe@acme.example"})
    client.sandbox("rule", kind="duplicate", object="Lead", against=["Lead", "Contact"])
    refused = refusal(client, {**LEAD, "Email": "DOE@acme.example"})
    assert (refused["errorCode"], refused["message"]) == (
        "DUPLICATES_DETECTED",
        "Use one of these records?",
    )
    result = refused["duplicateResut"]  # Salesforce's own spelling
    assert (result["allowSave"], result["duplicateRule"]) == (True, "Standard_Lead_Duplicate_Rule")
    [match] = result["matchResults"]
    assert (match["entityType"], match["matchEngine"], match["size"]) == (
        "Contact",
        "ExactMatchEngine",
        1,
    )
    assert match["matchRecords"][0]["record"]["Id"] == contact
    assert noon_org.count("Lead") == 0


def test_a_duplicate_may_be_saved_all_the_same_unless_the_rule_blocks(
    client: Client, noon_org: SandboxOrg
) -> None:
    person = {**LEAD, "Email": "doe@acme.example"}
    noon_org.create("Lead", person)
    client.sandbox("rule", kind="duplicate", object="Lead")
    allowed = "allowSave=true, includeRecordDetails=true"
    assert refusal(client, person, Sforce_Duplicate_Rule_Header=allowed) is None
    client.sandbox("rule", kind="duplicate", object="Lead", block=True)
    refused = refusal(client, person, Sforce_Duplicate_Rule_Header=allowed)
    record = refused["duplicateResut"]["matchResults"][0]["matchRecords"][0]["record"]
    assert (refused["duplicateResut"]["allowSave"], record["Email"]) == (
        False,
        "doe@acme.example",
    )


def test_rows_and_edits_meet_duplicate_rules_too(client: Client, noon_org: SandboxOrg) -> None:
    lead = noon_org.create("Lead", {**LEAD, "Email": "a@acme.example"})
    other = noon_org.create("Lead", LEAD)
    client.sandbox("rule", kind="duplicate", object="Lead")
    twin = {**LEAD, "Email": "a@acme.example"}
    first, second = collected(client, [twin, {**LEAD, "Email": "b@acme.example"}])
    assert first["errors"][0]["duplicateResult"]["matchResults"][0]["size"] == 1
    assert (first["errors"][0]["statusCode"], second["success"]) == ("DUPLICATES_DETECTED", True)
    assert refusal(client, {"City": "Bonn"}, lead) is None
    changed = refusal(client, {"Email": "a@acme.example"}, other)
    assert changed["errorCode"] == "DUPLICATES_DETECTED"
    done = client.ingested("insert", "LastName,Company,Email\nDoe,Acme,a@acme.example\n")
    assert client.results(done["id"], "failedResults")[1][1] == (
        "DUPLICATES_DETECTED:Use one of these records?:--"
    )


# Values


def test_a_validation_rule_refuses_what_meets_its_condition(
    client: Client, noon_org: SandboxOrg
) -> None:
    lead = noon_org.create("Lead", {**LEAD, "City": "Ulm"})
    client.sandbox(
        "rule",
        kind="validation",
        object="Lead",
        condition="City = 'Bonn' AND Phone = null",
        message="Whoever lives in Bonn has a phone.",
        fields=["Phone"],
    )
    refused = refusal(client, {"City": "Bonn"}, lead)
    assert refused == {
        "message": "Whoever lives in Bonn has a phone.",
        "errorCode": "FIELD_CUSTOM_VALIDATION_EXCEPTION",
        "fields": ["Phone"],
    }
    assert refusal(client, {"City": "Bonn", "Phone": "1"}, lead) is None
    rules = client.sandbox("rule")["rules"]
    assert (rules[0]["kind"], rules[0]["uses"]) == ("validation", 1)
    client.sandbox("rule", remove="all")
    assert refusal(client, {"Phone": None}, lead) is None


VALUES: tuple[tuple[dict[str, Any], str, list[str]], ...] = (
    ({"LastName": None}, "REQUIRED_FIELD_MISSING", ["LastName"]),
    ({"Region__c": "MOON"}, "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", ["Region__c"]),
    ({"City": "x" * 41}, "STRING_TOO_LONG", ["City"]),
    ({"AnnualRevenue": 10**18}, "NUMBER_OUTSIDE_VALID_RANGE", ["AnnualRevenue"]),
    ({"Email": "nobody"}, "INVALID_EMAIL_ADDRESS", ["Email"]),
    ({"IsConverted": True}, "INVALID_FIELD_FOR_INSERT_UPDATE", ["IsConverted"]),
    ({"OwnerId": "00G8d0000000999"}, "INVALID_CROSS_REFERENCE_KEY", ["OwnerId"]),
)


@pytest.mark.parametrize(("values", "code", "fields"), VALUES)
def test_a_bad_value_is_refused_with_its_field_on_every_way_in(
    client: Client, noon_org: SandboxOrg, values: dict[str, Any], code: str, fields: list[str]
) -> None:
    lead = noon_org.create("Lead", LEAD)
    refused = refusal(client, values, lead)
    assert (refused["errorCode"], refused["fields"]) == (code, fields)
    [row] = collected(client, [{"id": lead, **values}], "PATCH")
    assert (row["errors"][0]["statusCode"], row["errors"][0]["fields"]) == (code, fields)
    [(name, value)] = values.items()
    done = client.ingested("update", f"Id,{name}\n{lead},{'#N/A' if value is None else value}\n")
    assert client.results(done["id"], "failedResults")[1][1].startswith(f"{code}:")


def test_an_administrator_can_make_a_field_required_or_read_only(
    client: Client, noon_org: SandboxOrg
) -> None:
    lead = noon_org.create("Lead", {**LEAD, "Title": "Dr"})
    client.sandbox(
        "field", object="Lead", field="Title", action="retype", facts={"nillable": False}
    )
    client.sandbox("field", object="Lead", field="Phone", action="read_only")
    assert refusal(client, {"Title": None}, lead)["errorCode"] == "REQUIRED_FIELD_MISSING"
    assert refusal(client, {"Phone": "1"}, lead)["errorCode"] == "INVALID_FIELD_FOR_INSERT_UPDATE"


# Records that take no writes


def test_a_record_under_approval_is_locked(client: Client, noon_org: SandboxOrg) -> None:
    named, meant, free = noon_org.create_many("Lead", [LEAD, {**LEAD, "Rating": "Hot"}, LEAD])
    client.sandbox("rule", kind="lock", object="Lead", ids=[named])
    rule = client.sandbox("rule", kind="lock", object="Lead", condition="Rating = 'Hot'")["rule"]
    for lead in (named, meant):
        refused = refusal(client, {"City": "Bonn"}, lead)
        assert (refused["errorCode"], refused["message"]) == (
            "ENTITY_IS_LOCKED",
            "the entity is locked for editing",
        )
    assert refusal(client, {"City": "Bonn"}, free) is None
    client.sandbox("rule", remove=rule)
    assert refusal(client, {"City": "Bonn"}, meant) is None


def test_a_converted_and_a_deleted_lead_take_no_writes(
    client: Client, noon_org: SandboxOrg
) -> None:
    converted, deleted = noon_org.create_many("Lead", [LEAD, LEAD])
    noon_org.convert_lead(converted)
    noon_org.delete("Lead", deleted)
    codes = [refusal(client, {"City": "Bonn"}, one)["errorCode"] for one in (converted, deleted)]
    assert codes == ["CANNOT_UPDATE_CONVERTED_LEAD", "ENTITY_IS_DELETED"]


# Owners


def user(org: SandboxOrg, name: str, *, active: bool = True) -> str:
    address = f"{name}@sandbox.example"
    facts = {"LastName": name, "Username": address, "Email": address, "IsActive": active}
    return org.create("User", facts)


def queue(org: SandboxOrg, *objects: str) -> str:
    made = org.create("Group", {"Name": "Queue", "DeveloperName": "Queue", "Type": "Queue"})
    org.create_many("QueueSobject", [{"QueueId": made, "SobjectType": one} for one in objects])
    return made


def test_an_inactive_user_may_not_be_given_a_record(client: Client, noon_org: SandboxOrg) -> None:
    gone = user(noon_org, "gone", active=False)
    lead = noon_org.create("Lead", LEAD)
    refused = refusal(client, {"OwnerId": gone}, lead)
    assert (refused["errorCode"], refused["message"]) == (
        "INACTIVE_OWNER_OR_USER",
        f"operation performed with inactive user [{gone}] as owner of lead",
    )
    noon_org.update("Lead", lead, {"OwnerId": gone})
    assert refusal(client, {"City": "Bonn"}, lead) is None
    client.sandbox("rule", kind="inactive_owner", object="Lead")
    assert refusal(client, {"City": "Ulm"}, lead)["errorCode"] == "INACTIVE_OWNER_OR_USER"


def test_a_queue_must_be_there_and_take_the_object(client: Client, noon_org: SandboxOrg) -> None:
    cases, leads = queue(noon_org, "Case"), queue(noon_org, "Lead")
    assert refusal(client, {**LEAD, "OwnerId": cases})["message"] == (
        "Queue not associated with this SObject type"
    )
    assert refusal(client, {**LEAD, "OwnerId": leads}) is None
    noon_org.delete("Group", leads)
    refused = refusal(client, {**LEAD, "OwnerId": leads})
    assert refused["errorCode"] == "INVALID_CROSS_REFERENCE_KEY"


def owner(org: SandboxOrg, city: str) -> str:
    return str(org.query(f"SELECT OwnerId FROM Lead WHERE City = '{city}'")[-1]["OwnerId"])


def test_assignment_rules_decide_on_the_owner_as_the_header_says(
    client: Client, noon_org: SandboxOrg
) -> None:
    anna, ben = user(noon_org, "anna"), user(noon_org, "ben")
    entries = [{"condition": "Country = 'Germany'", "owner": anna}, {"owner": ben}]
    client.sandbox("rule", kind="assignment", object="Lead", entries=entries)
    resting = client.sandbox(
        "rule", kind="assignment", object="Lead", entries=[{"owner": anna}], active=False
    )["assignment_rule"]
    here = {**LEAD, "Country": "Germany"}
    assert refusal(client, {**here, "City": "A"}) is None
    assert refusal(client, {**LEAD, "City": "B"}, Sforce_Auto_Assign="true") is None
    assert refusal(client, {**here, "City": "C"}, Sforce_Auto_Assign="FALSE") is None
    assert refusal(client, {**LEAD, "City": "D"}, Sforce_Auto_Assign=resting) is None
    owners = [owner(noon_org, city) for city in "ABCD"]
    assert owners == [anna, ben, noon_org.user_id, anna]


def test_a_bulk_job_assigns_only_by_the_rule_that_it_names(
    client: Client, noon_org: SandboxOrg
) -> None:
    anna = user(noon_org, "anna")
    rule = client.sandbox("rule", kind="assignment", object="Lead", entries=[{"owner": anna}])
    client.ingested("insert", "LastName,Company,City\nDoe,Acme,A\n")
    named = rule["assignment_rule"]
    client.ingested("insert", "LastName,Company,City\nDoe,Acme,B\n", assignmentRuleId=named)
    assert [owner(noon_org, city) for city in "AB"] == [noon_org.user_id, anna]


# What the org does by itself


def test_automation_changes_a_value_back(client: Client, noon_org: SandboxOrg) -> None:
    lead = noon_org.create("Lead", {**LEAD, "Lead_Score__c": 10, "Rating": "Cold"})
    client.sandbox(
        "rule",
        kind="automation",
        object="Lead",
        when=["Lead_Score__c"],
        condition="Lead_Score__c > 50",
        back=["Lead_Score__c"],
        set={"Rating": "Hot"},
    )
    scores = []
    for value in (80, 40):
        assert refusal(client, {"Lead_Score__c": value}, lead) is None
        record = noon_org.get("Lead", lead)
        assert record is not None
        scores.append((record["Lead_Score__c"], record["Rating"]))
    assert scores == [(10, "Hot"), (40, "Hot")]


def test_a_poisoned_row_is_refused_alone_or_with_its_batch(
    client: Client, noon_org: SandboxOrg
) -> None:
    rows = [LEAD, {**LEAD, "City": "Poison"}, LEAD]
    rule = client.sandbox(
        "rule", kind="poison", object="Lead", condition="City = 'Poison'", scope="row"
    )["rule"]
    assert [one["success"] for one in collected(client, rows)] == [True, False, True]
    client.sandbox("rule", remove=rule)
    client.sandbox("rule", kind="poison", object="Lead", condition="City = 'Poison'")
    answers = collected(client, rows)
    codes = [one["errors"][0]["statusCode"] for one in answers]
    assert codes == ["CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY"] * 3
    assert "System.NullPointerException" in answers[0]["errors"][0]["message"]
    assert noon_org.count("Lead") == 2


def test_a_poisoned_row_can_fail_the_whole_request(client: Client, noon_org: SandboxOrg) -> None:
    client.sandbox(
        "rule", kind="poison", object="Lead", condition="City = 'Poison'", scope="request"
    )
    records = [
        {"attributes": {"type": "Lead"}, **row} for row in (LEAD, {**LEAD, "City": "Poison"})
    ]
    answer = client.call("POST", "/composite/sobjects", {"records": records})
    assert (answer.status_code, answer.json()[0]["errorCode"]) == (500, "UNKNOWN_EXCEPTION")
    assert noon_org.count("Lead") == 0
    [request] = client.writes()["requests"]
    assert [row["outcome"] for row in request["rows"]] == ["ROLLED_BACK", "UNKNOWN_EXCEPTION"]


def test_poison_in_a_bulk_job_takes_its_two_hundred_rows_along(
    client: Client, noon_org: SandboxOrg
) -> None:
    client.sandbox("rule", kind="poison", object="Lead", condition="City = 'Poison'")
    rows = "".join(f"Doe,Acme,{'Poison' if place == 7 else 'Ulm'}\n" for place in range(450))
    done = client.ingested("insert", "LastName,Company,City\n" + rows)
    assert (done["state"], done["numberRecordsFailed"]) == ("JobComplete", 200)
    assert noon_org.count("Lead") == 250


def test_wrong_rules_are_refused(client: Client) -> None:
    url = f"{client.served.url}/sandbox/rule"
    for facts in (
        {"kind": "nonsense"},
        {"kind": "validation"},
        {"kind": "validation", "condition": "Nope = 1"},
        {"kind": "duplicate", "fields": ["Nope"]},
        {"kind": "poison", "condition": "City = 'x'", "scope": "world"},
    ):
        assert client.http.post(url, json={"object": "Lead", **facts}).status_code == 400
