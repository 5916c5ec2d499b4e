"""Ticks of the schedules: one run, or one sentence why not."""

from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from crm_pipeline.config.settings import Settings
from crm_pipeline.definitions import build_definitions
from crm_pipeline.defs.failures import RETRY_TAGS
from crm_pipeline.defs.resources import CrmResource
from crm_pipeline.model.sync import SyncMode
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.lease import held_lease

# Queued runs need a launched location; see the decision tables for where they stand.
UNFINISHED = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]
TEN = datetime(2026, 3, 2, 10, tzinfo=UTC)


class Ticks:
    """Evaluates schedules of a quiet installation."""

    def __init__(
        self, settings: Settings, instance: dg.DagsterInstance, warehouse: Warehouse, home: Path
    ) -> None:
        self.repository = build_definitions(settings, home=home).get_repository_def()
        self.instance = instance
        self.warehouse = warehouse

    def answer(
        self, schedule: str = "differential_schedule", *, at: datetime = TEN
    ) -> dg.RunRequest | str:
        with dg.build_schedule_context(
            instance=self.instance,
            scheduled_execution_time=at,
            resources={"crm": CrmResource()},
            repository_def=self.repository,
        ) as context:
            data = self.repository.get_schedule_def(schedule).evaluate_tick(context)
        if data.run_requests:
            (request,) = data.run_requests
            return request
        assert data.skip_message is not None
        return data.skip_message

    def had_full_sync(self, name: str = "Lead") -> None:
        with self.warehouse.connect() as connection:
            connection.execute(
                "INSERT INTO crm_sync.object_state (object_name, table_name, watermark)"
                " VALUES (%s, lower(%s), now())",
                [name, name],
            )

    def a_run(
        self, job: str, status: dg.DagsterRunStatus, tags: dict[str, str] | None = None
    ) -> str:
        run = dg.DagsterRun(job_name=job, status=status, tags=tags or {})
        return self.instance.add_run(run).run_id


@pytest.fixture
def ticks(
    settings: Settings, instance: dg.DagsterInstance, quiet: Warehouse, tmp_path: Path
) -> Ticks:
    home = tmp_path / "home"
    home.mkdir()
    (home / "installed_on").write_text("2026-03-01")
    return Ticks(settings, instance, quiet, home)


def test_a_tick_launches_one_run_for_the_hour_that_has_just_ended(ticks: Ticks) -> None:
    ticks.had_full_sync()
    request = ticks.answer()
    assert isinstance(request, dg.RunRequest)
    assert request.partition_key == "2026-03-02-09:00"
    assert request.run_key == "2026-03-02T10:00:00+00:00"


def test_nothing_is_launched_before_the_first_full_sync(ticks: Ticks) -> None:
    assert "launch full_sync first" in str(ticks.answer())


def test_a_watermark_of_an_object_that_takes_no_part_counts_for_nothing(ticks: Ticks) -> None:
    ticks.had_full_sync("Task")
    assert "launch full_sync first" in str(ticks.answer())


def test_a_warehouse_without_a_single_table_is_no_fault(
    ticks: Ticks, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRM_PIPELINE_DATABASE_URL", empty_database_url)
    assert "launch full_sync first" in str(ticks.answer())


@pytest.mark.parametrize("status", UNFINISHED)
def test_g2_a_full_sync_that_waits_or_works_holds_differentials_back(
    ticks: Ticks, status: dg.DagsterRunStatus
) -> None:
    ticks.had_full_sync()
    run_id = ticks.a_run("full_sync", status)
    answer = ticks.answer()
    assert f"full sync is {status.value.lower()} (run {run_id})" in str(answer)


def test_g2_a_full_sync_that_is_about_to_be_retried_holds_them_back_too(ticks: Ticks) -> None:
    ticks.had_full_sync()
    ticks.a_run("full_sync", dg.DagsterRunStatus.FAILURE, {"dagster/will_retry": "true"})
    assert "waiting to be retried" in str(ticks.answer())


def test_full_syncs_that_are_over_hold_nothing_back(ticks: Ticks) -> None:
    ticks.had_full_sync()
    ticks.a_run("full_sync", dg.DagsterRunStatus.FAILURE, {"dagster/will_retry": "false"})
    ticks.a_run("full_sync", dg.DagsterRunStatus.SUCCESS)
    ticks.a_run("full_sync", dg.DagsterRunStatus.CANCELED)
    assert isinstance(ticks.answer(), dg.RunRequest)


@pytest.mark.parametrize("status", UNFINISHED)
def test_g7_no_backlog_when_a_run_outlasts_the_interval(
    ticks: Ticks, status: dg.DagsterRunStatus
) -> None:
    ticks.had_full_sync()
    run_id = ticks.a_run("differential_sync", status)
    assert run_id in str(ticks.answer())


@pytest.mark.parametrize("mode", [SyncMode.FULL, SyncMode.DIFFERENTIAL, SyncMode.RECONCILE])
def test_g4_a_lease_from_elsewhere_holds_differentials_back(ticks: Ticks, mode: SyncMode) -> None:
    ticks.had_full_sync()
    with held_lease(ticks.warehouse, "Account", owner="another deployment", mode=mode):
        answer = ticks.answer()
    assert f"A {mode} sync is at work on Account (run another deployment)" in str(answer)


def test_reference_data_holds_nothing_back(ticks: Ticks) -> None:
    ticks.had_full_sync()
    with held_lease(ticks.warehouse, "users", owner="x", mode=SyncMode.REFERENCE):
        assert isinstance(ticks.answer(), dg.RunRequest)


@pytest.mark.parametrize(
    "schedule",
    [
        *("differential_schedule", "reconcile_schedule", "refresh_schedule"),
        *("reference_data_schedule", "check_tables_schedule"),
    ],
)
def test_g10_switched_off_nothing_is_launched(ticks: Ticks, tmp_path: Path, schedule: str) -> None:
    ticks.had_full_sync()
    file = tmp_path / "crm_sync.yaml"
    file.write_text(file.read_text() + "syncs_enabled: false\n")
    assert "Syncs are disabled" in str(ticks.answer(schedule))


def test_settings_that_broke_meanwhile_are_told(ticks: Ticks, tmp_path: Path) -> None:
    (tmp_path / "crm_sync.yaml").write_text("version: 1\nobjekts: {}\n")
    assert "there is no such setting" in str(ticks.answer())


def test_a_warehouse_that_is_down_is_told(ticks: Ticks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRM_PIPELINE_DATABASE_URL", "postgresql://x:y@127.0.0.1:1/nothing")
    assert "The warehouse does not answer" in str(ticks.answer())


@pytest.mark.parametrize("job", ["reference_data", "check_tables"])
def test_daily_jobs_wait_for_full_syncs_and_for_themselves(ticks: Ticks, job: str) -> None:
    assert isinstance(ticks.answer(f"{job}_schedule"), dg.RunRequest)
    ticks.a_run(job, dg.DagsterRunStatus.STARTING)
    assert f"{job} is not over yet" in str(ticks.answer(f"{job}_schedule"))
    ticks.a_run("full_sync", dg.DagsterRunStatus.STARTED)
    assert "full_sync is not over yet" in str(ticks.answer(f"{job}_schedule"))


@pytest.mark.parametrize("job", ["reconcile", "refresh"])
def test_rare_syncs_queue_behind_a_differential_but_not_behind_a_full_sync(
    ticks: Ticks, job: str
) -> None:
    assert "launch full_sync first" in str(ticks.answer(f"{job}_schedule"))
    ticks.had_full_sync()
    run_id = ticks.a_run("differential_sync", dg.DagsterRunStatus.STARTED)
    with held_lease(ticks.warehouse, "Lead", owner=run_id, mode=SyncMode.DIFFERENTIAL):
        assert isinstance(ticks.answer(f"{job}_schedule"), dg.RunRequest)
    with held_lease(ticks.warehouse, "Lead", owner="cli", mode=SyncMode.DIFFERENTIAL):
        assert "at work on Lead (run cli)" in str(ticks.answer(f"{job}_schedule"))
    ticks.a_run(job, dg.DagsterRunStatus.STARTING)
    assert f"The {job} before is still starting" in str(ticks.answer(f"{job}_schedule"))
    ticks.a_run("full_sync", dg.DagsterRunStatus.STARTED)
    assert "full sync is started" in str(ticks.answer(f"{job}_schedule"))


def test_jobs_carry_the_tags_that_the_retry_daemon_reads(ticks: Ticks) -> None:
    for job in ("full_sync", "differential_sync", "reconcile", "refresh", "reference_data"):
        tags = ticks.repository.get_job(job).tags
        assert RETRY_TAGS.items() <= tags.items()
