"""Rules over a real database: what happened becomes an action, once, and nothing older does."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from crm_pipeline.actions.rules import apply_rules
from crm_pipeline.config.load import load_settings
from crm_pipeline.config.settings import Settings
from crm_pipeline.model.audiences import FACTS
from crm_pipeline.warehouse.connection import Warehouse

FORM: dict[str, Any] = {
    "when": {"event": "form_submitted", "where": "source = 'site' and properties.Form = 'Demo'"},
    "do": {"create": "Lead"},
    "fields": {
        "LastName": {"from": "properties.last_name", "otherwise": "Unknown"},
        "Company": {"from": "properties.company", "otherwise": "[none]"},
        "Email": {"from": "email"},
        "NumberOfEmployees": {"from": "properties.size"},
        "LeadSource": "Web",
        "Title": None,
    },
    "options": {"assignment": "default", "only_new": ["LeadSource"], "only_empty": ["Title"]},
}
HOT: dict[str, Any] = {
    "when": {"score": "total", "rises_above": 50},
    "do": {"create": "Task"},
    "fields": {"Subject": "Call", "Description": {"from": "score"}},
}
ADA = UUID(int=1)
PEOPLE = ", ".join(
    f"NULL::text AS {name}" for name in FACTS if name not in {"email", "total_score"}
)
MARTS = f"""
CREATE SCHEMA marketing;
CREATE TABLE marketing.fct_lead_score_changes (
    person_id uuid, scored_at timestamptz, total_score int, engagement_score int);
CREATE TABLE marketing.audiences (
    audience text, person_id uuid, entered_at timestamptz, left_at timestamptz);
CREATE TABLE marketing.personalization AS
SELECT '{ADA}'::uuid AS person_id, 'Ada@Example.com' AS email, 7 AS total_score, {PEOPLE};
"""


class Rules:
    """A warehouse with marts made by hand, and a settings file."""

    def __init__(self, url: str, folder: Path) -> None:
        self.warehouse = Warehouse(url)
        self.folder = folder

    def settings(self, rules: Mapping[str, Any], most_at_once: int = 1_000) -> Settings:
        file = self.folder / "crm_sync.yaml"
        audience = {"description": "x", "where": "total_score > 1"}
        document = {
            "version": 1,
            "objects": {"Lead": {"fields": ["Email"]}},
            "marketing": {"audiences": {"hot": audience}},
            "actions": {"most_at_once": most_at_once, "rules": rules},
        }
        file.write_text(json.dumps(document))
        return load_settings(file)

    def look(self, most_at_once: int = 1_000, **rules: Any) -> int:
        looked = apply_rules(self.settings(rules, most_at_once), self.warehouse)
        assert looked.problems == ()
        return looked.asked

    def execute(self, statement: str, *values: object) -> None:
        with psycopg.connect(self.warehouse.url) as connection:
            connection.execute(statement.encode(), values)

    def event(self, event_id: str, email: str | None = "new@example.com", **facts: Any) -> None:
        row = {"source": "site", "properties": {"Form": "demo"}, **facts}
        self.execute(
            "INSERT INTO events.marketing_events (event_id, occurred_at, kind, email, source,"
            " properties) VALUES (%s, '2020-01-01Z', 'form_submitted', %s, %s, %s)"
            " ON CONFLICT DO NOTHING",
            event_id,
            email,
            row["source"],
            json.dumps(row["properties"]),
        )

    def score(self, total: int, engagement: int = 0) -> None:
        self.execute(
            "INSERT INTO marketing.fct_lead_score_changes VALUES (%s, clock_timestamp(), %s, %s)",
            ADA,
            total,
            engagement,
        )

    def asked(self, columns: str = "match_email") -> list[tuple[Any, ...]]:
        with psycopg.connect(self.warehouse.url) as connection:
            return connection.execute(
                f"SELECT {columns} FROM crm_sync.action ORDER BY ordinal".encode()
            ).fetchall()


@pytest.fixture
def rules(database_url: str, tmp_path: Path) -> Rules:
    made = Rules(database_url, tmp_path)
    made.execute(MARTS)
    return made


def test_an_event_asks_for_a_lead_with_what_it_says_and_what_stands_in(rules: Rules) -> None:
    rules.look(form=FORM)
    rules.event("1", properties={"Form": "DEMO", "last_name": " Doe ", "size": 7})
    assert rules.look(form=FORM) == 1
    [(kind, name, email, fields, options, by, cause, state)] = rules.asked(
        "kind, object_name, match_email, fields, options, requested_by, cause, state"
    )
    assert (kind, name, email, by) == ("create", "Lead", "new@example.com", "form")
    assert (cause, state) == ("event 1", "requested")
    assert fields == {
        "LastName": "Doe",
        "Company": "[none]",
        "Email": "new@example.com",
        "NumberOfEmployees": 7,
        "LeadSource": "Web",
        "Title": None,
    }
    assert options == {
        "on_duplicate": "park",
        "assignment": "default",
        "if_found": "update",
        "match": "email",
        "only_new": ["LeadSource", "Company"],
        "only_empty": ["Title"],
    }


def test_an_event_acts_once_however_often_it_comes_and_is_looked_at(rules: Rules) -> None:
    rules.look(form=FORM)
    for _ in range(2):
        rules.event("1")
        rules.look(form=FORM)
    rules.execute("UPDATE crm_sync.action_rule SET seen = '1:1:'")
    assert rules.look(form=FORM) == 0
    assert len(rules.asked()) == 1


def test_a_new_rule_does_nothing_about_what_is_past(rules: Rules) -> None:
    rules.event("old")
    rules.score(90)
    assert rules.look(form=FORM, hot=HOT) == 0
    assert rules.look(form=FORM, hot=HOT) == 0
    rules.event("new")
    assert rules.look(form=FORM, hot=HOT) == 1


def test_an_event_that_commits_late_is_not_missed(rules: Rules) -> None:
    rules.look(form=FORM)
    with psycopg.connect(rules.warehouse.url) as slow:
        slow.execute(
            "INSERT INTO events.marketing_events (event_id, occurred_at, kind, email, source,"
            " properties) VALUES ('slow', now(), 'form_submitted', 's@example.com', 'site',"
            """ '{"Form": "Demo"}')"""
        )
        rules.event("quick")
        assert rules.look(form=FORM) == 1
        assert rules.look(form=FORM) == 0
    assert rules.look(form=FORM) == 1
    assert rules.asked("cause") == [("event quick",), ("event slow",)]


def test_events_that_the_condition_leaves_out_or_that_name_nobody_ask_for_nothing(
    rules: Rules,
) -> None:
    rules.look(form=FORM)
    rules.event("1", source="fair")
    rules.event("2", properties={"Form": "Newsletter"})
    rules.event("3", email=None)
    assert rules.look(form=FORM) == 0


def test_a_rule_that_was_off_or_watches_for_something_else_begins_anew(rules: Rules) -> None:
    rules.look(form=FORM)
    rules.look(form={**FORM, "enabled": False})
    rules.event("while it was off")
    assert rules.look(form=FORM) == 0
    rules.event("1")
    assert rules.look(form={**FORM, "when": {"event": "form_submitted"}}) == 0
    rules.event("2")
    assert rules.look(form={**FORM, "when": {"event": "form_submitted"}}) == 1


def test_a_score_asks_when_it_crosses_each_way_and_not_while_it_stays(rules: Rules) -> None:
    cold = {**HOT, "when": {"score": "total", "falls_below": 20}}
    busy = {**HOT, "when": {"score": "engagement", "rises_above": 0}}
    told: dict[str, Any] = {"hot": HOT, "cold": cold, "busy": busy}
    rules.look(**told)
    for total in (50, 51, 80, 20, 19, 5, 60):
        rules.score(total)
        rules.look(**told)
    asked = rules.asked("requested_by, fields ->> 'Description', match_email")
    assert asked == [
        ("hot", "51", "ada@example.com"),
        ("cold", "19", "ada@example.com"),
        ("hot", "60", "ada@example.com"),
    ]
    rules.score(60, engagement=1)
    assert rules.look(**told) == 1


def test_an_audience_asks_for_who_enters_and_for_who_leaves(rules: Rules) -> None:
    entered = {**HOT, "when": {"audience": "hot", "change": "entered"}}
    entered["fields"] = {"Subject": {"from": "audience"}}
    left = {**entered, "when": {"audience": "hot", "change": "left"}}
    told: dict[str, Any] = {"entered": entered, "left": left}
    member = "INSERT INTO marketing.audiences VALUES (%s, %s, clock_timestamp())"
    rules.execute(member, "hot", UUID(int=2))
    rules.look(**told)
    rules.execute(member, "hot", ADA)
    rules.execute(member, "cold", ADA)
    assert rules.look(**told) == 1
    rules.execute("UPDATE marketing.audiences SET left_at = clock_timestamp()"
                  " WHERE audience = 'hot' AND person_id = %s", ADA)  # fmt: skip
    assert rules.look(**told) == 1
    rules.execute(member, "hot", ADA)
    assert rules.look(**told) == 1
    assert rules.asked("requested_by, fields ->> 'Subject'") == [
        ("entered", "hot"),
        ("left", "hot"),
        ("entered", "hot"),
    ]


def test_a_rule_that_wants_too_much_at_once_waits_for_a_person(rules: Rules) -> None:
    rules.look(3, form=FORM)
    for number in range(4):
        rules.event(f"{number}", email=f"n{number}@example.com")
    assert rules.look(3, form=FORM) == 4
    assert rules.asked("DISTINCT ON (ordinal) state, code") == [("held", "MANY_AT_ONCE")] * 4
    rules.event("one more")
    rules.look(3, form=FORM)
    assert rules.asked("state")[-1] == ("requested",)


def test_rules_wait_for_marts_that_are_not_built_yet(rules: Rules) -> None:
    rules.execute("DROP SCHEMA marketing CASCADE")
    entered = {**HOT, "when": {"audience": "hot", "change": "entered"}, "fields": {"Subject": "x"}}
    told: dict[str, Any] = {"hot": HOT, "entered": entered}
    assert [rules.look(**told), rules.look(**told)] == [0, 0]


def test_a_rule_that_cannot_look_is_named_and_stops_no_other(rules: Rules) -> None:
    told: dict[str, Any] = {"hot": HOT, "form": FORM}
    rules.look(**told)
    rules.execute("ALTER TABLE marketing.fct_lead_score_changes RENAME total_score TO score")
    rules.event("1")
    looked = apply_rules(rules.settings(told), rules.warehouse)
    assert looked.asked == 1
    assert looked.problems == ("The rule hot cannot look: PostgreSQL says 42703.",)


def test_texts_of_a_rule_and_of_an_event_never_become_sql(rules: Rules) -> None:
    strange = "it's {} %s \\ \" $$ ' || '"
    rule = {
        **FORM,
        "when": {"event": "form_submitted", "where": "properties.x = 'it\\'s {} %s $$'"},
        "fields": {"LastName": strange, "Company": {"from": "properties.y", "otherwise": strange}},
    }
    rules.look(form=rule)
    rules.event("1", properties={"x": "it's {} %s $$"})
    rules.event("2'; DROP TABLE events.marketing_events; --", properties={"y": strange})
    assert rules.look(form=rule) == 1
    assert rules.asked("fields ->> 'LastName', fields ->> 'Company'") == [(strange, strange)]
