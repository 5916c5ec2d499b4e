"""The soak in its short form."""

from crm_pipeline_tests.reliability.server import ProofServer
from crm_pipeline_tests.reliability.soak import soak


def test_a11_f8_o3_a_day_of_ticks_with_faults_and_a_kill_drifts_nowhere(
    crashable_server: ProofServer,
) -> None:
    soaked = soak(crashable_server, days=1, seed=1, ticks_per_day=24)
    assert soaked.drift == []
    assert soaked.left == []
    assert soaked.kills == 1
