"""Rules for actions over marts that dbt has built: scores that cross, audiences that change."""

from datetime import UTC, datetime, timedelta
from typing import Any

from crm_pipeline.actions.rules import apply_rules
from crm_pipeline.config.settings import Settings
from crm_pipeline.defs.dbt_project import project_variables
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline_tests.marketing.synthetic import SyntheticWarehouse

TASK: dict[str, Any] = {
    "do": {"create": "Task"},
    "fields": {
        "Subject": {"from": "last_name", "otherwise": "?"},
        "Description": {"from": "email"},
    },
}
RULES: dict[str, Any] = {
    "hot": {**TASK, "when": {"score": "total", "rises_above": 50}},
    "cold": {**TASK, "when": {"score": "total", "falls_below": 20}},
    "entered": {**TASK, "when": {"audience": "germans", "change": "entered"}},
    "left": {**TASK, "when": {"audience": "germans", "change": "left"}},
}
SETTINGS = Settings.model_validate(
    {
        "version": 1,
        "objects": {"Lead": {"fields": ["Email"]}},
        "marketing": {
            "audiences": {"germans": {"description": "Germany.", "where": "country = 'de'"}}
        },
        "actions": {"rules": RULES},
    }
)


def adjusted(points: int) -> dict[str, object]:
    return {
        "kind": "score_adjusted",
        "email": "ada@x",
        "occurred_at": "2026-01-01Z",
        "properties": {"points": points},
    }


def test_real_scores_and_audiences_ask_once_for_each_crossing(
    synthetic: SyntheticWarehouse,
) -> None:
    lead = synthetic.record_id("lead", 1)
    synthetic.leads({"id": lead, "email": "ada@x", "lastname": "Ada", "country": "FR"})
    variables = {"audiences": project_variables(SETTINGS)["audiences"]}
    began = datetime.now(UTC)
    builds = 0

    def look() -> list[tuple[Any, ...]]:
        nonlocal builds
        builds += 1
        synthetic.build(variables=variables, as_of=began + timedelta(minutes=builds))
        looked = apply_rules(SETTINGS, Warehouse(synthetic.url))
        assert looked.problems == ()
        asked = synthetic.query(
            "SELECT requested_by, fields ->> 'Subject', match_email FROM crm_sync.action"
            " WHERE NOT is_dismissed ORDER BY requested_by"
        )
        synthetic.execute("UPDATE crm_sync.action SET is_dismissed = true")
        return asked

    assert look() == []
    synthetic.events(adjusted(60))
    synthetic.change("lead", lead, country="DE")
    assert look() == [("entered", "Ada", "ada@x"), ("hot", "Ada", "ada@x")]
    synthetic.events(adjusted(-50))
    synthetic.change("lead", lead, country="FR")
    assert look() == [("cold", "Ada", "ada@x"), ("left", "Ada", "ada@x")]
