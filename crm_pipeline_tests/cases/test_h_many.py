"""H1, H13, H27, H29 in numbers: creates with ambiguous outcomes, score changes out of order."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from crm_pipeline_tests.cases.writing import states, writing_house
from crm_pipeline_tests.house import House
from crm_pipeline_tests.reliability.writes import creates_without_answers, scores_out_of_order


@pytest.fixture
def house(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """Fifty leads."""
    with writing_house(database_url, tmp_path, monkeypatch, leads=50) as made:
        yield made


def test_h1_h27_h29_five_hundred_creates_make_five_hundred_records(house: House) -> None:
    found = creates_without_answers(house, creates=500, portion=20, seed=7)
    assert found.unanswered > 0
    assert found.is_right, found
    assert states(house) == {"applied": 500}


def test_h13_h27_h29_thousand_score_changes_out_of_order_end_with_the_latest(house: House) -> None:
    found = scores_out_of_order(house, portion=40, seed=11)
    assert found.wanted == 1_000
    assert found.unanswered > 0
    assert found.is_right, found
    assert sum(states(house).values()) == 1_000
