"""Whatever a filter means survives being written down; whatever is hostile stays a value."""

from datetime import UTC, date, datetime, timezone
from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from crm_pipeline.config.filters import parse_filter
from crm_pipeline.errors import ConfigurationError
from crm_pipeline.model.filters import (
    All,
    Any,
    Comparator,
    Comparison,
    FilterValue,
    Not,
    RecordFilter,
)

KEYWORDS = {"and", "or", "not", "like", "in", "includes", "excludes", "true", "false", "null"}
STEPS = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,12}", fullmatch=True)
FIELDS = (
    st.lists(STEPS, min_size=1, max_size=6)
    .map(".".join)
    .filter(lambda name: name.lower() not in KEYWORDS)
)
TEXTS = st.text(
    st.characters(
        exclude_categories=("Cc", "Cs", "Zl", "Zp"),
        exclude_characters="\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
    ),
    max_size=12,
)
NUMBERS = st.decimals(-(10**15), 10**15, places=3)
DAYS = st.dates(date(1700, 1, 1), date(4000, 12, 31))
OFFSETS = st.timedeltas(
    *(datetime(2026, 1, 1, h, tzinfo=UTC) - datetime(2026, 1, 1, 12, tzinfo=UTC) for h in (0, 23))
).map(lambda delta: timezone(delta - delta % (datetime.resolution * 60_000_000)))
INSTANTS = st.datetimes(
    datetime(1700, 1, 2),  # noqa: DTZ001 - hypothesis adds the zone
    datetime(4000, 12, 30),  # noqa: DTZ001
    timezones=OFFSETS,
).map(lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000))
ORDERED = st.one_of(TEXTS, NUMBERS, DAYS, INSTANTS)
SCALARS: st.SearchStrategy[FilterValue] = st.one_of(ORDERED, st.booleans(), st.none())
LISTS = st.one_of(
    *(st.lists(kind, min_size=1, max_size=3).map(tuple) for kind in (TEXTS, NUMBERS, DAYS))
)
EQUALITIES = st.sampled_from([Comparator.EQUAL, Comparator.NOT_EQUAL])
ORDERINGS = st.sampled_from(
    [Comparator.LESS, Comparator.LESS_OR_EQUAL, Comparator.GREATER, Comparator.GREATER_OR_EQUAL]
)
MEMBERSHIPS = st.sampled_from([Comparator.IN, Comparator.NOT_IN])
MULTIPLE = st.sampled_from([Comparator.INCLUDES, Comparator.EXCLUDES])
COMPARISONS: st.SearchStrategy[RecordFilter] = st.one_of(
    st.builds(Comparison, FIELDS, EQUALITIES, SCALARS),
    st.builds(Comparison, FIELDS, ORDERINGS, ORDERED),
    st.builds(Comparison, FIELDS, st.just(Comparator.LIKE), TEXTS),
    st.builds(Comparison, FIELDS, MEMBERSHIPS, LISTS),
    st.builds(Comparison, FIELDS, MULTIPLE, st.lists(TEXTS, min_size=1, max_size=3).map(tuple)),
)
FILTERS: st.SearchStrategy[RecordFilter] = st.recursive(
    COMPARISONS,
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=3).map(tuple).map(All),
        st.lists(inner, min_size=2, max_size=3).map(tuple).map(Any),
        st.builds(Not, inner),
    ),
    max_leaves=8,
)
HOSTILE = [
    "' OR Name != '",
    "x' OR '1'='1",
    "x') OR (Name != '",
    "x'; DROP TABLE lead; --",
    "x' LIMIT 0",
    "x' FOR UPDATE",
    "x' ALL ROWS",
    "x' /* ",
    "\\",
    "\\'",
    "\\' OR Name != \\'",
    "x\\",
    "\u2019 OR Name != \u2019",
    "\uff07 OR Name != \uff07",
    ") OR Id IN (SELECT Id FROM User",
    "{0}",
    "%s",
    ":bind",
    "#{ENV['SECRET']}",
    "%' OR Name LIKE '%",
]


def write(tree: RecordFilter) -> str:
    match tree:
        case Comparison(field=field, comparator=comparator, value=tuple() as values):
            return f"{field} {comparator} ({', '.join(map(literal, values))})"
        case Comparison(field=field, comparator=comparator, value=value):
            assert not isinstance(value, tuple)
            return f"{field} {comparator} {literal(value)}"
        case All(parts=parts):
            return " and ".join(f"({write(part)})" for part in parts)
        case Any(parts=parts):
            return " or ".join(f"({write(part)})" for part in parts)
        case Not(part=part):
            return f"not ({write(part)})"


def literal(value: FilterValue) -> str:
    match value:
        case None | bool():
            return {None: "null", True: "true", False: "false"}[value]
        case str():
            return quoted(value)
        case Decimal():
            return format(value, "f")
        case datetime():
            return value.isoformat(timespec="milliseconds")
        case date():
            return value.isoformat()


def quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


@given(FILTERS)
def test_a_filter_written_down_parses_to_itself(tree: RecordFilter) -> None:
    text = write(tree)
    assume(len(text) <= 4_000)
    assert parse_filter(text) == tree


@given(st.one_of(st.sampled_from(HOSTILE), st.text()))
def test_a_quoted_text_is_only_ever_a_value(text: str) -> None:
    try:
        tree = parse_filter(f"Name = {quoted(text)}")
    except ConfigurationError:
        assert any(not character.isprintable() for character in text)
    else:
        assert tree == Comparison("Name", Comparator.EQUAL, text)


@given(st.one_of(st.sampled_from(HOSTILE), st.text()))
def test_any_text_parses_or_is_refused_in_words(text: str) -> None:
    sentence = "The filter is fine."
    try:
        parse_filter(text)
    except ConfigurationError as error:
        sentence = str(error)
    assert sentence.startswith("The filter ")
    assert "\n" not in sentence


@pytest.mark.parametrize("payload", HOSTILE)
def test_a_hostile_text_is_no_filter_by_itself(payload: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_filter(payload)


@pytest.mark.parametrize("payload", HOSTILE)
def test_a_hostile_text_after_a_condition_is_refused(payload: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_filter(f"Name = 'x' {payload}")
