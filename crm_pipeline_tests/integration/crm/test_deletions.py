"""The connector's log of deletions: whole, at any window, or an honest refusal."""

from datetime import datetime, timedelta

import pytest

from crm_pipeline.crm.salesforce.connector import SalesforceConnector
from crm_pipeline.errors import ObjectUnavailable, ReadExpired, TransientError
from crm_pipeline.sandbox.salesforce.clock import stamp_text
from crm_pipeline.sandbox.salesforce.faults import Fault
from crm_pipeline.sandbox.salesforce.running import RunningOrg
from crm_pipeline_tests.integration.crm.asking import NOON, Connections

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


@pytest.fixture
def ours(small: RunningOrg, connections: Connections) -> SalesforceConnector:
    """A connector to the org that a test may change."""
    return connections.to(small)


def found_in(
    connector: SalesforceConnector, since: datetime, until: datetime, name: str = "Lead"
) -> set[tuple[str, datetime]]:
    return set(connector.deleted_since(connector.describe(name), since, until))


def some_leads(served: RunningOrg, count: int) -> list[str]:
    return [str(row["Id"]) for row in served.org.query(f"SELECT Id FROM Lead LIMIT {count}")]


def deletions(served: RunningOrg, count: int, every: timedelta) -> dict[str, datetime]:
    """Delete leads, one at a time; the clock stands behind the last one then."""
    made = {}
    for lead in some_leads(served, count):
        served.org.delete("Lead", lead)
        made[lead] = served.org.clock.now()
        served.org.clock.advance(every.total_seconds())
    return made


def test_b2_deletions_past_the_bin_and_of_objects_without_one_are_in_the_log(
    small: RunningOrg, ours: SalesforceConnector
) -> None:
    binned, gone = some_leads(small, 2)
    small.org.delete("Lead", binned)
    small.org.hard_delete("Lead", gone)
    assert found_in(ours, NOON - MINUTE, NOON + MINUTE) == {(binned, NOON), (gone, NOON)}
    member = small.org.query("SELECT Id FROM CampaignMember LIMIT 1")[0]["Id"]
    small.org.delete("CampaignMember", member)
    assert (member, NOON) in found_in(ours, NOON - MINUTE, NOON + MINUTE, "CampaignMember")


@pytest.mark.parametrize("second", [0, 1, 59])
def test_b2_a_deletion_of_the_last_second_is_in_the_log_whatever_second_that_is(
    small: RunningOrg, ours: SalesforceConnector, second: int
) -> None:
    small.org.clock.set(NOON + second * SECOND)
    (lead,) = deletions(small, 1, timedelta())
    until = small.org.clock.now()
    assert found_in(ours, until - 5 * MINUTE, until) == {(lead, until)}


def test_b3_a_log_that_no_longer_reaches_back_is_refused(
    small: RunningOrg, ours: SalesforceConnector
) -> None:
    deletions(small, 3, MINUTE)
    small.org.clock.advance(2 * 3600)
    now = small.org.clock.now()
    assert len(found_in(ours, NOON, now)) == 3
    small.org.trim_delete_log(stamp_text(NOON + MINUTE))
    with pytest.raises(ReadExpired, match="Lead"):
        found_in(ours, NOON, now)
    assert len(found_in(ours, NOON + MINUTE, now)) == 2


@pytest.mark.parametrize(("days", "is_remembered"), [(14, True), (16, False), (31, False)])
def test_b3_a_pause_longer_than_the_horizon_is_refused_although_the_log_would_answer(
    small: RunningOrg, ours: SalesforceConnector, days: int, *, is_remembered: bool
) -> None:
    since = small.org.clock.now()
    deletions(small, 1, SECOND)
    small.org.clock.advance(days * DAY.total_seconds())
    ours.describe("Lead")  # a login at the later time, and so the org's new Date
    if is_remembered:
        assert len(found_in(ours, since, small.org.clock.now())) == 1
        return
    with pytest.raises(ReadExpired):
        found_in(ours, since, small.org.clock.now())


def test_b4_a_window_with_too_many_deletions_is_halved_until_it_fits(
    small: RunningOrg, ours: SalesforceConnector
) -> None:
    small.server.settings.get_deleted_limit = 10
    made = deletions(small, 60, 20 * SECOND)
    found = found_in(ours, NOON, small.org.clock.now())
    assert found == set(made.items())


def test_b4_more_deletions_in_two_minutes_than_an_answer_holds_are_refused_boundedly(
    small: RunningOrg, ours: SalesforceConnector
) -> None:
    small.server.settings.get_deleted_limit = 10
    deletions(small, 11, timedelta())
    ours.describe("Lead")
    calls = ours.usage.calls
    with pytest.raises(ReadExpired, match="comparing the ids"):
        found_in(ours, NOON - DAY, NOON + DAY)
    assert ours.usage.calls - calls < 60


@pytest.mark.parametrize("offset", range(0, 120, 7))
def test_b4_windows_of_thirty_seconds_lose_nothing_at_any_offset(
    small: RunningOrg, ours: SalesforceConnector, offset: int
) -> None:
    start = NOON + offset * SECOND
    small.org.clock.set(start)
    made = deletions(small, 9, 10 * SECOND)
    found: set[tuple[str, datetime]] = set()
    for number in range(3):
        since = start + 30 * number * SECOND
        found |= found_in(ours, since, since + 30 * SECOND)
    assert set(made.items()) <= found


def test_an_object_without_a_log_says_so_and_is_refused(
    small: RunningOrg, ours: SalesforceConnector
) -> None:
    assert ours.describe("Lead").has_delete_log
    without = [name for name in ours.object_names() if not ours.describe(name).has_delete_log]
    assert without
    with pytest.raises(ObjectUnavailable):
        found_in(ours, NOON - MINUTE, NOON, without[0])


BROKEN = (
    "{}",
    '{"deletedRecords": null, "earliestDateAvailable": "2026-01-01T00:00:00.000+0000"}',
    '{"deletedRecords": [], "earliestDateAvailable": null}',
    '{"deletedRecords": [{"id": "x"}], "earliestDateAvailable": "2026-01-01T00:00:00Z"}',
)


@pytest.mark.parametrize("body", BROKEN)
def test_an_answer_that_is_none_is_not_taken_for_no_deletions(
    small: RunningOrg, ours: SalesforceConnector, body: str
) -> None:
    lead = ours.describe("Lead")
    small.server.faults.script([Fault("status", path="*/deleted", status=200, body=body, times=0)])
    with pytest.raises(TransientError):
        list(ours.deleted_since(lead, NOON, NOON + MINUTE))
