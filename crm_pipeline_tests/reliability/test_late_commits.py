"""Transactions that are open while a sync reads, and visible after it."""

import pytest

from crm_pipeline_tests.reliability import edits
from crm_pipeline_tests.reliability.engines import Act, engine_at
from crm_pipeline_tests.reliability.lab import Lab


@pytest.mark.parametrize("seconds", [1, 60, 570])
def test_a1_a_transaction_open_across_a_sync_comes_with_the_next_differential(
    small_lab: Lab, seconds: int
) -> None:
    org = small_lab.org
    edits.fill(org, 10)
    with engine_at(small_lab.place) as engine:
        Act("full", "Lead").run(engine, "first")
        org.clock.advance(3_600)
        late = org.open_transaction()
        late.insert("Lead", edits.lead(99))
        org.clock.advance(seconds)
        Act("differential", "Lead").run(engine, "while it is open")
        late.commit()
        org.clock.advance(3_600)
        Act("differential", "Lead").run(engine, "after it")
    assert small_lab.differences("Lead") == []
