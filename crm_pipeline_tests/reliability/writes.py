"""Writing while outcomes are not told: all that was asked for is there once, and the latest stays.

Belongs here: the wishes, and what must come of them. Does not belong here: how many there are
(proofs.py, cases/test_h_many.py).
"""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from crm_pipeline.errors import CrmPipelineError
from crm_pipeline.model.writeback import Intent
from crm_pipeline.sandbox.salesforce.faults import OUTCOME_UNKNOWN
from crm_pipeline_tests.cases.writing import (
    QUICK,
    assert_conserved,
    create,
    drain,
    ids,
    update,
    wish,
)
from crm_pipeline_tests.house import House

UNKNOWN_SHARE = 0.1
"""Of the calls that write, so many are never answered: half of them did it, half did not."""
PER_LEAD = 20
SMALL_CLAIMS = replace(QUICK, most_at_once=7)
"""So that claims go side by side."""

_MONDAY = datetime(2026, 3, 2, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Written:
    """What the org holds afterwards.

    Attributes:
        wanted: records or changes that were asked for.
        doubled: records that are there more than once.
        wrong: records that lack, or hold another value than the latest.
        needed: writes without which it could not be so.
        writes: rows that the org wrote, whether or not anybody was told.
        unanswered: calls without an answer.
    """

    wanted: int
    doubled: int
    wrong: int
    needed: int
    writes: int
    unanswered: int

    @property
    def is_right(self) -> bool:
        """Whether nothing is doubled, lost or old, at a tenth more writes than needed."""
        return not (self.doubled or self.wrong) and self.writes <= 1.1 * self.needed


def creates_without_answers(house: House, *, creates: int, portion: int, seed: int) -> Written:
    """Leads, each of them wanted once."""
    names = [f"new {number}" for number in range(creates)]
    wishes = [create(LastName=name, Company="New") for name in names]
    unanswered = _wish_and_drain(house, wishes, portion, seed)
    rows = house.org.query("SELECT LastName FROM Lead WHERE Company = 'New'")
    there = Counter(str(row["LastName"]) for row in rows)
    return Written(
        wanted=creates,
        doubled=sum(count - 1 for count in there.values()),
        wrong=len(set(names) - there.keys()),
        needed=creates,
        writes=_writes(house),
        unanswered=unanswered,
    )


def scores_out_of_order(house: House, *, portion: int, seed: int) -> Written:
    """Changes of every lead's score, asked for in any order."""
    leads = ids(house)
    changes = [(lead, minute) for lead in leads for minute in range(PER_LEAD)]
    random.Random(seed).shuffle(changes)
    wishes = [
        update(lead, at=_MONDAY + timedelta(minutes=minute), Lead_Score__c=minute)
        for lead, minute in changes
    ]
    unanswered = _wish_and_drain(house, wishes, portion, seed)
    rows = house.org.query("SELECT Lead_Score__c FROM Lead")
    [(applied,)] = house.query("SELECT count(*) FROM crm_sync.outbox WHERE state = 'applied'")
    return Written(
        wanted=len(changes),
        doubled=0,
        wrong=sum(row["Lead_Score__c"] != PER_LEAD - 1 for row in rows),
        needed=int(applied),
        writes=_writes(house),
        unanswered=unanswered,
    )


def _wish_and_drain(house: House, wishes: Sequence[Intent], portion: int, seed: int) -> int:
    faults = house.served.server.faults
    faults.random(
        seed, UNKNOWN_SHARE, kinds=OUTCOME_UNKNOWN, path="*/composite/sobjects*", method="PATCH"
    )
    for one in _portions(wishes, portion):
        wish(house, *one)
        # An outage ends a drainer; the next one goes on.
        with suppress(CrmPipelineError):
            drain(house, manners=SMALL_CLAIMS)
    assert faults.chance is not None
    unanswered = faults.chance.uses
    faults.clear()
    drain(house)
    assert_conserved(house)
    return unanswered


def _portions(wishes: Sequence[Intent], portion: int) -> Iterator[Sequence[Intent]]:
    for start in range(0, len(wishes), portion):
        yield wishes[start : start + portion]


def _writes(house: House) -> int:
    return sum(one["writes"] for one in house.served.server.writes.counts()["records"].values())
