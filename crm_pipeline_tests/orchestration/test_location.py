"""What the location holds: every asset with its group and what it reads, every job, every tick."""

from pathlib import Path

import dagster as dg
import pytest

from crm_pipeline import definitions
from crm_pipeline.config.load import load_settings
from crm_pipeline.config.settings import Settings
from crm_pipeline.definitions import build_definitions

REFERENCE = {
    "salesforce/users": [],
    "salesforce/queues": [],
    "salesforce/queue_members": [],
    "salesforce/queue_objects": [],
    "salesforce/assignment_rules": [],
    "salesforce/picklist_values": [],
    "salesforce/case_queues": ["salesforce/queue_objects", "salesforce/queues"],
    "salesforce/case_priorities": ["salesforce/picklist_values"],
}


@pytest.fixture
def location(settings: Settings, tmp_path: Path) -> dg.Definitions:
    return build_definitions(settings, home=tmp_path / "home")


def test_the_location_is_loadable(location: dg.Definitions) -> None:
    dg.Definitions.validate_loadable(location)


def test_every_asset_has_its_group_and_its_sources(location: dg.Definitions) -> None:
    graph = location.resolve_asset_graph()
    found = {
        key.to_user_string(): (
            graph.get(key).group_name,
            sorted(parent.to_user_string() for parent in graph.get(key).parent_keys),
        )
        for key in graph.get_all_asset_keys()
    }
    assert found == {
        "salesforce_changes/lead": ("crm_changes", []),
        "salesforce/lead": ("crm", ["salesforce_changes/lead"]),
        "salesforce_changes/companies": ("crm_changes", []),
        "salesforce/companies": ("crm", ["salesforce_changes/companies"]),
        "events/marketing_events": ("events", []),
        "write_backs/delivery": ("write_backs", []),
        **{name: ("reference", above) for name, above in REFERENCE.items()},
    }


def test_every_asset_is_described_and_owned(location: dg.Definitions) -> None:
    for node in location.resolve_asset_graph().asset_nodes:
        assert node.description, node.key
        assert node.owners == ["team:data-engineering"], node.key
        source = "file" if node.group_name == "events" else "salesforce"
        stored = set() if node.group_name == "write_backs" else {"postgres"}
        assert node.kinds == {source, *stored}, node.key


def _steps(location: dg.Definitions, job: str) -> set[str]:
    return {node.name for node in location.resolve_job_def(job).nodes}


def test_jobs_select_by_group(location: dg.Definitions) -> None:
    tables = {"salesforce__lead", "salesforce__companies"}
    changes = {"salesforce_changes__lead", "salesforce_changes__companies"}
    reference = {name.replace("/", "__") for name in REFERENCE}
    checks = {
        f"{table}_{check}"
        for table in tables
        for check in ("row_count_parity", "unique_ids", "no_alerts", "in_step_with_crm")
    }
    assert _steps(location, "full_sync") == tables | reference | checks
    assert _steps(location, "differential_sync") == tables | changes
    assert _steps(location, "reconcile") == tables | {f"{one}_in_step_with_crm" for one in tables}
    assert _steps(location, "refresh") == tables
    assert _steps(location, "alerts") == {"tell_alerts"}
    assert _steps(location, "housekeeping") == {
        *("prune_old_runs", "prune_old_ledger_rows", "prune_old_versions")
    }
    assert _steps(location, "reference_data") == reference
    assert _steps(location, "check_tables") == checks
    assert _steps(location, "load_events") == {
        "events__marketing_events",
        "events__marketing_events_no_rejected_rows",
    }
    assert _steps(location, "sync_record") == {"sync_one_record"}
    assert _steps(location, "actions") == {"carry_out_actions"}
    assert _steps(location, "request_action") == {"request_one_action"}
    assert _steps(location, "write_back_fields") == {"make_fields"}


def test_only_the_full_sync_has_no_schedule_and_no_partitions(location: dg.Definitions) -> None:
    repository = location.get_repository_def()
    assert {s.name: (s.job_name, s.cron_schedule) for s in repository.schedule_defs} == {
        "differential_schedule": ("differential_sync", "0 * * * *"),
        "reconcile_schedule": ("reconcile", "15 4 * * *"),
        "refresh_schedule": ("refresh", "35 2 * * *"),
        "reference_data_schedule": ("reference_data", "20 3 * * *"),
        "housekeeping_schedule": ("housekeeping", "50 3 * * *"),
        "check_tables_schedule": ("check_tables", "40 5 * * *"),
    }
    assert all(s.execution_timezone == "UTC" for s in repository.schedule_defs)
    assert all(
        s.default_status is dg.DefaultScheduleStatus.RUNNING for s in repository.schedule_defs
    )
    assert {s.name: s.default_status for s in repository.sensor_defs} == {
        "catch_up_after_full_sync": dg.DefaultSensorStatus.RUNNING,
        "orphaned_runs": dg.DefaultSensorStatus.RUNNING,
        "alert_watch": dg.DefaultSensorStatus.RUNNING,
        "requested_actions": dg.DefaultSensorStatus.RUNNING,
        # No folder is set.
        "event_files": dg.DefaultSensorStatus.STOPPED,
        "waiting_write_backs": dg.DefaultSensorStatus.RUNNING,
    }
    assert location.resolve_job_def("full_sync").partitions_def is None
    assert location.resolve_job_def("differential_sync").partitions_def is not None


def test_the_sensor_of_event_files_runs_once_a_folder_is_set(tmp_path: Path) -> None:
    file = tmp_path / "crm_sync.yaml"
    file.write_text(
        "version: 1\nobjects: {Lead: {fields: [Email]}}\nmarketing: {enabled: false}\n"
        "events: {folder: events, poll_minutes: 2}\n"
    )
    found = build_definitions(load_settings(file), home=tmp_path / "home")
    sensor = found.get_repository_def().get_sensor_def("event_files")
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
    assert sensor.minimum_interval_seconds == 120


def test_syncs_of_objects_share_a_pool_and_a_single_record_takes_none(
    location: dg.Definitions,
) -> None:
    for job in ("full_sync", "differential_sync", "reconcile", "refresh", "reference_data"):
        checks = {
            n
            for n in _steps(location, job)
            if n.endswith(("_parity", "_ids", "_no_alerts", "_in_step_with_crm"))
        }
        for node in location.resolve_job_def(job).nodes:
            if node.name not in checks:
                assert node.definition.pools == {"crm_sync"}, node.name
    (record,) = location.resolve_job_def("sync_record").nodes
    assert record.definition.pools == set()


def test_without_a_settings_file_the_ui_shows_the_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRM_PIPELINE_CONFIG", str(tmp_path / "nowhere.yaml"))
    monkeypatch.setenv("CRM_PIPELINE_HOME", str(tmp_path / "home"))
    location = definitions._installed()
    dg.Definitions.validate_loadable(location)
    (node,) = location.resolve_asset_graph().asset_nodes
    assert node.key == dg.AssetKey("settings_file")
    assert "run `crm-pipeline init`" in (node.description or "")
    assert not (tmp_path / "home").exists()


def test_wrong_variables_are_told_the_same_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRM_PIPELINE_DATABASE_URL", "mysql://nobody@nowhere/nothing")
    (node,) = definitions._installed().resolve_asset_graph().asset_nodes
    assert "CRM_PIPELINE_DATABASE_URL must begin with postgresql://" in (node.description or "")


def test_what_is_dropped_into_the_open_folder_appears_once(
    quiet: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    del quiet
    location = definitions.defs()
    assert isinstance(location, dg.Definitions)
    dg.Definitions.validate_loadable(location)
    assert (
        dg.AssetKey(["salesforce", "lead"]) in location.resolve_asset_graph().get_all_asset_keys()
    )
