"""A house whose CRM has the fields of the automatic write-backs, and marts to decide by.

The marts are either built by dbt or made by hand: tables and views of the same shape, for cases in
which their content is not the point. Belongs here: what the tests of automatic write-backs share.
Does not belong here: assertions (test_h_*.py).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from crm_pipeline.defs.dbt_project import find_project
from crm_pipeline.defs.marketing_models import build_models
from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.running import running
from crm_pipeline.sandbox.salesforce.schema import FieldDefinition
from crm_pipeline.sync.assembly import Installation
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.writeback.automatic import Decision, decide, enabled_write_backs, is_due
from crm_pipeline_tests.cases.writing import drain
from crm_pipeline_tests.house import House

BOX, BOUNCED = "HasOptedOutOfEmail", "Email_Hard_Bounced__c"
SCORE, VISIT = "Lead_Score__c", "Most_Recent_Visit__c"
FIRST_CHANNEL, FIRST_SOURCE = "First_Touch_Channel__c", "First_Touch_Source__c"
LAST_CHANNEL, LAST_SOURCE = "Last_Touch_Channel__c", "Last_Touch_Source__c"
_OURS = (BOX, BOUNCED, SCORE, VISIT, FIRST_CHANNEL, FIRST_SOURCE, LAST_CHANNEL, LAST_SOURCE)
OBJECTS: Mapping[str, Any] = {
    "Lead": {
        "fields": [
            "LastName",
            "Company",
            "Email",
            "Phone",
            "EmailBouncedDate",
            "IsConverted",
            *_OURS,
        ]
    },
    "Contact": {"fields": ["LastName", "Email", "Phone", "EmailBouncedDate", *_OURS]},
}
EVERYTHING: Mapping[str, Any] = {
    "consent": {"direction": "both"},
    "lead_scores": {"enabled": True},
    "visits": {"enabled": True},
    "touches": {"enabled": True},
}
# A person is an address, as in the models; of consent, the verdict of the mart in one statement.
_MARTS = """
CREATE SCHEMA marketing;
CREATE SCHEMA marketing_staging;
CREATE TABLE marketing_staging.build_progress (
    model text PRIMARY KEY, seen pg_snapshot NOT NULL, made_of text NOT NULL,
    built_at timestamptz NOT NULL);
CREATE VIEW marketing_staging.int_people__records AS
SELECT id AS record_id, 'lead' AS record_type, md5('email:' || lower(btrim(email)))::uuid
       AS person_id, _deleted_at IS NOT NULL AS is_gone FROM salesforce.lead
UNION ALL
SELECT id, 'contact', md5('email:' || lower(btrim(email)))::uuid, _deleted_at IS NOT NULL
FROM salesforce.contact;
CREATE VIEW marketing.fct_consent AS
SELECT email,
       bool_or(status = 'complained' OR (
           status = 'unsubscribed' AND (last_yes_at IS NULL OR occurred_at >= last_yes_at)))
           AS is_opted_out,
       max(occurred_at) FILTER (WHERE status = 'unsubscribed') AS unsubscribed_at,
       max(occurred_at) FILTER (WHERE status = 'hard_bounced') AS hard_bounced_at,
       max(occurred_at) FILTER (WHERE status = 'complained') AS complained_at
FROM (SELECT *, max(least(occurred_at, noted_at)) FILTER (WHERE status = 'subscribed')
                    OVER (PARTITION BY email) AS last_yes_at FROM events.consent_ledger) l
GROUP BY email;
CREATE TABLE marketing.fct_lead_scores (
    person_id uuid PRIMARY KEY, total_score integer, contact_score integer DEFAULT 0);
CREATE TABLE marketing.fct_web_visits (person_id uuid, ended_at timestamptz);
CREATE TABLE marketing.fct_touches (
    person_id uuid PRIMARY KEY, first_touch_at timestamptz, first_touch_channel text,
    first_touch_source text, last_touch_at timestamptz, last_touch_channel text,
    last_touch_source text);
"""
_BUILT = """
INSERT INTO marketing_staging.build_progress
SELECT model, pg_current_snapshot(), '', clock_timestamp()
FROM unnest(ARRAY['fct_consent', 'fct_lead_scores', 'fct_web_visits', 'fct_touches']) model
ON CONFLICT (model) DO UPDATE SET seen = excluded.seen, built_at = excluded.built_at
"""


@contextmanager
def deciding_house(
    database_url: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    leads: int = 4,
    by_hand: bool = True,
) -> Iterator[House]:
    """Leads l0, l1, ... of l0@x.org, l1@x.org, ..., fully synced, with every write-back on."""
    org = SandboxOrg()
    for name in ("Lead", "Contact"):
        _add_fields(org, name)
    org.clock.advance(0)
    with running(org) as served:
        house = House(org, served, folder, database_url, monkeypatch)
        house.configure(
            version=1, reference_data=False, objects=dict(OBJECTS), write_backs=dict(EVERYTHING)
        )
        org.create_many("Lead", ({"Company": "Co", **person(n)} for n in range(leads)))
        house.full()
        if by_hand:
            house.execute(_MARTS)
            built(house)
        yield house
    org.close()


def _add_fields(org: SandboxOrg, name: str) -> None:
    box = FieldDefinition(BOUNCED, "Email Hard Bounced", "boolean", nillable=False, default=False)
    org.add_field(name, box)
    org.add_field(name, FieldDefinition(VISIT, "Most Recent Visit", "datetime"))
    if name == "Contact":
        org.add_field(name, FieldDefinition(SCORE, "Lead Score", "double", precision=18, scale=2))
    for field in (FIRST_CHANNEL, FIRST_SOURCE, LAST_CHANNEL, LAST_SOURCE):
        org.add_field(name, FieldDefinition(field, field, "string", length=80))


@pytest.fixture
def deciding(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """Four leads and marts by hand."""
    with deciding_house(database_url, tmp_path, monkeypatch) as house:
        yield house


@pytest.fixture(scope="session")
def dbt_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where dbt writes: a project is parsed once per process, not once per test."""
    return tmp_path_factory.mktemp("dbt-of-decisions")


def person(number: int, **values: Any) -> dict[str, Any]:
    """Fields of a record of the person of that number."""
    return {"LastName": f"l{number}", "Email": f"l{number}@x.org", **values}


def built(house: House) -> None:
    """Marts by hand count as built anew."""
    house.execute(_BUILT)


def build(house: House, dbt_folder: Path, *chosen: str) -> None:
    """Let dbt build models as Dagster does."""
    project = find_project(Installation.from_environment().settings, dbt_folder)
    project.manifest()
    results = build_models(project, house.database_url, chosen, is_tested=False)
    assert {one["status"] for one in results} <= {"success", "pass", "skipped", "no-op"}


def write_backs(house: House, **chosen: Any) -> None:
    """Settings of the write-backs, instead of those before."""
    house.configure(write_backs=chosen)


def decided(house: House, name: str) -> Decision:
    """One decision, as a new process would make it."""
    installation = Installation.from_environment()
    return decide(
        installation.settings,
        installation.warehouse(),
        name,
        run_id="a test",
        require_enabled=installation.switch.require,
    )


def due(house: House, name: str) -> str | None:
    """Why a write-back is due."""
    return is_due(Installation.from_environment().settings, Warehouse(house.database_url), name)


def settle(house: House) -> int:
    """Decide everything and drain; returns how many changes were applied."""
    for name in enabled_write_backs(Installation.from_environment().settings):
        decided(house, name)
    return drain(house).applied


def cycle(house: House) -> int:
    """The same, after a sync a little later."""
    house.org.clock.advance(3600)
    house.sync()
    built(house)
    return settle(house)


def says(house: House, email: str, status: str, at: str = "2026-01-01Z", **facts: str) -> None:
    """A row of the ledger of consent."""
    row = {"side": "marketing", "evidence": f"{status} {at}", **facts}
    with psycopg.connect(house.database_url) as connection:
        connection.execute(
            "INSERT INTO events.consent_ledger"
            " (email, status, side, evidence, occurred_at, noted_at)"
            " VALUES (%s, %s, %s, %s, %s, coalesce(%s::timestamptz, now()))",
            [email, status, row["side"], row["evidence"], at, row.get("noted_at")],
        )


def fact(house: House, mart: str, number: int, **values: Any) -> None:
    """The row of a mart about the person of that number, instead of the one before."""
    with psycopg.connect(house.database_url) as connection:
        person_id = f"md5('email:l{number}@x.org')::uuid"
        connection.execute(f"DELETE FROM marketing.{mart} WHERE person_id = {person_id}".encode())
        names = ", ".join(values)
        holes = ", ".join(f"%({name})s" for name in values)
        statement = (
            f"INSERT INTO marketing.{mart} (person_id, {names}) VALUES ({person_id}, {holes})"
        )
        connection.execute(statement.encode(), values)


def held(house: House, field: str, name: str = "Lead") -> list[Any]:
    """What the org holds in a field, in the order in which its living records were made."""
    rows = house.org.query(f"SELECT {field} FROM {name} ORDER BY CreatedDate, Id")
    return [row[field] for row in rows]


def rows_of_outbox(house: House) -> int:
    """How many wishes there ever were."""
    return int(house.query("SELECT count(*) FROM crm_sync.outbox")[0][0])
