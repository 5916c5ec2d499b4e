"""Values that break clients: NUL, lone surrogates, texts of 131,072 characters; REST and Bulk."""

import json
from typing import Any

import pytest

from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.schema import FieldDefinition
from crm_pipeline_tests.sandbox.client import Client

LEAD = {"LastName": "Doe", "Company": "Acme"}
NUL, HIGH, LOW = "\0", "\ud800", "\udfff"
STRANGE = (
    f"a{NUL}b", NUL, f"{HIGH} alone", f"at the end {LOW}", f"{LOW}{HIGH}", "\U0001f600 whole",
    f"é{NUL}\U0001f600{HIGH}ü", "\U0010ffff", "\ue000",
)  # fmt: skip
SOQL = "SELECT Description FROM Lead ORDER BY Id"


@pytest.fixture
def strange(noon_org: SandboxOrg) -> SandboxOrg:
    noon_org.create_many("Lead", [{**LEAD, "Description": one} for one in STRANGE])
    return noon_org


def test_rest_carries_them_as_json_escapes(client: Client, strange: SandboxOrg) -> None:
    answer = client.get("/query", q=SOQL)
    assert b"\0" not in answer.content
    answer.content.decode("utf-8", "strict")
    assert b"a\\u0000b" in answer.content
    assert b"\\ud800 alone" in answer.content
    rows = json.loads(answer.content)["records"]
    assert [row["Description"] for row in rows] == list(STRANGE)


def test_bulk_carries_them_as_raw_bytes(client: Client, strange: SandboxOrg) -> None:
    job = client.finished_job(SOQL)
    answer = client.get(f"/jobs/query/{job['id']}/results", maxRecords=100)
    text = answer.content.decode("utf-8", "surrogatepass")
    assert text == '"Description"\n' + "".join(f'"{one}"\n' for one in STRANGE)
    with pytest.raises(UnicodeDecodeError):
        answer.content.decode()
    page = client.get(f"/jobs/query/{job['id']}/results", maxRecords=1, locator="Mg")
    assert page.content.decode("utf-8", "surrogatepass") == f'"Description"\n"{HIGH} alone"\n'


def test_the_org_itself_has_them_as_they_are(strange: SandboxOrg) -> None:
    assert [row["Description"] for row in strange.query(SOQL)] == list(STRANGE)
    [first, *_] = strange.query("SELECT Id FROM Lead ORDER BY Id")
    assert (strange.get("Lead", first["Id"]) or {})["Description"] == STRANGE[0]
    assert strange.truth_at("Lead")[first["Id"]]["Description"] == STRANGE[0]


def test_an_api_user_may_write_them_too(client: Client, noon_org: SandboxOrg) -> None:
    body: Any = {**LEAD, "Description": f"x{NUL}{HIGH}"}
    assert client.call("POST", "/sobjects/Lead", body).status_code == 201
    assert noon_org.query(SOQL)[0]["Description"] == f"x{NUL}{HIGH}"


def test_a_text_of_131072_characters_comes_whole(client: Client, noon_org: SandboxOrg) -> None:
    field = FieldDefinition("Story__c", "Story", "textarea", length=131_072)
    noon_org.add_field("Lead", field)
    story = '"ü\n' * 43_690 + ".."
    assert len(story) == 131_072
    noon_org.create("Lead", {**LEAD, "Story__c": story})
    assert client.rows("SELECT Story__c FROM Lead")[0]["Story__c"] == story
    job = client.finished_job("SELECT Story__c FROM Lead")
    answer = client.get(f"/jobs/query/{job['id']}/results")
    assert answer.content.decode() == '"Story__c"\n"' + story.replace('"', '""') + '"\n'
    too_long = client.call("POST", "/sobjects/Lead", {**LEAD, "Story__c": story + "x"})
    assert too_long.json()[0]["errorCode"] == "STRING_TOO_LONG"
