"""The living org: exact bursts that touch each record once, and moments one at a time."""

import random
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from crm_pipeline.sandbox.salesforce.clock import OrgClock
from crm_pipeline.sandbox.salesforce.living import apply_burst, live_once
from crm_pipeline.sandbox.salesforce.living_edits import EDITS
from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.people import seed_org

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def org() -> Iterator[SandboxOrg]:
    sandbox = SandboxOrg(clock=OrgClock(NOW))
    seed_org(sandbox, records=800)
    sandbox.clock.advance(3_600)
    yield sandbox
    sandbox.close()


def snapshot(org: SandboxOrg) -> dict[str, tuple[Any, ...]]:
    rows: dict[str, tuple[Any, ...]] = {}
    for name in EDITS:
        fields = [one.name for one in org.catalogue.object(name).fields if one.stored]
        found = org.store.reader().execute(f'SELECT {", ".join(fields)} FROM "{name}"')
        for row in found:
            values = dict(zip(fields, row, strict=True))
            for stamp in ("LastModifiedDate", "LastModifiedById", "SystemModstamp"):
                values.pop(stamp)
            rows[values["Id"]] = tuple(values.items())
    return rows


def totals(report: dict[str, Any]) -> Counter[str]:
    total: Counter[str] = Counter()
    for counts in report["by_object"].values():
        total.update(counts)
    return total


def test_a_burst_performs_exactly_what_was_asked(org: SandboxOrg) -> None:
    apply_burst(org, deletes=30, seed=1)
    before, alive = snapshot(org), {name: org.count(name) for name in EDITS}
    report = apply_burst(org, updates=120, inserts=40, deletes=25, undeletes=10, seed=2)
    after = snapshot(org)
    counted = totals(report)
    assert {key: report[key] for key in ("updates", "inserts", "deletes", "undeletes")} == {
        "updates": 120,
        "inserts": 40,
        "deletes": 25,
        "undeletes": 10,
    }
    assert [counted[key] for key in ("updates", "inserts", "deletes", "undeletes")] == [
        120,
        40,
        25,
        10,
    ]
    assert len(after) - len(before) == 40
    changed = sum(after[key] != row for key, row in before.items())
    assert changed == 120 + 25 + 10 + counted["with_parent"]
    assert alive != {name: org.count(name) for name in EDITS}


def test_every_touched_record_carries_a_new_stamp(org: SandboxOrg) -> None:
    report = apply_burst(org, updates=50, inserts=10, deletes=10, seed=5)
    stamp = org.clock.stamp()
    touched = 0
    for name in EDITS:
        row = org.store.reader().execute(
            f'SELECT count(*) FROM "{name}" WHERE SystemModstamp = ?', (stamp,)
        )
        touched += row.fetchone()[0]
    assert touched == 70 + totals(report)["with_parent"]


def test_the_same_seed_changes_the_same_records() -> None:
    def lived() -> dict[str, tuple[Any, ...]]:
        org = SandboxOrg(clock=OrgClock(NOW))
        seed_org(org, records=500)
        apply_burst(org, updates=60, inserts=20, deletes=10, seed=3)
        for _ in range(20):
            live_once(org, random.Random(4))
        return snapshot(org)

    assert lived() == lived()


def test_a_burst_can_be_kept_to_one_object(org: SandboxOrg) -> None:
    report = apply_burst(
        org, updates=30, inserts=10, deletes=5, seed=1, object_names=["Opportunity"]
    )
    assert report["by_object"]["Opportunity"]["updates"] == 30
    assert report["by_object"]["Opportunity"]["inserts"] == 10
    assert {"updates", "inserts", "deletes"}.isdisjoint(report["by_object"].get("Lead", {}))


def test_a_burst_larger_than_the_org_changes_nothing(org: SandboxOrg) -> None:
    before = snapshot(org)
    with pytest.raises(ValueError, match="records wanted"):
        apply_burst(org, inserts=3, deletes=2, updates=10_000, seed=1)
    with pytest.raises(ValueError, match="records wanted"):
        apply_burst(org, undeletes=1, seed=1)
    assert snapshot(org) == before


def test_an_object_nobody_edits_is_refused_by_name(org: SandboxOrg) -> None:
    with pytest.raises(ValueError, match="AssignmentRule"):
        apply_burst(org, updates=1, object_names=["AssignmentRule"])


def test_converted_leads_are_left_alone(org: SandboxOrg) -> None:
    converted = org.query("SELECT Id, SystemModstamp FROM Lead WHERE IsConverted = TRUE")
    free = len(org.query("SELECT Id FROM Lead WHERE IsConverted = FALSE"))
    apply_burst(org, updates=free, seed=1, object_names=["Lead"])
    assert org.query("SELECT Id, SystemModstamp FROM Lead WHERE IsConverted = TRUE") == converted


def test_a_moment_changes_one_record_and_tells_what_it_did(org: SandboxOrg) -> None:
    rng = random.Random(1)
    actions: Counter[str] = Counter()
    for _ in range(150):
        org.clock.advance(5)
        before = snapshot(org)
        moment = live_once(org, rng)
        after = snapshot(org)
        assert after[moment.record_id] != before.get(moment.record_id)
        assert moment.object_name in str(moment)
        actions[moment.action] += 1
    assert {"update", "insert", "delete"} <= actions.keys()
    assert actions["update"] > actions["insert"] > actions["delete"]


def test_even_an_empty_org_comes_to_life() -> None:
    org = SandboxOrg()
    rng = random.Random(1)
    for _ in range(30):
        live_once(org, rng)
    assert org.count("Lead") > 0
    org.close()
