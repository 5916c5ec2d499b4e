"""The marketing models in Dagster: built after syncs, with their tests as checks."""

import json
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest

from crm_pipeline.config.load import load_settings
from crm_pipeline.config.settings import Settings
from crm_pipeline.defs.dbt_project import (
    DbtProject,
    connection_variables,
    find_project,
    project_variables,
)
from crm_pipeline.defs.marketing_models import asset_keys
from crm_pipeline.defs.resources import CrmResource
from crm_pipeline_tests.house import House
from crm_pipeline_tests.orchestration.conftest import OBJECTS, Dagster

PEOPLE = dg.AssetKey(["marketing", "dim_people"])
MARTS = {
    "audiences",
    "dim_accounts",
    "dim_audiences",
    "dim_people",
    "fct_consent",
    "fct_engagement",
    "fct_lead_score_changes",
    "fct_lead_scores",
    "fct_opportunities",
    "fct_touches",
    "fct_web_visits",
    "personalization",
}
BELOW = {
    "int_consent__own_ticks",
    "int_consent__refusals",
    "int_owners__kept",
    "int_people__addresses",
    "int_people__merges",
    "int_people__records",
    "int_people__unioned",
    "stg_events__consent",
    "stg_events__marketing_event",
}
SEEDS = {"lead_score_contact_rules", "lead_score_event_rules", "touch_kinds"}


def _built(result: dg.ExecuteInProcessResult) -> set[str]:
    return {
        event.asset_key.to_user_string()
        for event in result.get_asset_materialization_events()
        if event.asset_key and event.asset_key.path[0].startswith("marketing")
    }


def _told_of_people(result: dg.ExecuteInProcessResult) -> set[str]:
    """Which facts a build tells of dim_people."""
    return {
        name
        for event in result.get_asset_materialization_events()
        if event.asset_key == PEOPLE
        for name in event.materialization.metadata
    }


@pytest.mark.timeout(900)
def test_models_follow_the_tables_and_only_when_rows_have_changed(
    house: House, dagster: Dagster
) -> None:
    house.configure(marketing={"enabled": True})
    full = dagster.run("full_sync")
    assert full.success
    objects = ("account", "contact", "lead", "merged_record", "user")
    staged = BELOW | SEEDS | {f"stg_salesforce__{name}" for name in objects}
    assert _built(full) == {f"marketing/{name}" for name in MARTS} | {
        f"marketing_staging/{name}" for name in staged
    }
    checks = {(c.asset_key, c.check_name): c.passed for c in full.get_asset_check_evaluations()}
    assert checks[PEOPLE, "unique_dim_people_person_id"]
    assert all(checks.values())
    assert "dagster/row_count" in _told_of_people(full)
    (counted,) = house.query(
        "SELECT sum(cardinality(lead_ids)), sum(cardinality(contact_ids)),"
        " bool_and(has_table_privilege('analyst', 'marketing.dim_people', 'select'))"
        " FROM marketing.dim_people"
    )
    assert counted == (house.org.count("Lead"), house.org.count("Contact"), True)

    empty = dagster.run("differential_sync", partition=dagster.window())
    assert empty.success
    assert not _built(empty)
    told = [entry.user_message for entry in dagster.instance.all_logs(empty.run_id)]
    assert any("the models stay as they are" in one for one in told)

    house.org.create("Lead", {"LastName": "New", "Company": "New", "Email": "n@example.com"})
    changed = dagster.run("differential_sync", partition=dagster.window())
    assert changed.success
    assert "marketing/dim_people" in _built(changed)
    # A handful of rows that were written is no size of the table.
    assert _told_of_people(changed) & {"dagster/row_count", "rows_written"} == {"rows_written"}
    # The tests cost as much as the build, and have a job of their own.
    assert not changed.get_asset_check_evaluations()
    assert isinstance(_tick(dagster), dg.RunRequest)
    tested = dagster.run("check_models")
    assert tested.success
    assert not _built(tested)
    assert _tick(dagster) == "The models were not built since they were last tested."
    assert {c.check_name for c in tested.get_asset_check_evaluations()} == {
        name for key, name in checks if key.path[0].startswith("marketing")
    }
    assert house.query("SELECT last_name FROM marketing.dim_people WHERE email = 'n@example.com'")

    house.org.forbid_object("Account")
    house.org.create("Lead", {"LastName": "Newer", "Company": "New"})
    failed = dagster.run("differential_sync", partition=dagster.window())
    assert not failed.success
    assert not _built(failed)
    assert _owed(dagster) == f"after {failed.run_id}"
    assert dagster.run("marketing").success


def test_models_are_built_every_day_for_scores_age(house: House, dagster: Dagster) -> None:
    house.configure(marketing={"enabled": True})
    schedule = dagster.location().get_repository_def().get_schedule_def("marketing_schedule")
    assert (schedule.job_name, schedule.cron_schedule) == ("marketing", "10 0 * * *")
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING


def _tick(dagster: Dagster) -> dg.RunRequest | str:
    """What the hourly schedule of the tests answers now."""
    repository = dagster.location().get_repository_def()
    with dg.build_schedule_context(
        instance=dagster.instance,
        resources={"crm": CrmResource()},
        repository_def=repository,
        scheduled_execution_time=datetime.now(UTC),
    ) as context:
        data = repository.get_schedule_def("check_models_schedule").evaluate_tick(context)
    return data.run_requests[0] if data.run_requests else str(data.skip_message)


def _owed(dagster: Dagster) -> str | None:
    repository = dagster.location().get_repository_def()
    with dg.build_sensor_context(
        instance=dagster.instance, resources={"crm": CrmResource()}, repository_def=repository
    ) as context:
        data = repository.get_sensor_def("marketing_after_partial_sync").evaluate_tick(context)
    return data.run_requests[0].run_key if data.run_requests else None


@pytest.fixture(scope="session")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which parsed projects are kept for all tests of a process."""
    return tmp_path_factory.mktemp("home")


def _project(settings: Settings, home: Path) -> DbtProject:
    return find_project(settings, home)


def _settings(folder: Path, objects: dict[str, Any], **more: Any) -> Settings:
    file = folder / "other.yaml"
    file.write_text(repr({"version": 1, "objects": objects, **more}))
    return load_settings(file)


@pytest.mark.parametrize("objects", [("Lead",), ("Contact", "Account"), ("Task",)])
def test_objects_that_are_not_synced_switch_their_models_off(
    tmp_path: Path, parsed: Path, database_url: str, objects: tuple[str, ...]
) -> None:
    fields: list[Any] = ["Subject"] if objects == ("Task",) else [{"Email": "address"}]
    mapped = {name: {"fields": fields} for name in objects}
    settings = _settings(tmp_path, mapped, reference_data=False)
    project = _project(settings, parsed)
    models = {
        node["name"]
        for node in project.manifest()["nodes"].values()
        if node["resource_type"] == "model"
    }
    names = {f"stg_salesforce__{name.lower()}" for name in objects}
    if objects != ("Task",):
        names.add("stg_salesforce__merged_record")
    assert models == names | MARTS | BELOW
    assert _dbt(project, "build", database_url, "--exclude-resource-type", "unit_test") == 0
    assert _columns_built(database_url) == _columns_documented(project)


def _columns_built(url: str) -> dict[str, set[str]]:
    memory = ("build_progress", "person_change")
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT table_name, array_agg(column_name::text) FROM information_schema.columns"
            " WHERE table_schema IN ('marketing', 'marketing_staging')"
            " AND table_name <> ALL (%s) GROUP BY table_name",
            [list(memory)],
        ).fetchall()
    return {table: set(columns) for table, columns in rows}


def _columns_documented(project: DbtProject) -> dict[str, set[str]]:
    return {
        node["alias"]: set(node["columns"])
        for node in project.manifest()["nodes"].values()
        if node["resource_type"] in ("model", "seed")
    }


def test_the_models_keep_what_their_unit_tests_say(
    tmp_path: Path, parsed: Path, database_url: str
) -> None:
    objects = {**OBJECTS, "Opportunity": {"fields": ["IsWon", "AccountId"]}}
    project = _project(_settings(tmp_path, objects), parsed)
    # No table is there: staging is empty, and the unit tests bring rows of their own.
    assert _dbt(project, "build", database_url) == 0
    done = json.loads((project.work / "by-hand" / "run_results.json").read_bytes())["results"]
    passed = {r["unique_id"] for r in done if r["status"] == "pass"}
    told = set(project.manifest()["unit_tests"])
    assert len(told) >= 8
    assert told <= passed


def _dbt(project: DbtProject, verb: str, url: str, *more: str) -> int:
    command = [*project.command(verb, target=project.work / "by-hand"), *more]
    variables = project.environment(connection_variables(url))
    return subprocess.run(command, env={**os.environ, **variables}, check=False).returncode


def test_the_project_is_parsed_once_until_it_is_told_something_else(
    tmp_path: Path, parsed: Path
) -> None:
    settings = _settings(tmp_path, OBJECTS)
    project = _project(settings, parsed)
    project.manifest()
    written = project.manifest_file.stat().st_mtime_ns
    again = _project(settings, parsed)
    again.manifest()
    assert again.manifest_file.stat().st_mtime_ns == written
    renamed = {**OBJECTS, "Lead": {"fields": ["Email"], "table": "prospects"}}
    assert _project(_settings(tmp_path, renamed), parsed).work != project.work


def test_renamed_tables_and_columns_are_told_to_dbt(tmp_path: Path) -> None:
    objects = {"Lead": {"fields": [{"Email": "address"}, "Account.Name"], "table": "prospects"}}
    told = project_variables(_settings(tmp_path, objects, reference_data=False))
    assert told == {
        "crm_schema": "salesforce",
        "consent_is_read": True,
        "audiences": ["{}"],
        "crm_objects": {
            "lead": {
                "table": "prospects",
                "columns": {"id": "id", "email": "address", "account_name": "account_name"},
            }
        },
    }


def test_no_secret_stands_on_dbts_command_line(tmp_path: Path, parsed: Path) -> None:
    project = _project(_settings(tmp_path, OBJECTS), parsed)
    url = "postgresql://me:very%20secret@db.example.com:5433/crm?sslmode=require"
    variables = connection_variables(url)
    assert variables["PASSWORD"] == "very secret"
    assert (variables["HOST"], variables["PORT"]) == ("db.example.com", "5433")
    assert variables["SSLMODE"] == "require"
    assert "very secret" not in " ".join(project.command("build", target=tmp_path))


def test_every_column_of_every_model_and_seed_is_described(tmp_path: Path, parsed: Path) -> None:
    project = _project(_settings(tmp_path, OBJECTS), parsed)
    for node in project.manifest()["nodes"].values():
        if node["resource_type"] in ("model", "seed"):
            assert node["description"], node["name"]
            assert node["columns"], node["name"]
            for column in node["columns"].values():
                assert column["description"], (node["name"], column["name"])
                assert column["data_type"], (node["name"], column["name"])


def test_a_source_is_the_asset_of_its_own_schema(tmp_path: Path, parsed: Path) -> None:
    keys = asset_keys(_project(_settings(tmp_path, OBJECTS), parsed).manifest())
    events = keys["source.dbt_marketing.events.marketing_events"]
    assert events == dg.AssetKey(["events", "marketing_events"])
    assert keys["source.dbt_marketing.salesforce.lead"] == dg.AssetKey(["salesforce", "lead"])
    assert keys["seed.dbt_marketing.touch_kinds"] == dg.AssetKey(
        ["marketing_staging", "touch_kinds"]
    )
