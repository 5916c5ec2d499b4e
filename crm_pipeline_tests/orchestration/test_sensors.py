"""Sensors: one catch-up per full sync, dead runs ended, models not left behind."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from crm_pipeline.config.settings import Settings
from crm_pipeline.definitions import build_definitions
from crm_pipeline.defs.resources import WORKER_TAG, CrmResource, is_worker_alive, this_worker
from crm_pipeline.defs.sensors import WorkSeen, spans_tick, why_orphaned
from crm_pipeline.model.sync import SyncMode
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.lease import held_lease


class Sensors:
    """Evaluates sensors of a quiet installation, keeping their cursors."""

    def __init__(
        self, settings: Settings, instance: dg.DagsterInstance, warehouse: Warehouse, home: Path
    ) -> None:
        self.repository = build_definitions(settings, home=home).get_repository_def()
        self.instance = instance
        self.warehouse = warehouse
        self.cursors: dict[str, str | None] = {}

    def look(self, sensor: str = "catch_up_after_full_sync") -> dg.RunRequest | str:
        with dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursors.get(sensor),
            resources={"crm": CrmResource()},
            repository_def=self.repository,
        ) as context:
            data = self.repository.get_sensor_def(sensor).evaluate_tick(context)
        self.cursors[sensor] = data.cursor
        if data.run_requests:
            (request,) = data.run_requests
            return request
        assert data.skip_message is not None
        return data.skip_message

    def started(self, job: str, *, hours_ago: float = 0, worker: str = "") -> dg.DagsterRun:
        tags = {WORKER_TAG: worker} if worker else {}
        run = dg.DagsterRun(job_name=job, status=dg.DagsterRunStatus.STARTED, tags=tags)
        launched = datetime.now(UTC) - timedelta(hours=hours_ago)
        return self.instance.run_storage.add_historical_run(run, launched)


@pytest.fixture
def sensors(
    settings: Settings, instance: dg.DagsterInstance, quiet: Warehouse, tmp_path: Path
) -> Sensors:
    with quiet.connect() as connection:
        connection.execute(
            "INSERT INTO crm_sync.object_state (object_name, table_name, watermark)"
            " VALUES ('Lead', 'lead', now())"
        )
    return Sensors(settings, instance, quiet, tmp_path / "home")


def test_g3_no_full_sync_no_catch_up(sensors: Sensors) -> None:
    assert "No full sync has ended" in str(sensors.look())


@pytest.mark.parametrize("end", ["failed", "canceled"])
def test_g3_a_full_sync_over_three_days_is_followed_by_exactly_one_differential(
    sensors: Sensors, end: str
) -> None:
    run = sensors.started("full_sync", hours_ago=72)
    assert "No full sync has ended" in str(sensors.look())
    if end == "failed":
        sensors.instance.report_run_failed(run)
    else:
        sensors.instance.report_run_canceled(run)
    request = sensors.look()
    assert isinstance(request, dg.RunRequest)
    assert request.run_key == f"after {run.run_id}"
    assert request.partition_key
    assert "No full sync has ended" in str(sensors.look())


def test_g3_a_full_sync_between_two_ticks_owes_nothing() -> None:
    hour = 3600
    assert not spans_tick(10 * hour + 1, 11 * hour - 1, hour)
    assert spans_tick(10 * hour + 1, 11 * hour, hour)
    assert not spans_tick(10 * hour, 10 * hour + 299, 300)


def test_g3_the_debt_is_kept_while_another_sync_is_at_work(sensors: Sensors) -> None:
    sensors.instance.report_run_failed(sensors.started("full_sync", hours_ago=5))
    with held_lease(sensors.warehouse, "Lead", owner="cli", mode=SyncMode.DIFFERENTIAL):
        assert "A differential is owed" in str(sensors.look())
    assert isinstance(sensors.look(), dg.RunRequest)


def test_g3_a_differential_that_came_by_itself_pays_the_debt(sensors: Sensors) -> None:
    sensors.instance.report_run_failed(sensors.started("full_sync", hours_ago=5))
    sensors.instance.run_storage.add_historical_run(
        dg.DagsterRun(job_name="differential_sync", status=dg.DagsterRunStatus.SUCCESS),
        datetime.now(UTC) + timedelta(seconds=5),
    )
    assert "No differential is owed" in str(sensors.look())


@pytest.mark.parametrize(
    ("seen", "is_dead"),
    [
        (WorkSeen(10_000, holds_lease=True, is_worker_alive=False), False),
        (WorkSeen(10_000, holds_lease=False, is_worker_alive=True), False),
        (WorkSeen(29, holds_lease=False, is_worker_alive=False), False),
        (WorkSeen(31, holds_lease=False, is_worker_alive=False), True),
        (WorkSeen(899, holds_lease=False, is_worker_alive=None), False),
        (WorkSeen(901, holds_lease=False, is_worker_alive=None), True),
    ],
)
def test_g5_only_a_run_without_any_sign_of_life_is_ended(seen: WorkSeen, *, is_dead: bool) -> None:
    assert (why_orphaned(seen) is not None) is is_dead


def test_g5_the_reaper_ends_the_dead_and_leaves_the_living(sensors: Sensors) -> None:
    host = this_worker().partition(":")[0]
    crashed = f"{host}:another-boot:1:1"
    dead = sensors.started("full_sync", hours_ago=1, worker=crashed)
    alive = sensors.started("full_sync", hours_ago=1, worker=this_worker())
    young = sensors.started("full_sync", worker=crashed)
    leased = sensors.started("full_sync", hours_ago=1, worker=crashed)
    with held_lease(sensors.warehouse, "Lead", owner=leased.run_id, mode=SyncMode.FULL):
        assert sensors.look("orphaned_runs") == f"Ended: {dead.run_id}"
    states = {
        run.run_id: run.status for run in sensors.instance.get_runs() if run.job_name == "full_sync"
    }
    assert states.pop(dead.run_id) is dg.DagsterRunStatus.FAILURE
    assert set(states) == {alive.run_id, young.run_id, leased.run_id}
    assert set(states.values()) == {dg.DagsterRunStatus.STARTED}


def test_g5_a_retry_is_not_ended_for_the_death_of_the_run_before(sensors: Sensors) -> None:
    host = this_worker().partition(":")[0]
    crashed = {WORKER_TAG: f"{host}:another-boot:1:1"}
    first = sensors.instance.add_run(
        dg.DagsterRun(job_name="marketing", status=dg.DagsterRunStatus.FAILURE, tags=crashed)
    )
    retry = dg.DagsterRun(
        job_name="marketing",
        status=dg.DagsterRunStatus.STARTED,
        tags=crashed,
        parent_run_id=first.run_id,
        root_run_id=first.run_id,
    )
    begun = datetime.now(UTC) - timedelta(minutes=10)
    sensors.instance.run_storage.add_historical_run(retry, begun)
    assert sensors.look("orphaned_runs") == "No run is orphaned."


def test_g5_without_a_warehouse_nobody_is_called_dead(
    sensors: Sensors, monkeypatch: pytest.MonkeyPatch
) -> None:
    sensors.started("full_sync", hours_ago=1, worker="x:y:1:1")
    monkeypatch.setenv("CRM_PIPELINE_DATABASE_URL", "postgresql://x:y@127.0.0.1:1/nothing")
    assert "does not answer" in sensors.look("orphaned_runs")


def test_g5_a_process_is_told_from_another_with_its_number() -> None:
    host, boot, pid, start = this_worker().split(":")
    assert is_worker_alive(this_worker()) is True
    assert is_worker_alive(f"{host}:{boot}:{pid}:0") is False
    assert is_worker_alive(f"{host}:{boot}:4194304:{start}") is False
    assert is_worker_alive(f"{host}:yesterday:{pid}:{start}") is False
    assert is_worker_alive(f"elsewhere:{boot}:{pid}:{start}") is None
