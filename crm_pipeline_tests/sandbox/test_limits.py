"""Everything the org refuses because it is too much, too long, too old or closed."""

from typing import Any

import pytest
import requests

from crm_pipeline.sandbox.salesforce.faults import Fault
from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.running import RunningOrg
from crm_pipeline_tests.sandbox.client import Client

LEAD = {"LastName": "Doe", "Company": "Acme"}
SOQL = "SELECT Id FROM Lead"
JOB = {"operation": "query", "query": SOQL}


def error(answer: requests.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()[0]["errorCode"]


def login(served: RunningOrg) -> Any:
    form = {
        "grant_type": "client_credentials",
        "client_id": served.client_id,
        "client_secret": served.client_secret,
    }
    return requests.post(f"{served.url}/services/oauth2/token", data=form, timeout=5).json()


def test_an_app_has_a_share_of_its_own(client: Client) -> None:
    client.sandbox("limit", remaining=100, max=1000, app_maximum=2, app_used=0)
    answer = client.get("/limits")
    assert answer.headers["Sforce-Limit-Info"] == (
        "api-usage=901/1000; per-app-api-usage=1/2(appName=sandbox-client)"
    )
    assert client.get("/limits").status_code == 200
    assert error(client.get("/limits")) == (403, "REQUEST_LIMIT_EXCEEDED")
    assert client.sandbox("limit", app_maximum=0)["remaining"] == 98
    assert client.get("/limits").status_code == 200


def test_bulk_queries_have_daily_caps(client: Client, noon_org: SandboxOrg) -> None:
    noon_org.create("Lead", LEAD)
    client.sandbox("limit", bulk_jobs=1, bulk_kilobytes=1)
    client.finished_job(SOQL)
    shown = client.get("/limits").json()
    assert shown["DailyBulkV2QueryJobs"] == {"Max": 10_000, "Remaining": 0}
    refused = client.call("POST", "/jobs/query", JOB)
    assert error(refused) == (400, "LIMIT_EXCEEDED")
    assert "Max bulk v2 query jobs" in refused.json()[0]["message"]
    client.sandbox("limit", bulk_jobs=1)
    refused = client.call("POST", "/jobs/query", JOB)
    assert "Max bulk v2 query result size stored" in refused.json()[0]["message"]


def test_only_so_many_requests_are_let_in_at_once(
    client: Client, served: RunningOrg, noon_org: SandboxOrg
) -> None:
    client.sandbox("settings", concurrent_requests=1)
    inner: list[tuple[int, str]] = []

    def ask(_entry: object) -> None:
        other = requests.Session()
        other.headers["Authorization"] = client.http.headers["Authorization"]
        inner.append(error(other.get(client.url + "/limits", timeout=5)))

    served.server.faults.script([Fault("call", path="*/limits", when="after", callback=ask)])
    assert client.get("/limits").status_code == 200
    assert inner == [(403, "REQUEST_LIMIT_EXCEEDED")]
    assert client.get("/limits").status_code == 200


def test_logins_are_limited_by_the_hour_and_can_be_refused(
    client: Client, served: RunningOrg, noon_org: SandboxOrg
) -> None:
    client.sandbox("settings", logins_per_hour=2)
    assert "access_token" in login(served)
    assert login(served) == {
        "error": "invalid_grant",
        "error_description": "login rate exceeded",
    }
    noon_org.clock.advance(seconds=3601)
    assert "access_token" in login(served)
    client.sandbox("settings", login_refusal="user is inactive", logins_per_hour=0)
    assert login(served)["error_description"] == "user is inactive"


def test_queries_over_too_many_rows_time_out(client: Client, noon_org: SandboxOrg) -> None:
    noon_org.create_many("Lead", [{**LEAD, "City": "Bonn"}] * 30 + [LEAD] * 30)
    client.sandbox("settings", query_timeout_rows=30)
    for soql in (SOQL, "SELECT COUNT() FROM Lead"):
        assert error(client.get("/query", q=soql)) == (400, "QUERY_TIMEOUT")
    for soql in (f"{SOQL} WHERE City = 'Bonn'", f"{SOQL} ORDER BY Id LIMIT 30"):
        assert client.get("/query", q=soql).json()["totalSize"] == 30
    job = client.finished_job(SOQL)
    assert job["state"] == "Failed"
    assert "QUERY_TIMEOUT" in job["errorMessage"]
    assert client.finished_job(f"{SOQL} WHERE City = NULL")["numberRecordsProcessed"] == 30


def test_what_is_too_long_is_refused(client: Client) -> None:
    client.sandbox("settings", maximum_uri=400, maximum_headers=2_000, maximum_soql=50)
    assert error(client.get("/query", q="x" * 400)) == (414, "URI_TOO_LONG")
    long = client.http.get(client.url + "/limits", headers={"X-Long": "x" * 2_000})
    assert error(long) == (431, "HEADERS_TOO_LONG")
    soql = "SELECT Id, LastName, FirstName, Email FROM Lead LIMIT 1"
    assert error(client.get("/query", q=soql)) == (400, "MALFORMED_QUERY")
    refused = client.call("POST", "/jobs/query", {"operation": "query", "query": soql})
    assert error(refused) == (400, "MALFORMED_QUERY")


def test_a_version_can_be_retired(client: Client, served: RunningOrg) -> None:
    client.sandbox("settings", retired_below=61)
    assert error(client.get("/limits")) == (410, "UNSUPPORTED_API_VERSION")
    assert Client(served, "61.0").get("/limits").status_code == 200
    versions = requests.get(f"{served.url}/services/data", timeout=5).json()
    assert versions[0]["version"] == "61.0"


def test_the_api_can_be_switched_off(client: Client) -> None:
    client.sandbox("settings", api_disabled="API_DISABLED_FOR_ORG")
    assert error(client.get("/limits")) == (403, "API_DISABLED_FOR_ORG")
    client.sandbox("settings", api_disabled="")
    assert client.get("/limits").status_code == 200


def test_during_maintenance_reads_work_and_writes_do_not(
    client: Client, noon_org: SandboxOrg
) -> None:
    lead = noon_org.create("Lead", LEAD)
    client.sandbox("settings", read_only=True)
    assert client.get("/query", q=SOQL).json()["totalSize"] == 1
    retrieved = client.call("POST", "/composite/sobjects/Lead", {"ids": [lead], "fields": ["Id"]})
    assert retrieved.json()[0]["Id"] == lead
    refused = (503, "INSERT_UPDATE_DELETE_NOT_ALLOWED_DURING_MAINTENANCE")
    writes: tuple[tuple[str, str, Any], ...] = (
        ("POST", "/sobjects/Lead", LEAD),
        ("PATCH", f"/sobjects/Lead/{lead}", {"City": "Bonn"}),
        ("DELETE", f"/sobjects/Lead/{lead}", None),
        ("PATCH", "/composite/sobjects", {"records": []}),
        ("POST", "/jobs/query", JOB),
    )
    assert [error(client.call(*write)) for write in writes] == [refused] * len(writes)
    client.sandbox("settings", read_only=False)
    assert client.call("DELETE", f"/sobjects/Lead/{lead}").status_code == 204


@pytest.mark.parametrize("facts", [{"no_such": 1}, {"client_secret": "x"}])
def test_only_known_settings_are_changed(client: Client, facts: dict[str, Any]) -> None:
    answer = requests.post(f"{client.served.url}/sandbox/settings", json=facts, timeout=5)
    assert answer.status_code == 400
