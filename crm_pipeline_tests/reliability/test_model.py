"""The model test in its short form."""

import pytest

from crm_pipeline_tests.reliability.model import live_many_lives
from crm_pipeline_tests.reliability.server import ProofServer


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a1_b1_b2_b3_o2_whatever_people_and_networks_do_the_tables_equal_the_org(
    crashable_server: ProofServer, number: int
) -> None:
    live_many_lives(crashable_server, lives=8, steps=30, number=number)
