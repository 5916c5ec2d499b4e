"""Limits of the org: which 403 is which, a budget that is hard, and reads that go on afterwards."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from crm_pipeline.crm.port import RecordRead, ResumePoint
from crm_pipeline.crm.salesforce.connector import SalesforceConnector
from crm_pipeline.crm.salesforce.failures import LimitReached
from crm_pipeline.crm.salesforce.session import _pause_before_repeating
from crm_pipeline.errors import (
    ConfigurationError,
    ObjectUnavailable,
    PermanentError,
    TransientError,
)
from crm_pipeline.model.objects import CrmObject, Transport
from crm_pipeline.model.pages import ResultPage
from crm_pipeline.sandbox.salesforce.faults import Fault
from crm_pipeline.sandbox.salesforce.gate import error_body
from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.running import RunningOrg
from crm_pipeline_tests.integration.crm.asking import Connections, ask, read_all, rows_of

API = "/services/data/*"
CONCURRENT = "ConcurrentRequests (Concurrent API Requests) Limit exceeded."
BOTH = pytest.mark.parametrize("transport", [Transport.REST, Transport.BULK])


@pytest.fixture(autouse=True)
def _limit_as_before(crowd: SandboxOrg) -> Iterator[None]:
    yield
    crowd.set_api_limit(1_000_000, maximum=1_000_000)


@pytest.mark.parametrize(
    ("refusal", "verdict", "words"),
    [
        ("REQUEST_LIMIT_EXCEEDED: TotalRequests Limit exceeded.", LimitReached, "goes on when"),
        ("API_DISABLED_FOR_ORG: disabled", PermanentError, "permission API Enabled"),
        ("API_DISABLED: disabled", PermanentError, "permission API Enabled"),
        ("API_CURRENTLY_DISABLED: disabled", TransientError, "tried again"),
        ("INSUFFICIENT_ACCESS: no", ObjectUnavailable, "does not show Lead"),
        ("INSUFFICIENT_ACCESS_OR_READONLY: no", ObjectUnavailable, "does not show Lead"),
        ("TXN_SECURITY_NO_ACCESS: policy", PermanentError, "Transaction Security Policies"),
        ("TXN_SECURITY_METERING_ERROR: policy", TransientError, "tried again"),
        ("SOMETHING_NEW: ?", PermanentError, "SOMETHING_NEW"),
    ],
)
def test_e4_a_403_means_what_its_code_says(
    served: RunningOrg,
    connector: SalesforceConnector,
    refusal: str,
    verdict: type[Exception],
    words: str,
) -> None:
    lead = connector.describe("Lead")
    body = error_body(*refusal.split(": "))
    refused = Fault("status", path="*/query*", status=403, body=body, times=0)
    served.server.faults.script([refused])
    with pytest.raises(verdict, match=words) as caught:
        connector.open_read(ask(lead))
    assert type(caught.value) is verdict
    is_repeated = verdict is TransientError
    assert refused.uses == (6 if is_repeated else 1)


@BOTH
def test_e4_a_day_that_is_spent_mid_read_is_a_pause_and_the_read_goes_on(
    served: RunningOrg,
    connections: Connections,
    connector: SalesforceConnector,
    lead: CrmObject,
    transport: Transport,
) -> None:
    request = ask(lead, by=transport)
    expected = sorted(read_all(connector.open_read(request)))
    for left in range(6):
        read = connector.open_read(request)
        served.org.set_api_limit(left, maximum=1000)
        landed: list[tuple[ResultPage, bytes]] = []
        with suppress(LimitReached):
            landed.extend((page, b"".join(page.chunks())) for page in read.pages())
            assert left >= 2
        served.org.set_api_limit(1000, maximum=1000)
        point = ResumePoint(read.token, tuple(page.key for page, _ in landed))
        later = connections.to(served).open_read(request, resume=point)
        rows = rows_of(b"".join(body for _, body in landed)) + read_all(later)
        assert sorted(rows) == expected


def calls_of(connector: SalesforceConnector) -> int:
    """Make every kind of call of a read; how many were sent."""
    with suppress(LimitReached):
        lead = connector.describe("Lead")
        for transport in (Transport.REST, Transport.BULK):
            read: RecordRead = connector.open_read(ask(lead, by=transport))
            read_all(read)
            read.close()
    return connector.usage.calls


def test_e5_the_budget_may_end_at_any_call_and_none_is_sent_above_it(
    served: RunningOrg, connections: Connections
) -> None:
    served.org.set_api_limit(1000, maximum=1000)
    needed = calls_of(connections.to(served))
    assert needed > 8
    for left in range(1, needed + 2):
        served.org.set_api_limit(500 + left, maximum=1000)
        sent = calls_of(connections.to(served, api_budget_percent=50))
        assert sent <= min(left, needed + 3)
        assert served.org.limit.remaining == 500 + left - sent >= 500


def test_e5_a_process_that_begins_after_the_end_of_the_budget_spends_one_call_to_see_it(
    served: RunningOrg, connections: Connections
) -> None:
    served.org.set_api_limit(499, maximum=1000)
    connector = connections.to(served, api_budget_percent=50)
    assert calls_of(connector) == 1
    assert calls_of(connector) == 1


@pytest.mark.parametrize("processes", [1, 3])
def test_e5_threads_keep_the_budget_and_processes_exceed_it_by_what_the_others_have_out(
    served: RunningOrg, connections: Connections, lead: CrmObject, processes: int
) -> None:
    threads, left = 4, 40
    served.org.set_api_limit(500 + left, maximum=1000)
    connectors = [connections.to(served, api_budget_percent=50) for _ in range(processes)]
    for connector in connectors:
        connector.count(ask(lead))

    def spend(connector: SalesforceConnector) -> None:
        with suppress(LimitReached):
            while True:
                connector.count(ask(lead))

    with ThreadPoolExecutor(processes * threads) as pool:
        list(pool.map(spend, connectors * threads))
    beyond = 500 - served.org.limit.remaining
    assert beyond <= (processes - 1) * threads
    assert beyond >= 0


def test_e6_too_many_requests_at_once_are_repeated_and_not_taken_for_a_spent_day(
    served: RunningOrg, connector: SalesforceConnector, lead: CrmObject
) -> None:
    body = error_body("REQUEST_LIMIT_EXCEEDED", CONCURRENT)
    crowded = Fault("status", path=API, status=403, body=body, times=3)
    served.server.faults.script([crowded])
    assert connector.count(ask(lead)) == 4500
    assert crowded.uses == 3


def test_e6_e7_repetitions_wait_longer_than_asked_and_not_all_alike() -> None:
    waits = {_pause_before_repeating(TransientError("", retry_after_seconds=5.0)) for _ in range(9)}
    assert len(waits) > 1
    assert all(5.0 <= wait <= 7.5 for wait in waits)


def test_e7_a_retry_after_of_another_form_is_waited_for(
    served: RunningOrg, connector: SalesforceConnector, lead: CrmObject
) -> None:
    # The org stands at noon, 2 March 2026: half an hour is too long to hold a lease for.
    late = {"Retry-After": "Mon, 02 Mar 2026 12:30:00 GMT"}
    busy = Fault("status", path=API, status=503, headers=late, times=0)
    served.server.faults.script([busy])
    with pytest.raises(TransientError) as caught:
        connector.count(ask(lead))
    assert caught.value.retry_after_seconds == 1800
    assert busy.uses == 1


@pytest.mark.parametrize("status", [403, 404, 500, 502, 503, 504])
def test_e8_a_page_of_html_is_a_matter_of_time_whatever_its_status(
    served: RunningOrg, connector: SalesforceConnector, lead: CrmObject, status: int
) -> None:
    page = Fault("html", path=API, status=status, body="<p>Canary</p>", times=2)
    served.server.faults.script([page])
    assert connector.count(ask(lead)) == 4500
    page.times = 0
    with pytest.raises(TransientError) as caught:
        connector.describe("Lead")
    assert "Canary" not in str(caught.value)


def test_e8_a_page_of_html_is_never_a_page_of_records(
    served: RunningOrg, connector: SalesforceConnector, lead: CrmObject
) -> None:
    for path, transport in (("*/query*", Transport.REST), ("*/results", Transport.BULK)):
        served.server.faults.clear()
        served.server.faults.script([Fault("html", path=path, status=200, times=0)])
        with pytest.raises(TransientError):
            read_all(connector.open_read(ask(lead, by=transport)))


@pytest.mark.parametrize("version", ["49.0", "70.0"])
def test_e17_a_version_that_the_org_does_not_serve_is_not_taken_for_a_hidden_object(
    served: RunningOrg, connections: Connections, version: str
) -> None:
    connector = connections.to(served, api_version=version)
    for ask_something in (connector.identity, lambda: connector.describe("Lead")):
        with pytest.raises(ConfigurationError, match=r"serves versions 50\.0 to 66\.0"):
            ask_something()


def test_e17_nobody_logs_in_by_soap(served: RunningOrg, connector: SalesforceConnector) -> None:
    calls_of(connector)
    connector.object_names()
    paths = {one.path for one in served.server.ledger.entries()}
    assert paths
    assert not [path for path in paths if "soap" in path.lower()]
    assert "/services/oauth2/token" in paths
