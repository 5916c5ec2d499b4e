"""Cases O1 and O4: green is never a lie, and what needs a person is said without being asked."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from crm_pipeline.config.load import load_settings
from crm_pipeline.config.settings import Settings
from crm_pipeline.defs.alerts import told_now
from crm_pipeline.defs.housekeeping import prune_runs
from crm_pipeline.defs.resources import CrmResource
from crm_pipeline.sync.alerts import Alert, AlertKind, find_alerts
from crm_pipeline_tests.house import House
from crm_pipeline_tests.orchestration.conftest import Dagster

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def row(name: str, **facts: Any) -> dict[str, object]:
    """A row of the status of an object that is in step."""
    return {
        "object_name": name,
        "status": "in step",
        "synced_through": NOON,
        "last_sync_at": NOON,
        "last_full_sync_at": NOON - timedelta(days=9),
        "quarantined": 0,
        "held_disappearance": None,
        "due_reason": None,
        "last_error": None,
    } | facts


def kinds(settings: Settings, *changed: dict[str, object], now: datetime = NOON) -> list[str]:
    """Alerts of Lead and Account; rows that are not given are in step."""
    rows = {str(one["object_name"]): one for one in (row("Lead"), row("Account"), *changed)}
    found = find_alerts(list(rows.values()), settings, now)
    return [f"{alert.object_name} {alert.kind}" for alert in found]


def test_o4_where_all_is_well_nobody_is_told_anything(settings: Settings) -> None:
    assert kinds(settings) == []
    assert kinds(settings, now=NOON + timedelta(hours=3)) == []


def test_o4_no_success_for_three_intervals_is_told_for_each_object(settings: Settings) -> None:
    late = NOON + timedelta(hours=3, seconds=1)
    assert kinds(settings, now=late) == ["Lead no_success", "Account no_success"]
    assert kinds(settings, row("Lead", last_sync_at=late), now=late) == ["Account no_success"]


def test_o4_a_full_sync_of_days_is_no_reason_to_wake_anybody(settings: Settings) -> None:
    late = NOON + timedelta(days=3)
    assert kinds(settings, row("Account", status="full sync running"), now=late) == []
    just_ended = row("Account", last_full_sync_at=late, last_sync_at=late)
    assert kinds(settings, just_ended, now=late) == []


@pytest.mark.parametrize(
    ("facts", "kind"),
    [
        ({"synced_through": None}, "never_synced"),
        ({"quarantined": 3}, "quarantine"),
        ({"held_disappearance": 120}, "held"),
        ({"due_reason": "Column city is new: crm-pipeline sync refresh"}, "due"),
    ],
)
def test_o4_what_needs_a_person_is_told_at_once(
    settings: Settings, facts: Mapping[str, Any], kind: str
) -> None:
    assert kinds(settings, row("Lead", **facts)) == [f"Lead {kind}"]


def test_o4_objects_that_take_no_part_are_not_missed(settings: Settings) -> None:
    gone = row("Task", last_sync_at=NOON - timedelta(days=9))
    assert kinds(settings, gone) == []


def test_o4_an_alert_is_told_once_then_daily_and_again_when_it_grows() -> None:
    three = Alert("Lead", AlertKind.QUARANTINE, "three", 3)
    told, news = told_now([three], {}, NOON)
    assert news == (three,)
    told, news = told_now([three], told, NOON + timedelta(hours=23))
    assert news == ()
    four = Alert("Lead", AlertKind.QUARANTINE, "four", 4)
    grown, news = told_now([four], told, NOON + timedelta(hours=23))
    assert news == (four,)
    assert told_now([three], told, NOON + timedelta(hours=24))[1] == (three,)
    assert told_now([four], grown, NOON + timedelta(hours=24))[1] == ()
    gone, _ = told_now([], grown, NOON)
    assert told_now([three], gone, NOON)[1] == (three,)


class Watch:
    """The sensor with its cursor."""

    def __init__(self, dagster: Dagster) -> None:
        self.dagster = dagster
        self.cursor: str | None = None

    def look(self) -> str:
        repository = self.dagster.location().get_repository_def()
        with dg.build_sensor_context(
            instance=self.dagster.instance,
            cursor=self.cursor,
            resources={"crm": CrmResource()},
            repository_def=repository,
        ) as context:
            data = repository.get_sensor_def("alert_watch").evaluate_tick(context)
        self.cursor = data.cursor
        return "told" if data.run_requests else str(data.skip_message)


def test_o4_the_sensor_the_check_and_the_red_run_say_the_same(
    house: House, dagster: Dagster
) -> None:
    watch = Watch(dagster)
    assert watch.look() == "told", "nothing was ever synced"
    house.full()
    assert watch.look() == "Nothing needs a person."
    assert dagster.run("alerts").success
    house.execute(
        "UPDATE crm_sync.object_state SET held_disappearance = 120 WHERE object_name = 'Lead'"
    )
    assert watch.look() == "told"
    assert watch.look() == "1 alerts, all of them told."
    red = dagster.run("alerts")
    assert not red.success
    (failure,) = (event for event in red.all_events if event.is_step_failure)
    facts = failure.step_failure_data.user_failure_data
    assert facts is not None
    assert facts.description == (
        "Lead: 120 rows would vanish at once, so nothing is merged. If that is meant so: "
        "crm-pipeline accept Lead"
    )
    checked = {
        (one.asset_key.path[-1], one.check_name): one
        for one in dagster.run("check_tables").get_asset_check_evaluations()
    }
    assert not checked["lead", "no_alerts"].passed
    assert checked["lead", "no_alerts"].description == facts.description
    assert checked["account", "no_alerts"].passed


FAULTS: Mapping[str, Mapping[str, Any]] = {
    "refused": {"kind": "status", "status": 403, "path": "*/query*", "times": 0},
    "down": {"kind": "status", "status": 500, "path": "*/query*", "times": 0},
    "not found": {"kind": "status", "status": 404, "path": "*/Account/describe*", "times": 0},
    "a page of HTML": {"kind": "html", "path": "*/query*", "times": 0},
    "cut always": {"kind": "cut", "after_bytes": 300, "path": "*/query*", "times": 0},
    "cut once": {"kind": "cut", "after_bytes": 300, "path": "*/query*", "times": 1},
    "reset once": {"kind": "reset", "path": "*/query*", "nth": 2, "times": 1},
    "the session ends": {"kind": "expire_session", "path": "*/query*", "nth": 2, "times": 1},
}


WAITED_FOR = ("down", "a page of HTML")
"""Faults that pass, mostly: what takes half a minute is the waiting."""


@pytest.mark.parametrize(
    "fault",
    [pytest.param(name, marks=[pytest.mark.long] if name in WAITED_FOR else []) for name in FAULTS],
)
def test_o1_whatever_goes_wrong_a_green_run_has_committed_everything_and_a_red_one_says_what(
    house: House, dagster: Dagster, fault: str
) -> None:
    house.full()
    for name, field in (("Lead", "Company"), ("Account", "Name"), ("Contact", "LastName")):
        house.org.update(name, next(iter(house.truth(name))), {field: "Changed"})
    house.served.server.faults.script([FAULTS[fault]])
    result = dagster.run("differential_sync", partition=dagster.window())
    house.served.server.faults.clear()
    status = dict(house.query("SELECT object_name, status FROM crm_sync.sync_status"))
    failed = {
        event.step_key.partition("__")[2]
        for event in result.all_events
        if event.is_step_failure and event.step_key
    }
    assert result.success is not bool(failed)
    for name in ("Lead", "Account", "Contact"):
        if name.lower() in failed:
            assert status[name] == "last sync failed"
        else:
            assert status[name] == "in step"
            house.assert_in_step(name)
    assert bool(failed) is not fault.endswith(("once", "ends"))
    house.sync()
    house.assert_in_step()


def test_reconciliation_mends_what_no_differential_sees_and_shows_what_it_found(
    house: House, dagster: Dagster
) -> None:
    house.full()
    lead, account = house.truth("Lead"), house.truth("Account")
    house.execute(
        f"UPDATE salesforce.lead SET company = 'Tampered' WHERE id = '{next(iter(lead))}'"
    )
    house.execute(f"DELETE FROM salesforce.account WHERE id = '{next(iter(account))}'")
    result = dagster.run("reconcile", {"objects": ["Lead", "Account"]})
    assert result.success
    house.assert_in_step()
    checks = {one.asset_key.path[-1]: one for one in result.get_asset_check_evaluations()}
    assert set(checks) == {"lead", "account"}
    assert not checks["lead"].passed
    assert "1 rows were out of step" in str(checks["lead"].description)
    findings = checks["account"].metadata["findings"]
    assert isinstance(findings, dg.TableMetadataValue)
    (found,) = findings.records
    assert found.data == {"found": "missing", "rows": 1, "means": "in the CRM, but not here"}
    again = dagster.run("reconcile")
    assert all(one.passed for one in again.get_asset_check_evaluations())
    assert len(list(again.get_asset_check_evaluations())) == 3


def test_a_newly_mapped_column_is_filled_by_a_refresh_alone(house: House, dagster: Dagster) -> None:
    house.full()
    objects = house.settings["objects"]
    house.configure(
        objects={**objects, "Account": {"fields": [*objects["Account"]["fields"], "Industry"]}}
    )
    result = dagster.run("refresh", {"objects": ["Account"]})
    assert result.success
    house.assert_in_step("Account")
    assert load_settings(house.settings_file).refresh.cron_schedule == "35 2 * * *"


def test_old_runs_are_pruned_and_the_newest_of_every_job_stays(
    instance: dg.DagsterInstance,
) -> None:
    def ran(job: str, days_ago: int, status: dg.DagsterRunStatus) -> str:
        run = dg.DagsterRun(job_name=job, status=status)
        launched = datetime.now(UTC) - timedelta(days=days_ago)
        instance.run_storage.add_historical_run(run, launched)
        instance.report_engine_event("an event", run)
        return run.run_id

    success = dg.DagsterRunStatus.SUCCESS
    old = [ran("differential_sync", days, success) for days in (90, 60, 31)]
    kept = {
        ran("differential_sync", 29, dg.DagsterRunStatus.FAILURE),
        ran("full_sync", 400, success),
        ran("reconcile", 50, dg.DagsterRunStatus.STARTED),
    }
    before = datetime.now(UTC) - timedelta(days=30)
    assert prune_runs(instance, before) == 3
    assert {run.run_id for run in instance.get_runs()} == kept
    assert instance.all_logs(old[0]) == []
    assert prune_runs(instance, before) == 0


def test_housekeeping_prunes_the_ledger_and_works_while_syncs_are_disabled(
    house: House, dagster: Dagster
) -> None:
    house.full("Account")
    for _ in range(3):
        house.sync_once("Account")
    house.execute("UPDATE crm_sync.sync_run SET started_at = now() - interval '91 days'")
    before = house.query("SELECT * FROM crm_sync.sync_status")
    house.configure(syncs_enabled=False)
    assert dagster.run("housekeeping").success
    assert house.query("SELECT mode FROM crm_sync.sync_run ORDER BY sync_run_id") == [
        ("full",),
        ("differential",),
    ]
    assert house.query("SELECT * FROM crm_sync.sync_status") == before
