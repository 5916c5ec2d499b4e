"""The golden month: what was computed by hand comes out of the models, and nothing else.

The arithmetic stands in docs/explanation/golden-month.md. A model that changes on purpose changes
the page and the CSV files first; then this turns green again.
"""

import re
from pathlib import Path

import pytest

from crm_pipeline_tests.marketing.golden.month import GoldenMonth, in_order, read

# Whoever comes first builds the month.
pytestmark = pytest.mark.timeout(900)
PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "golden-month.md"
MARTS = [
    ("dim_people", "people.csv", True),
    ("fct_web_visits", "visits.csv", True),
    ("fct_touches", "touches.csv", True),
    ("fct_lead_scores", "scores.csv", True),
    ("fct_consent", "consent.csv", True),
    ("dim_accounts", "accounts.csv", False),
    ("fct_opportunities", "opportunities.csv", False),
    ("audiences", "audiences.csv", True),
    ("personalization", "personalization.csv", True),
]


@pytest.mark.parametrize(("mart", "expected", "of_people"), MARTS, ids=[m for m, _, _ in MARTS])
def test_a_mart_says_what_was_computed_by_hand(
    golden_month: GoldenMonth, mart: str, expected: str, *, of_people: bool
) -> None:
    found = golden_month.found(mart, expected, of_people=of_people)
    assert in_order(found) == in_order(golden_month.expected(expected, found))


@pytest.mark.parametrize(
    ("day", "expected"), [("On 24 March", "scores-before.csv"), ("On 1 April:", "scores.csv")]
)
def test_the_page_ends_its_sums_where_the_expectations_stand(day: str, expected: str) -> None:
    """The page is where the figures come from; the files must not drift from it."""
    table = PAGE.read_text().partition(day)[2].partition("\n\n")[2].partition("\n\n")[0]
    shown = {}
    for line in table.splitlines()[2:]:
        name, *sums = (cell.strip() for cell in line.strip("|").split("|"))
        ends = [re.findall(r"-?\d+(?!\S)", cell)[-1] for cell in sums]
        person = name.strip("`") if "`" in name else f"{name.lower()}@example.com"
        shown["00Q000000000008EAA" if name == "Gil" else person] = ends
    scores = ("contact_score", "activity_score", "engagement_score", "manual_score", "total_score")
    rows = {row["person"]: [row[name] for name in scores] for row in read(f"expected/{expected}")}
    assert shown == rows


def test_every_change_of_a_score_is_kept_with_what_it_was_before(golden_month: GoldenMonth) -> None:
    """Of a person who went into another one, the history stays under the former id."""
    changes = golden_month.rows(
        "SELECT coalesce(p.email, p.primary_record_id) AS person, c.total_score,"
        " c.previous_total_score, c.scored_at::text"
        " FROM marketing.fct_lead_score_changes c"
        " LEFT JOIN marketing.dim_people p USING (person_id)"
        " ORDER BY c.scored_at"
    )
    first = [c for c in changes if c["previous_total_score"] is None]
    before = {
        row["person"]: int(row["total_score"] or 0) for row in read("expected/scores-before.csv")
    }
    after = {row["person"]: int(row["total_score"] or 0) for row in read("expected/scores.csv")}
    gone = {"cora@old.example", "eve@private.example"}
    born = {"cora@example.com"}
    assert sorted(c["total_score"] for c in first) == sorted(
        [*before.values(), *(after[name] for name in born)]
    )
    moved = {
        c["person"]: (c["previous_total_score"], c["total_score"])
        for c in changes
        if c["previous_total_score"] is not None
    }
    # Ivo, Jo and Kim: nothing that a score counts has happened to them, or faded.
    still = {"ivo@example.com", "jo@example.com", "kim@example.com"}
    assert moved == {n: (before[n], after[n]) for n in before.keys() - gone - still}


def test_every_event_is_somebodys_or_nobodys_and_none_is_lost(golden_month: GoldenMonth) -> None:
    kept = golden_month.rows(
        "SELECT e.event_id, coalesce(p.email, p.primary_record_id) AS person"
        " FROM marketing.fct_engagement e LEFT JOIN marketing.dim_people p USING (person_id)"
    )
    told = {row["event_id"] for row in read("events.csv")}
    assert sorted(row["event_id"] for row in kept) == sorted(map(str, told))
    initials = {row["event_id"][0]: row["person"] for row in kept}
    assert initials["x"] is None
    # An event is named after the person whose it is.
    for row in kept:
        first = "g" if row["person"] == "00Q000000000008EAA" else (row["person"] or "x")[0]
        assert row["event_id"][0] == first, row


def test_scores_faded_and_rose_between_the_two_builds(golden_before: GoldenMonth) -> None:
    found = golden_before.found("fct_lead_scores", "scores-before.csv")
    assert in_order(found) == in_order(golden_before.expected("scores-before.csv", found))
