"""Cases G: who may sync when, and what is left when somebody stops in the middle.

Those of Dagster's ticks, runs and processes stand in orchestration/, with the same ids.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from crm_pipeline.errors import CrmPipelineError, LeaseBusy, LeaseLost, SyncsDisabled
from crm_pipeline.model.sync import Progress, SyncMode
from crm_pipeline.sandbox.salesforce.ledger import Entry, Ledger
from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.people import seed_org
from crm_pipeline.sandbox.salesforce.running import running
from crm_pipeline.sync.reference import REFERENCE_DATASETS, sync_reference_dataset
from crm_pipeline.warehouse.lease import held_lease
from crm_pipeline_tests.cases.pooler import pooled
from crm_pipeline_tests.house import House

OBJECTS: dict[str, Any] = {
    "Lead": {"transport": "bulk", "fields": ["LastName", "Company", "Email"]},
    "Account": {"transport": "rest", "fields": ["Name"]},
    "Contact": {"transport": "rest", "filter": "LastName != null", "fields": ["LastName"]},
}

_REQUIRED = {"Lead": {"LastName": "New"}}


@pytest.fixture
def house(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """A small org: one object by Bulk in several pages, two by REST, one of them filtered."""
    org = SandboxOrg()
    seed_org(org, records=120)
    with running(org) as served:
        served.server.settings.bulk_page_records = 20
        made = House(org, served, tmp_path, database_url, monkeypatch)
        made.configure(version=1, objects=OBJECTS, crm={"read_streams": 1})
        yield made
    org.close()


class Tripwire(Ledger):
    """The org's ledger, which does something when a certain request comes in."""

    def __init__(self, at: int, action: Callable[[], None]) -> None:
        super().__init__()
        self.at = at
        self.action = action
        self.asked = 0

    def open(self, method: str, path: str, query: str, received_at: str) -> Entry:
        """Note a request, and act before it is answered."""
        self.asked += 1
        if self.asked == self.at:
            self.action()
        return super().open(method, path, query, received_at)


def trip(house: House, at: int, action: Callable[[], None] = lambda: None) -> Tripwire:
    """From now on the org counts requests from 1, and acts at one of them."""
    house.served.server.ledger = Tripwire(at, action)
    return house.served.server.ledger


def edit(house: House) -> None:
    """A change of every kind in every object."""
    for name, field in (("Lead", "Company"), ("Account", "Name"), ("Contact", "LastName")):
        first, second, *_ = house.truth(name)
        house.org.update(name, first, {field: f"changed {house.org.clock.now()}"})
        house.org.delete(name, second)
        house.org.create(name, {field: "New", **_REQUIRED.get(name, {})})


def assert_nobody_overlapped(house: House) -> None:
    """No two attempts at one object were at work at the same time."""
    assert (
        house.query(
            "SELECT a.object_name, a.run_id, b.run_id FROM crm_sync.sync_run a"
            " JOIN crm_sync.sync_run b ON a.sync_run_id < b.sync_run_id"
            " AND a.object_name = b.object_name AND a.run_id <> b.run_id"
            " AND a.status = 'committed' AND b.status = 'committed' AND tstzrange("
            "a.started_at, a.finished_at) && tstzrange(b.started_at, b.finished_at)"
        )
        == []
    )


def differential_by_halves(house: House) -> list[str]:
    """What Dagster's two assets per object do; the objects that gave up."""
    gave_up = []
    with house.engine() as engine:
        for name in OBJECTS:
            try:
                engine.stage_changes(name, run_id="differential")
                engine.commit_changes(name, run_id="differential")
            except (LeaseBusy, LeaseLost):
                gave_up.append(name)
    return gave_up


def test_g1_a_full_sync_that_starts_at_any_point_of_a_differential_loses_nothing(
    house: House,
) -> None:
    house.full()
    edit(house)
    calls = trip(house, 0)
    assert differential_by_halves(house) == []
    house.assert_in_step()
    assert calls.asked > 6

    ends = set()
    for at in range(1, calls.asked + 1):
        edit(house)
        started = threading.Event()
        failures: list[Exception] = []

        def full(started: threading.Event = started, failures: list[Exception] = failures) -> None:
            try:
                with house.engine() as engine:
                    started.set()
                    for name in reversed(OBJECTS):  # it meets what is not read yet
                        engine.sync_object(name, mode=SyncMode.FULL, run_id="full")
            except Exception as error:
                failures.append(error)
                raise

        rival = threading.Thread(target=full)
        trip(house, at, rival.start)
        # So long that the full sync arrives, or is half done, while this request is in the air.
        seconds = 0.4 if at % 2 else 0.1
        house.served.server.faults.script(
            [{"kind": "hang", "seconds": seconds, "path": "*", "nth": at, "times": 1}]
        )
        ends.add(tuple(differential_by_halves(house)))
        rival.join(60)
        assert started.is_set(), at
        assert failures == [], at
        house.served.server.faults.clear()
        house.sync()
        house.assert_in_step()
    assert_nobody_overlapped(house)
    assert len(ends) > 1, "every offset ended alike: the two never met"


@pytest.mark.parametrize("mode", [SyncMode.DIFFERENTIAL, SyncMode.FULL])
def test_g10_switched_off_at_any_request_of_a_sync_it_asks_once_more_at_most(
    house: House, mode: SyncMode
) -> None:
    house.full()
    edit(house)
    wire = trip(house, 0)
    house.sync(mode)
    whole = wire.asked
    assert whole > 6
    for at in range(1, whole + 1):
        edit(house)
        house.configure(syncs_enabled=True)
        wire = trip(house, at, lambda: house.configure(syncs_enabled=False))
        stopped = 0
        for name in OBJECTS:
            with suppress(SyncsDisabled), house.engine() as engine:
                engine.sync_object(name, mode=mode, run_id=f"{mode} {at} {name}")
                continue
            stopped += 1
        assert stopped or at == whole, at
        assert wire.asked - at <= 1, f"{wire.asked - at} requests after the switch, at {at}"
        statuses = house.query(
            f"SELECT DISTINCT status FROM crm_sync.sync_run WHERE run_id LIKE '{mode} {at} %'"
        )
        assert {s for (s,) in statuses} <= {"interrupted", "committed"}, at
        house.configure(syncs_enabled=True)
        trip(house, 0)
        house.sync(mode)
        house.sync()
        house.assert_in_step()


def test_g11_a_sync_keeps_the_settings_that_it_began_with(house: House) -> None:
    house.full()
    edit(house)
    wire = trip(house, 0)
    house.sync()
    narrowed = {**OBJECTS, "Lead": {"transport": "bulk", "fields": ["LastName"], "table": "people"}}
    for at in range(1, wire.asked + 1):
        edit(house)
        house.configure(objects=OBJECTS)
        trip(house, at, lambda: house.configure(objects=narrowed))
        with house.engine() as engine:
            for name in OBJECTS:
                engine.sync_object(name, mode=SyncMode.DIFFERENTIAL, run_id=f"pinned {at}")
        house.configure(objects=OBJECTS)
        house.assert_in_step()
        assert house.query("SELECT to_regclass('salesforce.people')") == [(None,)]


@pytest.mark.parametrize("way", ["failed", "cancelled"])
def test_g13_a_full_sync_that_did_not_end_leaves_the_old_data_and_the_old_watermark(
    house: House, way: str
) -> None:
    house.full()
    before = house.table("Lead")
    watermark = house.query("SELECT watermark FROM crm_sync.object_state WHERE object_name='Lead'")
    house.org.clock.advance(seconds=7_200)
    edit(house)

    def stop(_: Progress) -> None:
        raise KeyboardInterrupt

    if way == "failed":
        house.served.server.faults.script(
            [{"kind": "status", "status": 400, "path": "*/results*", "times": 0}]
        )
    with house.engine() as engine, pytest.raises((CrmPipelineError, KeyboardInterrupt)):
        engine.sync_object(
            "Lead",
            mode=SyncMode.FULL,
            run_id="unlucky",
            report=stop if way == "cancelled" else lambda _: None,
        )
    house.served.server.faults.clear()
    assert house.table("Lead") == before
    assert (
        house.query("SELECT watermark FROM crm_sync.object_state WHERE object_name = 'Lead'")
        == watermark
    )
    outcome = house.sync_once("Lead")
    assert outcome.watermark_before == watermark[0][0]
    house.assert_in_step("Lead")


@contextmanager
def through(house: House, url: str) -> Iterator[None]:
    """The engine reaches the warehouse by another address; the oracle keeps its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CRM_PIPELINE_DATABASE_URL", url)
        yield


@pytest.mark.parametrize("refuses_options", [True, False])
def test_g15_every_sync_works_through_a_pooler_that_hands_each_transaction_to_another_session(
    house: House, *, refuses_options: bool
) -> None:
    with pooled(house.database_url, refuses_options=refuses_options) as pooler:
        with through(house, pooler.url):
            house.sync(SyncMode.FULL)
            house.assert_in_step()
            edit(house)
            house.sync(SyncMode.DIFFERENTIAL)
            house.assert_in_step()
            edit(house)
            assert differential_by_halves(house) == []
            house.assert_in_step()
            edit(house)
            house.sync(SyncMode.FULL)
            house.assert_in_step()
            with house.engine() as engine:
                for dataset in REFERENCE_DATASETS:
                    sync_reference_dataset(engine, dataset.name, run_id="reference")
                lead = next(iter(house.truth("Lead")))
                house.org.update("Lead", lead, {"Company": "By hand"})
                engine.sync_record("Lead", lead, run_id="hand")
                with held_lease(engine.warehouse, "Lead", owner="a", mode=SyncMode.FULL) as lease:
                    with (
                        pytest.raises(LeaseBusy),
                        held_lease(engine.warehouse, "Lead", owner="b", mode=SyncMode.FULL),
                    ):
                        raise AssertionError("two own the object")
                    with engine.warehouse.connect() as connection:
                        lease.prove(connection)
            house.assert_in_step()
        assert pooler.transactions > 100
        assert pooler.left_behind() == []
