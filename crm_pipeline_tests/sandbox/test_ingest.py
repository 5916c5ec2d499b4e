"""Bulk 2.0 ingest over HTTP: jobs, their CSV, outcomes row by row, and what failed jobs leave."""

import pytest

from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.schema import FieldDefinition
from crm_pipeline_tests.sandbox.client import Client

LEAD = {"LastName": "Doe", "Company": "Acme"}


def test_an_insert_job_goes_through_its_states(client: Client, noon_org: SandboxOrg) -> None:
    made = client.call("POST", "/jobs/ingest", {"object": "Lead", "operation": "insert"}).json()
    job = made["id"]
    assert (made["state"], made["jobType"], made["lineEnding"]) == ("Open", "V2Ingest", "LF")
    assert made["contentUrl"] == f"services/data/v60.0/jobs/ingest/{job}/batches"
    client.sandbox("ingest", hold=True)
    url = f"{client.url}/jobs/ingest/{job}"
    content = "LastName,Company\nDoe,Acme\n"
    assert client.http.put(f"{url}/batches", data=content).status_code == 201
    again = client.http.put(f"{url}/batches", data=content)
    assert (again.status_code, again.json()[0]["errorCode"]) == (400, "INVALIDJOBSTATE")
    closed = client.call("PATCH", f"/jobs/ingest/{job}", {"state": "UploadComplete"}).json()
    assert (closed["state"], "contentUrl" in closed) == ("UploadComplete", False)
    assert client.get(f"/jobs/ingest/{job}/successfulResults").status_code == 400
    client.sandbox("ingest", hold=False)
    done = client.ended(job)
    assert (done["state"], done["numberRecordsProcessed"]) == ("JobComplete", 1)
    assert [one["id"] for one in client.get("/jobs/ingest").json()["records"]] == [job]
    assert client.call("DELETE", f"/jobs/ingest/{job}").status_code == 204
    assert client.get(f"/jobs/ingest/{job}").status_code == 404
    assert noon_org.count("Lead") == 1


def test_each_row_has_an_outcome_and_one_bad_row_stops_no_other(client: Client) -> None:
    done = client.ingested("insert", "LastName,Company,City\nDoe,Acme,Bonn\nRoe,,Ulm\nPoe,Acme,\n")
    assert (done["numberRecordsProcessed"], done["numberRecordsFailed"]) == (3, 1)
    good = client.results(done["id"], "successfulResults")
    assert good[0] == ["sf__Id", "sf__Created", "LastName", "Company", "City"]
    assert [row[1:3] for row in good[1:]] == [["true", "Doe"], ["true", "Poe"]]
    assert client.results(done["id"], "failedResults") == [
        ["sf__Id", "sf__Error", "LastName", "Company", "City"],
        [
            "",
            "REQUIRED_FIELD_MISSING:Required fields are missing: [Company]:Company --",
            *("Roe", "", "Ulm"),
        ],
    ]
    assert client.results(done["id"], "unprocessedrecords") == [["LastName", "Company", "City"]]


def test_an_empty_cell_leaves_a_field_alone_and_the_null_mark_empties_it(
    client: Client, noon_org: SandboxOrg
) -> None:
    lead = noon_org.create("Lead", {**LEAD, "City": "Bonn", "Title": "Dr", "Phone": "1"})
    client.ingested("update", f"Id,City,Title\n{lead},,#N/A\n")
    record = noon_org.get("Lead", lead)
    assert record is not None
    assert (record["City"], record["Title"], record["Phone"]) == ("Bonn", None, "1")


def test_a_person_who_is_named_like_the_null_mark_cannot_come_by_bulk(client: Client) -> None:
    done = client.ingested("insert", "LastName,Company\n#N/A,Acme\n")
    [_, failed] = client.results(done["id"], "failedResults")
    assert failed[1].startswith("REQUIRED_FIELD_MISSING:")


def test_an_upsert_creates_and_changes_by_external_id(client: Client, noon_org: SandboxOrg) -> None:
    lead = noon_org.create("Lead", {**LEAD, "External_Key__c": "k1"})
    content = "External_Key__c,LastName,Company\nk1,New,Acme\nk2,Roe,Acme\nk3,A,B\nK3,C,D\n,E,F\n"
    done = client.ingested("upsert", content, externalIdFieldName="External_Key__c")
    good = client.results(done["id"], "successfulResults")[1:]
    assert [(row[0] == lead, row[1]) for row in good] == [(True, "false"), (False, "true")]
    errors = [row[1] for row in client.results(done["id"], "failedResults")[1:]]
    assert errors == [
        "DUPLICATE_VALUE:Duplicate external id specified: k3:External_Key__c --",
        "DUPLICATE_VALUE:Duplicate external id specified: K3:External_Key__c --",
        "MISSING_ARGUMENT:External_Key__c not specified:External_Key__c --",
    ]


@pytest.mark.parametrize(("operation", "left"), [("delete", 1), ("hardDelete", 0)])
def test_records_are_deleted_into_the_bin_or_past_it(
    client: Client, noon_org: SandboxOrg, operation: str, left: int
) -> None:
    lead = noon_org.create("Lead", LEAD)
    done = client.ingested(operation, f"Id\n{lead}\n")
    assert (done["state"], done["numberRecordsFailed"]) == ("JobComplete", 0)
    assert noon_org.count("Lead", include_deleted=True) == left


def test_a_failed_row_of_an_update_names_its_record(client: Client, noon_org: SandboxOrg) -> None:
    lead = noon_org.create("Lead", LEAD)
    noon_org.delete("Lead", lead)
    done = client.ingested("update", f"Id,City\n{lead},Bonn\n")
    [_, failed] = client.results(done["id"], "failedResults")
    assert failed[:2] == [lead, "ENTITY_IS_DELETED:entity is deleted:--"]


WHOLE_FAILURES: tuple[tuple[str, str], ...] = (
    ("LastName,Nope\nDoe,1\n", "InvalidBatch : Field name not found : Nope"),
    (
        "LastName,Company\r\nDoe,Acme\r\n",
        "ClientInputError : LineEnding is invalid on user data. Current LineEnding setting is LF",
    ),
    ("LastName,Company\nDoe\n", "InvalidBatch : Number of fields in row"),
)


@pytest.mark.parametrize(("content", "message"), WHOLE_FAILURES)
def test_a_file_that_cannot_be_read_fails_the_job_and_writes_nothing(
    client: Client, noon_org: SandboxOrg, content: str, message: str
) -> None:
    done = client.ingested("insert", content)
    assert (done["state"], done["numberRecordsProcessed"]) == ("Failed", 0)
    assert done["errorMessage"].startswith(message)
    assert noon_org.count("Lead") == 0


def test_other_delimiters_and_line_ends_come_back_as_they_went(client: Client) -> None:
    content = 'LastName;Company;Description\r\n"Do;e";Acme;"a\r\nb ""c"""\r\n'
    done = client.ingested("insert", content, columnDelimiter="SEMICOLON", lineEnding="CRLF")
    assert done["numberRecordsFailed"] == 0
    text = client.get(f"/jobs/ingest/{done['id']}/successfulResults").content.decode()
    assert text.startswith('"sf__Id";"sf__Created";"LastName";"Company";"Description"\r\n')
    assert text.endswith('"true";"Do;e";"Acme";"a\r\nb ""c"""\r\n')


def test_a_parent_may_be_named_by_its_external_id(client: Client, noon_org: SandboxOrg) -> None:
    key = FieldDefinition("Ext__c", "Ext", "string", length=20, unique=True, external_id=True)
    noon_org.add_field("Account", key)
    account = noon_org.create("Account", {"Name": "Acme", "Ext__c": "a1"})
    content = "LastName,Account.Ext__c\nDoe,a1\nRoe,a2\nPoe,#N/A\n"
    done = client.ingested("insert", content, object="Contact")
    [_, failed] = client.results(done["id"], "failedResults")
    assert failed[1].startswith("INVALID_FIELD:Foreign key external ID: a2 not found")
    found = noon_org.query("SELECT LastName, AccountId FROM Contact ORDER BY LastName")
    assert [row["AccountId"] for row in found] == [account, None]


def test_a_failed_job_may_have_done_a_part_and_names_the_rest(
    client: Client, noon_org: SandboxOrg
) -> None:
    client.sandbox("ingest", fail_after=250)
    rows = "".join(f"Doe {place},Acme\n" for place in range(300))
    done = client.ingested("insert", "LastName,Company\n" + rows)
    assert (done["state"], done["numberRecordsProcessed"]) == ("Failed", 250)
    assert noon_org.count("Lead") == 250
    assert len(client.results(done["id"], "successfulResults")) == 251
    rest = client.results(done["id"], "unprocessedrecords")
    assert [row[0] for row in rest[1:]] == [f"Doe {place}" for place in range(250, 300)]


def test_a_job_can_hang_and_be_aborted(client: Client) -> None:
    client.sandbox("ingest", stick_next=1)
    job = client.opened_job("insert", "LastName,Company\nDoe,Acme\n")
    client.call("PATCH", f"/jobs/ingest/{job}", {"state": "UploadComplete"})
    aborted = client.call("PATCH", f"/jobs/ingest/{job}", {"state": "Aborted"})
    assert aborted.json()["state"] == "Aborted"
    again = client.call("PATCH", f"/jobs/ingest/{job}", {"state": "Aborted"}).json()[0]
    assert again["errorCode"] == "INVALIDJOBSTATE"


def test_jobs_are_forgotten_after_a_week_and_can_be_put_into_any_state(
    client: Client, noon_org: SandboxOrg
) -> None:
    job = client.opened_job("insert", "LastName,Company\nDoe,Acme\n")
    shown = client.sandbox("ingest", job=job, state="Failed", error="InternalServerError : gone")
    assert shown["jobs"][0]["errorMessage"] == "InternalServerError : gone"
    noon_org.clock.advance(seconds=8 * 86_400)
    client.login()
    assert client.get(f"/jobs/ingest/{job}").status_code == 404


WRONG_JOBS = (
    ({"operation": "merge"}, "INVALIDJOB"),
    ({"operation": "upsert"}, "INVALIDJOB"),
    ({"operation": "insert", "object": "Nope__c"}, "INVALID_TYPE"),
    ({"operation": "insert", "lineEnding": "CR"}, "INVALIDJOB"),
    ({"operation": "upsert", "externalIdFieldName": "City"}, "INVALID_FIELD"),
    ({"operation": "insert", "assignmentRuleId": "01Q8d0000000999"}, "INVALID_ASSIGNMENT_RULE"),
)


@pytest.mark.parametrize(("facts", "code"), WRONG_JOBS)
def test_a_wrong_job_is_refused_at_once(client: Client, facts: dict[str, str], code: str) -> None:
    answer = client.call("POST", "/jobs/ingest", {"object": "Lead", **facts})
    assert (answer.status_code, answer.json()[0]["errorCode"]) == (400, code)


def test_uploads_and_batches_have_limits(client: Client) -> None:
    client.sandbox("settings", maximum_upload=10)
    made = client.call("POST", "/jobs/ingest", {"object": "Lead", "operation": "insert"}).json()
    url = f"{client.url}/jobs/ingest/{made['id']}/batches"
    assert client.http.put(url, data="LastName,Company\nDoe,Acme\n").status_code == 413
    client.sandbox("settings", maximum_upload=1000)
    client.sandbox("limit", bulk_batches=0)
    done = client.ingested("insert", "LastName,Company\nDoe,Acme\n")
    assert (done["state"], done["errorMessage"][:14]) == ("Failed", "LIMIT_EXCEEDED")
    limits = client.get("/limits").json()["DailyBulkApiBatches"]
    assert limits == {"Max": 15_000, "Remaining": 0}
