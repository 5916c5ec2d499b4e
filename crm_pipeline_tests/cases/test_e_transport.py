"""Whatever the way to the CRM does, a sync lands all of it, or nothing and goes on later.

These are samples through the whole engine; the connector's own tests go through every call, page
and kilobyte (crm_pipeline_tests/integration/crm).
"""

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
import stamina

from crm_pipeline.errors import CrmPipelineError, IncompleteRead, TransientError
from crm_pipeline.model.sync import SyncMode
from crm_pipeline.sandbox.salesforce.faults import Fault
from crm_pipeline.sandbox.salesforce.gate import error_body
from crm_pipeline_tests.house import House

API = "/services/data/*"
FIELDS = ["LastName", "Company", "Email", "Description"]
DAY = 86_400
TRANSPORTS = pytest.mark.parametrize("transport", ["rest", "bulk"])


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    """Repetitions follow each other at once, as many as in earnest."""
    stamina.set_testing(True, attempts=6, cap=True)
    yield
    stamina.set_testing(False)


@pytest.fixture
def by(house: House, monkeypatch: pytest.MonkeyPatch) -> House:
    """Some 270 leads in pages of 40 on a clock that stands still; `settle` chooses the way."""
    monkeypatch.setattr("crm_pipeline.sandbox.salesforce.rest._BATCH_SIZE", 40)
    house.served.server.settings.bulk_page_records = 40
    house.org.clock.advance(0)
    settle(house, "auto")
    return house


def settle(house: House, transport: str) -> None:
    """Leads alone, by that transport."""
    house.configure(objects={"Lead": {"transport": transport, "fields": FIELDS}})


def befall(house: House, *faults: Fault) -> None:
    house.served.server.faults.clear()
    house.served.server.faults.script(faults)


def heal(house: House) -> None:
    house.served.server.faults.clear()


def calls(house: House) -> int:
    return sum(
        one.path.startswith("/services/data/v") for one in house.served.server.ledger.entries()
    )


def fewest_calls(house: House) -> int:
    """What a sync needs on the quickest machine, where a job is done when it is first asked."""
    asked = sum(
        one.method == "GET" and re.search(r"/jobs/query/\w+$", one.path) is not None
        for one in house.served.server.ledger.entries()
    )
    return calls(house) - max(0, asked - 1)


def forget(house: House) -> None:
    """An empty warehouse again, and an empty ledger of calls."""
    house.execute(
        "DROP TABLE IF EXISTS salesforce.lead CASCADE;"
        " TRUNCATE crm_sync.object_state, crm_sync.sync_run, crm_sync.checkpoint CASCADE"
    )
    house.served.server.ledger.clear()


def attempt(house: House) -> CrmPipelineError | None:
    """A full sync; what it failed with, if it did."""
    try:
        house.full()
    except CrmPipelineError as error:
        return error
    return None


@TRANSPORTS
def test_e1_a_session_that_ends_at_any_call_of_a_sync_is_renewed_once_and_nothing_is_lost(
    by: House, transport: str
) -> None:
    settle(by, transport)
    by.full()
    needed = calls(by)
    assert needed > 8
    for nth in range(1, needed + 1, 3):
        forget(by)
        befall(by, Fault("expire_session", path="/services/data/v*", nth=nth))
        logins = by.org.sessions.logins
        by.full()
        [fault] = by.served.server.faults.faults
        assert by.org.sessions.logins == logins + 1 + fault.uses
        by.assert_in_step()


@TRANSPORTS
def test_e4_e5_a_day_that_ends_at_any_call_is_a_pause_and_the_next_run_goes_on(
    by: House, transport: str
) -> None:
    settle(by, transport)
    by.full()
    needed = fewest_calls(by)
    for left in range(0, needed - 3, 2):
        forget(by)
        by.org.set_api_limit(500 + left, maximum=1000)
        failed = attempt(by)
        assert by.org.limit.remaining >= 500 - (left == 0)
        by.org.set_api_limit(1000, maximum=1000)
        assert isinstance(failed, TransientError)
        assert failed.retry_after_seconds
        assert by.query("SELECT 1 FROM crm_sync.object_state WHERE watermark IS NOT NULL") == []
        by.full()
        by.assert_in_step()


@pytest.mark.parametrize("fault", [Fault("reset"), Fault("lost_answer"), Fault("html", status=200)])
@TRANSPORTS
def test_e7_e8_e11_a_call_that_fails_once_anywhere_costs_one_more_call(
    by: House, transport: str, fault: Fault
) -> None:
    settle(by, transport)
    by.full()
    needed = calls(by)
    for nth in range(2, needed + 1, 5):
        forget(by)
        befall(by, Fault(fault.kind, path="/services/data/v*", nth=nth, status=fault.status))
        by.full()
        assert calls(by) <= needed + 2
        by.assert_in_step()


@TRANSPORTS
def test_e9_pages_that_are_cut_land_whole(by: House, transport: str) -> None:
    settle(by, transport)
    path = "*/results" if transport == "bulk" else "*/query*"
    by.full()
    longest = max(
        one.sent_bytes
        for one in by.served.server.ledger.entries()
        if one.path.endswith("/results") or "/query" in one.path
    )
    for after_bytes in (0, 1024, longest // 2, longest - 1):
        forget(by)
        befall(by, Fault("cut", path=path, after_bytes=after_bytes, nth=2))
        by.full()
        by.assert_in_step()


LIES = (
    Fault("drop_records", records=3),
    Fault("drop_records", records=3, consistent=True),
    Fault("duplicate_records", records=3),
    Fault("duplicate_records", records=3, consistent=True),
    Fault("early_end"),
    Fault("wrong_count", by=7),
    Fault("wrong_count", by=-7),
)


LYING = pytest.mark.parametrize(
    "lying", LIES, ids=lambda one: f"{one.kind}-{one.consistent}-{one.by}"
)


@LYING
@TRANSPORTS
def test_a15_pages_that_lie_are_read_again_and_then_refused(
    by: House, transport: str, lying: Fault
) -> None:
    settle(by, transport)
    by.full()
    before = by.table("Lead")
    watermark = by.query("SELECT watermark FROM crm_sync.object_state")
    by.org.clock.advance(3600)
    for row in by.org.query("SELECT Id FROM Lead LIMIT 90"):
        by.org.update("Lead", row["Id"], {"Company": "Changed"})
    path = "*/results" if transport == "bulk" else "*/query/0r8*"
    befall(by, replace(lying, path=path, times=0))
    failed = attempt(by)
    if failed is None:  # the lie could be seen through
        by.assert_in_step()
        return
    assert isinstance(failed, IncompleteRead | TransientError)
    assert by.table("Lead") == before
    assert by.query("SELECT watermark FROM crm_sync.object_state") == watermark
    heal(by)
    by.full()
    by.assert_in_step()


@TRANSPORTS
def test_a15_pages_that_lie_once_do_no_harm(by: House, transport: str) -> None:
    settle(by, transport)
    path = "*/results" if transport == "bulk" else "*/query/0r8*"
    for lying in LIES[:4]:
        forget(by)
        befall(by, replace(lying, path=path, nth=3))
        if attempt(by) is not None:
            heal(by)
            by.full()
        by.assert_in_step()


@pytest.mark.parametrize("transport", ["rest", "bulk"])
def test_a15_a_record_in_the_place_of_another_is_not_taken_for_it(
    by: House, transport: str
) -> None:
    settle(by, transport)
    path = "*/results" if transport == "bulk" else "*/query/0r8*"
    befall(by, Fault("duplicate_records", path=path, nth=3, records=3, instead=True))
    if attempt(by) is not None:
        by.full()
    by.assert_in_step()


@pytest.mark.parametrize(
    "message",
    ["InternalServerError : Retried more than fifteen times", "UNKNOWN_EXCEPTION: sorry", ""],
)
def test_e12_e13_a_job_that_failed_once_is_begun_anew_within_the_run(
    by: House, message: str
) -> None:
    settle(by, "bulk")
    by.served.server.jobs.fail_next = message or " "
    by.full()
    by.assert_in_step()


def test_e13_a_full_sync_resumed_on_day_eight_reads_anew(by: House) -> None:
    settle(by, "bulk")
    befall(by, Fault("status", path="*/results", status=503, nth=0, times=0))
    assert isinstance(attempt(by), TransientError)
    heal(by)
    by.org.clock.advance(8 * DAY)
    by.full()
    by.assert_in_step()


def test_e14_d13_what_bulk_refuses_lands_by_rest_with_equal_rows(by: House) -> None:
    settle(by, "bulk")
    by.full()
    by_bulk = by.table("Lead")
    forget(by)
    settle(by, "auto")
    refusal = error_body("INVALIDENTITY", "Entity 'Lead' is not supported by the Bulk API.")
    befall(by, Fault("status", path="*/jobs/query", status=400, body=refusal, times=0))
    by.served.server.settings.query_timeout_rows = 200
    outcome = by.full()["Lead"]
    assert outcome.transport_reason == "REST: Bulk does not read Lead"
    assert by.table("Lead") == by_bulk


@pytest.mark.parametrize("finished", [200, 61, 20])
def test_a12_an_object_that_neither_rest_nor_bulk_finishes_is_read_in_portions(
    by: House, finished: int
) -> None:
    # The records filter is what makes it slow, and it is skewed: most of it lies at one end.
    by.served.server.settings.query_timeout_rows = finished
    by.served.server.jobs.fail_next = "QUERY_TIMEOUT: running for too long"
    outcome = by.full()["Lead"]
    assert outcome.transport_reason == "REST: Bulk ran out of time"
    by.assert_in_step()


def test_a12_many_changes_in_one_second_are_read_in_portions(by: House) -> None:
    by.full()
    by.org.clock.advance(3600)
    for row in by.org.query("SELECT Id FROM Lead LIMIT 150"):
        by.org.update("Lead", row["Id"], {"Company": "Same second"})
    by.org.clock.advance(3600)
    settle(by, "rest")
    by.served.server.settings.query_timeout_rows = 30
    assert by.sync_once("Lead").updated == 150
    by.assert_in_step()


def test_a5_records_that_come_and_go_between_all_pages_are_neither_lost_nor_doubled(
    by: House,
) -> None:
    settle(by, "rest")
    leads = sorted(str(row["Id"]) for row in by.org.query("SELECT Id FROM Lead"))
    seen: list[int] = []

    def live(number: int) -> None:
        by.org.delete("Lead", leads[number])
        by.org.hard_delete("Lead", leads[-1 - number])
        by.org.create("Lead", {"LastName": "New", "Company": "C"})

    server = by.served.server
    find = server.cursors.find

    def find_and_live(locator: str) -> object:
        seen.append(1)
        live(len(seen))
        return find(locator)

    by.monkeypatch.setattr(server.cursors, "find", find_and_live)
    by.full()
    assert len(seen) > 4
    by.monkeypatch.undo()
    by.configure()
    by.org.clock.advance(3600)
    by.sync(SyncMode.DIFFERENTIAL)
    by.assert_in_step()


def test_e18_a_window_of_read_only_maintenance_stops_no_sync(by: House) -> None:
    code = error_body("INSERT_UPDATE_DELETE_NOT_ALLOWED_DURING_MAINTENANCE")
    befall(
        by,
        *(
            Fault("status", method=method, path=API, status=503, body=code, times=0)
            for method in ("POST", "PATCH", "PUT", "DELETE")
        ),
    )
    by.served.server.settings.query_timeout_rows = 200
    outcome = by.full()["Lead"]
    assert "read-only for maintenance" in outcome.transport_reason
    by.assert_in_step()
    by.org.clock.advance(2 * 3600)
    by.sync_once("Lead")
    by.assert_in_step()
