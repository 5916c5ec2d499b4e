"""M9 in its short form: random opinions on both sides."""

from pathlib import Path

import pytest

from crm_pipeline_tests.cases.deciding import deciding_house, write_backs
from crm_pipeline_tests.reliability.consent import opinions_on_both_sides


@pytest.mark.timeout(600)
def test_h14_h15_h16_h17_no_opinion_is_lost_or_reversed_and_each_is_written_once(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with deciding_house(database_url, tmp_path, monkeypatch, leads=80, by_hand=False) as house:
        write_backs(house, consent={"direction": "both"})
        found = opinions_on_both_sides(house, tmp_path / "dbt", events=240, rounds=2, seed=9)
    assert found.wrong == []
    assert found.lost == []
    assert found.applied == found.needed > 20
    assert found.restless == 0
    assert found.clouded < 20
