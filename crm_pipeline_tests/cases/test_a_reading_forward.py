"""Part A of the cases: reading forward, so that nothing is lost, doubled, or turned back.

docs/reference/cases.md says what we owe in each case, and which mechanism keeps it.
"""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote_plus

import pytest
import stamina
import time_machine

from crm_pipeline.errors import CrmPipelineError
from crm_pipeline.model.sync import Progress, SyncMode, SyncOutcome
from crm_pipeline.sandbox.salesforce import rest as org_rest
from crm_pipeline.sandbox.salesforce.clock import stamp_text
from crm_pipeline.sandbox.salesforce.schema import (
    STAMP_FIELDS,
    FieldDefinition,
    ObjectDefinition,
    with_system_fields,
)
from crm_pipeline_tests.cases.conftest import only_leads
from crm_pipeline_tests.cases.victims import Death, die_in
from crm_pipeline_tests.house import House, all_objects
from crm_pipeline_tests.integration.sync.test_interruptions import free_the_lease
from crm_pipeline_tests.integration.sync.test_rare_interleavings import HOUR, mark_of, pass_time

OVERLAP = timedelta(minutes=15)


def new_leads(house: House, count: int, **values: Any) -> list[str]:
    """Leads made now, or with stamps of their own."""
    return house.org.create_many(
        "Lead", ({"LastName": f"n{n}", "Company": "c", **values} for n in range(count))
    )


def watermark(house: House) -> datetime:
    """Complete up to here."""
    ((found,),) = house.query("SELECT watermark FROM crm_sync.object_state")
    assert isinstance(found, datetime)
    return found


def asked(house: House) -> list[str]:
    """The queries that the org was sent over REST since its ledger was cleared."""
    entries = house.served.server.ledger.entries()
    return [unquote_plus(e.query).partition("q=")[2] for e in entries if "q=" in e.query]


def after_each_page(house: House, mode: SyncMode, work: Callable[[], object]) -> SyncOutcome:
    """A sync of leads, and something that happens whenever it has landed a page."""

    def report(_: Progress) -> None:
        work()

    with house.engine() as engine:
        return engine.sync_object("Lead", mode=mode, run_id="r", report=report)


# Stamps


@pytest.mark.parametrize("seconds", [1, 60, 570])
def test_a1_a_transaction_open_across_a_sync_is_there_after_the_next_differential(
    leads: House, seconds: int
) -> None:
    edited, deleted, *_ = leads.truth("Lead")
    transaction = leads.org.open_transaction()
    transaction.insert_many("Lead", [{"LastName": "Late", "Company": "c"}] * 3)
    transaction.update("Lead", edited, {"Company": "Late"})
    transaction.delete("Lead", deleted)
    pass_time(leads, seconds)
    assert not leads.sync_once("Lead").has_changes
    transaction.commit()
    outcome = leads.sync_once("Lead")
    assert (outcome.inserted, outcome.updated, outcome.deleted) == (3, 1, 1)
    leads.assert_in_step()


@pytest.mark.parametrize(
    ("transport", "count", "page"),
    [
        ("rest", 12_000, 200),
        ("rest", 12_000, 2_000),
        ("bulk", 12_000, 2_000),
        pytest.param("rest", 100_000, 2_000, marks=pytest.mark.long),
        pytest.param("bulk", 100_000, 2_000, marks=pytest.mark.long),
    ],
)
def test_a3_a4_more_records_on_the_very_stamp_of_the_watermark_than_a_page_holds_all_come(
    leads: House, monkeypatch: pytest.MonkeyPatch, transport: str, count: int, page: int
) -> None:
    only_leads(leads, transport)
    monkeypatch.setattr(org_rest, "_BATCH_SIZE", page)
    leads.served.server.settings.bulk_page_records = page
    edge = stamp_text(watermark(leads))
    new_leads(leads, count, CreatedDate=edge, LastModifiedDate=edge, SystemModstamp=edge)
    leads.served.server.ledger.clear()
    assert leads.sync_once("Lead").inserted == count
    leads.assert_in_step()
    assert all("ORDER BY Id" in q for q in asked(leads) if "Id" in q), "never by the stamp"


def test_a4_a13_cursors_that_die_inside_a_pile_of_equal_stamps_neither_lose_nor_repeat_a_record(
    leads: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_leads(leads, "rest")
    monkeypatch.setattr(org_rest, "_BATCH_SIZE", 200)
    new_leads(leads, 3_000)
    pages = 0

    def let_cursors_die() -> None:
        nonlocal pages
        pages += 1
        leads.served.server.cursors.forget()

    outcome = after_each_page(leads, SyncMode.DIFFERENTIAL, let_cursors_die)
    assert (outcome.inserted, outcome.records_read, pages) == (3_000, 3_000, 15)
    leads.assert_in_step()


def test_a7_stamps_between_two_seconds_are_not_cut_off_at_the_edge(leads: House) -> None:
    edge = watermark(leads)
    assert edge.microsecond == 0, "the lower bound is a whole second, rounded down"
    for milliseconds in (0, 1, 999):
        stamp = stamp_text(edge + timedelta(milliseconds=milliseconds))
        new_leads(leads, 1, SystemModstamp=stamp)
    leads.sync_once("Lead")
    leads.assert_in_step()
    leads.execute("UPDATE crm_sync.object_state SET watermark = watermark + interval '999 ms'")
    new_leads(leads, 1, SystemModstamp=stamp_text(watermark(leads) - timedelta(milliseconds=998)))
    leads.sync_once("Lead")
    leads.assert_in_step()


def test_a7_an_org_that_shows_thousandths_is_read_whole(leads: House) -> None:
    leads.org.clock.milliseconds = True
    leads.org.clock.advance(0.999)
    new_leads(leads, 2)
    leads.sync_once("Lead")
    leads.org.clock.advance(0.001)
    new_leads(leads, 2)
    pass_time(leads)
    leads.sync_once("Lead")
    leads.assert_in_step()


def test_a8_changes_by_the_system_and_back_dated_imports_arrive(leads: House) -> None:
    by_system, imported, *_ = leads.truth("Lead")
    long_ago = {"LastModifiedDate": "2001-01-01T00:00:00.000Z"}
    leads.org.update("Lead", by_system, {"Company": "By the system"}, stamps="system")
    leads.org.update("Lead", imported, {"Company": "Imported", **long_ago})
    new_leads(leads, 1, SystemModstamp=leads.org.clock.stamp(), **long_ago)
    outcome = leads.sync_once("Lead")
    assert (outcome.inserted, outcome.updated) == (1, 2)
    leads.assert_in_step()


def test_a9_an_object_that_cannot_be_filtered_by_its_stamp_is_read_whole(house: House) -> None:
    stamps = tuple(replace(field, filterable=False) for field in STAMP_FIELDS)
    badge = FieldDefinition("Name", "Name", "string", length=80)
    house.org.add_object(
        with_system_fields(ObjectDefinition("Badge__c", "Badge", "Badges", "a9B", (badge, *stamps)))
    )
    first, second, third = house.org.create_many(
        "Badge__c", ({"Name": name} for name in ("Gold", "Silver", "Tin"))
    )
    house.configure(objects={"Badge__c": {"fields": ["Name"]}})
    house.full()
    pass_time(house)
    house.org.update("Badge__c", first, {"Name": "Platinum"})
    house.org.delete("Badge__c", second)
    house.org.hard_delete("Badge__c", third)
    house.served.server.ledger.clear()
    outcome = house.sync_once("Badge__c")
    assert (outcome.updated, outcome.deleted) == (1, 2)
    house.assert_in_step()
    assert not any("WHERE" in query for query in asked(house))


def test_a10_the_first_sync_has_no_lower_bound(house: House) -> None:
    only_leads(house)
    for year in range(1999, 2027):
        stamp = f"{year}-01-01T00:00:00.000Z"
        new_leads(house, 1, CreatedDate=stamp, LastModifiedDate=stamp, SystemModstamp=stamp)
    house.full()
    house.assert_in_step()
    oldest = house.query("SELECT min(_modstamp) FROM salesforce.lead")
    assert oldest == [(datetime(1999, 1, 1, tzinfo=UTC),)]


# Windows


@pytest.mark.parametrize("count", [50, pytest.param(1_000, marks=pytest.mark.long)])
def test_a11_empty_differentials_keep_their_window_and_their_calls(
    leads: House, count: int
) -> None:
    leads.sync_once("Lead")
    seen = set()
    with leads.engine() as engine:
        for n in range(count):
            pass_time(leads)
            outcome = engine.sync_object("Lead", mode=SyncMode.DIFFERENTIAL, run_id=f"r{n}")
            assert outcome.watermark_before is not None
            assert outcome.watermark_after is not None
            window = outcome.watermark_after - outcome.watermark_before
            seen.add((window, outcome.api_calls, outcome.records_read))
    [(window, calls, records)] = seen
    assert (window, records) == (timedelta(seconds=HOUR), 0)
    assert calls <= 4


@pytest.mark.parametrize("hours", [2, -2])
@pytest.mark.parametrize("when", ["all along", "in the middle"])
def test_a6_a_wrong_clock_of_ours_changes_neither_bounds_nor_result(
    leads: House, hours: int, when: str
) -> None:
    only_leads(leads, "rest")

    clocks: list[Any] = []

    def step() -> None:
        if when == "in the middle":
            for clock in clocks:
                clock.shift(timedelta(hours=hours))

    def bounds() -> tuple[list[str], datetime]:
        leads.served.server.ledger.clear()
        new_leads(leads, 2)
        after_each_page(leads, SyncMode.DIFFERENTIAL, step)
        leads.assert_in_step()
        return asked(leads), watermark(leads)

    leads.sync_once("Lead")
    right = bounds()
    now = datetime.now(UTC)
    shifted = now + timedelta(hours=hours) if when == "all along" else now
    with time_machine.travel(shifted) as clock:
        clocks.append(clock)
        assert bounds() == right


# Reads that are disturbed


@pytest.mark.parametrize("mode", [SyncMode.FULL, SyncMode.DIFFERENTIAL])
def test_a2_a_sync_killed_after_any_page_of_an_unordered_result_moves_no_watermark(
    paged: House, mode: SyncMode
) -> None:
    house, before = paged, watermark(paged)
    house.org.row_order_seed = 7
    now = house.org.clock.now()
    minutes = [(37 * n) % 59 for n in range(200)]  # newest, oldest and middle ones on every page
    house.org.create_many(
        "Lead",
        (
            {
                "LastName": f"n{n}",
                "Company": "c",
                "SystemModstamp": stamp_text(now - timedelta(minutes=minute)),
            }
            for n, minute in enumerate(minutes)
        ),
    )
    table = house.table("Lead")
    for page in range(1, 6):
        die_in("Lead", mode, Death(after_pages=page))
        free_the_lease(house)
        if mode is SyncMode.FULL:
            house.execute("DELETE FROM crm_sync.sync_run")  # so that each begins anew
        assert (watermark(house), house.table("Lead")) == (before, table)
    house.sync_once("Lead")
    house.assert_in_step()


@pytest.mark.parametrize("transport", ["rest", "bulk"])
def test_a2_a_read_that_breaks_off_at_any_byte_moves_no_watermark(
    leads: House, transport: str
) -> None:
    only_leads(leads, transport)
    before, table = watermark(leads), leads.table("Lead")
    new_leads(leads, 40)
    path = "*/queryAll" if transport == "rest" else "*/results"
    with stamina.set_testing(True, attempts=1):
        for cut in range(0, 1_000, 50):
            leads.served.server.faults.script(
                [{"kind": "cut", "path": path, "times": 0, "after_bytes": cut}]
            )
            with pytest.raises(CrmPipelineError):
                leads.sync_once("Lead")
            assert (watermark(leads), leads.table("Lead")) == (before, table)
            leads.served.server.faults.clear()
    leads.sync_once("Lead")
    leads.assert_in_step()


@pytest.mark.parametrize("transport", ["rest", "bulk"])
@pytest.mark.parametrize("mode", [SyncMode.FULL, SyncMode.DIFFERENTIAL])
def test_a5_changes_between_all_pages_neither_hide_nor_repeat_a_record(
    paged: House, monkeypatch: pytest.MonkeyPatch, transport: str, mode: SyncMode
) -> None:
    house = paged
    only_leads(house, transport)
    monkeypatch.setattr(org_rest, "_BATCH_SIZE", 40)
    doomed = new_leads(house, 240)[::-3]  # some lie before, and some behind the place
    edited = doomed[1::2]
    del doomed[1::2]
    pages = 0

    def mutate() -> None:
        nonlocal pages
        pages += 1
        house.org.delete("Lead", doomed.pop(pages % len(doomed)))
        house.org.update("Lead", edited[pages], {"Company": f"page {pages}"})
        new_leads(house, 3)

    everything = house.org.count("Lead", include_deleted=True)
    outcome = after_each_page(house, mode, mutate)
    assert pages >= 6
    assert outcome.records_read == (everything if mode is SyncMode.FULL else 240)
    pass_time(house)
    house.sync_once("Lead")
    house.assert_in_step()


def test_a5_a_record_removed_for_good_between_two_pages_makes_the_read_begin_anew(
    leads: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_leads(leads, "rest")
    monkeypatch.setattr(org_rest, "_BATCH_SIZE", 40)
    *_, last = new_leads(leads, 100)

    def remove() -> None:
        if leads.org.get("Lead", last) is not None:
            leads.org.hard_delete("Lead", last)

    assert after_each_page(leads, SyncMode.DIFFERENTIAL, remove).inserted == 99
    leads.assert_in_step()


@pytest.mark.parametrize("transport", ["rest", "bulk"])
@pytest.mark.parametrize("mode", [SyncMode.FULL, SyncMode.DIFFERENTIAL])
@pytest.mark.parametrize(
    "lie",
    [
        {"kind": "drop_records"},
        {"kind": "drop_records", "nth": 2, "records": 7},
        {"kind": "early_end"},
        {"kind": "wrong_count"},
    ],
    ids=lambda lie: "-".join(map(str, lie.values())),
)
def test_a14_a15_a_page_that_lies_is_seen_through_or_never_committed(
    paged: House, transport: str, mode: SyncMode, lie: dict[str, object]
) -> None:
    assert_no_lie_is_committed(paged, transport, mode, lie)


@pytest.mark.parametrize("transport", ["rest", "bulk"])
@pytest.mark.parametrize("mode", [SyncMode.FULL, SyncMode.DIFFERENTIAL])
def test_a15_a_record_doubled_in_the_place_of_another_is_never_committed(
    paged: House, transport: str, mode: SyncMode
) -> None:
    lie = {"kind": "duplicate_records", "instead": True, "nth": 2}
    assert_no_lie_is_committed(paged, transport, mode, lie)


def assert_no_lie_is_committed(
    house: House, transport: str, mode: SyncMode, lie: dict[str, object]
) -> None:
    """However often a page lies, the table is as it was or as it should be."""
    only_leads(house, transport)
    house.monkeypatch.setattr(org_rest, "_BATCH_SIZE", 40)
    new_leads(house, 100)
    before, table = watermark(house), house.table("Lead")
    path = "*/query*" if transport == "rest" else "*/results"
    faults = house.served.server.faults
    with stamina.set_testing(True, attempts=2):
        faults.script([{**lie, "nth": 0, "times": 0, "path": path}])
        try:
            house.sync(mode, "Lead")
        except CrmPipelineError:
            assert (watermark(house), house.table("Lead")) == (before, table)
        else:
            house.assert_in_step()
        faults.clear()
        faults.script([{**lie, "path": path}])
        with contextlib.suppress(CrmPipelineError):
            house.sync(mode, "Lead")
        house.sync(mode, "Lead")
    house.assert_in_step()


def test_a15_a_read_that_goes_on_notices_what_an_earlier_one_was_not_given(paged: House) -> None:
    house = paged
    only_leads(house, "rest")
    house.monkeypatch.setattr(org_rest, "_BATCH_SIZE", 40)
    house.served.server.faults.script([{"kind": "drop_records", "path": "*/query*", "times": 1}])
    die_in("Lead", SyncMode.FULL, Death(after_pages=3))
    free_the_lease(house)
    house.full()
    house.assert_in_step()


@pytest.mark.parametrize("records", [0, 1, 25])
def test_a14_pages_that_are_short_or_empty_do_not_end_a_read(leads: House, records: int) -> None:
    only_leads(leads, "rest")
    new_leads(leads, 60)
    leads.served.server.faults.script(
        [{"kind": "short_page", "records": records, "path": "*/query*", "times": 5}]
    )
    assert leads.sync_once("Lead").inserted == 60
    leads.assert_in_step()


# What is read twice, or late


def test_a16_what_the_overlap_reads_again_makes_no_row_version_and_no_event(
    house: House,
) -> None:
    names = ("Lead", "Opportunity", "Event_Registration__c")
    house.org.clock.advance(0)
    house.full(*names)
    for name in names:
        house.org.update(name, next(iter(house.truth(name))), {})
    house.sync(SyncMode.DIFFERENTIAL, *names)
    before = {name: versions(house, name) for name in names}
    for transport in ("rest", "bulk", "auto"):
        house.configure(objects=all_objects(transport))
        pass_time(house, 60)
        outcomes = house.sync(SyncMode.DIFFERENTIAL, *names)
        assert all(o.records_read for o in outcomes.values()), "the overlap was read"
        assert not any(o.has_changes for o in outcomes.values())
    assert {name: versions(house, name) for name in names} == before


def versions(house: House, name: str) -> list[tuple[Any, ...]]:
    """Where every row lies and who wrote it: another version lies elsewhere."""
    return house.query(f'SELECT id, ctid::text, xmin::text FROM salesforce."{name.lower()}"')


@pytest.mark.parametrize("mode", [SyncMode.FULL, SyncMode.DIFFERENTIAL])
@pytest.mark.parametrize("change", ["edited", "deleted", "gone for good"])
def test_a17_a_page_that_was_read_before_a_record_was_synced_by_hand_does_not_turn_it_back(
    paged: House, mode: SyncMode, change: str
) -> None:
    house = paged
    one = next(iter(house.truth("Lead")))
    house.org.update("Lead", one, {"Company": "Old"})
    pages = 0

    def by_hand() -> None:
        nonlocal pages
        pages += 1
        if pages > 1:
            return
        pass_time(house, 60)
        match change:
            case "edited":
                house.org.update("Lead", one, {"Company": "New"})
            case "deleted":
                house.org.delete("Lead", one)
            case _:
                house.org.hard_delete("Lead", one)
        with house.engine() as other:
            other.sync_record("Lead", one, run_id="hand")

    after_each_page(house, mode, by_hand)
    if change == "edited":
        assert house.table("Lead")[one]["company"] == "New"
    else:
        assert mark_of(house, one) == "deleted"
    pass_time(house)
    house.sync_once("Lead")
    house.assert_in_step()


def test_a17_of_two_versions_within_one_second_the_next_differential_brings_the_last(
    paged: House,
) -> None:
    house = paged
    one = next(iter(house.truth("Lead")))
    house.org.update("Lead", one, {"Company": "First"})

    def by_hand() -> None:
        house.org.update("Lead", one, {"Company": "Second, of the same stamp"})
        with house.engine() as other:
            other.sync_record("Lead", one, run_id="hand")

    after_each_page(house, SyncMode.DIFFERENTIAL, by_hand)
    pass_time(house)
    house.sync_once("Lead")
    house.assert_in_step()
