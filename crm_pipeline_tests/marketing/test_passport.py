"""The record passport over marts that are built."""

import psycopg
import pytest

from crm_pipeline.config.settings import Settings
from crm_pipeline.sync.explain import explain_person
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.erasure import Person
from crm_pipeline_tests.marketing.golden.month import GoldenMonth

pytestmark = pytest.mark.timeout(900)
SETTINGS = Settings.model_validate(
    {"version": 1, "objects": {name: {"fields": ["Email"]} for name in ("Lead", "Contact")}}
)


def test_a_passport_shows_the_verdict_and_the_score_of_the_marts(
    golden_month: GoldenMonth,
) -> None:
    url = golden_month.warehouse.url
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT email, status FROM marketing.fct_consent JOIN marketing.fct_lead_scores"
            " USING (person_id) WHERE status = 'unsubscribed' ORDER BY email LIMIT 1"
        ).fetchone()
    assert found is not None
    passport = explain_person(Warehouse(url, "salesforce"), SETTINGS, Person(address=found[0]))
    assert [(row["email"], row["status"]) for row in passport.now["consent"]] == [found]
    assert len(passport.now["scores"]) == 1
    assert any(entry.side == "score" for entry in passport.timeline)


def test_a_passport_tells_of_every_address_of_the_person(golden_month: GoldenMonth) -> None:
    url = golden_month.warehouse.url
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT 'event ' || event_id FROM events.marketing_events"
            " WHERE email IN ('eve@example.com', 'eve@private.example')"
        ).fetchall()
    passport = explain_person(
        Warehouse(url, "salesforce"), SETTINGS, Person(address="eve@example.com")
    )
    told = {entry.evidence for entry in passport.timeline if entry.side == "event"}
    assert told >= {row[0] for row in rows}
