"""Actions in Dagster: rows make the sensor launch a run, rules act once, and a form is a row."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from crm_pipeline.config.load import load_settings
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline_tests.cases.acting import acting_house, ask, decide, records, told
from crm_pipeline_tests.cases.writing import drain
from crm_pipeline_tests.house import House
from crm_pipeline_tests.orchestration.conftest import Dagster
from crm_pipeline_tests.orchestration.test_sensors import Sensors

NEW = {"LastName": "Doe", "Company": "Acme", "Email": "new@example.com"}
RULE: dict[str, Any] = {
    "when": {"event": "form_submitted"},
    "do": {"create": "Lead"},
    "fields": {
        "LastName": {"from": "properties.last_name", "otherwise": "Unknown"},
        "Company": "Web",
        "Email": {"from": "email"},
    },
}


@pytest.fixture
def acting(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    with acting_house(database_url, tmp_path, monkeypatch) as house:
        house.configure(marketing={"enabled": False}, actions={"rules": {"form_lead": RULE}})
        yield house


@pytest.fixture
def sensors(acting: House, instance: dg.DagsterInstance) -> Sensors:
    settings = load_settings(acting.settings_file)
    return Sensors(settings, instance, Warehouse(acting.database_url), acting.folder / "home")


def metadata(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    [event] = [one for one in result.all_events if one.event_type_value == "STEP_OUTPUT"]
    return {name: _plain(value) for name, value in event.step_output_data.metadata.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dg.TableMetadataValue):
        return [record.data for record in value.records]
    return value.value


def submit_form(house: House, event_id: str) -> None:
    house.execute(
        "INSERT INTO events.marketing_events (event_id, occurred_at, kind, email, properties)"
        f" VALUES ('{event_id}', now(), 'form_submitted', 'new@example.com',"
        """ '{"last_name": "Doe"}') ON CONFLICT DO NOTHING"""
    )


def test_h28_a_form_that_was_submitted_becomes_one_lead_however_often_its_event_comes(
    acting: House, sensors: Sensors, instance: dg.DagsterInstance
) -> None:
    assert sensors.look("requested_actions") == "Nothing was asked for."
    for _ in range(2):
        submit_form(acting, "form 1")
        answer = sensors.look("requested_actions")
        if isinstance(answer, dg.RunRequest):
            assert Dagster(acting, instance).run("actions").success
    assert records(acting, "SELECT LastName, Company FROM Lead WHERE Company = 'Web'") == [
        {"LastName": "Doe", "Company": "Web"}
    ]
    assert sensors.look("requested_actions") == "Nothing was asked for."


def test_a_run_delivers_what_waited_for_its_own_record_and_tells_each_result(
    acting: House, instance: dg.DagsterInstance
) -> None:
    first = ask(acting, fields=NEW)
    second = ask(acting, name="Task", match_email=NEW["Email"], fields={"Subject": "Call"})
    wrong = ask(acting, name="Leed", fields=NEW)
    result = Dagster(acting, instance).run("actions")
    assert result.success
    assert [told(acting, one)["state"] for one in (first, second, wrong)] == [
        "applied",
        "applied",
        "refused",
    ]
    facts = metadata(result)
    assert (facts["enqueued"], facts["applied"], facts["refused"]) == (2, 2, 1)
    lines = {row["action_id"]: row for row in facts["actions"]}
    assert lines[first]["record_id"] == told(acting, first)["record_id"]
    assert lines[wrong]["code"] == "NO_OBJECT"
    assert NEW["Email"] not in str(facts)


def test_h28_a_run_goes_on_with_what_its_own_delivery_handed_back(
    acting: House, instance: dg.DagsterInstance
) -> None:
    late = ask(acting, fields=NEW)
    decide()
    acting.execute("UPDATE crm_sync.outbox SET enqueued_at = enqueued_at - interval '1 hour'")
    made = acting.org.create("Lead", {**NEW, "LastName": "By hand"})
    ask(acting, fields={**NEW, "Email": "other@example.com"})
    assert Dagster(acting, instance).run("actions").success
    assert (told(acting, late)["state"], told(acting, late)["record_id"]) == ("applied", made)


def test_h28_what_another_delivery_handed_back_is_seen_by_the_sensor(
    acting: House, sensors: Sensors, instance: dg.DagsterInstance
) -> None:
    ask(acting, fields=NEW)
    decide()
    acting.execute("UPDATE crm_sync.outbox SET enqueued_at = enqueued_at - interval '1 hour'")
    acting.org.create("Lead", {**NEW, "LastName": "By hand"})
    assert sensors.look("requested_actions") == "Nothing was asked for."
    drain(acting)
    assert isinstance(sensors.look("requested_actions"), dg.RunRequest)
    assert Dagster(acting, instance).run("actions").success
    found = records(acting, "SELECT LastName FROM Lead WHERE Email = 'new@example.com'")
    assert found == [{"LastName": "Doe"}]


def test_the_form_makes_a_record_and_a_wrong_one_is_refused_with_a_sentence(
    acting: House, instance: dg.DagsterInstance
) -> None:
    dagster = Dagster(acting, instance)

    def fill(**form: Any) -> dg.ExecuteInProcessResult:
        return dagster.run("request_action", {"ops": {"request_one_action": {"config": form}}})

    result = fill(object="Lead", fields=NEW, owner="ada@co.example")
    assert result.success
    [line] = metadata(result)["actions"]
    assert (line["state"], line["is_created"]) == ("applied", "True")
    [lead] = records(acting, "SELECT Id FROM Lead WHERE Email = 'new@example.com'")
    assert line["record_id"] == lead["Id"]
    for form, sentence in (
        ({"if_found": "replace"}, "one of `update` and `leave`, not `replace`."),
        ({"object": "Leed"}, "The action was refused: There is no object `Leed` for our user."),
    ):
        refused = fill(**{"object": "Lead", "fields": NEW, **form})
        assert not refused.success
        [failed] = [e for e in refused.all_events if e.event_type_value == "STEP_FAILURE"]
        assert sentence in str(failed.step_failure_data.user_failure_data)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"syncs_enabled": False}, "Syncs are disabled"),
        ({"write_backs": {"enabled": False}}, "Write-backs are disabled"),
    ],
)
def test_nothing_is_launched_while_it_is_switched_off(
    acting: House, sensors: Sensors, change: dict[str, Any], reason: str
) -> None:
    ask(acting, fields=NEW)
    acting.configure(**change)
    assert reason in str(sensors.look("requested_actions"))


def test_a_run_that_failed_is_not_followed_by_one_that_would_fail_too(
    acting: House, sensors: Sensors, instance: dg.DagsterInstance
) -> None:
    ask(acting, fields=NEW)
    assert isinstance(sensors.look("requested_actions"), dg.RunRequest)
    acting.monkeypatch.setenv("SALESFORCE_CLIENT_SECRET", "wrong")
    assert not Dagster(acting, instance).run("actions").success
    assert "The last actions failed" in str(sensors.look("requested_actions"))


def test_actions_that_wait_for_a_record_on_its_way_launch_nothing(
    acting: House, sensors: Sensors
) -> None:
    ask(acting, fields=NEW)
    ask(acting, fields=NEW)
    decide()
    acting.execute("UPDATE crm_sync.outbox SET not_before = now() + interval '1 hour'")
    assert sensors.look("requested_actions") == "Nothing was asked for."
