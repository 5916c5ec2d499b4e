"""Jobs from launch to table, against the sandbox org over HTTP."""

from collections.abc import Callable
from typing import Any

import dagster as dg
import psycopg
import pytest

from crm_pipeline.defs.failures import RETRY_AFTER_STEP_FAILURE, told_as_failure
from crm_pipeline.errors import (
    IncompleteRead,
    LeaseBusy,
    TransientError,
    UsageError,
)
from crm_pipeline.model.sync import SyncMode
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.lease import held_lease
from crm_pipeline.warehouse.wording import told
from crm_pipeline_tests.house import House
from crm_pipeline_tests.orchestration.conftest import Dagster

Result = dg.ExecuteInProcessResult


def _facts(result: Result, *key: str) -> dict[str, Any]:
    (event,) = [
        e for e in result.get_asset_materialization_events() if e.asset_key == dg.AssetKey(key)
    ]
    return {name: value.value for name, value in event.materialization.metadata.items()}


def _sentences(result: Result) -> dict[str, str]:
    return {
        str(event.step_key): str(event.step_failure_data.user_failure_data.description)
        for event in result.all_events
        if event.is_step_failure and event.step_failure_data.user_failure_data
    }


def _skipped(result: Result) -> set[str]:
    return {str(event.step_key) for event in result.all_events if event.is_step_skipped}


def _tables(house: House) -> set[str]:
    return {
        str(name)
        for (name,) in house.query(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'salesforce'"
        )
    }


def test_a_full_sync_and_then_what_changed(house: House, dagster: Dagster) -> None:
    full = dagster.run("full_sync")
    assert full.success
    for name in ("Lead", "Contact", "Account"):
        facts = _facts(full, "salesforce", name.lower())
        assert facts["mode"] == "full"
        assert facts["rows_inserted"] == facts["dagster/row_count"] == house.org.count(name)
        assert facts["transport_reason"]
        assert len(facts["preview"].records) == 5
    assert {"users", "queues", "assignment_rules", "case_queues", "case_priorities"} <= _tables(
        house
    )
    assert all(check.passed for check in full.get_asset_check_evaluations())
    assert len(full.get_asset_check_evaluations()) == 12

    lead = house.org.query("SELECT Id FROM Lead LIMIT 1")[0]["Id"]
    house.org.update("Lead", lead, {"Company": "Analytical Engines"})
    changed = dagster.run("differential_sync", partition=dagster.window())
    assert changed.success
    assert _facts(changed, "salesforce", "lead")["rows_updated"] == 1
    assert _facts(changed, "salesforce_changes", "lead")["rows_read"] == 1
    assert _facts(changed, "salesforce", "account")["rows_read"] == 0
    assert changed.get_asset_check_evaluations() == []
    assert house.query(f"SELECT company FROM salesforce.lead WHERE id = '{lead}'") == [
        ("Analytical Engines",)
    ]

    empty = dagster.run("differential_sync", partition=dagster.window())
    assert empty.success
    assert "preview" not in _facts(empty, "salesforce", "contact")
    # Five minutes apart these are 288 times a day.
    assert len(dagster.instance.all_logs(empty.run_id)) < 60


def test_o1_only_chosen_objects_are_read_and_the_others_say_so(
    house: House, dagster: Dagster
) -> None:
    result = dagster.run("full_sync", {"objects": ["Account"], "resume": False})
    assert result.success
    assert "account" in _tables(house)
    assert not {"lead", "contact"} & _tables(house)
    assert {"salesforce__lead_unique_ids", "salesforce__contact_unique_ids"} <= _skipped(result)
    told = [entry.user_message for entry in dagster.instance.all_logs(result.run_id)]
    assert "Lead was not chosen: its table stays as it is." in told
    differential = dagster.run("differential_sync", partition=dagster.window())
    assert not differential.success, "green means every object committed"
    reasons = {
        str(event.step_key): str(event.step_failure_data.user_failure_data)
        for event in differential.all_events
        if event.is_step_failure
    }
    assert set(reasons) == {"salesforce_changes__lead", "salesforce_changes__contact"}
    assert "Lead has never been fully synced" in reasons["salesforce_changes__lead"]


def test_the_form_refuses_objects_that_take_no_part(dagster: Dagster) -> None:
    with pytest.raises(dg.DagsterInvalidConfigError):
        dagster.run("full_sync", {"objects": ["Nonsense"]})


def test_a_table_alone_reads_what_changed_and_never_everything(
    house: House, dagster: Dagster
) -> None:
    house.full()
    lead = house.org.query("SELECT Id FROM Lead LIMIT 1")[0]["Id"]
    house.org.update("Lead", lead, {"Company": "Alone"})
    result = dg.materialize(
        [dagster.location().get_assets_def(dg.AssetKey(["salesforce", "lead"]))],
        instance=dagster.instance,
        resources=dagster.location().resources,
    )
    facts = _facts(result, "salesforce", "lead")
    assert (facts["mode"], facts["rows_updated"]) == ("differential", 1)


def test_g6_a_record_is_synced_at_once_and_its_outcome_shown(
    house: House, dagster: Dagster
) -> None:
    house.full()
    lead = house.org.query("SELECT Id FROM Lead LIMIT 1")[0]["Id"]
    house.org.update("Lead", lead, {"Company": "Now"})
    config = {"ops": {"sync_one_record": {"config": {"object": "Lead", "record_id": lead}}}}
    with held_lease(Warehouse(house.database_url), "Lead", owner="x", mode=SyncMode.FULL):
        result = dagster.run("sync_record", config)
    assert result.success
    (seen,) = result.get_asset_observation_events()
    assert seen.asset_observation_data.asset_observation.metadata["rows_updated"].value == 1
    assert house.query(f"SELECT company FROM salesforce.lead WHERE id = '{lead}'") == [("Now",)]


def test_g12_o1_one_object_that_fails_leaves_the_others_synced_and_the_run_red(
    house: House, dagster: Dagster
) -> None:
    house.org.forbid_object("Contact")
    result = dagster.run("full_sync")
    assert not result.success
    assert set(_sentences(result)) == {"salesforce__contact"}
    assert {"lead", "account"} <= _tables(house)
    run = dagster.instance.get_run_by_id(result.run_id)
    assert run is not None
    assert run.tags[RETRY_AFTER_STEP_FAILURE] == "false"


def test_g12_the_watermark_of_a_failed_object_stays_and_its_window_is_read_later(
    house: House, dagster: Dagster
) -> None:
    house.full()
    house.org.clock.advance(seconds=3_600)
    for name, field in (("Lead", "Company"), ("Contact", "LastName")):
        house.org.update(name, next(iter(house.truth(name))), {field: "Changed"})
    marks = "SELECT object_name, watermark FROM crm_sync.object_state"
    before = dict(house.query(marks))
    house.org.forbid_object("Contact")
    assert not dagster.run("differential_sync", partition=dagster.window()).success
    after = dict(house.query(marks))
    assert after["Contact"] == before["Contact"]
    assert all(after[name] > before[name] for name in ("Lead", "Account"))
    house.org.catalogue.allow_object("Contact")
    house.org.clock.advance(seconds=3_600)
    assert dagster.run("differential_sync", partition=dagster.window()).success
    house.assert_in_step()


def test_o1_a_hidden_field_turns_the_run_red_after_the_rest_is_committed(
    house: House, dagster: Dagster
) -> None:
    house.full()
    house.org.hide_field("Lead", "Company")
    lead = house.org.query("SELECT Id FROM Lead LIMIT 1")[0]["Id"]
    house.org.update("Lead", lead, {"LastName": "Committed"})
    result = dagster.run("differential_sync", partition=dagster.window())
    assert not result.success
    assert "does not show us Company" in _sentences(result)["salesforce__lead"]
    assert _facts(result, "salesforce", "lead")["rows_updated"] == 1
    assert house.query(f"SELECT lastname FROM salesforce.lead WHERE id = '{lead}'") == [
        ("Committed",)
    ]


@pytest.mark.parametrize(
    "job",
    ["full_sync", "differential_sync", "reconcile", "refresh", "reference_data", "check_tables"],
)
def test_g10_switched_off_a_job_refuses_and_touches_nothing(
    house: House, dagster: Dagster, job: str
) -> None:
    house.configure(syncs_enabled=False)
    house.served.server.ledger.clear()
    partition = dagster.window() if job == "differential_sync" else None
    result = dagster.run(job, partition=partition)
    assert not result.success
    told = set(_sentences(result).values())
    assert told
    assert house.served.server.ledger.entries() == []
    assert all("Syncs are disabled: nothing was read or written" in one for one in told)
    assert not _tables(house)
    assert house.query("SELECT count(*) FROM crm_sync.sync_run") == [(0,)]


@pytest.mark.parametrize(
    ("error", "is_retried"),
    [
        (TransientError("later"), True),
        (psycopg.OperationalError("the server went away"), True),
        (UsageError("mend the settings"), False),
        (IncompleteRead("read 3 of 4"), False),
        (LeaseBusy("busy", owner="x", expires_in_seconds=1), False),
    ],
)
def test_verdicts_decide_whether_a_run_is_retried(
    instance: dg.DagsterInstance, *, error: Exception, is_retried: bool
) -> None:
    result = _job_that(_raiser(error)).execute_in_process(instance=instance, raise_on_error=False)
    assert _sentences(result) == {"step": told(error)}
    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    assert run.tags.get(RETRY_AFTER_STEP_FAILURE, "false") == str(is_retried).lower()


def test_s4_a_bug_keeps_its_stack_trace_and_loses_its_text(instance: dg.DagsterInstance) -> None:
    job = _job_that(lambda: int("Ada's number"))
    with pytest.raises(dg.Failure) as failed:
        job.execute_in_process(instance=instance)
    trace = str(failed.value.metadata["stack_trace"].value)
    assert trace.endswith("ValueError: its text is withheld, for it may quote a record")
    assert "test_syncs.py" in trace
    assert not failed.value.allow_retries


def _raiser(error: Exception) -> Callable[[], object]:
    def fail() -> object:
        raise error

    return fail


def _job_that(does: Callable[[], object]) -> dg.JobDefinition:
    @dg.op
    def step(context: dg.OpExecutionContext) -> None:
        with told_as_failure(context):
            does()

    @dg.job
    def job() -> None:
        step()

    return job
