"""Whatever is enqueued, lost, killed and sent again: the latest value is in the org, once."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crm_pipeline.errors import CrmPipelineError
from crm_pipeline.sandbox.salesforce.faults import RowFault
from crm_pipeline_tests.cases.writing import (
    QUICK,
    assert_conserved,
    drain,
    held_by,
    ids,
    update,
    wish,
    writing_house,
)
from crm_pipeline_tests.house import House

SOME_MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
COLLECTIONS = "*/composite/sobjects*"
SMALL_CLAIMS = replace(QUICK, most_at_once=2)
"""Several claims for a few records, so that they go side by side."""

FIELDS = ("Lead_Score__c", "NumberOfEmployees")

enqueued = st.tuples(
    st.just("enqueue"), st.integers(0, 2), st.sampled_from(FIELDS), st.integers(0, 50)
)
trouble = st.sampled_from(
    [("lost_answer",), ("reset",), ("status",), ("late_status",), ("locks",), ("stop",), ("drain",)]
)


class Stopped(Exception):
    """A drainer that goes no further, as one that is killed."""


@pytest.fixture
def house(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    with writing_house(database_url, tmp_path, monkeypatch, leads=3) as made:
        yield made


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=st.lists(st.one_of(enqueued, enqueued, trouble), max_size=25))
def test_h13_h27_h29_any_interleaving_ends_with_the_latest_values_and_counts_that_add_up(
    house: House, steps: list[tuple[object, ...]]
) -> None:
    latest: dict[tuple[str, str], tuple[datetime, int]] = {}
    leads = ids(house)
    # Each example speaks of a later day than the one before, so that none is older than it.
    day = SOME_MONDAY + timedelta(days=house.runs)
    house.runs += 1
    for number, step in enumerate(steps):
        match step:
            case ("enqueue", int(lead), str(field), int(minute)):
                at = day + timedelta(minutes=minute)
                value = 1_000 * house.runs + number
                wish(house, replace(update(leads[lead], at=at, Company=""), fields={field: value}))
                known = latest.get((leads[lead], field))
                if known is None or known[0] <= at:
                    latest[leads[lead], field] = (at, value)
            case (str(kind),):
                stir(house, kind)
        assert_conserved(house)
    settle(house)
    for (record_id, name), (_, wanted) in latest.items():
        assert held_by(house, record_id, name) == wanted
    assert house.query("SELECT count(*) FROM crm_sync.outbox WHERE ended_at IS NULL") == [(0,)]
    assert_conserved(house)


def stir(house: House, kind: str) -> None:
    """Let something go wrong while a drainer is at work."""
    faults = house.served.server.faults
    match kind:
        case "locks":
            faults.script([RowFault("UNABLE_TO_LOCK_ROW", object_name="Lead", times=2)])
        case "stop":
            _stopped_drainer(house)
            return
        case "drain":
            pass
        case _:
            faults.script([{"kind": kind, "path": COLLECTIONS, "method": "PATCH"}])
    with suppress(CrmPipelineError):
        drain(house, manners=SMALL_CLAIMS)


def _stopped_drainer(house: House) -> None:
    def report(step: str) -> None:
        if step == "sent":
            raise Stopped

    with suppress(Stopped, CrmPipelineError):
        drain(house, manners=SMALL_CLAIMS, report=report, run_id="stopped")


def settle(house: House) -> None:
    """Heal, then drain until nothing waits."""
    house.served.server.faults.clear()
    for _ in range(5):
        if drain(house, manners=SMALL_CLAIMS).waiting == 0:
            return
