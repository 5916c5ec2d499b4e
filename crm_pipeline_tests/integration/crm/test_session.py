"""The session against everything that goes wrong on the way: logins, limits, silence, rubbish."""

import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from crm_pipeline.crm.salesforce.connector import SalesforceConnector
from crm_pipeline.crm.salesforce.failures import Concern, LimitReached
from crm_pipeline.crm.salesforce.login import ClientCredentialsLogin, JwtBearerLogin
from crm_pipeline.crm.salesforce.session import SalesforceSession
from crm_pipeline.crm.salesforce.wire import Manners
from crm_pipeline.errors import (
    ConfigurationError,
    CredentialsError,
    CrmPipelineError,
    PermanentError,
    TransientError,
)
from crm_pipeline.model.filters import Comparator, Comparison
from crm_pipeline.model.objects import CrmObject, Transport
from crm_pipeline.sandbox.salesforce.faults import Fault
from crm_pipeline.sandbox.salesforce.gate import error_body
from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.running import RunningOrg, running
from crm_pipeline_tests.integration.crm.asking import Connections, ask, read_all

API = "/services/data/*"
TOKENS = "/services/oauth2/token"


def walk(connector: SalesforceConnector) -> list[list[str]]:
    """Every kind of request that a sync makes."""
    connector.identity()
    lead = connector.describe("Lead")
    rows = []
    for transport in (Transport.REST, Transport.BULK):
        request = ask(lead, by=transport)
        assert connector.count(request) == 4500
        read = connector.open_read(request)
        rows += sorted(read_all(read))
        read.close()
    return rows


def test_e1_a_session_that_expires_at_any_request_is_renewed_once(
    served: RunningOrg, connections: Connections
) -> None:
    expected = walk(connections.to(served))
    first = len([one for one in served.server.ledger.entries() if "/data/" in one.path])
    for nth in range(1, first + 1):
        served.server.faults.clear()
        served.server.faults.script([Fault("expire_session", path=API, nth=nth)])
        connector = connections.to(served)
        assert walk(connector) == expected
        assert connector.session.logins == (2 if _befell(served) else 1)


def _befell(served: RunningOrg) -> bool:
    return any(fault.uses for fault in served.server.faults.faults)


def test_e2_many_threads_that_expire_together_log_in_once(
    served: RunningOrg, connector: SalesforceConnector, lead: CrmObject
) -> None:
    connector.count(ask(lead))
    for _ in range(3):
        before = served.org.sessions.logins
        served.org.expire_sessions()
        ready = threading.Barrier(16)

        def count(ready: threading.Barrier = ready) -> int:
            ready.wait()
            return connector.count(ask(lead))

        with ThreadPoolExecutor(16) as pool:
            found = [pool.submit(count) for _ in range(16)]
        assert {one.result() for one in found} == {4500}
        assert served.org.sessions.logins == before + 1


def test_e3_a_wrong_secret_is_tried_once_and_never_again(
    served: RunningOrg, connections: Connections
) -> None:
    login = ClientCredentialsLogin(served.url, served.client_id, "canary-secret")
    connector = connections.to(served, login=login)
    for _ in range(3):
        with pytest.raises(CredentialsError, match="SALESFORCE_CLIENT_SECRET") as caught:
            connector.identity()
        assert "canary" not in _whole_text(caught.value)
    assert served.server.ledger.counts() == {f"POST {TOKENS}": 1}


def test_e2_e3_threads_share_a_refused_login(served: RunningOrg, connections: Connections) -> None:
    login = ClientCredentialsLogin(served.url, "nobody", "nothing")
    connector = connections.to(served, login=login)

    def ask_who(_: int) -> str:
        try:
            connector.identity()
        except CredentialsError as refused:
            return str(refused)
        return ""

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask_who, range(8)))
    assert served.server.ledger.counts() == {f"POST {TOKENS}": 1}


def test_e3_a_login_server_that_is_down_is_tried_three_times(
    served: RunningOrg, connections: Connections
) -> None:
    served.server.faults.script([Fault("html", path=TOKENS, times=0)])
    with pytest.raises(TransientError):
        connections.to(served).identity()
    assert served.server.ledger.counts() == {f"POST {TOKENS}": 3}
    served.server.faults.clear()
    served.server.faults.script([Fault("reset", path=TOKENS, times=2)])
    assert connections.to(served).identity()


def test_e3_a_session_that_is_refused_at_once_ends_in_a_clear_error(
    served: RunningOrg, connector: SalesforceConnector
) -> None:
    served.server.faults.script([Fault("expire_session", path=API, times=0)])
    before = served.org.sessions.logins
    with pytest.raises(CredentialsError, match="refuses it at once"):
        connector.identity()
    assert served.org.sessions.logins - before <= 4


@pytest.fixture
def key(tmp_path: Path) -> tuple[Path, str]:
    """A private key in a file, and its public half."""
    pair = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    path = tmp_path / "key.pem"
    path.write_bytes(
        pair.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    public = pair.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return path, public.decode()


def test_a6_jwt_login_takes_the_time_from_salesforce_when_our_clock_is_wrong(
    crowd: SandboxOrg, key: tuple[Path, str], connections: Connections
) -> None:
    path, public = key
    with running(crowd, public_keys={"app": public}) as served:
        # The org stands in March 2026, hours or months away from this machine.
        login = JwtBearerLogin(served.url, "app", "integration@sandbox.example", path)
        connector = connections.to(served, login=login)
        assert connector.identity().user_name == "integration@sandbox.example"
        assert served.server.ledger.counts()[f"POST {TOKENS}"] == 2
        crowd.expire_sessions()
        connector.identity()
        assert served.server.ledger.counts()[f"POST {TOKENS}"] == 3


@pytest.mark.parametrize("content", [None, b"canary: no key"])
def test_e3_a_key_file_that_is_no_key_is_a_matter_of_credentials(
    served: RunningOrg, connections: Connections, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "key.pem"
    if content is not None:
        path.write_bytes(content)
    connector = connections.to(served, login=JwtBearerLogin(served.url, "app", "user", path))
    with pytest.raises(CredentialsError, match="SALESFORCE_PRIVATE_KEY_FILE") as caught:
        connector.identity()
    assert "canary" not in _whole_text(caught.value)
    assert served.server.ledger.counts() == {}


@pytest.mark.parametrize("host", ["example.com", "10.0.0.1", "127.0.0.1.example.com", "[::2]"])
def test_s9_plain_http_is_for_this_machine_only(host: str) -> None:
    with pytest.raises(ConfigurationError, match="https://"):
        SalesforceSession(ClientCredentialsLogin(f"http://{host}", "id", "secret"))


PASSING = [
    Fault(
        "status", status=503, headers={"Retry-After": "0"}, body=error_body("SERVER_UNAVAILABLE")
    ),
    Fault("status", status=503),
    Fault("status", status=502),
    Fault("status", status=500, body=error_body("UNKNOWN_EXCEPTION")),
    Fault("status", status=429, headers={"Retry-After": "0"}),
    Fault("status", status=420),
    Fault("status", status=406),
    Fault("status", status=400, body=error_body("UNABLE_TO_LOCK_ROW")),
    Fault("status", status=200, body="[{", content_type="text/html"),
    Fault("html", status=200),
    Fault("html", status=503),
    Fault("reset"),
    Fault("lost_answer"),
    Fault("cut", after_bytes=40),
]


@pytest.mark.parametrize("fault", PASSING, ids=lambda one: f"{one.kind}-{one.status}")
def test_e7_e8_e11_what_passes_is_repeated(
    served: RunningOrg, connector: SalesforceConnector, fault: Fault
) -> None:
    for nth in (1, 2, 5):
        served.server.faults.clear()
        served.server.faults.script([replace(fault, path=API, nth=nth, times=1)])
        assert connector.identity().organization_name == "Sandbox Org"
        assert connector.describe("Lead").cursor_field == "SystemModstamp"
        assert connector.count(ask(connector.describe("Lead"))) == 4500
        assert _befell(served)


def test_e7_what_does_not_pass_ends_bounded(
    served: RunningOrg, connector: SalesforceConnector
) -> None:
    served.server.faults.script([Fault("status", path=API, status=503, times=0)])
    calls = connector.usage.calls
    with pytest.raises(TransientError, match="503"):
        connector.describe("Lead")
    assert connector.usage.calls - calls == 6


def test_e7_a_long_retry_after_is_handed_on(
    served: RunningOrg, connector: SalesforceConnector
) -> None:
    waits = {"Retry-After": "1800"}
    served.server.faults.script([Fault("status", path=API, status=503, headers=waits, times=0)])
    with pytest.raises(TransientError) as caught:
        connector.describe("Lead")
    assert caught.value.retry_after_seconds == 1800
    assert connector.usage.calls == 1


def test_e4_a_used_up_day_is_not_hammered(small: RunningOrg, connections: Connections) -> None:
    connector = connections.to(small)
    small.org.set_api_limit(0)
    with pytest.raises(TransientError, match="REQUEST_LIMIT_EXCEEDED") as caught:
        connector.describe("Lead")
    assert caught.value.retry_after_seconds
    assert connector.usage.calls == 1


def test_e5_the_budget_ends_before_the_request(small: RunningOrg, connections: Connections) -> None:
    connector = connections.to(small, api_budget_percent=50)
    small.org.set_api_limit(502, maximum=1000)
    lead = connector.describe("Lead")
    connector.count(ask(lead))
    served = sum(small.server.ledger.counts().values())
    with pytest.raises(TransientError, match="API budget") as caught:
        connector.count(ask(lead))
    assert isinstance(caught.value, LimitReached)
    assert sum(small.server.ledger.counts().values()) == served
    assert connector.usage.used_today == 500
    assert connector.usage.daily_limit == 1000


def test_g10_every_request_asks_first_whether_to_go_on(
    served: RunningOrg, connections: Connections
) -> None:
    asked: list[int] = []
    connector = connections.to(served, check_interrupt=lambda: asked.append(1))
    connector.identity()
    assert len(asked) == len(served.server.ledger.entries()) == 3


def test_e10_silence_ends_with_the_read_timeout(
    served: RunningOrg, connections: Connections
) -> None:
    connector = connections.to(served, manners=Manners(read_seconds=0.2, attempts=2))
    served.server.faults.script([Fault("hang", path="*/describe", seconds=1.0, times=0)])
    with pytest.raises(TransientError, match="cannot be reached"):
        connector.describe("Lead")
    assert connector.usage.calls == 2


def test_s9_redirects_and_other_hosts_never_see_the_token(
    served: RunningOrg, connector: SalesforceConnector
) -> None:
    elsewhere = {"Location": "https://evil.example/steal"}
    served.server.faults.script([Fault("status", path=API, status=302, headers=elsewhere)])
    with pytest.raises(PermanentError, match="My Domain"):
        connector.describe("Lead")
    seen = len(served.server.ledger.entries())
    for address in (
        "https://evil.example/services",
        "//evil.example/services",
        "@evil.example/",
        "http://127.0.0.1:1/services",
        f"{served.url}@evil.example/services",
        "services/data",
        "http://[broken",
    ):
        with pytest.raises(PermanentError, match="nothing"):
            connector.session.request("GET", address)
    assert len(served.server.ledger.entries()) == seen


def test_s9_a_next_page_elsewhere_is_refused(
    served: RunningOrg, connector: SalesforceConnector, lead: CrmObject
) -> None:
    body = (
        '{"totalSize": 2, "done": false, "nextRecordsUrl": "//evil.example/x", '
        '"records": [{"Id": "00Q8d0000000001EAA"}]}'
    )
    served.server.faults.script([Fault("status", path="*/queryAll", status=200, body=body)])
    read = connector.open_read(ask(lead, "Id", by=Transport.REST))
    with pytest.raises(PermanentError, match="outside of the instance"):
        list(read.pages())
    links = '{"resultPages": [{"resultUrl": "https://evil.example/?locator=a"}], "done": true}'
    served.server.faults.script([Fault("status", path="*/resultPages", status=200, body=links)])
    [page] = connector.open_read(ask(lead, "Id", by=Transport.BULK)).pages()
    with pytest.raises(PermanentError, match="outside of the instance"):
        list(page.chunks())


def test_a_netrc_does_not_replace_the_token(
    served: RunningOrg,
    connections: Connections,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login canary password canary\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    assert connections.to(served).identity()


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", status=400, body=error_body("MALFORMED_QUERY", "near 'Canary'")),
        Fault("status", status=400, body=error_body("INVALID_FIELD", "Canary Smith")),
        Fault("status", status=403, body=error_body("SOMETHING\r\nERROR forged", "Canary")),
        Fault("status", status=401, body=error_body("WEIRD", "Canary")),
        Fault("status", status=404, body="Canary"),
        Fault("status", status=414),
        Fault("status", status=200, body="{Canary"),
        Fault("status", status=200, body='{"records": "Canary"}'),
        Fault("html", status=200, body="<p>Canary</p>"),
        Fault("reset"),
        Fault("cut", after_bytes=5),
        Fault("hang", seconds=1.0),
    ],
    ids=lambda one: f"{one.kind}-{one.status}",
)
def test_s1_s4_errors_tell_neither_secrets_nor_values(
    served: RunningOrg, connections: Connections, fault: Fault
) -> None:
    connector = connections.to(served, manners=Manners(read_seconds=0.3, attempts=1))
    lead = connector.describe("Lead")
    canary = Comparison("LastName", Comparator.EQUAL, "Canary Person")
    served.server.faults.script([replace(fault, path="*/quer*", times=0)])
    token = connector.session._keeper.current().secret
    for transport in (Transport.REST, Transport.AUTO):
        request = replace(ask(lead, by=transport), record_filter=canary)
        with pytest.raises(CrmPipelineError) as caught:
            connector.open_read(request)
        text = _whole_text(caught.value)
        for forbidden in ("Canary", token, served.client_secret, "SELECT"):
            assert forbidden not in text
        assert "\n" not in str(caught.value)
    assert token not in repr(connector.session._keeper.current())


def _whole_text(error: BaseException) -> str:
    """The error with all that it drags along, as a logger would print it, without source lines."""
    found = []
    seen: BaseException | None = error
    while seen is not None:
        found.append("".join(traceback.format_exception_only(seen)))
        seen = seen.__cause__ or seen.__context__
    return "".join(found)


def test_e11_a_post_is_not_sent_twice_unless_that_is_harmless(
    served: RunningOrg, connector: SalesforceConnector
) -> None:
    served.server.faults.script([Fault("lost_answer", path=API, times=0)])
    calls = connector.usage.calls
    with pytest.raises(TransientError):
        connector.session.request(
            "POST", "/services/data/v62.0/sobjects/Lead", json={}, concern=Concern("Lead")
        )
    assert connector.usage.calls == calls + 1


def test_a6_server_time_is_known_after_any_answer(
    small: RunningOrg, connections: Connections
) -> None:
    connector = connections.to(small)
    small.org.clock.set(datetime(2031, 1, 2, 3, 4, 5, 987_654, tzinfo=UTC))
    connector.describe("Lead")
    assert connector.server_time() == datetime(2031, 1, 2, 3, 4, 5, tzinfo=UTC)
