"""Marketing events in Dagster: the sensor's ticks, the run, the check, and who follows."""

import json
from pathlib import Path

import dagster as dg
import psycopg
import pytest

from crm_pipeline.config.load import load_settings
from crm_pipeline.defs.resources import CrmResource
from crm_pipeline.events import models_state
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline_tests.house import House
from crm_pipeline_tests.orchestration.conftest import Dagster
from crm_pipeline_tests.orchestration.test_sensors import Sensors

SETTINGS = """\
version: 1
syncs_enabled: {enabled}
objects: {{Lead: {{fields: [Email]}}}}
events: {{folder: "{folder}"}}
"""


def line(number: int, **facts: object) -> str:
    """One event on a line."""
    row = {
        "event_id": f"e{number}",
        "occurred_at": "2026-03-02T12:00:00Z",
        "kind": "page_visited",
        "email": f"person{number}@example.com",
        **facts,
    }
    return json.dumps(row) + "\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "events"
    made.mkdir()
    return made


@pytest.fixture
def sensors(
    quiet: Warehouse, folder: Path, instance: dg.DagsterInstance, tmp_path: Path
) -> Sensors:
    """An installation with a folder of events, whose models are of no interest here."""
    write_settings(tmp_path)
    settings = load_settings(tmp_path / "crm_sync.yaml")
    silent = settings.model_copy(
        update={"marketing": settings.marketing.model_copy(update={"enabled": False})}
    )
    return Sensors(silent, instance, quiet, tmp_path / "home")


def write_settings(place: Path, *, enabled: str = "true", folder: str = "events") -> None:
    (place / "crm_sync.yaml").write_text(SETTINGS.format(enabled=enabled, folder=folder))


def run(sensors: Sensors) -> dg.ExecuteInProcessResult:
    job = sensors.repository.get_job("load_events")
    return job.execute_in_process(
        instance=sensors.instance,
        resources={"crm": CrmResource()},
        raise_on_error=False,
    )


def insert(warehouse: Warehouse, event_id: str) -> None:
    with psycopg.connect(warehouse.url) as connection:
        connection.execute(
            "INSERT INTO events.marketing_events (event_id, occurred_at, kind)"
            " VALUES (%s, '2026-03-02', 'page_visited')",
            [event_id],
        )


def test_a_new_file_is_loaded_by_one_run_and_then_the_sensor_is_silent(
    sensors: Sensors, folder: Path
) -> None:
    assert sensors.look("event_files") == "No file is new."
    (folder / "a.jsonl").write_text(line(1) + line(2) + line(2) + line(3, kind="nonsense"))
    (folder / "b.json").write_text("{")
    (folder / "notes.txt").write_text("hello")
    assert isinstance(sensors.look("event_files"), dg.RunRequest)
    done = run(sensors)
    assert done.success
    [loaded] = done.asset_materializations_for_node("events__marketing_events")
    facts = {name: value.value for name, value in loaded.metadata.items()}
    assert {name: facts[name] for name in ("files", "events_loaded", "files_refused")} == {
        "files": 2,
        "events_loaded": 2,
        "files_refused": 1,
    }
    assert (facts["events_known_already"], facts["rows_rejected"]) == (1, 1)
    assert facts["left_aside"] == "'notes.txt'"
    assert isinstance(facts["loaded_files"], list)
    assert len(facts["loaded_files"]) == 2
    [check] = done.get_asset_check_evaluations()
    assert not check.passed
    assert check.severity is dg.AssetCheckSeverity.WARN
    assert "1 rows are in the quarantine, and 1 files could not be read" in str(check.description)
    assert "person3" not in repr(check.metadata)
    models_state.note_built(sensors.warehouse, models_state.horizon(sensors.warehouse))
    assert sensors.look("event_files") == "No file is new."
    (folder / "a.jsonl").write_text(line(1))
    assert isinstance(sensors.look("event_files"), dg.RunRequest)


def test_events_that_a_tool_inserts_are_followed_once(sensors: Sensors) -> None:
    insert(sensors.warehouse, "s1")
    assert isinstance(sensors.look("event_files"), dg.RunRequest)
    assert sensors.look("event_files") == "No file is new."
    insert(sensors.warehouse, "s2")
    assert isinstance(sensors.look("event_files"), dg.RunRequest)


def test_the_sensor_launches_nothing_while_a_load_is_not_over(
    sensors: Sensors, folder: Path
) -> None:
    (folder / "a.jsonl").write_text(line(1))
    started = sensors.started("load_events")
    assert started.run_id in str(sensors.look("event_files"))
    sensors.instance.report_run_canceled(started)
    assert isinstance(sensors.look("event_files"), dg.RunRequest)


def test_the_off_switch_stops_the_sensor_and_the_run(
    sensors: Sensors, folder: Path, tmp_path: Path
) -> None:
    (folder / "a.jsonl").write_text(line(1))
    write_settings(tmp_path, enabled="false")
    assert "Syncs are disabled" in str(sensors.look("event_files"))
    assert not run(sensors).success
    write_settings(tmp_path)
    assert run(sensors).success


def test_a_folder_that_is_missing_is_told_in_a_sentence(sensors: Sensors, tmp_path: Path) -> None:
    write_settings(tmp_path, folder="nowhere")
    assert "there is no folder" in str(sensors.look("event_files"))
    assert not run(sensors).success


def test_models_are_built_when_events_have_come_and_only_then(
    house: House, dagster: Dagster
) -> None:
    folder = house.folder / "events"
    folder.mkdir()
    house.configure(marketing={"enabled": True}, events={"folder": "events"})
    assert dagster.run("full_sync").success
    warehouse = Warehouse(house.database_url)
    (folder / "a.jsonl").write_text(line(1))
    assert models_state.newest_event_not_built(warehouse) is None
    assert dagster.run("load_events").success
    insert(warehouse, "s1")
    assert models_state.newest_event_not_built(warehouse) is not None
    changed = dagster.run("differential_sync", partition=dagster.window())
    assert changed.success
    assert any(
        event.asset_key and event.asset_key.path[0] == "marketing"
        for event in changed.get_asset_materialization_events()
    )
    assert models_state.newest_event_not_built(warehouse) is None
