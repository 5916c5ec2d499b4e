"""Whatever way events take, and whatever becomes of records, the marts say the same, and no more.

A build costs seconds, so an example is a world of some forty people, each a case of its own. One
warehouse gets everything at once; another one gets the events in disorder, twice, and in portions,
with a build after each, while records are converted, merged and deleted under it.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from crm_pipeline_tests.conftest import new_database
from crm_pipeline_tests.marketing.golden.month import AFTER, with_golden_rules
from crm_pipeline_tests.marketing.strangers import (
    NOES,
    TOUCHES,
    WEIGHTS,
    World,
    consent_of,
    manual_score_of,
    touches_of,
    visits_of,
    worlds,
    write_beginning,
    write_ending,
)
from crm_pipeline_tests.marketing.synthetic import SyntheticWarehouse

pytestmark = pytest.mark.timeout(1800)
MARTS = {
    "dim_people": "modified_at",
    "fct_engagement": "",
    "fct_web_visits": "",
    "fct_touches": "",
    "fct_lead_scores": "",
    "fct_consent": "",
    "dim_accounts": "",
}
"""Marts that must be the same, with what may differ: when a test's record was written."""
NewWarehouse = Callable[[], SyntheticWarehouse]


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models with the golden month's rules, which the shipped ones do not move."""
    return with_golden_rules(tmp_path_factory.mktemp("trust"))


@pytest.fixture
def new_warehouse(
    database_server: str, _migrated_template: str, parsed_projects: Path
) -> Iterator[NewWarehouse]:
    """Makes warehouses with empty tables."""
    with ExitStack() as stack:

        def make() -> SyntheticWarehouse:
            made = new_database(database_server, template=_migrated_template)
            warehouse = SyntheticWarehouse(stack.enter_context(made), parsed_projects)
            warehouse.create_tables()
            return warehouse

        yield make


def _contents(warehouse: SyntheticWarehouse) -> dict[str, Counter[str]]:
    """Every row of every mart, as text."""
    return {
        mart: Counter(
            row
            for (row,) in warehouse.query(
                f"SELECT (to_jsonb(m) - '{left_out}')::text FROM marketing.{mart} AS m"
            )
        )
        for mart, left_out in MARTS.items()
    }


def _differences(one: SyntheticWarehouse, other: SyntheticWarehouse) -> dict[str, Any]:
    left, right = _contents(one), _contents(other)
    return {
        mart: {"only at once": left[mart] - right[mart], "only in pieces": right[mart] - left[mart]}
        for mart in MARTS
        if left[mart] != right[mart]
    }


def _at_once(warehouse: SyntheticWarehouse, world: World, rules: Path) -> None:
    write_beginning(warehouse, world)
    write_ending(warehouse, world)
    warehouse.events(*world.events)
    warehouse.consent(*world.opted_in())
    warehouse.build(as_of=AFTER, project=rules)


def _in_pieces(warehouse: SyntheticWarehouse, world: World, rules: Path) -> None:
    """Three deliveries and builds; the records change before the second, some say yes at last."""
    first, second, third = world.deliveries(3)
    warehouse.events(*first)
    write_beginning(warehouse, world)
    warehouse.build(as_of=AFTER, project=rules)
    seen = _consent(warehouse)
    write_ending(warehouse, world)
    warehouse.events(*second)
    warehouse.build(as_of=AFTER, project=rules)
    seen = _require_tighter(seen, _consent(warehouse))
    warehouse.events(*third, *first)
    warehouse.build(as_of=AFTER, project=rules)
    _require_tighter(seen, _consent(warehouse))
    warehouse.consent(*world.opted_in())
    warehouse.build(as_of=AFTER, project=rules)


def _consent(warehouse: SyntheticWarehouse) -> dict[str, str]:
    return dict(warehouse.query("SELECT email, status FROM marketing.fct_consent"))


def _require_tighter(before: dict[str, str], after: dict[str, str]) -> dict[str, str]:
    """Nobody has said yes in between, so nothing may have loosened."""
    for address, status in before.items():
        assert WEIGHTS[after[address]] >= WEIGHTS[status], address
    return after


def _require_what_the_contract_says(warehouse: SyntheticWarehouse, world: World) -> None:
    owners: dict[str, set[str]] = {}
    for event, person in warehouse.query(
        "SELECT event_id, person_id::text FROM marketing.fct_engagement"
    ):
        owners.setdefault(event[1:4], set()).add(person)
    visits = _by_person(
        warehouse, "SELECT person_id::text, started_at, ended_at, page_count FROM {}.fct_web_visits"
    )
    touches = _by_person(
        warehouse,
        "SELECT person_id::text, touch_count, first_touch_channel, first_touch_source,"
        " last_touch_channel, last_touch_source FROM {}.fct_touches",
    )
    manual = _by_person(warehouse, "SELECT person_id::text, manual_score FROM {}.fct_lead_scores")
    for person in world.people:
        told = f"{person}"
        (owner,) = owners[f"{person.number:03}"]
        assert sorted(visits.pop(owner, [])) == visits_of(person), told
        found = touches.pop(owner, [])
        assert found == [t for t in [touches_of(person)] if t is not None], told
        assert manual.pop(owner) == [(manual_score_of(person),)], told
    # Whoever is left over is somebody whom the world does not know: a person counted twice.
    assert (visits, touches, manual) == ({}, {}, {})


def _by_person(warehouse: SyntheticWarehouse, query: str) -> dict[str, list[tuple[Any, ...]]]:
    found: dict[str, list[tuple[Any, ...]]] = {}
    for person, *facts in warehouse.query(query.format("marketing")):
        found.setdefault(person, []).append(tuple(facts))
    return found


def _require_that_sums_agree(warehouse: SyntheticWarehouse, world: World) -> None:
    happened = Counter(event["kind"] for event in world.events)
    ((events, people, pages, touches, members),) = warehouse.query(
        "SELECT (SELECT count(*) FROM marketing.fct_engagement),"
        " (SELECT count(*) FROM marketing.dim_people),"
        " (SELECT sum(page_count) FROM marketing.fct_web_visits),"
        " (SELECT sum(touch_count) FROM marketing.fct_touches),"
        " (SELECT count(*) FROM marketing.fct_lead_scores)"
    )
    assert events == happened.total()
    assert people == members == len(world.people)
    assert pages == happened["page_visited"]
    assert touches == sum(happened[kind] for kind in TOUCHES)


def _require_that_everybody_is_known(warehouse: SyntheticWarehouse) -> None:
    for mart in ("fct_engagement", "fct_web_visits", "fct_touches", "fct_lead_scores"):
        strangers = warehouse.query(
            f"SELECT m.person_id FROM marketing.{mart} AS m"
            " LEFT JOIN marketing.dim_people AS p USING (person_id) WHERE p.person_id IS NULL"
        )
        assert not strangers, mart


def _require_that_consent_is_what_was_said(warehouse: SyntheticWarehouse, world: World) -> None:
    """By address, for the events that carry one; those with an id may add to it, never lift it."""
    yeses = {row["email"]: [row["occurred_at"]] for row in world.opted_in()}
    found = _consent(warehouse)
    by_address: dict[str, list[dict[str, Any]]] = {}
    by_id: set[str] = set()
    for person in world.people:
        for event in person.events:
            if "email" in event:
                by_address.setdefault(event["email"], []).append(event)
            elif event["kind"] in NOES:
                by_id.update(person.addresses)
    for address, events in by_address.items():
        expected = consent_of(events, yeses.get(address, []))
        if address in by_id:
            assert WEIGHTS[found.get(address, "subscribed")] >= min(1, WEIGHTS[expected]), address
        else:
            assert found.get(address, "subscribed") == expected, address


def _require_that_no_way_matters(new_warehouse: NewWarehouse, rules: Path, world: World) -> None:
    whole, pieces = new_warehouse(), new_warehouse()
    _at_once(whole, world, rules)
    _require_what_the_contract_says(whole, world)
    _require_that_sums_agree(whole, world)
    _require_that_everybody_is_known(whole)
    _require_that_consent_is_what_was_said(whole, world)
    _in_pieces(pieces, world, rules)
    assert _differences(whole, pieces) == {}
    pieces.build(as_of=AFTER, project=rules, full_refresh=True)
    assert _differences(whole, pieces) == {}


def _of_worlds(number: int) -> settings:
    """So many examples. A smaller world costs as many builds, so nothing is made smaller."""
    return settings(
        max_examples=number,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )


@_of_worlds(1)
@given(world=worlds())
def test_no_way_that_events_and_records_take_changes_what_the_marts_say(
    new_warehouse: NewWarehouse, rules: Path, world: World
) -> None:
    _require_that_no_way_matters(new_warehouse, rules, world)


@pytest.mark.long
@pytest.mark.timeout(3600)
@_of_worlds(8)
@given(world=worlds())
def test_nor_do_they_in_many_more_worlds(
    new_warehouse: NewWarehouse, rules: Path, world: World
) -> None:
    _require_that_no_way_matters(new_warehouse, rules, world)
