"""Many at once, in the short form."""

from crm_pipeline_tests.reliability.concurrency import (
    crowd_over_one_lease,
    readers_during_full_syncs,
)
from crm_pipeline_tests.reliability.server import ProofServer


def test_g4_of_two_schedulers_with_a_hundred_ticks_no_two_own_one_object(
    crashable_server: ProofServer,
) -> None:
    crowd = crowd_over_one_lease(crashable_server, schedulers=2, ticks=100)
    assert crowd.overlaps == 0
    assert crowd.owned > 0


def test_f9_eight_readers_see_whole_states_and_never_wait_during_full_syncs(
    crashable_server: ProofServer,
) -> None:
    seen = readers_during_full_syncs(crashable_server, readers=8, syncs=3, records=600)
    assert seen.reads > 8
    assert seen.halves == 0
    assert seen.slowest_seconds < 2
