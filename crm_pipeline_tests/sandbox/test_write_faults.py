"""Writes that go wrong on the wire: locked rows, and outcomes that nobody can be sure of."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import requests

from crm_pipeline.sandbox.salesforce.faults import OUTCOME_UNKNOWN
from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline_tests.sandbox.client import Client

LEAD = {"LastName": "Doe", "Company": "Acme"}


def test_rows_are_locked_at_a_rate_the_same_ones_for_the_same_seed(client: Client) -> None:
    def locked(seed: int) -> list[int]:
        client.http.delete(f"{client.served.url}/sandbox/faults")
        client.fault(code="UNABLE_TO_LOCK_ROW", object_name="Lead", times=0, rate=0.3, seed=seed)
        records = [{"attributes": {"type": "Lead"}, **LEAD}] * 100
        rows = client.call("POST", "/composite/sobjects", {"records": records}).json()
        return [place for place, one in enumerate(rows) if not one["success"]]

    first = locked(7)
    assert 15 < len(first) < 45
    assert locked(7) == first
    assert locked(8) != first


def test_a_lock_names_the_record(client: Client, noon_org: SandboxOrg) -> None:
    lead = noon_org.create("Lead", LEAD)
    client.fault(code="UNABLE_TO_LOCK_ROW", object_name="Lead")
    refused = client.call("PATCH", f"/sobjects/Lead/{lead}", {"City": "Bonn"}).json()[0]
    assert refused == {
        "message": f"unable to obtain exclusive access to this record or 1 records: {lead}",
        "errorCode": "UNABLE_TO_LOCK_ROW",
        "fields": [],
    }


def test_children_wait_for_a_transaction_that_holds_their_parent(
    client: Client, noon_org: SandboxOrg
) -> None:
    account = noon_org.create("Account", {"Name": "Acme"})
    contact = noon_org.create("Contact", {"LastName": "Doe", "AccountId": account})
    begun = client.sandbox("begin")["transaction"]
    changed = {"object": "Account", "id": account, "values": {"Name": "New"}}
    client.sandbox("update", transaction=begun, **changed)
    child = {"LastName": "Roe", "AccountId": account}
    attempts: tuple[Callable[[], requests.Response], ...] = (
        lambda: client.call("POST", "/sobjects/Contact", child),
        lambda: client.call("PATCH", f"/sobjects/Contact/{contact}", {"Title": "Dr"}),
        lambda: client.call("DELETE", f"/sobjects/Contact/{contact}"),
    )
    for attempt in attempts:
        assert attempt().json()[0]["errorCode"] == "UNABLE_TO_LOCK_ROW"
    assert client.call("POST", "/sobjects/Contact", {"LastName": "Free"}).status_code == 201
    client.sandbox("commit", transaction=begun)
    assert [attempt().status_code for attempt in attempts] == [201, 204, 204]


def test_children_of_one_parent_get_in_each_others_way(
    client: Client, noon_org: SandboxOrg
) -> None:
    account = noon_org.create("Account", {"Name": "Acme"})
    child = {"LastName": "Doe", "AccountId": account}
    client.fault(kind="late_answer", path="*/Contact", seconds=60)
    over = threading.Event()
    threading.Thread(target=_left_alone, args=(client, child, over), daemon=True).start()
    while noon_org.count("Contact") == 0:
        over.wait(0.01)
    refused = client.call("POST", "/sobjects/Contact", child).json()[0]
    assert refused["errorCode"] == "UNABLE_TO_LOCK_ROW"
    assert client.call("POST", "/sobjects/Contact", {"LastName": "Free"}).status_code == 201


def _left_alone(client: Client, child: dict[str, str], over: threading.Event) -> None:
    """Write and wait for an answer that does not come while the test runs."""
    session = {"Authorization": str(client.http.headers["Authorization"])}
    try:
        requests.post(client.url + "/sobjects/Contact", json=child, headers=session, timeout=30)
    except requests.RequestException:
        over.set()


@pytest.mark.parametrize(
    ("kind", "written"), [("reset", 0), ("status", 0), ("lost_answer", 1), ("late_status", 1)]
)
@pytest.mark.parametrize("path", ["/sobjects/Lead", "/composite/sobjects"])
def test_the_outcome_of_a_write_may_be_unknown(
    client: Client, noon_org: SandboxOrg, kind: str, written: int, path: str
) -> None:
    body: dict[str, Any] = {"records": [{"attributes": {"type": "Lead"}, **LEAD}]}
    if path == "/sobjects/Lead":
        body = {**LEAD}
    client.fault(kind=kind, path=f"*{path}", method="POST", status=503)
    try:
        answer = client.call("POST", path, body)
    except requests.ConnectionError:
        assert kind in {"reset", "lost_answer"}
    else:
        assert answer.status_code == 503
    assert noon_org.count("Lead") == written
    assert client.call("POST", path, body).status_code in {200, 201}


def test_a_late_status_has_a_body_and_headers_of_its_own(
    client: Client, noon_org: SandboxOrg
) -> None:
    body = '[{"message":"busy","errorCode":"SERVER_UNAVAILABLE"}]'
    client.fault(kind="late_status", path="*/Lead", body=body, headers={"Retry-After": "3"})
    answer = client.call("POST", "/sobjects/Lead", LEAD)
    assert (answer.status_code, answer.text) == (503, body)
    assert answer.headers["Retry-After"] == "3"
    assert noon_org.count("Lead") == 1


def test_a_client_that_loses_patience_has_written_all_the_same(
    client: Client, noon_org: SandboxOrg
) -> None:
    client.fault(kind="late_answer", path="*/Lead", seconds=60)
    with pytest.raises(requests.ReadTimeout):
        client.http.post(client.url + "/sobjects/Lead", json=LEAD, timeout=1)
    assert noon_org.count("Lead") == 1


def test_a_share_of_all_writes_ends_in_doubt_by_a_seed(
    client: Client, noon_org: SandboxOrg
) -> None:
    chance = {"seed": 7, "rate": 0.3, "kinds": OUTCOME_UNKNOWN, "method": "POST,PATCH"}
    client.fault(random={**chance, "path": "*/sobjects/Lead*"})
    sure = 0
    for place in range(40):
        path = f"/sobjects/Lead/External_Key__c/{place}"
        try:
            sure += client.call("PATCH", path, LEAD).status_code == 201
        except requests.ConnectionError:
            continue
    assert sure < noon_org.count("Lead") < 40
    client.http.delete(f"{client.served.url}/sandbox/faults")
    for place in range(40):
        client.call("PATCH", f"/sobjects/Lead/External_Key__c/{place}", LEAD)
    assert noon_org.count("Lead") == 40


@pytest.mark.parametrize("step", ["*/jobs/ingest", "*/batches", "*/jobs/ingest/*"])
def test_every_step_of_a_bulk_job_can_lose_its_answer(
    client: Client, noon_org: SandboxOrg, step: str
) -> None:
    client.fault(kind="lost_answer", path=step)
    with pytest.raises(requests.ConnectionError):
        client.ingested("insert", "LastName,Company\nDoe,Acme\n")
    jobs = client.get("/jobs/ingest").json()["records"]
    assert len(jobs) == 1
    assert jobs[0]["state"] == "Open"
    assert noon_org.count("Lead") == 0


def test_while_the_org_is_read_only_nothing_is_written(client: Client) -> None:
    client.sandbox("settings", read_only=True)
    for method, path in (("POST", "/sobjects/Lead"), ("POST", "/composite"), ("PUT", "/jobs/x")):
        answer = client.call(method, path, LEAD)
        assert answer.json()[0]["errorCode"] == (
            "INSERT_UPDATE_DELETE_NOT_ALLOWED_DURING_MAINTENANCE"
        )
