"""What is built from changes alone is what a full build makes of the same warehouse.

The one warehouse is built from change to change under `marketing`, and whole under `anew`; then
every table is held against its twin, both ways.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from crm_pipeline_tests.conftest import new_database
from crm_pipeline_tests.marketing.changes import CHANGES, RandomChanges
from crm_pipeline_tests.marketing.population import populate
from crm_pipeline_tests.marketing.synthetic import SyntheticWarehouse

# A build takes seconds on a machine of its own, and there are many.
pytestmark = pytest.mark.timeout(900)

PROJECT = Path(__file__).parents[2] / "dbt_marketing"
TODAY, TOMORROW = "2026-03-02 12:00:00+00", "2026-03-03 12:00:00+00"
# Histories: what they hold depends on when somebody looked.
HISTORIES = {"fct_lead_score_changes", "audiences"}
MEMORY = {"build_progress", "person_change"}
RULES = {"touch_kinds", "lead_score_event_rules", "lead_score_contact_rules"}


@pytest.fixture(scope="module")
def built(
    database_server: str, _migrated_template: str, parsed_projects: Path
) -> Iterator[SyntheticWarehouse]:
    """A populated warehouse after its first build, to be copied by each test."""
    with new_database(database_server, template=_migrated_template) as url:
        made = SyntheticWarehouse(url, parsed_projects)
        made.create_tables()
        populate(made)
        made.build(as_of=TODAY)
        yield made


@contextmanager
def _copy(built: SyntheticWarehouse, server: str) -> Iterator[SyntheticWarehouse]:
    with new_database(server, template=urlsplit(built.url).path[1:]) as url:
        yield SyntheticWarehouse(url, built.folder)


@pytest.fixture
def warehouse(built: SyntheticWarehouse, database_server: str) -> Iterator[SyntheticWarehouse]:
    """A copy of the built warehouse."""
    with _copy(built, database_server) as made:
        yield made


def test_after_a_first_build_the_planner_knows_how_large_each_mart_is(
    warehouse: SyntheticWarehouse,
) -> None:
    unknown = warehouse.query(
        "SELECT relname::text FROM pg_class WHERE relkind = 'r' AND reltuples < 0"
        " AND relnamespace IN ('marketing'::regnamespace, 'marketing_staging'::regnamespace)"
    )
    assert {name for (name,) in unknown} <= MEMORY | RULES


def test_ticks_find_their_records_by_id_however_little_the_planner_knows(
    warehouse: SyntheticWarehouse,
) -> None:
    leads = [warehouse.record_id("lead", 9_000 + number) for number in range(200)]
    warehouse.leads(*({"id": lead, "hasoptedoutofemail": True} for lead in leads))
    warehouse.execute(
        "INSERT INTO crm_sync.outbox (idempotency_key, lane, origin, operation, object_name,"
        " record_id, field, value, value_at, state, ended_at)"
        " SELECT 'tick ' || id, 1, 'consent', 'update', 'Lead', id, 'HasOptedOutOfEmail', 'true',"
        " now(), 'applied', now() FROM salesforce.lead WHERE hasoptedoutofemail"
    )
    warehouse.build(as_of=TODAY, select=["int_consent__own_ticks"])
    compiled = warehouse.compiled("int_consent__own_ticks", as_of=TODAY)
    with psycopg.connect(warehouse.url) as connection:
        connection.execute("SET enable_hashjoin = off; SET enable_mergejoin = off")
        plan = connection.execute(b"EXPLAIN (ANALYZE, FORMAT JSON) " + compiled.encode()).fetchone()
    assert plan is not None
    (top,) = plan[0]
    assert top["Plan"]["Actual Rows"] >= len(leads)
    assert _passed_over(top["Plan"]) < len(leads)


def _passed_over(plan: dict[str, Any]) -> int:
    """Pairs of rows that were looked at in vain, in all joins of a plan."""
    below = sum(_passed_over(child) for child in plan.get("Plans", ()))
    return below + int(plan.get("Rows Removed by Join Filter", 0) * plan["Actual Loops"])


@pytest.fixture(scope="module")
def changed(built: SyntheticWarehouse, database_server: str) -> Iterator[SyntheticWarehouse]:
    """A copy in which every kind of change happened at once, built both ways; only to be read."""
    with _copy(built, database_server) as made:
        for change in CHANGES.values():
            change.make(made)
        made.build(as_of=TODAY)
        made.build(as_of=TODAY, schema="anew", full_refresh=True)
        yield made


def _tables(warehouse: SyntheticWarehouse, schema: str) -> dict[str, tuple[str, ...]]:
    """Columns of the tables that a build fills, by name."""
    rows = warehouse.query(
        "SELECT c.relname, array_agg(a.attname::text ORDER BY a.attnum) FROM pg_class c"
        " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
        f" WHERE c.relnamespace = '{schema}'::regnamespace AND c.relkind = 'r' GROUP BY 1"
    )
    return {name: tuple(columns) for name, columns in rows if name not in MEMORY}


def _differences(warehouse: SyntheticWarehouse, people: str | None = None) -> dict[str, int]:
    """Rows by table that only one of the two builds has; of some people alone, where one asks."""
    found = {}
    for suffix in ("", "_staging"):
        ours, theirs = f"marketing{suffix}", f"anew{suffix}"
        tables = _tables(warehouse, ours)
        assert tables.keys() == _tables(warehouse, theirs).keys()
        for table, columns in tables.items():
            if table in HISTORIES or (people and "person_id" not in columns):
                continue
            conditions = [f"person_id IN ({people})"] if people else []
            # What is gone is kept by one, and was never seen by the other.
            conditions += ["NOT is_gone"] if "is_gone" in columns else []
            where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
            one, other = (
                f"SELECT {', '.join(columns)} FROM {schema}.{table}{where}"
                for schema in (ours, theirs)
            )
            (count,) = warehouse.query(
                f"SELECT count(*) FROM (({one} EXCEPT ALL {other})"
                f" UNION ALL ({other} EXCEPT ALL {one})) d"
            )
            if count[0]:
                found[table] = count[0]
    return found


def _versions(warehouse: SyntheticWarehouse) -> dict[str, str]:
    """What tells of every row of every model by which transaction it was written, and where."""
    return {
        f"{schema}.{table}": warehouse.query(
            f"SELECT md5(string_agg(xmin || ' ' || ctid, ',' ORDER BY ctid)) FROM {schema}.{table}"
        )[0][0]
        for schema in ("marketing", "marketing_staging")
        for table in _tables(warehouse, schema)
        if table not in SEEDS
    }


SEEDS = {file.stem for file in (PROJECT / "seeds").glob("*.csv")}


def test_a_build_after_no_change_writes_nothing(warehouse: SyntheticWarehouse) -> None:
    before = _versions(warehouse)
    warehouse.build(as_of=TODAY)
    assert _versions(warehouse) == before


@pytest.mark.parametrize("kind", CHANGES)
def test_people_are_what_a_full_build_makes_of_them_after(
    built: SyntheticWarehouse, changed: SyntheticWarehouse, kind: str
) -> None:
    change = CHANGES[kind]
    assert (True,) not in built.query(change.sign)
    assert changed.query(change.sign) == [(True,)]
    ids = ", ".join(["NULL", *(f"'{record}'" for record in change.records)])
    people = " UNION ".join(
        f"SELECT person_id FROM {schema}_staging.int_people__records WHERE record_id IN ({ids})"
        for schema in ("marketing", "anew")
    )
    assert _differences(changed, people) == {}


def test_nobody_else_differs_after_all_these_changes(changed: SyntheticWarehouse) -> None:
    assert _differences(changed) == {}


@pytest.mark.parametrize("seed", ["spring"])
def test_random_changes_end_in_what_a_full_build_makes(
    warehouse: SyntheticWarehouse, seed: str
) -> None:
    changes = RandomChanges(warehouse, seed)
    for _ in range(3):
        changes.make(120)
        warehouse.build(as_of=TODAY)
        warehouse.build(as_of=TODAY, schema="anew", full_refresh=True)
        assert _differences(warehouse) == {}
        assert _scores_without_history(warehouse) == 0


def _scores_without_history(warehouse: SyntheticWarehouse) -> int:
    """People whose latest row of history is not what they score."""
    names = ("contact_score", "activity_score", "engagement_score", "manual_score", "total_score")
    columns = ", ".join(names)
    (count,) = warehouse.query(
        f"SELECT count(*) FROM (SELECT person_id, {columns} FROM marketing.fct_lead_scores EXCEPT"
        f" (SELECT DISTINCT ON (person_id) person_id, {columns}"
        " FROM marketing.fct_lead_score_changes ORDER BY person_id, scored_at DESC)) d"
    )
    return int(count[0])


def test_other_rules_and_another_day_reach_everybody(
    warehouse: SyntheticWarehouse, tmp_path: Path
) -> None:
    project = shutil.copytree(PROJECT, tmp_path / "project")
    for name, text in {
        "touch_kinds": "kind,default_channel\nemail_opened,mail\npage_visited,site\n",
        "lead_score_event_rules": "kind,score,points,half_life_days,at_most\n"
        "email_opened,engagement,3.3,9,\npage_visited,activity,1.7,3,5\n",
        "lead_score_contact_rules": "attribute,pattern,points\ncompany,%7,9\n",
    }.items():
        (project / "seeds" / f"{name}.csv").write_text(text)
    other = {"session_minutes": 600}
    scored = "SELECT sum(total_score) FROM marketing.fct_lead_scores"
    before = warehouse.query(scored)
    warehouse.build(as_of=TOMORROW)
    faded = warehouse.query(scored)
    assert faded < before
    assert _scores_without_history(warehouse) == 0
    warehouse.build(as_of=TOMORROW, project=project, variables=other)
    assert warehouse.query(scored) != faded
    assert _scores_without_history(warehouse) == 0
    warehouse.build(
        as_of=TOMORROW, project=project, variables=other, schema="anew", full_refresh=True
    )
    assert _differences(warehouse) == {}


def test_an_event_that_commits_during_a_build_is_read_by_the_next(
    warehouse: SyntheticWarehouse,
) -> None:
    found = (
        "SELECT count(*) FROM marketing.fct_engagement e JOIN marketing.fct_touches t"
        " USING (person_id) WHERE e.event_id = 'slow' AND t.first_touch_source = 'slow'"
    )
    with psycopg.connect(warehouse.url) as slow:
        slow.execute(
            "INSERT INTO events.marketing_events (event_id, kind, email, source, occurred_at)"
            " VALUES ('slow', 'page_visited', 'person77@example.com', 'slow', '2020-01-01')"
        )
        # Younger, and there first.
        warehouse.events(
            {"kind": "page_visited", "email": "person78@example.com", "occurred_at": TODAY}
        )
        warehouse.build(as_of=TODAY)
        assert warehouse.query(found) == [(0,)]
    warehouse.build(as_of=TODAY)
    assert warehouse.query(found) == [(1,)]
