"""A large full sync, killed three times."""

from crm_pipeline_tests.reliability.large import kill_and_go_on
from crm_pipeline_tests.reliability.server import ProofServer
from crm_pipeline_tests.reliability.victims import Victims


def test_f1_f5_f6_a_large_full_sync_killed_three_times_reads_each_page_about_once(
    crashable_server: ProofServer, warm_victims: Victims
) -> None:
    survived = kill_and_go_on(crashable_server, warm_victims, records=20_000, kills=3, seed=1)
    assert survived.wrong == ()
    assert survived.kills == 3
    assert survived.pages_read <= survived.pages + 3 * survived.kills
    assert survived.peak_mb < 512
