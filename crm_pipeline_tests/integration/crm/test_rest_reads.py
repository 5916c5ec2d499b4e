"""Reads over REST while cursors die, pages lie, records come and go, and queries take too long."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from crm_pipeline.crm.port import RecordRead, ResumePoint
from crm_pipeline.crm.salesforce.connector import SalesforceConnector
from crm_pipeline.crm.salesforce.failures import QueryTimedOut
from crm_pipeline.errors import PermanentError, ReadExpired, TransientError
from crm_pipeline.model.filters import Any as AnyOf
from crm_pipeline.model.filters import Comparator, Comparison
from crm_pipeline.model.objects import CrmObject, Transport
from crm_pipeline.sandbox.salesforce.faults import Fault
from crm_pipeline.sandbox.salesforce.gate import error_body
from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.running import RunningOrg
from crm_pipeline_tests.integration.crm.asking import (
    NOON,
    Connections,
    ask,
    read_all,
    rows_of,
)

FIRST, FURTHER = "*/queryAll", "*/query/0r8*"
BATCH = 500  # nine pages of the 4,500 leads


@pytest.fixture(autouse=True)
def _many_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crm_pipeline.sandbox.salesforce.rest._BATCH_SIZE", BATCH)


def by_rest(connector: SalesforceConnector, lead: CrmObject) -> RecordRead:
    return connector.open_read(ask(lead, "Id", "LastName", by=Transport.REST))


def ids_of(rows: list[list[str]]) -> set[str]:
    return {row[0] for row in rows}


def read_with(read: RecordRead, between: Callable[[int], object]) -> list[list[str]]:
    """Read all, doing something behind every page."""
    rows = []
    for number, page in enumerate(read.pages(), start=1):
        rows += rows_of(b"".join(page.chunks()))
        between(number)
    return rows


def all_ids(org: SandboxOrg) -> set[str]:
    return {str(row["Id"]) for row in org.query("SELECT Id FROM Lead", include_deleted=True)}


@pytest.mark.parametrize("killed", [1, 7, 8])
def test_a13_a_cursor_that_is_killed_at_any_page_loses_and_doubles_nothing(
    served: RunningOrg, connector: SalesforceConnector, lead: CrmObject, killed: int
) -> None:
    read = by_rest(connector, lead)
    cursors = served.server.cursors
    rows = read_with(read, lambda number: cursors.forget() if number == killed else None)
    assert len(rows) == len(ids_of(rows)) == read.record_count == 4500
    calls = [one for one in served.server.ledger.entries() if "/query" in one.path]
    assert len(calls) == 9 + 1


@pytest.mark.parametrize("killed", [1, 7, 9])
def test_a13_a_read_that_was_killed_with_its_cursor_goes_on_behind_the_last_landed_id(
    served: RunningOrg, connector: SalesforceConnector, lead: CrmObject, killed: int
) -> None:
    first = by_rest(connector, lead)
    pages = first.pages()
    landed = [next(pages) for _ in range(killed)]
    rows = rows_of(b"".join(b"".join(page.chunks()) for page in landed))
    served.server.cursors.forget()
    point = ResumePoint(first.token, tuple(page.key for page in landed))
    later = connector.open_read(ask(lead, "Id", "LastName"), resume=point)
    rows += read_all(later)
    assert len(rows) == len(ids_of(rows)) == later.record_count == 4500


def test_a13_a_cursor_that_dies_behind_a_page_that_lost_records_hides_nothing(
    served: RunningOrg, connector: SalesforceConnector, lead: CrmObject
) -> None:
    read = by_rest(connector, lead)
    served.server.faults.script([Fault("drop_records", path=FURTHER, nth=2, records=3)])
    cursors = served.server.cursors
    with pytest.raises(ReadExpired, match="announced 4,500 records of Lead and handed over 4,497"):
        read_with(read, lambda number: cursors.forget() if number == 3 else None)


def test_a15_a_read_that_goes_on_remembers_what_was_announced(
    served: RunningOrg, connector: SalesforceConnector, lead: CrmObject
) -> None:
    first = by_rest(connector, lead)
    served.server.faults.script([Fault("drop_records", path=FURTHER, nth=2, records=3)])
    pages = first.pages()
    landed = [next(pages) for _ in range(5)]
    point = ResumePoint(first.token, tuple(page.key for page in landed))
    later = connector.open_read(ask(lead, "Id", "LastName"), resume=point)
    with pytest.raises(ReadExpired, match="announced 4,500 records of Lead and handed over 4,497"):
        read_all(later)


def test_a14_pages_of_one_no_and_many_records_are_no_end_before_done_says_so(
    served: RunningOrg, connector: SalesforceConnector, lead: CrmObject
) -> None:
    everything = read_all(by_rest(connector, lead))
    read = by_rest(connector, lead)
    bodies, place = [], BATCH
    for size in (1, 0, 0, 250, 0, 3749):
        rows = [{"Id": row[0], "LastName": row[1]} for row in everything[place : place + size]]
        place += size
        following = f"/services/data/v62.0/query/0r8000000000001AAA-{place}"
        page = {"totalSize": 4500, "done": place == 4500, "records": rows}
        bodies.append(json.dumps(page | {"nextRecordsUrl": following}))
    served.server.faults.script(
        Fault("status", path=FURTHER, status=200, body=body) for body in bodies
    )
    assert read_all(read) == everything
    assert read.record_count == 4500


def test_a14_pages_without_records_do_not_go_on_for_ever(
    served: RunningOrg, connector: SalesforceConnector, lead: CrmObject
) -> None:
    following = "/services/data/v62.0/query/0r8000000000001AAA-500"
    page = {"totalSize": 4500, "done": False, "records": [], "nextRecordsUrl": following}
    read = by_rest(connector, lead)
    served.server.faults.script(
        [Fault("status", path=FURTHER, status=200, body=json.dumps(page), times=0)]
    )
    with pytest.raises(TransientError, match="without end"):
        read_all(read)


@pytest.mark.parametrize("consistent", [False, True])
@pytest.mark.parametrize("page", range(1, 10))
def test_a15_records_dropped_from_any_page_are_missed(
    served: RunningOrg,
    connector: SalesforceConnector,
    lead: CrmObject,
    page: int,
    *,
    consistent: bool,
) -> None:
    path, nth = (FIRST, 1) if page == 1 else (FURTHER, page - 1)
    served.server.faults.script(
        [Fault("drop_records", path=path, nth=nth, records=7, consistent=consistent)]
    )
    with pytest.raises(ReadExpired, match="handed over 4,493"):
        read_all(by_rest(connector, lead))
    served.server.faults.clear()
    assert len(read_all(by_rest(connector, lead))) == 4500


@pytest.mark.parametrize("instead", [False, True])
def test_a5_records_that_come_twice_are_not_taken_for_others(
    served: RunningOrg, connector: SalesforceConnector, lead: CrmObject, *, instead: bool
) -> None:
    twice = Fault("duplicate_records", path=FURTHER, nth=2, records=2, instead=instead)
    served.server.faults.script([twice])
    with pytest.raises(ReadExpired, match="twice"):
        read_all(by_rest(connector, lead))


@pytest.mark.parametrize("by", [-5, 5])
def test_a15_a_count_that_is_wrong_is_asked_again(
    served: RunningOrg, connector: SalesforceConnector, lead: CrmObject, by: int
) -> None:
    served.server.faults.script([Fault("wrong_count", path=FIRST, nth=1, by=by)])
    read = by_rest(connector, lead)
    assert len(read_all(read)) == read.record_count == 4500


def test_a5_inserts_updates_and_deletes_between_all_pages_lose_and_double_nothing(
    small: RunningOrg, connections: Connections
) -> None:
    org = small.org
    org.create_many("Lead", [{"LastName": f"L{n}", "Company": "C"} for n in range(3000)])
    connector = connections.to(small)
    read = by_rest(connector, connector.describe("Lead"))
    before = sorted(all_ids(org))
    gone: set[str] = set()

    def live(number: int) -> None:
        soft, hard, edited = before[number], before[-10 * number], before[-10 * number - 1]
        org.delete("Lead", soft)
        org.hard_delete("Lead", hard)
        org.update("Lead", edited, {"Title": f"Edited {number}"})
        org.create("Lead", {"LastName": "New", "Company": "C"})
        gone.add(hard)
        if number % 2:
            small.server.cursors.forget()

    rows = read_with(read, live)
    assert len(rows) == len(ids_of(rows)) == read.record_count
    assert set(before) - gone <= ids_of(rows) <= all_ids(org) | gone


def test_a5_records_deleted_for_good_under_a_cursor_are_no_loss(
    small: RunningOrg, connections: Connections
) -> None:
    org = small.org
    org.create_many("Lead", [{"LastName": f"L{n}", "Company": "C"} for n in range(1500)])
    connector = connections.to(small)
    read = by_rest(connector, connector.describe("Lead"))
    last = sorted(all_ids(org))[-3:]

    def delete(number: int) -> None:
        for one in last if number == 1 else ():
            org.hard_delete("Lead", one)

    rows = read_with(read, delete)
    assert ids_of(rows) == all_ids(org)
    assert read.record_count == len(rows)


@pytest.mark.parametrize("finished", [4500, 4499, 2000, 1999, 250, 25, 20])
def test_a12_a_query_that_takes_too_long_is_read_in_portions_and_the_union_is_exact(
    served: RunningOrg, connector: SalesforceConnector, lead: CrmObject, finished: int
) -> None:
    served.server.settings.query_timeout_rows = finished
    read = by_rest(connector, lead)
    rows = read_all(read)
    assert len(rows) == read.record_count == 4500
    assert ids_of(rows) == all_ids(served.org)


def test_a12_a_portion_of_a_thousand_stamps_alike_needs_no_finer_time(
    small: RunningOrg, connections: Connections
) -> None:
    # Everything was changed in the same second: halves of time would never become smaller.
    small.org.clock.advance(60)
    small.org.create_many("Lead", [{"LastName": "Same", "Company": "C"}] * 3000)
    small.server.settings.query_timeout_rows = 300
    connector = connections.to(small)
    lead = connector.describe("Lead")
    since = NOON + timedelta(seconds=60)
    read = connector.open_read(ask(lead, by=Transport.REST, since=since))
    assert len(ids_of(read_all(read))) == read.record_count == 3000


def test_a12_portions_are_resumed_and_their_lies_noticed(
    served: RunningOrg, connector: SalesforceConnector, lead: CrmObject
) -> None:
    served.server.settings.query_timeout_rows = 250
    first = by_rest(connector, lead)
    pages = first.pages()
    landed = [next(pages) for _ in range(4)]
    point = ResumePoint(first.token, tuple(page.key for page in landed))
    later = connector.open_read(ask(lead, "Id", "LastName"), resume=point)
    assert len(read_all(later)) == 4500 - sum(page.record_count or 0 for page in landed)
    served.server.faults.script([Fault("drop_records", path=FIRST, nth=6, records=1)])
    with pytest.raises((ReadExpired, QueryTimedOut)):
        read_all(by_rest(connector, lead))


def test_a12_a_query_that_never_ends_is_given_up_boundedly(
    served: RunningOrg, connector: SalesforceConnector, lead: CrmObject
) -> None:
    served.server.settings.query_timeout_rows = 1
    calls = connector.usage.calls
    with pytest.raises(QueryTimedOut, match="set its transport to auto"):
        by_rest(connector, lead)
    assert connector.usage.calls - calls == 4


def test_a12_a_page_that_takes_too_long_is_asked_for_in_smaller_portions(
    served: RunningOrg, connector: SalesforceConnector, lead: CrmObject
) -> None:
    slow = Fault("status", path=FURTHER, status=400, body=error_body("QUERY_TIMEOUT"), times=2)
    served.server.faults.script([slow])
    assert len(ids_of(read_all(by_rest(connector, lead)))) == 4500


@pytest.mark.parametrize(
    ("microsecond", "asked"), [(0, 0), (1_000, 1), (999_000, 999), (999_999, 999)]
)
def test_a7_a_stamp_with_milliseconds_is_not_cut_off_by_the_lower_bound(
    small: RunningOrg, connections: Connections, microsecond: int, asked: int
) -> None:
    moment = NOON + timedelta(seconds=90, microseconds=microsecond)
    small.org.clock.set(moment)
    made = small.org.create("Lead", {"LastName": "On the edge", "Company": "C"})
    connector = connections.to(small)
    lead = connector.describe("Lead")
    since = NOON + timedelta(seconds=90, milliseconds=asked)
    for transport in (Transport.REST, Transport.BULK):
        rows = read_all(connector.open_read(ask(lead, by=transport, since=since)))
        assert made in ids_of(rows)


def test_a9_a_stamp_that_describe_does_not_let_us_filter_by_is_never_asked_for(
    small: RunningOrg, connections: Connections
) -> None:
    connector = connections.to(small)
    described = small.org.catalogue.object("Lead")
    for name, following in (("SystemModstamp", "LastModifiedDate"), ("LastModifiedDate", None)):
        field = described.field(name)
        assert field is not None
        small.org.catalogue.remove_field("Lead", name)
        small.org.add_field("Lead", replace(field, filterable=False))
        lead = connector.describe("Lead")
        assert lead.cursor_field == following
    sent = len(small.server.ledger.entries())
    with pytest.raises(PermanentError, match="must be read whole"):
        connector.open_read(ask(lead, "Id", by=Transport.REST, since=NOON))
    assert len(small.server.ledger.entries()) == sent


def test_e16_a_query_over_the_length_of_soql_is_refused_before_it_is_sent(
    served: RunningOrg, connector: SalesforceConnector, lead: CrmObject
) -> None:
    wordy = AnyOf(
        tuple(Comparison("Company", Comparator.EQUAL, f"Company {n:05}") for n in range(4000))
    )
    sent = len(served.server.ledger.entries())
    with pytest.raises(PermanentError, match="shorten its record filter"):
        connector.open_read(replace(ask(lead), record_filter=wordy))
    assert len(served.server.ledger.entries()) == sent
