"""TLS that cannot be talked out of, and logs that know neither secrets nor values."""

import ipaddress
import logging
import socket
import ssl
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from crm_pipeline.crm.salesforce.connector import SalesforceConnector, connect
from crm_pipeline.crm.salesforce.login import ClientCredentialsLogin
from crm_pipeline.crm.salesforce.session import SalesforceSession
from crm_pipeline.crm.salesforce.wire import Manners, verification
from crm_pipeline.errors import ConfigurationError, CrmPipelineError
from crm_pipeline.model.filters import Comparator, Comparison
from crm_pipeline.model.objects import Transport
from crm_pipeline.sandbox.salesforce.faults import Fault
from crm_pipeline.sandbox.salesforce.gate import error_body
from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.running import RunningOrg, running
from crm_pipeline_tests.integration.crm.asking import Connections, ask, read_all
from crm_pipeline_tests.integration.crm.raw_server import raw_server, reply

NOW = datetime.now(UTC)
HERE = "127.0.0.1"


def certificate(
    folder: Path, host: str, *, begins: datetime = NOW - timedelta(days=1), days: int = 30
) -> tuple[Path, Path]:
    """A certificate that signs itself, and a file with it and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    subject = x509.IPAddress(ipaddress.ip_address(host))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([subject]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    authority, both = folder / "authority.pem", folder / "both.pem"
    authority.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    both.write_bytes(
        authority.read_bytes()
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return authority, both


def served_with(both: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    return context


def try_to_log_in(url: str, ca_file: Path | None) -> None:
    session = SalesforceSession(
        ClientCredentialsLogin(url, "id", "secret"),
        ca_file=ca_file,
        manners=Manners(connect_seconds=5.0, read_seconds=5.0, attempts=1),
    )
    try:
        session.get_object("/page")
    finally:
        session.close()


def test_s9_a_certificate_is_taken_only_if_authority_host_and_time_are_right(
    tmp_path: Path,
) -> None:
    spoken: list[bytes] = []
    for number, (host, begins, is_right) in enumerate(
        [
            (HERE, NOW - timedelta(days=1), True),
            ("192.0.2.1", NOW - timedelta(days=1), False),
            (HERE, NOW - timedelta(days=90), False),
            (HERE, NOW + timedelta(days=1), False),
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        authority, both = certificate(folder, host, begins=begins)

        def answer(connection: socket.socket, to: list[bytes] = spoken) -> None:
            to.append(b"asked")
            connection.sendall(reply(b"{}", "Content-Type: application/json"))

        with raw_server(answer, tls=served_with(both)) as url:
            if is_right:
                try_to_log_in(url, authority)
                assert spoken == [b"asked"]
            else:
                with pytest.raises(ConfigurationError, match="is not trusted"):
                    try_to_log_in(url, authority)
            with pytest.raises(ConfigurationError, match="SALESFORCE_CA_FILE"):
                try_to_log_in(url, None)
    assert spoken == [b"asked"]


@pytest.mark.parametrize(
    "variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"]
)
@pytest.mark.parametrize("value", ["", "authority", "/nowhere"])
def test_s9_the_environment_changes_nothing_about_whom_we_trust(
    crowd: SandboxOrg,
    connections: Connections,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
) -> None:
    with running(crowd, tls=True) as secured:
        monkeypatch.setenv(variable, str(secured.ca_file) if value == "authority" else value)
        monkeypatch.setenv("PYTHONHTTPSVERIFY", "0")
        stranger = connect(
            ClientCredentialsLogin(secured.url, secured.client_id, secured.client_secret),
            api_version="62.0",
        )
        with pytest.raises(ConfigurationError, match="SALESFORCE_CA_FILE"):
            stranger.identity()
        stranger.close()
        assert connections.to(secured).identity()
        assert not [one for one in secured.server.ledger.entries() if one.status >= 400]
        connections.close()


def test_s9_an_authority_that_is_no_certificate_is_an_error_of_the_settings(
    crowd: SandboxOrg, tmp_path: Path
) -> None:
    broken = tmp_path / "authority.pem"
    broken.write_text("no certificate")
    with running(crowd, tls=True) as secured, pytest.raises(ConfigurationError):
        try_to_log_in(secured.url, broken)
    with pytest.raises(ConfigurationError, match="does not exist"):
        verification(tmp_path / "nothing.pem")


@pytest.mark.parametrize("instance", ["http://192.0.2.1", "http://example.com", "ftp://127.0.0.1"])
def test_s9_a_login_that_leads_to_plain_http_elsewhere_sends_no_token_there(
    served: RunningOrg, connections: Connections, instance: str
) -> None:
    token = f'{{"access_token": "canary", "instance_url": "{instance}"}}'
    served.server.faults.script(
        [Fault("status", path="*/oauth2/token", status=200, body=token, times=0)]
    )
    with pytest.raises(ConfigurationError, match="The instance that Salesforce names"):
        connections.to(served).identity()


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """All that any logger said, even the most talkative."""
    for name in ("", "urllib3", "requests", "crm_pipeline", "stamina", "simple_salesforce"):
        caplog.set_level(logging.DEBUG, logger=name)
    formatter = logging.Formatter("%(name)s %(message)s")
    return lambda: "\n".join(
        f"{formatter.format(record)} {record.__dict__}" for record in caplog.records
    )


FAULTS = [
    Fault("status", status=400, body=error_body("MALFORMED_QUERY", "near 'Canary'"), times=0),
    Fault("status", status=403, body=error_body("REQUEST_LIMIT_EXCEEDED", "Canary"), times=0),
    Fault("status", status=503, body="Canary", times=2),
    Fault("status", status=302, headers={"Location": "/Canary?q=Canary"}, times=0),
    Fault("html", status=200, body="<p>Canary</p>", times=2),
    Fault("reset", times=2),
    Fault("lost_answer", times=2),
    Fault("cut", after_bytes=40, times=2),
    Fault("expire_session", times=2),
    Fault("status", status=200, body="{}", headers={"X": "y\r\n: Canary"}, times=1),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda one: f"{one.kind}-{one.status}")
def test_s1_s4_logs_at_their_most_talkative_know_neither_secrets_nor_values(
    served: RunningOrg,
    connections: Connections,
    everything_logged: Callable[[], str],
    fault: Fault,
) -> None:
    connector = connections.to(served)
    lead = connector.describe("Lead")
    tokens = {connector.session._keeper.current().secret}
    canary = Comparison("LastName", Comparator.EQUAL, "Canary Person")
    for transport in (Transport.REST, Transport.BULK, Transport.AUTO):
        served.server.faults.clear()
        served.server.faults.script([replace(fault, path="*/data/*")])
        request = replace(ask(lead, by=transport), record_filter=canary)
        try:
            read = connector.open_read(request)
            read_all(read)
            read.close()
        except CrmPipelineError as error:
            logging.getLogger("crm_pipeline").error("failed", exc_info=error)
    tokens.add(connector.session._keeper.current().secret)
    said = everything_logged()
    assert "urllib3" in said
    for forbidden in (*tokens, served.client_secret, "Canary", "SELECT", "Authorization"):
        assert forbidden not in said


def test_s1_s4_the_client_library_logs_no_more_than_we_do(
    connector: SalesforceConnector, everything_logged: Callable[[], str]
) -> None:
    connector.client().query("SELECT Id FROM Lead WHERE LastName = 'Canary'")
    assert "Canary" not in everything_logged()
