"""H9, H27: claims on their way side by side, and those that go by themselves."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from crm_pipeline.errors import SyncsDisabled
from crm_pipeline.model.writeback import Intent
from crm_pipeline.sandbox.salesforce.faults import Fault
from crm_pipeline_tests.cases.writing import (
    QUICK,
    assert_conserved,
    create,
    drain,
    held_by,
    ids,
    states,
    update,
    wish,
    writing_house,
)
from crm_pipeline_tests.house import House

COLLECTIONS = "*/composite/sobjects*"
PATIENCE_SECONDS = 20.0
_A_MOMENT_SECONDS = 0.5


@pytest.fixture
def leads(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """Thirty leads."""
    with writing_house(database_url, tmp_path, monkeypatch, leads=30) as house:
        yield house


class Watch:
    """Holds the first call that writes until a step of the drainer was reported so often.

    Attributes:
        was_reached: whether it was, while the call was out; None while no call came.
    """

    def __init__(self, house: House, step: str, times: int) -> None:
        self.was_reached: bool | None = None
        self._step, self._left = step, times
        self._reached = threading.Event()
        house.served.server.faults.script(
            [Fault("call", COLLECTIONS, "PATCH", callback=self._hold)]
        )

    def report(self, step: str) -> None:
        self._left -= step == self._step
        if self._left <= 0:
            self._reached.set()

    def _hold(self, _: object) -> None:
        self.was_reached = self._reached.wait(PATIENCE_SECONDS)


def claims_on_their_way(house: House) -> int:
    query = "SELECT count(DISTINCT claim_id) FROM crm_sync.outbox WHERE state = 'sending'"
    return int(house.query(query)[0][0])


def test_h27_the_next_claim_is_taken_while_one_is_sent(leads: House) -> None:
    wish(leads, *(update(one, Lead_Score__c=5) for one in ids(leads)))
    watch = Watch(leads, "claimed", times=2)
    outcome = drain(leads, manners=replace(QUICK, most_at_once=10), report=watch.report)
    assert (watch.was_reached, outcome.applied) == (True, 30)
    assert {held_by(leads, one, "Lead_Score__c") for one in ids(leads)} == {5}
    assert_conserved(leads)


def test_h27_never_more_than_two_claims_are_on_their_way(leads: House) -> None:
    wish(leads, *(update(one, Lead_Score__c=5) for one in ids(leads)))
    seen: list[int] = []
    drain(
        leads,
        manners=replace(QUICK, most_at_once=5),
        report=lambda step: seen.append(claims_on_their_way(leads)),
    )
    assert max(seen) == 2
    assert states(leads) == {"applied": 30}


@pytest.mark.parametrize(
    "wishes",
    [
        lambda house: [create(LastName=f"n{n}", Company="New") for n in range(2)],
        lambda house: [
            update(one, Lead_Score__c=5, parent_id="001000000000001AAA") for one in ids(house)[:2]
        ],
    ],
    ids=["creates", "children of one parent"],
)
def test_h9_what_could_collide_goes_by_itself(
    leads: House, wishes: Callable[[House], list[Intent]]
) -> None:
    wish(leads, *wishes(leads))
    arrivals = [threading.Event(), threading.Event()]
    collided: list[bool] = []

    def arrive(_: object) -> None:
        first, second = arrivals
        if first.is_set():
            second.set()
        else:
            first.set()
            collided.append(second.wait(_A_MOMENT_SECONDS))

    leads.served.server.faults.script(
        [Fault("call", COLLECTIONS, "PATCH", callback=arrive, times=2)]
    )
    drain(leads, manners=replace(QUICK, most_at_once=1))
    assert collided == [False]
    assert states(leads) == {"applied": 2}


def test_h27_the_next_job_is_filled_while_one_is_at_work(leads: House) -> None:
    wish(leads, *(update(one, Lead_Score__c=5) for one in ids(leads)))
    ingest = leads.served.server.ingest
    ingest.hold()
    steps: list[str] = []

    def report(step: str) -> None:
        steps.append(step)
        if steps.count("uploaded") == 2:
            ingest.release()

    def nap(_: float) -> None:
        if steps.count("uploaded") < 2:
            ingest.release()
            raise AssertionError(f"a job was waited for before the next one was filled: {steps}")

    manners = replace(QUICK, most_by_calls=5, most_by_job=15, sleep=nap)
    assert drain(leads, manners=manners, report=report).applied == 30
    assert states(leads) == {"applied": 30}
    assert_conserved(leads)


def test_g10_the_off_switch_stops_both_claims_and_loses_neither(leads: House) -> None:
    wish(leads, *(update(one, Lead_Score__c=5) for one in ids(leads)))
    claimed: list[str] = []

    def report(step: str) -> None:
        claimed.append(step)
        if claimed.count("claimed") == 2:
            leads.configure(syncs_enabled=False)

    with pytest.raises(SyncsDisabled):
        drain(leads, manners=replace(QUICK, most_at_once=5), report=report)
    assert "sending" not in states(leads)
    assert_conserved(leads)
    leads.configure(syncs_enabled=True)
    drain(leads)
    counted = leads.served.server.writes.counts("Lead")["records"]
    assert [record["writes"] for record in counted.values()] == [1] * 30
