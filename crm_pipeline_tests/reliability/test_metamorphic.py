"""Two ways to the same place."""

import pytest

from crm_pipeline_tests.reliability.metamorphic import PAIRS
from crm_pipeline_tests.reliability.server import ProofServer


@pytest.mark.parametrize("pair", PAIRS)
def test_d13_two_ways_to_the_same_place_bring_the_same_tables(
    crashable_server: ProofServer, pair: str
) -> None:
    assert PAIRS[pair](crashable_server, 1) == []
