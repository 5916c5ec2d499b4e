"""Decisions of sending that need neither CRM nor warehouse: packing, sifting, choosing, budgets."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crm_pipeline.crm.port import ApiUsage, WriteCapabilities
from crm_pipeline.errors import FailedMidway, ObjectUnavailable, PermanentError
from crm_pipeline.model.objects import Transport
from crm_pipeline.model.writeback import (
    Lane,
    OnDuplicate,
    Operation,
    Outcome,
    Verdict,
    WriteOptions,
    WriteRow,
)
from crm_pipeline.warehouse.claims import Portion
from crm_pipeline.writeback.bisection import Send, sift
from crm_pipeline.writeback.budget import WriteBudget
from crm_pipeline.writeback.choice import choose, pack
from crm_pipeline.writeback.context import WriteManners

DONE = Outcome(Verdict.APPLIED)
BROKEN = Outcome(Verdict.PARK, code="CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", is_contagious=True)
ABLE = WriteCapabilities(200, 4, 100_000, 40_000_000, 8, "#N/A")


def rows(count: int) -> list[WriteRow]:
    return [WriteRow((n,), {"F": n}, record_id=f"r{n}") for n in range(count)]


def sending(poisoned: set[int], failure: Callable[[], Exception] | None, calls: list[int]) -> Send:
    """A CRM that fails over some records: by an error, or by refusing the call with a code."""

    def send(batch: tuple[WriteRow, ...]) -> tuple[Outcome, ...]:
        calls.append(len(batch))
        if not any(row.writes[0] in poisoned for row in batch):
            return (DONE,) * len(batch)
        if failure is not None:
            raise failure()
        return (BROKEN,) * len(batch)

    return send


@settings(deadline=None)
@given(poisoned=st.sets(st.integers(0, 199), min_size=1, max_size=1), by_error=st.booleans())
def test_h12_one_poisoned_record_of_two_hundred_costs_at_most_sixteen_calls_more(
    poisoned: set[int],
    by_error: bool,  # noqa: FBT001 - drawn
) -> None:
    calls: list[int] = []
    fails = (lambda: FailedMidway("500")) if by_error else None
    found = sift(rows(200), sending(poisoned, fails, calls))
    assert len(calls) <= 1 + 16
    blamed = {row.writes[0] for row, outcome in found.answered if outcome != DONE}
    assert (blamed, found.unanswered) == (poisoned, [])


@settings(deadline=None)
@given(poisoned=st.sets(st.integers(0, 199), max_size=3))
def test_h12_some_poisoned_records_are_told_from_all_others(poisoned: set[int]) -> None:
    found = sift(rows(200), sending(poisoned, lambda: FailedMidway("500"), []))
    blamed = {row.writes[0] for row, outcome in found.answered if outcome != DONE}
    left = {row.writes[0] for row in found.unanswered}
    assert blamed <= poisoned <= blamed | left
    assert {row.writes[0] for row, _ in found.answered} | left == set(range(200))


def test_h12_a_crm_that_fails_over_everything_is_asked_boundedly_and_blames_nobody() -> None:
    calls: list[int] = []
    found = sift(rows(200), sending(set(range(200)), lambda: FailedMidway("500"), calls))
    assert (found.answered, len(found.unanswered)) == ([], 200)
    assert len(calls) <= 18


def test_h12_a_trigger_that_breaks_for_everybody_makes_all_wait() -> None:
    found = sift(rows(200), sending(set(range(200)), None, []))
    assert {outcome.verdict for _, outcome in found.answered} == {Verdict.WAIT}
    assert len(found.answered) == 200


def test_h12_a_record_that_makes_the_request_unreadable_is_parked_alone() -> None:
    found = sift(rows(8), sending({3}, lambda: PermanentError("No such column."), []))
    parked = [(row.writes, outcome.reason) for row, outcome in found.answered if outcome != DONE]
    assert parked == [((3,), "No such column.")]


def test_an_object_that_is_hidden_is_nobodys_fault() -> None:
    with pytest.raises(ObjectUnavailable):
        sift(rows(8), sending({3}, lambda: ObjectUnavailable("Lead", "Hidden."), []))


parents = st.lists(st.one_of(st.none(), st.sampled_from("abcdef")), max_size=60)


@settings(deadline=None)
@given(parents=parents, size=st.integers(1, 10))
def test_h9_children_of_one_parent_never_travel_side_by_side(
    parents: list[str | None], size: int
) -> None:
    given_rows = [
        WriteRow((n,), {}, record_id=f"r{n}", parent_id=parent) for n, parent in enumerate(parents)
    ]
    sequences = pack(given_rows, size)
    packed = [row for sequence in sequences for batch in sequence for row in batch]
    assert sorted(row.writes for row in packed) == [(n,) for n in range(len(parents))]
    assert all(0 < len(batch) <= size for sequence in sequences for batch in sequence)
    families = [
        {row.parent_id for batch in sequence for row in batch} - {None} for sequence in sequences
    ]
    assert sum(map(len, families)) == len(set().union(*families, set()))


def portion(due: int, **facts: bool) -> Portion:
    return Portion(
        lane=3,
        object_name="Lead",
        operation=Operation.UPDATE,
        external_id_field=None,
        options=WriteOptions(),
        is_uncertain=facts.get("is_uncertain", False),
        is_alone=facts.get("is_alone", False),
        due=due,
        is_late=facts.get("is_late", False),
    )


@pytest.mark.parametrize(
    ("wanted", "transport", "reason"),
    [
        (portion(1), Transport.REST, "REST: 1 write-backs in about 1 call; a job takes about 8"),
        (portion(2_000), Transport.REST, "10 calls"),
        (portion(2_001), Transport.BULK, "more than 2,000"),
        (portion(2_001, is_uncertain=True), Transport.REST, "read back"),
        (portion(2_001, is_alone=True), Transport.REST, "by itself"),
        (portion(2_001, is_late=True), Transport.REST, "looked for"),
    ],
)
def test_the_transport_is_chosen_by_cost_and_says_why(
    wanted: Portion, transport: Transport, reason: str
) -> None:
    choice = choose(wanted, ABLE, most_by_calls=2_000)
    assert choice.transport is transport
    assert reason in choice.reason


def test_h10_what_must_tell_the_duplicate_rules_something_never_goes_by_a_job() -> None:
    allowing = portion(5_000)
    allowing = Portion(
        **{
            **{name: getattr(allowing, name) for name in allowing.__slots__},
            "options": WriteOptions(on_duplicate=OnDuplicate.ALLOW),
        }
    )
    assert choose(allowing, ABLE, most_by_calls=2_000).transport is Transport.REST


@pytest.mark.parametrize(
    ("used", "lane"), [(None, Lane.SCORE), (499, Lane.SCORE), (500, Lane.CONSENT)]
)
def test_h20_beyond_the_budget_only_consent_is_served(used: int | None, lane: Lane) -> None:
    budget = WriteBudget(share_percent=50, reserve_percent=5)
    assert budget.lowest_lane(ApiUsage(0, used, 1_000)) is lane
    assert budget.hard_percent == 55


@settings(deadline=None)
@given(refusals=st.integers(0, 100))
def test_h9_h24_pauses_grow_and_end_somewhere(refusals: int) -> None:
    manners = WriteManners()
    pause = manners.pause_seconds(Verdict.WAIT, refusals)
    assert 450 <= pause <= manners.longest_pause_seconds
    assert manners.pause_seconds(Verdict.RETRY, 0) <= 2
