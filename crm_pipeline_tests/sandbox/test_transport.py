"""What goes wrong on the wire: torn, packed, slow and strange answers, moved hosts, clocks, TLS."""

import gzip
import json
import socket
import threading
import zlib
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from crm_pipeline.sandbox.salesforce.certificates import CertificateKind
from crm_pipeline.sandbox.salesforce.clock import OrgClock
from crm_pipeline.sandbox.salesforce.faults import Fault, FaultPlan, When
from crm_pipeline.sandbox.salesforce.ledger import Entry
from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.running import RunningOrg, running
from crm_pipeline_tests.sandbox.client import Client
from crm_pipeline_tests.sandbox.conftest import NOON

LEAD = {"LastName": "Doe", "Company": "Acme"}
LIMITS = "*/limits"


def raw(client: Client, path: str = "/limits", accept: str = "identity") -> Iterator[bytes]:
    """What really comes over the wire, header and body, piece by piece."""
    with socket.create_connection(("127.0.0.1", client.served.port), timeout=5) as connection:
        token = client.http.headers["Authorization"]
        connection.sendall(
            f"GET {urlsplit(client.url).path}{path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Authorization: {token!s}\r\nAccept-Encoding: {accept}\r\n"
            "Connection: close\r\n\r\n".encode()
        )
        while piece := connection.recv(1 << 16):
            yield piece


def test_a_connection_can_be_reset_in_the_middle_of_an_answer(client: Client) -> None:
    client.fault(kind="reset_midway", path=LIMITS, after_bytes=30)
    received: list[bytes] = []
    with pytest.raises(ConnectionResetError):
        received.extend(raw(client))
    assert len(b"".join(received).partition(b"\r\n\r\n")[2]) <= 30


@pytest.mark.parametrize("accept", ["identity", "gzip"])
def test_packed_bytes_can_be_broken(client: Client, accept: str) -> None:
    client.fault(kind="bad_gzip", path="*/describe", after_bytes=20, times=0)
    answer = b"".join(raw(client, "/sobjects/Lead/describe", accept))
    header, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-encoding: gzip" in header.lower()
    assert f"content-length: {len(body)}".encode() in header.lower()
    with pytest.raises((OSError, EOFError, zlib.error)):
        gzip.decompress(body)


def test_a_small_answer_can_unpack_to_a_huge_one(client: Client) -> None:
    client.fault(kind="gzip_bomb", path=LIMITS, size=50_000_000)
    answer = client.http.get(client.url + "/limits", stream=True)
    packed = answer.raw.read(decode_content=False)
    assert len(packed) < 200_000
    assert len(gzip.decompress(packed)) == 50_000_000


def test_an_answer_can_drip(client: Client) -> None:
    client.fault(kind="drip", path=LIMITS, seconds=0)
    whole = client.get("/limits")
    assert "DailyApiRequests" in whole.json()
    client.fault(kind="drip", path=LIMITS, seconds=60)
    answer = client.http.get(client.url + "/limits", stream=True, timeout=0.2)
    with pytest.raises(requests.ConnectionError, match="timed out"):
        answer.content  # noqa: B018


def test_answers_can_be_dressed_wrongly(client: Client) -> None:
    client.fault(kind="content_type", path=LIMITS, content_type="text/plain")
    answer = client.get("/limits")
    assert answer.headers["Content-Type"] == "text/plain"
    assert answer.json()
    client.fault(kind="huge_header", path=LIMITS, size=20_000)
    assert b"x" * 20_000 in b"".join(raw(client)).partition(b"\r\n\r\n")[0]
    client.fault(kind="deep_json", path=LIMITS, size=100_000)
    with pytest.raises(RecursionError):
        json.loads(client.get("/limits").text)


def test_a_redirect_leads_where_it_is_told(client: Client) -> None:
    client.fault(kind="redirect", path=LIMITS, location="https://elsewhere.example/x")
    answer = client.http.get(client.url + "/limits", allow_redirects=False)
    assert answer.status_code == 302
    assert answer.headers["Location"] == "https://elsewhere.example/x"


@pytest.mark.parametrize("status", [301, 307, 404])
def test_the_org_can_move_to_another_host(client: Client, status: int) -> None:
    old, new = client.served.url, client.served.other_url
    moved = client.sandbox("move", status=status)
    assert moved["instance_url"] == new
    answer = client.http.get(client.url + "/limits", params={"a": "b"}, allow_redirects=False)
    assert answer.status_code == status
    if status != 404:
        assert answer.headers["Location"] == client.url.replace(old, new) + "/limits?a=b"
    form = {
        "grant_type": "client_credentials",
        "client_id": client.served.client_id,
        "client_secret": client.served.client_secret,
    }
    login = requests.post(f"{old}/services/oauth2/token", data=form, timeout=5).json()
    assert login["instance_url"] == new
    assert client.http.get(client.url.replace(old, new) + "/limits").status_code == 200
    client.sandbox("move", back=True)
    assert client.get("/limits").status_code == 200


def test_the_clock_of_the_org_can_jump(client: Client, noon_org: SandboxOrg) -> None:
    def date() -> float:
        said = client.get("/limits").headers["Date"]
        return (parsedate_to_datetime(said) - NOON).total_seconds()

    client.fault(kind="date", path=LIMITS, seconds=-7200)
    assert [date(), date()] == [-7200, 0]
    client.fault(kind="clock", path=LIMITS, seconds=600)
    assert [date(), date()] == [600, 600]
    client.sandbox("clock", step=-900)
    assert date() == -300
    assert noon_org.clock.now().minute == 55


def test_a_running_clock_runs_on_after_a_step() -> None:
    clock = OrgClock()
    before = clock.now()
    after = clock.step(seconds=3600)
    assert not clock.frozen
    assert 3599 <= (after - before).total_seconds() <= 3660


@pytest.mark.parametrize("kind", ["expired", "other_host", "unknown_authority"])
def test_a_wrong_certificate_is_refused_by_clients(
    noon_org: SandboxOrg, kind: CertificateKind
) -> None:
    with running(noon_org, tls=kind) as served, pytest.raises(requests.exceptions.SSLError):
        requests.get(f"{served.url}/services/data", verify=str(served.ca_file), timeout=5)


def test_the_right_certificate_is_taken(noon_org: SandboxOrg) -> None:
    with running(noon_org, tls=True) as served:
        for url in (served.url, served.other_url):
            answer = requests.get(f"{url}/services/data", verify=str(served.ca_file), timeout=5)
            assert answer.status_code == 200


# Callbacks and chance


def script(served: RunningOrg, **facts: Any) -> list[Fault]:
    plan = served.server.faults
    plan.script([Fault("call", path="*/sobjects/Lead", method="POST", **facts)])
    return plan.faults


@pytest.mark.parametrize(
    ("when", "leads", "status"), [("before", 1, 0), ("after", 2, 0), ("sent", 2, 201)]
)
def test_a_callback_comes_at_exactly_the_kth_request(
    client: Client, noon_org: SandboxOrg, when: When, leads: int, status: int
) -> None:
    seen: list[tuple[int, int]] = []
    called = threading.Event()

    def note(entry: Entry) -> None:
        assert (entry.method, entry.path[-5:]) == ("POST", "/Lead")
        seen.append((noon_org.count("Lead"), entry.status))
        called.set()

    [fault] = script(client.served, nth=2, when=when, callback=note)
    codes = [client.call("POST", "/sobjects/Lead", LEAD).status_code for _ in range(2)]
    assert called.wait(5)
    codes.append(client.call("POST", "/sobjects/Lead", LEAD).status_code)
    assert codes == [201] * 3
    assert seen == [(leads, status)]
    assert fault.uses == 1
    report = client.http.get(f"{client.served.url}/sandbox/faults").json()
    assert report["faults"][0]["when"] == when


def test_a_callback_that_fails_leaves_the_request_alone(client: Client) -> None:
    def fail(_entry: Entry) -> None:
        raise RuntimeError

    script(client.served, callback=fail)
    assert client.call("POST", "/sobjects/Lead", LEAD).status_code == 201


def fates(seed: int, rate: float) -> list[str]:
    plan = FaultPlan()
    plan.random(seed, rate, path="*/query")
    for _ in range(50):
        assert plan.take("GET", "/other") is None
    taken = [plan.take("GET", "/a/query") for _ in range(1000)]
    return [f"{one.kind} {one.after_bytes} {one.status}" if one else "" for one in taken]


def test_chance_is_the_same_for_the_same_seed() -> None:
    assert fates(7, 0.1) == fates(7, 0.1) != fates(8, 0.1)
    hits = [one for one in fates(7, 0.1) if one]
    assert 60 < len(hits) < 140
    assert len({one.split()[0] for one in hits}) > 6
    assert not any(fates(7, 0))
    assert all(fates(7, 1))


def test_chance_is_set_over_http_and_ends_with_the_plan(client: Client) -> None:
    chance = {"seed": 1, "rate": 1, "kinds": ["html"], "path": LIMITS}
    client.fault(random=chance)
    assert {client.get("/limits").headers["Content-Type"] for _ in range(3)} == {"text/html"}
    report = client.http.get(f"{client.served.url}/sandbox/faults").json()
    assert (report["random"]["uses"], report["faults"]) == (3, [])
    client.http.delete(f"{client.served.url}/sandbox/faults")
    assert client.get("/limits").json()
