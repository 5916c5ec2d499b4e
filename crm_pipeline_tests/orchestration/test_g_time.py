"""Cases G and F4 that take days: ticks, gaps, clocks, and a Dagster that forgot everything."""

import logging
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._daemon import controller as _imported_before_the_scheduler  # noqa: F401
from dagster._scheduler.scheduler import launch_scheduled_runs
from dagster._utils.schedules import schedule_execution_time_iterator

from crm_pipeline.config.settings import Settings
from crm_pipeline.defs.partitions import window_key
from crm_pipeline.defs.resources import CrmResource
from crm_pipeline.model.sync import SyncMode
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.lease import held_lease
from crm_pipeline_tests.house import House
from crm_pipeline_tests.orchestration.conftest import Dagster
from crm_pipeline_tests.orchestration.test_ticks import Ticks

FIVE_MINUTES = timedelta(minutes=5)
WAITS = "when it is over, one differential reads what changed meanwhile."


@pytest.fixture
def ticks(
    settings: Settings, instance: dg.DagsterInstance, quiet: Warehouse, tmp_path: Path
) -> Ticks:
    home = tmp_path / "home"
    home.mkdir()
    (home / "installed_on").write_text("2026-01-01")
    file = tmp_path / "crm_sync.yaml"
    file.write_text(file.read_text() + "differential: {interval_minutes: 5}\n")
    found = Ticks(settings, instance, quiet, home)
    found.had_full_sync()
    return found


@pytest.mark.parametrize(
    "hours", [3, pytest.param(72, marks=[pytest.mark.long, pytest.mark.timeout(900)])]
)
def test_g2_during_a_full_sync_every_tick_is_skipped_and_asks_the_crm_nothing(
    house: House, dagster: Dagster, hours: int
) -> None:
    house.configure(differential={"interval_minutes": 5})
    house.full("Account")
    run = dagster.instance.add_run(
        dg.DagsterRun(job_name="full_sync", status=dg.DagsterRunStatus.STARTED)
    )
    house.served.server.ledger.clear()
    repository = dagster.location().get_repository_def()
    schedule = repository.get_schedule_def("differential_schedule")
    begin = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=hours)
    reasons = set()
    with held_lease(Warehouse(house.database_url), "Lead", owner=run.run_id, mode=SyncMode.FULL):
        for number in range(hours * 12):
            with dg.build_schedule_context(
                instance=dagster.instance,
                scheduled_execution_time=begin + number * FIVE_MINUTES,
                resources={"crm": CrmResource()},
                repository_def=repository,
            ) as context:
                tick = schedule.evaluate_tick(context)
            assert not tick.run_requests
            reasons.add(tick.skip_message)
    assert reasons == {
        f"A full sync is started (run {run.run_id}); {WAITS}",
    }
    assert house.served.server.ledger.entries() == []


def test_g7_runs_of_twelve_minutes_at_ticks_of_five_neither_overlap_nor_pile_up(
    ticks: Ticks,
) -> None:
    begin = datetime(2026, 3, 2, 10, tzinfo=UTC)
    launched: list[datetime] = []
    working: str | None = None
    for number in range(24):
        now = begin + number * FIVE_MINUTES
        if working and now - launched[-1] >= timedelta(minutes=12):
            run = ticks.instance.get_run_by_id(working)
            assert run is not None
            ticks.instance.report_run_failed(run)
            working = None
        if isinstance(ticks.answer(at=now), dg.RunRequest):
            assert working is None, "two runs at once"
            working = ticks.a_run("differential_sync", dg.DagsterRunStatus.STARTED)
            launched.append(now)
    assert launched == [begin + n * timedelta(minutes=15) for n in range(8)]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Asia/Kathmandu"])
@pytest.mark.parametrize("night", ["2026-03-08", "2026-03-29", "2026-10-25", "2026-11-01"])
def test_g9_no_hour_is_doubled_or_missing_when_clocks_change(
    ticks: Ticks, monkeypatch: pytest.MonkeyPatch, zone: str, night: str
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        schedule = ticks.repository.get_schedule_def("differential_schedule")
        begin = datetime.fromisoformat(night).replace(tzinfo=UTC) - timedelta(hours=12)
        due = schedule_execution_time_iterator(
            begin.timestamp() - 1, "0 * * * *", schedule.execution_timezone
        )
        found = [next(due) for _ in range(48)]
        assert [one.timestamp() for one in found] == [
            begin.timestamp() + 3600 * number for number in range(48)
        ]
        windows = [window_key(one) for one in found]
        assert len(set(windows)) == 48
        assert windows[0] == f"{begin - timedelta(hours=1):%Y-%m-%d-%H:%M}"
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """Dagster's memory in which runs are queued, and nobody takes them out."""
    (tmp_path / "queue").mkdir()
    coordinator = {
        "module": "dagster._core.run_coordinator.queued_run_coordinator",
        "class": "QueuedRunCoordinator",
    }
    with dg.DagsterInstance.local_temp(
        str(tmp_path / "queue"), overrides={"run_coordinator": coordinator}
    ) as opened:
        yield opened


Scheduler = Callable[[datetime], None]


@pytest.fixture
def scheduler(ticks: Ticks, queue: dg.DagsterInstance) -> Iterator[Scheduler]:
    """One round of Dagster's own scheduler, at a time of the test's choice."""
    del ticks
    origin = InProcessCodeLocationOrigin(
        LoadableTargetOrigin(module_name="crm_pipeline.definitions", attribute="defs"),
        location_name="crm_pipeline",
    )
    with WorkspaceProcessContext(queue, InProcessWorkspaceLoadTarget(origin)) as workspace:

        def run_once(now: datetime) -> None:
            list(
                launch_scheduled_runs(workspace, logging.getLogger("test"), now, iteration_times={})
            )

        yield run_once


def differentials(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """Runs of the differential, newest first."""
    return list(instance.get_runs(dg.RunsFilter(job_name="differential_sync")))


def test_g8_a_daemon_that_was_down_for_three_days_launches_one_run(
    scheduler: Scheduler, queue: dg.DagsterInstance
) -> None:
    now = datetime.now(UTC)
    scheduler(now - timedelta(days=3))
    assert differentials(queue) == []
    scheduler(now)
    (run,) = differentials(queue)
    last_tick = now.replace(minute=now.minute // 5 * 5, second=0, microsecond=0)
    assert run.tags["dagster/partition"] == window_key(last_tick)


def test_g14_a_tick_launches_once_and_a_failed_run_does_not_silence_the_next(
    scheduler: Scheduler, queue: dg.DagsterInstance
) -> None:
    now = datetime.now(UTC)
    scheduler(now - timedelta(hours=2))
    scheduler(now)
    scheduler(now)
    (first,) = differentials(queue)
    queue.report_run_failed(first)
    scheduler(now + timedelta(hours=1))
    second, again = differentials(queue)
    assert again.run_id == first.run_id
    assert second.tags["dagster/run_key"] != first.tags["dagster/run_key"]


def test_f4_after_dagster_lost_everything_the_next_tick_reads_what_changed_and_no_more(
    house: House, dagster: Dagster
) -> None:
    assert dagster.run("full_sync").success
    lead, *_ = house.truth("Lead")
    house.org.update("Lead", lead, {"Company": "Changed"})
    house.org.delete("Account", next(iter(house.truth("Account"))))
    dagster.instance.wipe()
    (dagster.home / "installed_on").unlink()
    repository = dagster.location().get_repository_def()
    with dg.build_schedule_context(
        instance=dagster.instance,
        scheduled_execution_time=datetime.now(UTC),
        resources={"crm": CrmResource()},
        repository_def=repository,
    ) as context:
        tick = repository.get_schedule_def("differential_schedule").evaluate_tick(context)
    assert tick.run_requests, tick.skip_message
    (request,) = tick.run_requests
    result = dagster.run("differential_sync", partition=request.partition_key)
    assert result.success
    house.assert_in_step()
    assert house.query(
        "SELECT DISTINCT mode, records_read < 10 FROM crm_sync.sync_run"
        f" WHERE run_id = '{result.run_id}'"
    ) == [("differential", True)]
