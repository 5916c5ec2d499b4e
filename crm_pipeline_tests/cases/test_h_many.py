"""H1, H13, H27, H29 in numbers: creates with ambiguous outcomes, score changes out of order."""

import random
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from crm_pipeline.errors import CrmPipelineError
from crm_pipeline.sandbox.salesforce.faults import OUTCOME_UNKNOWN
from crm_pipeline_tests.cases.writing import (
    assert_conserved,
    create,
    drain,
    held_by,
    ids,
    states,
    update,
    wish,
    writing_house,
)
from crm_pipeline_tests.house import House

COLLECTIONS = "*/composite/sobjects*"


@pytest.fixture
def house(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """Fifty leads; one call to write in ten has an outcome that nobody is told."""
    with writing_house(database_url, tmp_path, monkeypatch, leads=50) as made:
        made.served.server.faults.random(
            7, 0.1, kinds=OUTCOME_UNKNOWN, path=COLLECTIONS, method="PATCH"
        )
        yield made


def drained(house: House) -> None:
    with suppress(CrmPipelineError):
        drain(house)


def written(house: House) -> int:
    """Rows that the org wrote, whether or not anybody was told."""
    return sum(one["writes"] for one in house.served.server.writes.counts()["records"].values())


def test_h1_h27_h29_five_hundred_creates_make_five_hundred_records(house: House) -> None:
    for portion in range(25):
        wish(house, *(create(LastName=f"{portion}/{n}", Company="New") for n in range(20)))
        drained(house)
    house.served.server.faults.clear()
    drained(house)
    rows = house.org.query("SELECT LastName FROM Lead WHERE Company = 'New'")
    names = [row["LastName"] for row in rows]
    assert sorted(names) == sorted(f"{portion}/{n}" for portion in range(25) for n in range(20))
    assert states(house) == {"applied": 500}
    assert written(house) <= 1.1 * 500
    assert_conserved(house)


def test_h13_h27_h29_thousand_score_changes_out_of_order_end_with_the_latest(house: House) -> None:
    monday = datetime(2026, 3, 2, tzinfo=UTC)
    leads = ids(house)
    chance = random.Random(11)
    changes = [(lead, minute) for lead in leads for minute in range(20)]
    chance.shuffle(changes)
    for start in range(0, len(changes), 40):
        wish(
            house,
            *(
                update(lead, at=monday + timedelta(minutes=minute), Lead_Score__c=minute)
                for lead, minute in changes[start : start + 40]
            ),
        )
        drained(house)
    house.served.server.faults.clear()
    drained(house)
    assert {held_by(house, lead, "Lead_Score__c") for lead in leads} == {19}
    assert house.query("SELECT count(*) FROM crm_sync.outbox") == [(1_000,)]
    needed = states(house)["applied"]
    assert written(house) <= 1.1 * needed
    assert_conserved(house)
