"""Bulk 2.0 query jobs: their states, their pages, and that they say what REST says."""

import csv
import io
from typing import Any

import pytest

from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.schema import FieldDefinition
from crm_pipeline_tests.sandbox.client import Client

SOQL = (
    "SELECT Id, LastName, Company, Description, AnnualRevenue, NumberOfEmployees, "
    "HasOptedOutOfEmail, CreatedDate, Owner.Name, Name FROM Lead ORDER BY Id"
)
HOSTILE = (
    'quote " comma , apostrophe \'', "line\nfeed", "carriage\r\nreturn", "back\\slash\\",
    "\u2028\u2029\u0085\x0b\x0c", "😀 é e\u0301 שלום", "  spaces  ", "NULL", "#N/A", "1e5", "00123",
    '""', "%w %s %d", "\t", "\x1b[0m",
)  # fmt: skip


def fill(org: SandboxOrg, count: int = 20) -> None:
    org.create_many(
        "Lead",
        [
            {
                "LastName": f"Lead {place}",
                "Company": HOSTILE[place % len(HOSTILE)] + "!",
                "Description": HOSTILE[place % len(HOSTILE)] if place % 4 else None,
                "AnnualRevenue": place * 1_000_000 if place % 3 else None,
                "NumberOfEmployees": place,
                "HasOptedOutOfEmail": place % 2 == 0,
            }
            for place in range(count)
        ],
    )


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


def pages(client: Client, job: str, **parameters: Any) -> list[list[str]]:
    rows: list[list[str]] = []
    locator: str | None = None
    while locator != "null":
        more = {"locator": locator} if locator else {}
        answer = client.get(f"/jobs/query/{job}/results", **more, **parameters)
        assert answer.headers["Content-Type"] == "text/csv; charset=UTF-8"
        answer.encoding = "utf-8"
        header, *page = read(answer.text)
        assert len(page) == int(answer.headers["Sforce-NumberOfRecords"])
        rows += page
        locator = answer.headers["Sforce-Locator"]
    return [header, *rows]


def as_csv(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value).replace("+0000", "Z")


@pytest.mark.parametrize("size", [None, 1, 3, 20, 1000])
def test_bulk_pages_of_any_size_say_what_rest_says(
    client: Client, noon_org: SandboxOrg, size: int | None
) -> None:
    fill(noon_org)
    job = client.finished_job(SOQL)
    header, *rows = pages(client, job["id"], **({"maxRecords": size} if size else {}))
    assert header[-2:] == ["Owner.Name", "Name"]
    expected = [
        [*(as_csv(row[name]) for name in header[:-2]), row["Owner"]["Name"], row["Name"]]
        for row in client.rows(SOQL)
    ]
    assert rows == expected


def test_every_value_is_quoted_and_null_is_empty(client: Client, noon_org: SandboxOrg) -> None:
    noon_org.create("Lead", {"LastName": "Doe", "Company": 'A "B"', "AnnualRevenue": "1.5"})
    soql = "SELECT LastName, Company, City, AnnualRevenue, IsDeleted, CreatedDate FROM Lead"
    noon_org.add_field("Lead", FieldDefinition("Unused__c", "Unused", "string", length=5))
    job = client.finished_job(soql)
    answer = client.get(f"/jobs/query/{job['id']}/results")
    assert answer.text == (
        '"LastName","Company","City","AnnualRevenue","IsDeleted","CreatedDate"\n'
        '"Doe","A ""B""","","2.0","false","2026-03-02T12:00:00.000Z"\n'
    )


def test_line_endings_are_as_asked_for(client: Client, noon_org: SandboxOrg) -> None:
    noon_org.create("Lead", {"LastName": "Doe", "Company": "A"})
    job = client.finished_job("SELECT LastName FROM Lead", lineEnding="CRLF")
    assert client.get(f"/jobs/query/{job['id']}/results").text == '"LastName"\r\n"Doe"\r\n'


def test_result_pages_can_be_read_side_by_side(client: Client, noon_org: SandboxOrg) -> None:
    fill(noon_org, 40)
    job = client.finished_job(SOQL)
    first = client.get(f"/jobs/query/{job['id']}/resultPages").json()
    assert (len(first["resultPages"]), first["done"]) == (5, False)
    second = client.http.get(client.served.url + first["nextRecordsUrl"]).json()
    assert (len(second["resultPages"]), second["done"]) == (1, True)
    assert "nextRecordsUrl" not in second
    rows: list[list[str]] = []
    for page in first["resultPages"] + second["resultPages"]:
        answer = client.http.get(client.served.url + page["resultUrl"])
        answer.encoding = "utf-8"
        rows += read(answer.text)[1:]
    assert rows == pages(client, job["id"])[1:]


def test_an_empty_result_is_a_header_and_no_locator(client: Client) -> None:
    job = client.finished_job("SELECT Id, Name FROM Lead")
    answer = client.get(f"/jobs/query/{job['id']}/results")
    assert (answer.text, answer.headers["Sforce-Locator"]) == ('"Id","Name"\n', "null")
    assert len(client.get(f"/jobs/query/{job['id']}/resultPages").json()["resultPages"]) == 1


def test_query_all_jobs_show_the_bin(client: Client, noon_org: SandboxOrg) -> None:
    fill(noon_org, 3)
    [lead, *_] = noon_org.query("SELECT Id FROM Lead")
    noon_org.delete("Lead", lead["Id"])
    soql = "SELECT Id FROM Lead"
    assert client.finished_job(soql)["numberRecordsProcessed"] == 2
    assert client.finished_job(soql, "queryAll")["numberRecordsProcessed"] == 3


def test_the_same_query_is_run_again_only_after_a_change(
    client: Client, noon_org: SandboxOrg
) -> None:
    fill(noon_org, 3)
    jobs = client.served.server.jobs
    results = [jobs.find(client.finished_job(SOQL)["id"]).result for _ in range(2)]
    assert results[0] is results[1]
    fill(noon_org, 1)
    assert client.finished_job(SOQL)["numberRecordsProcessed"] == 4


def test_a_job_passes_through_its_states(client: Client, noon_org: SandboxOrg) -> None:
    client.sandbox("bulk", hold=True)
    job = client.call("POST", "/jobs/query", {"operation": "query", "query": SOQL}).json()
    path = f"/jobs/query/{job['id']}"
    assert client.get(path).json()["state"] == "UploadComplete"
    assert client.get(path + "/results").json()[0]["errorCode"] == "INVALIDJOBSTATE"
    assert client.call("DELETE", path).json()[0]["errorCode"] == "INVALIDJOBSTATE"
    assert client.call("PATCH", path, {"state": "Aborted"}).json()["state"] == "Aborted"
    client.sandbox("bulk", hold=False)
    assert client.get(path).json()["state"] == "Aborted"
    assert client.call("DELETE", path).status_code == 204
    assert client.get(path).status_code == 404


def test_a_failed_job_says_why(client: Client) -> None:
    client.sandbox("bulk", fail_next="the database is asleep")
    job = client.finished_job(SOQL)
    assert job["state"] == "Failed"
    assert "the database is asleep" in job["errorMessage"]


def test_jobs_are_listed_and_forgotten_after_a_week(client: Client, noon_org: SandboxOrg) -> None:
    job = client.finished_job(SOQL)
    assert [one["id"] for one in client.get("/jobs/query").json()["records"]] == [job["id"]]
    noon_org.clock.advance(seconds=8 * 86_400)
    client.login()
    assert client.get(f"/jobs/query/{job['id']}").status_code == 404
    assert client.get("/jobs/query").json()["records"] == []


REFUSALS = (
    ("SELECT Address FROM Lead", "API_ERROR"),
    ("SELECT COUNT() FROM Lead", "API_ERROR"),
    ("SELECT Nope FROM Lead", "INVALID_FIELD"),
    ("SELECT Id FROM Nope", "INVALID_TYPE"),
    ("SELECT", "MALFORMED_QUERY"),
)


@pytest.mark.parametrize(("soql", "code"), REFUSALS)
def test_what_bulk_cannot_do_is_refused_at_once(client: Client, soql: str, code: str) -> None:
    answer = client.call("POST", "/jobs/query", {"operation": "query", "query": soql})
    assert (answer.status_code, answer.json()[0]["errorCode"]) == (400, code)


def test_a_wrong_locator_is_invalid(client: Client, noon_org: SandboxOrg) -> None:
    job = client.finished_job(SOQL)
    for locator in ("nonsense", "OTk5OQ"):
        answer = client.get(f"/jobs/query/{job['id']}/results", locator=locator)
        assert answer.status_code == 400
