"""Conditions as PostgreSQL: they mean what they say of missing values, and text stays text."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from crm_pipeline.config.filters import parse_filter
from crm_pipeline.errors import PermanentError
from crm_pipeline.model.filters import All, Any, Comparator, Comparison, Not, RecordFilter
from crm_pipeline.model.objects import ValueType
from crm_pipeline.warehouse.conditions import condition
from crm_pipeline_tests.properties.test_record_filters import HOSTILE

COLUMNS = {
    "title": ValueType.TEXT,
    "score": ValueType.INTEGER,
    "is_hot": ValueType.BOOLEAN,
    "close_on": ValueType.DATE,
    "seen_at": ValueType.DATETIME,
}
TYPES = ("text", "integer", "boolean", "date", "timestamptz")
ROW: Mapping[str, object] = {
    "title": "Chief 100% \\ _o'clock",
    "score": 5,
    "is_hot": True,
    "close_on": date(2026, 1, 31),
    "seen_at": datetime(2026, 1, 31, 8, tzinfo=UTC),
}
NOTHING: Mapping[str, object] = dict.fromkeys(ROW)
Holds = Callable[[RecordFilter, Mapping[str, object]], object]
SHARED = settings(
    max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)


@pytest.fixture
def holds(database_url: str) -> Iterator[Holds]:
    """What the server answers to a condition about a row."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        # No answer may depend on the server's zone.
        connection.execute("SET timezone = 'Pacific/Kiritimati'")

        def ask(tree: RecordFilter, row: Mapping[str, object]) -> object:
            values = [
                sql.SQL("{}::{} AS {}").format(
                    sql.Literal(row[name]), sql.SQL(of_type), sql.Identifier(name)
                )
                for name, of_type in zip(ROW, TYPES, strict=True)
            ]
            asked = sql.SQL("SELECT {} FROM (SELECT {}) p").format(
                sql.SQL(condition(tree, COLUMNS)), sql.SQL(", ").join(values)
            )
            found = connection.execute(asked).fetchone()
            assert found is not None
            return found[0]

        yield ask


@pytest.mark.parametrize(
    ("text", "holds_for_row", "holds_for_nothing"),
    [
        ("score = 5", True, False),
        ("score != 5", False, True),
        ("score > 4", True, False),
        ("score <= 4", False, False),
        ("not score <= 4", True, True),
        ("score = null", False, True),
        ("score != null", True, False),
        ("score in (1, 5)", True, False),
        ("score not in (1, 5)", False, True),
        ("score > 4.5", True, False),
        ("is_hot = true", True, False),
        ("is_hot != true", False, True),
        ("is_hot = false", False, False),
        ("title = 'chief 100% \\\\ _O\\'CLOCK'", True, False),
        ("title != 'x'", True, True),
        ("title in ('X', 'CHIEF 100% \\\\ _o\\'clock')", True, False),
        ("title like 'CHIEF%'", True, False),
        ("title like '%100\\\\% %'", True, False),
        ("title like '%10\\\\% %'", False, False),
        ("title like '%\\\\ %'", True, False),
        ("title like '%\\\\_o%'", True, False),
        ("close_on = 2026-01-31", True, False),
        ("close_on < 2026-01-31", False, False),
        ("seen_at >= 2026-01-31", True, False),
        ("seen_at <= 2026-01-31", False, False),
        ("seen_at < 2026-02-01", True, False),
        ("seen_at = 2026-01-31T09:00:00+01:00", True, False),
        ("score = 5 and is_hot = true or title = 'x'", True, False),
        ("not (score = 5 or is_hot = true)", False, True),
    ],
)
def test_a_condition_is_true_or_false_whatever_is_missing(
    holds: Holds, text: str, *, holds_for_row: bool, holds_for_nothing: bool
) -> None:
    tree = parse_filter(text)
    assert holds(tree, ROW) is holds_for_row
    assert holds(tree, NOTHING) is holds_for_nothing


def test_all_of_nothing_holds_and_any_of_nothing_does_not(holds: Holds) -> None:
    assert holds(All(()), ROW) is True
    assert holds(Any(()), ROW) is False


TEXTS = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=20)
COMPARISONS = st.one_of(
    st.builds(
        Comparison,
        st.just("title"),
        st.sampled_from([Comparator.EQUAL, Comparator.NOT_EQUAL, Comparator.LIKE]),
        st.one_of(st.sampled_from(HOSTILE), TEXTS),
    ),
    st.builds(
        Comparison,
        st.just("score"),
        st.sampled_from([Comparator.LESS, Comparator.EQUAL, Comparator.GREATER_OR_EQUAL]),
        st.decimals(-(10**9), 10**9, places=2),
    ),
    st.builds(
        Comparison,
        st.just("title"),
        st.sampled_from([Comparator.IN, Comparator.NOT_IN]),
        st.lists(st.one_of(st.sampled_from(HOSTILE), TEXTS), min_size=1, max_size=3).map(tuple),
    ),
)
TREES: st.SearchStrategy[RecordFilter] = st.recursive(
    COMPARISONS,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(tuple).map(All),
        st.lists(inner, min_size=1, max_size=3).map(tuple).map(Any),
        st.builds(Not, inner),
    ),
    max_leaves=6,
)


@SHARED
@given(TREES, st.sampled_from([ROW, NOTHING]))
def test_not_turns_every_condition_around(
    holds: Holds, tree: RecordFilter, row: Mapping[str, object]
) -> None:
    assert {holds(tree, row), holds(Not(tree), row)} == {True, False}


@SHARED
@given(st.one_of(st.sampled_from(HOSTILE), TEXTS))
def test_any_text_is_found_as_itself_and_is_never_syntax(holds: Holds, text: str) -> None:
    row = {**NOTHING, "title": text}
    other = {**NOTHING, "title": f"{text}x"}
    for comparator, value in ((Comparator.EQUAL, text), (Comparator.IN, ("y", text))):
        tree = Comparison("title", comparator, value)
        assert holds(tree, row) is True
        assert holds(tree, other) is False


@pytest.mark.parametrize(
    "comparison",
    [
        Comparison('title" = title or true --', Comparator.EQUAL, "x"),
        Comparison("person_id", Comparator.EQUAL, "x"),
        Comparison("title", Comparator.INCLUDES, ("x",)),
        Comparison("title", Comparator.EQUAL, ("x",)),
        Comparison("title", Comparator.IN, "x"),
        Comparison("title", Comparator.IN, ()),
        Comparison("title", Comparator.IN, (None,)),
        Comparison("title", Comparator.LIKE, None),
        Comparison("score", Comparator.LESS, None),
        Comparison("title", Comparator.EQUAL, "a\x00b"),
        Comparison("title", Comparator.LIKE, "a\ud83d"),
        Comparison("score", Comparator.LIKE, Decimal(1)),
    ],
)
def test_what_cannot_be_said_is_refused_in_words(comparison: Comparison) -> None:
    with pytest.raises(PermanentError, match="cannot be said in SQL"):
        condition(comparison, COLUMNS)


def test_a_name_is_only_ever_one_of_the_columns() -> None:
    assert condition(parse_filter("SCORE > 1"), COLUMNS) == 'coalesce("score" > 1, false)'
