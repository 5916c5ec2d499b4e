"""Write-backs in Dagster: sensors that see what is due, runs that say what became of it."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from crm_pipeline.defs.names import WRITE_BACK
from crm_pipeline.defs.resources import CrmResource
from crm_pipeline.model.sync import SyncMode
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.lease import WRITE_BACK_LEASE, held_lease
from crm_pipeline_tests.cases.deciding import (
    BOX,
    SCORE,
    deciding,
    fact,
    held,
    says,
    write_backs,
)
from crm_pipeline_tests.cases.writing import states, update, wish
from crm_pipeline_tests.house import House
from crm_pipeline_tests.orchestration.conftest import Dagster

__all__ = ["deciding"]

DELIVERY = dg.AssetKey(["write_backs", "delivery"])
SCORES = dg.AssetKey(["write_backs", "lead_scores"])


@pytest.fixture
def house(deciding: House) -> House:
    """Four leads, marts by hand, every write-back on."""
    return deciding


@pytest.fixture(scope="session")
def dbt_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the models are parsed, once per process."""
    return tmp_path_factory.mktemp("write-backs")


@pytest.fixture
def dagster(house: House, instance: dg.DagsterInstance, dbt_home: Path) -> Dagster:
    """The house's Dagster."""
    made = Dagster(house, instance)
    made.home = dbt_home
    return made


def look(dagster: Dagster, sensor: str) -> dg.RunRequest | str:
    """One tick of a sensor, without a cursor: none may be needed."""
    repository = dagster.location().get_repository_def()
    with dg.build_sensor_context(
        instance=dagster.instance, resources={"crm": CrmResource()}, repository_def=repository
    ) as context:
        data = repository.get_sensor_def(sensor).evaluate_tick(context)
    if data.run_requests:
        (request,) = data.run_requests
        return request
    assert data.skip_message is not None
    return data.skip_message


def run(dagster: Dagster, request: dg.RunRequest | str) -> dg.ExecuteInProcessResult:
    """The run that a sensor asks for."""
    assert isinstance(request, dg.RunRequest), request
    job = dagster.location().resolve_job_def(WRITE_BACK)
    chosen = job.get_subset(asset_selection=set(request.asset_selection or ()))
    return chosen.execute_in_process(instance=dagster.instance, raise_on_error=False)


def facts(result: dg.ExecuteInProcessResult, key: dg.AssetKey) -> dict[str, Any]:
    """Metadata of the one materialisation of an asset."""
    (event,) = [e for e in result.get_asset_materialization_events() if e.asset_key == key]
    return {name: entry.value for name, entry in event.materialization.metadata.items()}


def test_a_score_that_moved_is_in_the_crm_after_one_tick_and_one_run(
    house: House, dagster: Dagster
) -> None:
    says(house, "l1@x.org", "unsubscribed")
    fact(house, "fct_lead_scores", 0, total_score=60)
    request = look(dagster, "lead_scores_write_back")
    assert isinstance(request, dg.RunRequest)
    assert request.run_key is None
    # One build makes all write-backs due, and one run serves them.
    assert len(request.asset_selection or ()) == 5
    result = run(dagster, request)
    assert result.success
    assert held(house, SCORE) == [60, None, None, None]
    assert held(house, BOX) == [False, True, False, False]
    assert facts(result, SCORES)["records"] == 1
    delivered = facts(result, DELIVERY)
    assert (delivered["applied"], delivered["parked"]) == (2, 0)
    rows = [record.data for record in delivered["results"].records]
    assert [(row["origin"], row["state"], row["field_names"]) for row in rows] == [
        ("consent", "applied", BOX),
        ("lead_scores", "applied", SCORE),
    ]
    for name in ("consent", "lead_scores", "visits", "touches"):
        assert look(dagster, f"{name}_write_back") == (
            "The marts have not moved since the last decision."
        )
    assert look(dagster, "waiting_write_backs") == "Nothing waits in the outbox."


def test_g14_a_failed_run_strands_nothing(house: House, dagster: Dagster) -> None:
    fact(house, "fct_lead_scores", 0, total_score=60)
    house.monkeypatch.setenv("SALESFORCE_CLIENT_SECRET", "wrong")
    result = run(dagster, look(dagster, "lead_scores_write_back"))
    assert not result.success
    assert states(house) == {"waiting": 1}
    assert "The last write_back failed" in str(look(dagster, "waiting_write_backs"))


def test_what_waits_in_the_outbox_is_sent_whoever_put_it_there(
    house: House, dagster: Dagster
) -> None:
    lead = house.org.query("SELECT Id FROM Lead ORDER BY CreatedDate, Id")[0]["Id"]
    wish(house, update(str(lead), Company="By hand"), update(str(lead), Nowhere__c=1))
    request = look(dagster, "waiting_write_backs")
    assert isinstance(request, dg.RunRequest)
    assert request.asset_selection == [DELIVERY]
    result = run(dagster, request)
    assert result.success
    assert held(house, "Company")[0] == "By hand"
    (check,) = result.get_asset_check_evaluations()
    assert (check.check_name, check.passed) == ("nothing_is_parked", False)
    shown = facts(result, DELIVERY)["results"].records[0].data
    assert (shown["state"], shown["field_names"]) == ("parked", "Nowhere__c")
    assert shown["remedy"]
    assert "By hand" not in str(shown)


def test_a_parked_write_back_is_requeued_and_dismissed_from_the_ui(
    house: House, dagster: Dagster
) -> None:
    lead = str(house.org.query("SELECT Id FROM Lead ORDER BY CreatedDate, Id")[0]["Id"])
    wish(house, update(lead, Nowhere__c=1))
    run(dagster, look(dagster, "waiting_write_backs"))
    assert states(house) == {"parked": 1}
    nothing = dagster.run("requeue_write_backs")
    assert not nothing.success
    assert dagster.run("requeue_write_backs", op("requeue", object_name="Lead")).success
    assert states(house) == {"waiting": 1}
    run(dagster, look(dagster, "waiting_write_backs"))
    assert dagster.run("dismiss_write_backs", op("dismiss", everything=True)).success
    assert house.query("SELECT state FROM crm_sync.write_back_log") == [("dismissed",)]


def test_a_large_change_waits_for_approval_from_the_ui(house: House, dagster: Dagster) -> None:
    write_backs(house, lead_scores={"enabled": True}, approval={"most_records": 1})
    for number in range(3):
        fact(house, "fct_lead_scores", number, total_score=60)
    result = run(dagster, look(dagster, "lead_scores_write_back"))
    found = facts(result, SCORES)
    assert found["held"] == 3
    assert "3 records of Lead would change" in found["held_because"]
    assert held(house, SCORE) == [None] * 4
    assert not dagster.run("approve_write_backs", op("approve", batch="another")).success
    assert dagster.run("approve_write_backs", op("approve", batch=found["batch"])).success
    run(dagster, look(dagster, "waiting_write_backs"))
    assert held(house, SCORE) == [60, 60, 60, None]


def test_a_delivery_beside_a_drainer_leaves_the_work_to_it(house: House, dagster: Dagster) -> None:
    warehouse = Warehouse(house.database_url)
    with held_lease(warehouse, WRITE_BACK_LEASE, owner="another", mode=SyncMode.WRITE_BACK):
        result = dagster.run(WRITE_BACK)
    assert result.success
    assert facts(result, DELIVERY) == {"delivered_by": "another"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"syncs_enabled": False}, "Syncs are disabled"),
        ({"write_backs": {"enabled": False, "lead_scores": {"enabled": True}}}, "Write-backs are"),
    ],
)
def test_g10_an_off_switch_holds_every_sensor(
    house: House, dagster: Dagster, changes: dict[str, Any], words: str
) -> None:
    fact(house, "fct_lead_scores", 0, total_score=60)
    house.configure(**changes)
    assert words in str(look(dagster, "waiting_write_backs"))


def test_the_lineage_goes_from_the_mart_into_the_crm(house: House, dagster: Dagster) -> None:
    graph = dagster.location().resolve_asset_graph()
    assert graph.get(SCORES).parent_keys == {dg.AssetKey(["marketing", "fct_lead_scores"])}
    assert SCORES in graph.get(DELIVERY).parent_keys
    assert "write_backs" not in {
        graph.get(key).group_name
        for key in dagster.location().resolve_job_def("load_events").asset_layer.selected_asset_keys
    }


def op(name: str, **config: Any) -> dict[str, Any]:
    """The config of a form."""
    return {"ops": {name: {"config": config}}}
