"""Bulk jobs that end badly, late, or not at all: each ends the read or begins it anew."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from crm_pipeline.crm.port import ResumePoint
from crm_pipeline.crm.salesforce.bulk import BulkManners
from crm_pipeline.crm.salesforce.connector import SalesforceConnector
from crm_pipeline.crm.salesforce.failures import LimitReached, QueryTimedOut
from crm_pipeline.errors import ObjectUnavailable, ReadExpired, TransientError
from crm_pipeline.model.objects import CrmObject, Transport
from crm_pipeline.sandbox.salesforce.bulk import Job
from crm_pipeline.sandbox.salesforce.faults import Fault
from crm_pipeline.sandbox.salesforce.gate import error_body
from crm_pipeline.sandbox.salesforce.running import RunningOrg
from crm_pipeline_tests.integration.crm.asking import (
    QUICK,
    Connections,
    ask,
    read_all,
    storable,
)

DAY = 86_400.0
JOBS = "*/jobs/query"
ONE_JOB = "*/jobs/query/750*"
TIMED_OUT = "InvalidBatch : Failed to process query: QUERY_TIMEOUT: running for too long"


class OwnTime:
    """Seconds that pass only while somebody sleeps, and what happens meanwhile."""

    def __init__(self, meanwhile: Callable[[float], object] = lambda now: None) -> None:
        self.now = 0.0
        self.meanwhile = meanwhile

    def sleep(self, seconds: float) -> None:
        """Let time pass at once."""
        self.now += seconds
        self.meanwhile(self.now)

    def manners(self) -> BulkManners:
        """Waiting as in earnest, by this time."""
        return BulkManners(sleep=self.sleep, clock=lambda: self.now)


@pytest.fixture
def held(served: RunningOrg) -> Iterator[RunningOrg]:
    """Jobs wait until they are released."""
    served.server.jobs.hold()
    yield served
    served.server.jobs.release()


def looks(served: RunningOrg) -> int:
    """How often somebody looked at a job."""
    return sum(
        one.method == "GET" and "/jobs/query/750" in one.path and one.path.count("/") == 6
        for one in served.server.ledger.entries()
    )


def jobs_begun(served: RunningOrg) -> int:
    """How often somebody asked for a job."""
    return sum(
        one.method == "POST" and one.path.endswith("/jobs/query")
        for one in served.server.ledger.entries()
    )


def job_of(served: RunningOrg, token: str) -> Job:
    return served.server.jobs.find(token)


def end(job: Job, state: str, error: str = "") -> None:
    """What Salesforce or an administrator does to a waiting job."""
    job.error, job.state = error, state


def test_e15_a_job_of_ten_minutes_takes_no_more_than_25_looks(
    held: RunningOrg, connections: Connections, lead: CrmObject
) -> None:
    time = OwnTime()
    connector = connections.to(held, bulk=time.manners())
    read = connector.open_read(ask(lead, by=Transport.BULK))
    time.meanwhile = lambda now: end(job_of(held, read.token), "Aborted") if now >= 600 else None
    with pytest.raises(ReadExpired):
        list(read.pages())
    assert 600 <= time.now <= 660
    assert 10 <= looks(held) <= 25


def test_e15_a_job_of_a_second_is_not_kept_waiting(
    held: RunningOrg, connections: Connections, lead: CrmObject
) -> None:
    time = OwnTime()
    connector = connections.to(held, bulk=time.manners())
    read = connector.open_read(ask(lead, by=Transport.BULK))
    time.meanwhile = lambda now: end(job_of(held, read.token), "Aborted") if now >= 1 else None
    with pytest.raises(ReadExpired):
        list(read.pages())
    assert time.now < 2
    assert looks(held) <= 7


@pytest.mark.parametrize("code", ["LIMIT_EXCEEDED", "EXCEEDEDQUOTA", "ExceededQuota"])
def test_e15_a_spent_day_of_bulk_is_a_pause_and_not_hammered(
    served: RunningOrg, connector: SalesforceConnector, lead: CrmObject, code: str
) -> None:
    spent = error_body(code, "ApiBatchItems Limit exceeded.")
    served.server.faults.script([Fault("status", path=JOBS, status=400, body=spent, times=0)])
    with pytest.raises(LimitReached) as caught:
        connector.open_read(ask(lead))
    assert caught.value.retry_after_seconds == 900
    assert jobs_begun(served) == 1
    served.server.faults.clear()
    assert len(read_all(connector.open_read(ask(lead)))) == 4500


@pytest.mark.parametrize(
    ("state", "error"),
    [
        ("Failed", "InternalServerError : Retried more than fifteen times"),
        ("Failed", "SERVER_UNAVAILABLE: try later"),
        ("Failed", "UNABLE_TO_LOCK_ROW: busy"),
        ("Failed", ""),
        ("Aborted", ""),
        ("A state of next year", ""),
    ],
)
def test_e12_e13_a_job_that_ends_without_a_result_is_begun_anew(
    held: RunningOrg,
    connector: SalesforceConnector,
    lead: CrmObject,
    state: str,
    error: str,
) -> None:
    request = ask(lead, by=Transport.BULK)
    read = connector.open_read(request)
    end(job_of(held, read.token), state, error)
    with pytest.raises(ReadExpired):
        list(read.pages())
    with pytest.raises(ReadExpired):
        connector.open_read(request, resume=ResumePoint(read.token, ()))
    held.server.jobs.release()
    assert len(read_all(connector.open_read(request))) == 4500


def test_e12_a_job_that_an_administrator_deletes_under_us_is_begun_anew(
    held: RunningOrg, connections: Connections, lead: CrmObject
) -> None:
    time = OwnTime()
    connector = connections.to(held, bulk=time.manners())
    read = connector.open_read(ask(lead, by=Transport.BULK))
    job = job_of(held, read.token)
    time.meanwhile = lambda now: held.server.jobs.forget(job) if now >= 30 else None
    with pytest.raises(ReadExpired):
        list(read.pages())
    read.close()


def test_e12_a_job_that_is_stuck_is_given_up_after_a_day_and_begun_anew_by_the_next_run(
    small: RunningOrg, connections: Connections
) -> None:
    small.server.jobs.hold()
    org = small.org
    time = OwnTime()
    connector = connections.to(small, bulk=time.manners())
    lead = connector.describe("Lead")
    read = connector.open_read(ask(lead, by=Transport.BULK))
    with pytest.raises(TransientError, match=r"did not end in 24\.0 hours"):
        list(read.pages())
    assert DAY <= time.now < DAY + 120
    assert looks(small) < 1500
    org.clock.advance(DAY + 60)
    org.expire_sessions()
    later = connections.to(small, bulk=QUICK)
    later.describe("Lead")
    with pytest.raises(ReadExpired):
        later.open_read(ask(lead), resume=ResumePoint(read.token, ()))
    small.server.jobs.release()


def test_e13_a_read_that_is_resumed_on_day_eight_is_begun_anew(
    small: RunningOrg, connections: Connections
) -> None:
    connector = connections.to(small)
    lead = connector.describe("Lead")
    request = ask(lead, by=Transport.BULK)
    read = connector.open_read(request)
    [page] = read.pages()
    small.org.clock.advance(8 * DAY)
    with pytest.raises(ReadExpired):
        list(page.chunks())
    later = connections.to(small)
    with pytest.raises(ReadExpired):
        later.open_read(request, resume=ResumePoint(read.token, (page.key,)))
    again = later.open_read(request)
    assert len(read_all(again)) == again.record_count == small.org.count("Lead")


@pytest.mark.parametrize("locator", ["nonsense", "MDAwMDA"])
def test_e13_a_locator_that_leads_nowhere_or_back_is_no_end(
    served: RunningOrg, connections: Connections, lead: CrmObject, locator: str
) -> None:
    connector = connections.to(served, api_version="57.0", bulk=replace(QUICK, page_records=1000))
    read = connector.open_read(ask(lead, by=Transport.BULK))
    wrong = Fault("wrong_locator", path="*/results", locator=locator, times=0)
    served.server.faults.script([replace(wrong, nth=2)] if locator == "nonsense" else [wrong])
    with pytest.raises(ReadExpired):
        read_all(read)
    served.server.faults.clear()
    assert len(read_all(connector.open_read(ask(lead, by=Transport.BULK)))) == 4500


def test_e13_listed_pages_that_lead_nowhere_or_in_a_circle_are_no_end(
    served: RunningOrg, connector: SalesforceConnector, lead: CrmObject
) -> None:
    read = connector.open_read(ask(lead, by=Transport.BULK))
    address = f"/services/data/v62.0/jobs/query/{read.token}"
    pages = {"resultPages": [{"resultUrl": f"{address}/results?locator=nonsense"}]}
    for body in (
        pages | {"done": True},
        pages | {"done": False, "nextRecordsUrl": f"{address}/resultPages"},
    ):
        served.server.faults.clear()
        served.server.faults.script(
            [Fault("status", path="*/resultPages", status=200, body=json.dumps(body), times=0)]
        )
        with pytest.raises(ReadExpired):
            [next(iter(page.chunks())) for page in read.pages()]


@pytest.mark.parametrize("word", ["null", ""])
def test_e13_a_locator_named_null_is_the_end_and_no_page(
    served: RunningOrg, connections: Connections, lead: CrmObject, word: str
) -> None:
    connector = connections.to(served, api_version="57.0", bulk=QUICK)
    read = connector.open_read(ask(lead, "Id", by=Transport.BULK))
    body = '"Id"\n"00Q8d0000000001EAA"\n'
    headers = {"Sforce-Locator": word, "Sforce-NumberOfRecords": "1"}
    served.server.faults.script(
        [Fault("status", path="*/results", status=200, body=body, headers=headers)]
    )
    assert read_all(read) == [["00Q8d0000000001EAA"]]
    # The job's own count still tells that this cannot have been all of it.
    assert read.record_count == 4500


def test_e14_what_bulk_refuses_comes_by_rest_with_equal_rows(
    served: RunningOrg, connector: SalesforceConnector, lead: CrmObject
) -> None:
    request = ask(lead, *storable(lead))
    by_bulk = connector.open_read(request)
    assert by_bulk.transport is Transport.BULK
    expected = sorted(read_all(by_bulk))
    refusal = error_body("API_ERROR", "Selecting compound data not supported in Bulk Query")
    served.server.faults.script([Fault("status", path=JOBS, status=400, body=refusal, times=0)])
    by_rest = connector.open_read(request)
    assert by_rest.transport is Transport.REST
    assert sorted(read_all(by_rest)) == expected


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (TIMED_OUT, "REST: Bulk ran out of time"),
        (
            "FeatureNotEnabled : Entity 'Lead' is not supported by the Bulk API.",
            "REST: Bulk does not read it",
        ),
    ],
)
def test_a12_e14_a_job_that_cannot_read_the_object_gives_way_to_rest(
    served: RunningOrg,
    connector: SalesforceConnector,
    lead: CrmObject,
    message: str,
    reason: str,
) -> None:
    served.server.settings.query_timeout_rows = 2000
    served.server.jobs.fail_next = message
    read = connector.open_read(ask(lead))
    assert read.reason == "Bulk: Salesforce takes too long to count the records"
    with pytest.raises(ReadExpired, match="by REST"):
        list(read.pages())
    again = connector.open_read(ask(lead))
    assert again.reason == reason
    rows = read_all(again)
    assert len({row[0] for row in rows}) == len(rows) == again.record_count == 4500


def test_a12_bulk_that_the_settings_demand_fails_with_what_to_change(
    served: RunningOrg, connector: SalesforceConnector, lead: CrmObject
) -> None:
    served.server.jobs.fail_next = TIMED_OUT
    read = connector.open_read(ask(lead, by=Transport.BULK))
    with pytest.raises(QueryTimedOut, match="set its transport to auto"):
        list(read.pages())


def test_e18_read_only_maintenance_stops_no_read(
    served: RunningOrg, connector: SalesforceConnector, lead: CrmObject
) -> None:
    code = "INSERT_UPDATE_DELETE_NOT_ALLOWED_DURING_MAINTENANCE"
    refusals = [
        Fault("status", method=method, path="/services/data/*", status=503, body=error_body(code))
        for method in ("POST", "PATCH", "DELETE")
    ]
    served.server.faults.script(replace(one, times=0) for one in refusals)
    read = connector.open_read(ask(lead))
    assert read.reason == ("REST: Salesforce is read-only for maintenance and begins no Bulk job")
    assert len(read_all(read)) == 4500
    assert jobs_begun(served) == 1
    with pytest.raises(TransientError, match="read-only"):
        connector.open_read(ask(lead, by=Transport.BULK))


def test_e4_an_object_that_is_hidden_while_its_job_runs_is_named(
    held: RunningOrg, connector: SalesforceConnector, lead: CrmObject
) -> None:
    read = connector.open_read(ask(lead, by=Transport.BULK))
    end(job_of(held, read.token), "Failed", "INSUFFICIENT_ACCESS: no access to Lead of Smith")
    with pytest.raises(ObjectUnavailable) as caught:
        list(read.pages())
    assert caught.value.object_name == "Lead"
    assert "Smith" not in str(caught.value)


def test_e11_a_job_whose_beginning_was_lost_is_begun_again(
    served: RunningOrg, connector: SalesforceConnector, lead: CrmObject
) -> None:
    for kind in ("reset", "lost_answer"):
        served.server.faults.clear()
        served.server.faults.script([Fault(kind, path=JOBS, method="POST")])
        assert len(read_all(connector.open_read(ask(lead, by=Transport.BULK)))) == 4500
    for path in (ONE_JOB, "*/resultPages"):
        served.server.faults.clear()
        served.server.faults.script([Fault("lost_answer", path=path, method="GET")])
        assert len(read_all(connector.open_read(ask(lead, by=Transport.BULK)))) == 4500
