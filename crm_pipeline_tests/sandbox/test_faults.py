"""Scripted faults on the wire, and the ledger that remembers every request."""

import pytest
import requests

from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline_tests.sandbox.client import Client

LEAD = {"LastName": "Doe", "Company": "Acme"}
LIMITS = "*/limits"


def test_a_status_is_scripted_with_body_and_headers_and_counted(client: Client) -> None:
    body = '[{"message":"busy","errorCode":"SERVER_UNAVAILABLE"}]'
    client.fault(kind="status", path=LIMITS, body=body, headers={"Retry-After": "3"}, times=2)
    for _ in range(2):
        answer = client.get("/limits")
        assert (answer.status_code, answer.text) == (503, body)
        assert answer.headers["Retry-After"] == "3"
    assert client.get("/limits").status_code == 200
    plan = client.http.get(f"{client.served.url}/sandbox/faults").json()
    assert plan["faults"][0]["uses"] == 2
    client.http.delete(f"{client.served.url}/sandbox/faults")
    assert client.served.server.faults.faults == []


def test_a_fault_can_wait_for_the_nth_call_of_a_method(client: Client) -> None:
    client.fault(kind="status", path=LIMITS, method="GET", nth=3)
    codes = [client.get("/limits").status_code for _ in range(4)]
    assert codes == [200, 200, 503, 200]


def test_html_comes_where_json_is_expected(client: Client) -> None:
    client.fault(kind="html", path=LIMITS, status=200)
    answer = client.get("/limits")
    assert answer.headers["Content-Type"] == "text/html"
    assert answer.text.startswith("<html>")


def test_a_reset_comes_before_the_work_and_a_lost_answer_after(
    client: Client, noon_org: SandboxOrg
) -> None:
    for kind, created in (("reset", 0), ("lost_answer", 1)):
        client.fault(kind=kind, path="*/sobjects/Lead", method="POST")
        with pytest.raises(requests.ConnectionError):
            client.call("POST", "/sobjects/Lead", LEAD)
        assert noon_org.count("Lead") == created


@pytest.mark.parametrize("kept", [1, 50, 400])
def test_a_cut_body_is_an_incomplete_one(client: Client, noon_org: SandboxOrg, kept: int) -> None:
    noon_org.create_many("Lead", [LEAD] * 7)
    job = client.finished_job("SELECT Id, CreatedDate, SystemModstamp, OwnerId FROM Lead")
    client.fault(kind="cut", path="*/results", after_bytes=kept)
    url = f"{client.url}/jobs/query/{job['id']}/results"
    answer = client.http.get(url, headers={"Accept-Encoding": "identity"}, stream=True)
    received: list[bytes] = []
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        received.extend(answer.iter_content(1))
    assert len(b"".join(received)) <= kept < int(answer.headers["Content-Length"])
    answer.close()


def test_a_hanging_answer_comes_late(client: Client) -> None:
    client.fault(kind="hang", path=LIMITS, seconds=30)
    with pytest.raises(requests.ReadTimeout):
        client.http.get(client.url + "/limits", timeout=0.05)


def test_a_session_can_expire_under_a_request(client: Client) -> None:
    client.fault(kind="expire_session", path=LIMITS)
    assert client.get("/limits").status_code == 401
    client.login()
    assert client.get("/limits").status_code == 200


def test_a_fault_with_an_unknown_attribute_is_refused(client: Client) -> None:
    answer = client.http.post(f"{client.served.url}/sandbox/faults", json={"kinds": "html"})
    assert answer.status_code == 400


def test_the_ledger_keeps_every_request_and_counts_by_endpoint(
    client: Client, noon_org: SandboxOrg
) -> None:
    client.http.delete(f"{client.served.url}/sandbox/ledger")
    for lead in noon_org.create_many("Lead", [LEAD] * 2):
        client.get(f"/sobjects/Lead/{lead}", fields="Id")
    client.get("/nowhere")
    report = client.http.get(f"{client.served.url}/sandbox/ledger").json()
    assert report["counts"] == {
        "GET /services/data/v60.0/sobjects/Lead/{id}": 2,
        "GET /services/data/v60.0/nowhere": 1,
    }
    assert [one["status"] for one in report["requests"]] == [200, 200, 404]
    assert report["requests"][0]["query"] == "fields=Id"


def test_the_control_api_changes_records(client: Client) -> None:
    lead = client.sandbox("create", object="Lead", values=LEAD)["id"]
    client.sandbox("update", object="Lead", id=lead, values={"City": "Bonn"})
    client.sandbox("delete", object="Lead", id=lead)
    client.sandbox("undelete", object="Lead", id=lead)
    record = client.http.get(f"{client.served.url}/sandbox/records/Lead/{lead}").json()
    assert (record["City"], record["IsDeleted"]) == ("Bonn", False)
    client.sandbox("hard_delete", object="Lead", id=lead)
    assert client.sandbox("query", soql="SELECT Id FROM Lead", include_deleted=True) == {
        "records": []
    }
    health = client.http.get(f"{client.served.url}/sandbox/health").json()
    assert (health["status"], health["records"]["Lead"]) == ("ok", 0)
