"""The crash matrix in its short form: 120 named and 60 blind kills over all scenarios."""

import pytest

from crm_pipeline_tests.reliability.crash import broken, matrix, scenarios, struck
from crm_pipeline_tests.reliability.server import ProofServer
from crm_pipeline_tests.reliability.victims import Blow, Victims

SEED = 20_260_302
NAMED, BLIND = 120, 60


@pytest.mark.parametrize("name", scenarios())
def test_f1_f2_f8_killed_anywhere_a_sync_leaves_whole_tables_and_the_next_run_recovers(
    crashable_server: ProofServer, warm_victims: Victims, name: str
) -> None:
    number = len(scenarios())
    with matrix(crashable_server, warm_victims, scenarios()[name], seed=SEED) as ready:
        assert len(set(ready.calls)) >= 40, "points that have a name"
        verdicts = list(struck(ready, named=-(-NAMED // number), blind=-(-BLIND // number)))
    assert broken(verdicts) == []


@pytest.mark.parametrize("name", ["differential", "differential by Bulk"])
@pytest.mark.parametrize("point", ["sync.reading.PageLander.read_into_staging"])
def test_f2_b9_what_was_found_beyond_the_filter_outlives_a_crash_of_the_server(
    crashable_server: ProofServer, warm_victims: Victims, name: str, point: str
) -> None:
    with matrix(crashable_server, warm_victims, scenarios()[name], seed=SEED) as ready:
        assert point in ready.calls
        verdict = ready.strike(Blow(point, kind="postgres"))
    assert broken([verdict]) == []
