"""What ends by itself as the org's time goes by, and what an administrator ends."""

from typing import Any

import pytest

from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline_tests.sandbox.client import Client

LEAD = {"LastName": "Doe", "Company": "Acme"}
SOQL = "SELECT Id FROM Lead ORDER BY Id"
DAY = 86_400


def code(answer: Any) -> str:
    return str(answer.json()[0]["errorCode"])


def open_cursor(client: Client) -> str:
    options = {"Sforce-Query-Options": "batchSize=200"}
    page = client.http.get(client.url + "/query", params={"q": SOQL}, headers=options).json()
    return client.served.url + str(page["nextRecordsUrl"])


def test_a_cursor_lives_two_days(client: Client, noon_org: SandboxOrg) -> None:
    noon_org.create_many("Lead", [LEAD] * 500)
    following = open_cursor(client)
    noon_org.clock.advance(seconds=2 * DAY)
    client.login()
    assert client.http.get(following).status_code == 200
    noon_org.clock.advance(seconds=1)
    assert code(client.http.get(following)) == "INVALID_QUERY_LOCATOR"


def test_cursors_die_when_told_and_as_soon_as_told(client: Client, noon_org: SandboxOrg) -> None:
    noon_org.create_many("Lead", [LEAD] * 500)
    following = open_cursor(client)
    client.sandbox("forget_cursors", lifetime=60)
    assert code(client.http.get(following)) == "INVALID_QUERY_LOCATOR"
    following = open_cursor(client)
    noon_org.clock.advance(seconds=61)
    assert code(client.http.get(following)) == "INVALID_QUERY_LOCATOR"


def test_a_job_and_its_results_live_seven_days(client: Client, noon_org: SandboxOrg) -> None:
    job = client.finished_job(SOQL)
    noon_org.clock.advance(seconds=7 * DAY)
    client.login()
    assert client.get(f"/jobs/query/{job['id']}/results").status_code == 200
    noon_org.clock.advance(seconds=1)
    assert client.get(f"/jobs/query/{job['id']}/results").status_code == 404


def test_a_session_lives_its_lifetime(client: Client, noon_org: SandboxOrg) -> None:
    client.sandbox("expire_sessions", lifetime=900)
    client.login()
    noon_org.clock.advance(seconds=899)
    assert client.get("/limits").status_code == 200
    noon_org.clock.advance(seconds=1)
    assert code(client.get("/limits")) == "INVALID_SESSION_ID"


def test_the_bin_is_purged_after_fifteen_days(client: Client, noon_org: SandboxOrg) -> None:
    lead = noon_org.create("Lead", LEAD)
    noon_org.delete("Lead", lead)
    noon_org.clock.advance(seconds=15 * DAY)
    client.login()
    assert len(client.rows(SOQL, path="/queryAll")) == 1
    noon_org.clock.advance(seconds=7201)
    client.login()
    assert client.rows(SOQL, path="/queryAll") == []
    assert noon_org.get("Lead", lead) is None


def test_the_log_of_deletions_reaches_back_fifteen_days_and_says_so(
    client: Client, noon_org: SandboxOrg
) -> None:
    early, late = noon_org.create_many("Lead", [LEAD] * 2)
    noon_org.delete("Lead", early)
    noon_org.clock.advance(seconds=10 * DAY)
    noon_org.delete("Lead", late)
    noon_org.clock.advance(seconds=6 * DAY)
    client.login()
    window = {"start": "2026-03-01T00:00:00Z", "end": "2026-03-18T00:00:00Z"}
    answer = client.get("/sobjects/Lead/deleted", **window).json()
    assert answer["earliestDateAvailable"] == "2026-03-02T12:00:00.000+0000"
    assert [one["id"] for one in answer["deletedRecords"]] == [late]


def test_a_log_over_its_limit_keeps_two_hours(client: Client, noon_org: SandboxOrg) -> None:
    leads = noon_org.create_many("Lead", [LEAD] * 6)
    client.sandbox("housekeeping", log_limit=2)
    for lead in leads:
        noon_org.delete("Lead", lead)
        noon_org.clock.advance(seconds=3600)
    found = client.sandbox("housekeeping")
    assert found["log_since"] == "2026-03-02T15:00:00.000Z"
    window = {"start": "2026-03-02T11:00:00Z", "end": "2026-03-02T18:00:00Z"}
    client.login()
    answer = client.get("/sobjects/Lead/deleted", **window).json()
    assert [one["id"] for one in answer["deletedRecords"]] == leads[4:]
    assert answer["earliestDateAvailable"] == "2026-03-02T15:00:00.000+0000"


def test_the_replication_limits_hold(client: Client, noon_org: SandboxOrg) -> None:
    for lead in noon_org.create_many("Lead", [LEAD] * 11):
        noon_org.delete("Lead", lead)
    client.sandbox("settings", get_deleted_limit=10)
    noon_org.clock.advance(seconds=DAY)
    client.login()

    def ask(start: str, end: str) -> Any:
        return client.get("/sobjects/Lead/deleted", start=start, end=end)

    whole = ask("2026-03-02T11:00:00Z", "2026-03-02T13:00:00Z")
    assert code(whole) == "EXCEEDED_ID_LIMIT"
    assert client.sandbox("settings", get_deleted_limit=11)["get_deleted_limit"] == 11
    whole = ask("2026-03-02T12:00:59Z", "2026-03-02T12:01:01Z")
    assert len(whole.json()["deletedRecords"]) == 11, "seconds are cut off"
    for start, end in (
        ("2026-03-02T12:00:10Z", "2026-03-02T12:00:50Z"),
        ("2026-01-30T12:00:00Z", "2026-03-02T12:00:00Z"),
    ):
        assert code(ask(start, end)) == "INVALID_REPLICATION_DATE"


def test_a_job_can_hang_for_ever_and_end_by_an_administrator(
    client: Client, noon_org: SandboxOrg
) -> None:
    client.sandbox("bulk", stick_next=3)
    made = [
        client.call("POST", "/jobs/query", {"operation": "query", "query": SOQL}).json()["id"]
        for _ in range(3)
    ]
    assert client.finished_job(SOQL)["state"] == "JobComplete", "others go on meanwhile"

    def state(job: str) -> Any:
        return client.get(f"/jobs/query/{job}").json()

    assert {state(job)["state"] for job in made} == {"InProgress"}
    client.sandbox("bulk", job=made[0], state="Aborted")
    client.sandbox(
        "bulk",
        job=made[1],
        state="Failed",
        error="InternalServerError : Retried more than 15 times",
    )
    client.sandbox("bulk", job=made[2], state="Deleted")
    assert state(made[0])["state"] == "Aborted"
    assert state(made[1])["errorMessage"].endswith("Retried more than 15 times")
    assert code(client.get(f"/jobs/query/{made[2]}")) == "NOT_FOUND"


@pytest.mark.parametrize("state", ["Aborted", "Failed", "InProgress", "Deleted"])
def test_a_finished_job_can_lose_its_results(client: Client, state: str) -> None:
    job = client.finished_job(SOQL)
    client.sandbox("bulk", job="all", state=state)
    answer = client.get(f"/jobs/query/{job['id']}/results")
    assert code(answer) == ("NOT_FOUND" if state == "Deleted" else "INVALIDJOBSTATE")


def test_a_job_may_find_nothing_although_there_is_something(
    client: Client, noon_org: SandboxOrg
) -> None:
    noon_org.create("Lead", LEAD)
    client.sandbox("bulk", empty_next=1)
    job = client.finished_job(SOQL)
    assert (job["state"], job["numberRecordsProcessed"]) == ("JobComplete", 0)
    assert client.get(f"/jobs/query/{job['id']}/results").text == '"Id"\n'
    assert client.finished_job(SOQL)["numberRecordsProcessed"] == 1
