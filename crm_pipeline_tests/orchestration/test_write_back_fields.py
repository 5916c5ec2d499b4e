"""The job that makes the fields of write-backs: its table, its colour, its sentence."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
import pytest

from crm_pipeline_tests.house import House
from crm_pipeline_tests.orchestration.conftest import Dagster


@pytest.fixture
def scored(house: House) -> House:
    """Settings that want a score which the org does not have."""
    fields = {"Lead": "Marketing_Score__c"}
    house.configure(
        write_backs={
            "consent": {"direction": "off"},
            "lead_scores": {"enabled": True, "fields": fields},
        }
    )
    return house


def rows(metadata: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    """Field and outcome of each row of the table that a run shows."""
    table = metadata["fields"]
    assert isinstance(table, dg.TableMetadataValue)
    return [(record.data["field"], record.data["outcome"]) for record in table.records]


def of_success(result: dg.ExecuteInProcessResult) -> list[tuple[Any, Any]]:
    """The same, of a run that is green."""
    assert result.success
    [output] = result.filter_events(lambda event: event.is_successful_output)
    return rows(output.step_output_data.metadata)


def test_h18_a_run_makes_the_fields_and_shows_what_became_of_each(
    scored: House, dagster: Dagster
) -> None:
    config = {"ops": {"make_fields": {"config": {"key_field_on": ["Lead"]}}}}
    names = ("Marketing_Score__c", "Crm_Pipeline_Key__c")
    for outcome in ("created", "present"):
        result = dagster.run("write_back_fields", config)
        assert of_success(result) == [(name, outcome) for name in names]


def test_h18_a_run_fails_with_a_sentence_when_a_person_must_act(
    scored: House, dagster: Dagster
) -> None:
    scored.served.server.settings.customize_application = False
    result = dagster.run("write_back_fields")
    assert not result.success
    [failure] = result.filter_events(lambda event: event.is_step_failure)
    told = failure.step_failure_data.user_failure_data
    assert told is not None
    assert "Nothing can be written to `Lead.Marketing_Score__c`" in (told.description or "")
    assert "Customize Application" in (told.description or "")
    assert rows(told.metadata) == [("Marketing_Score__c", "refused")]
