"""Record filters: what parses, and the whole sentence for what does not."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from crm_pipeline.config.filter_tokens import ALLOWED
from crm_pipeline.config.filters import parse_filter
from crm_pipeline.errors import ConfigurationError
from crm_pipeline.model.filters import All, Any, Comparator, Comparison, Not, RecordFilter

A = Comparison("A", Comparator.EQUAL, Decimal(1))
B = Comparison("B", Comparator.EQUAL, Decimal(2))
C = Comparison("C", Comparator.EQUAL, Decimal(3))
VALUES = (
    "values are 'text', numbers, true, false, null, dates (2026-01-31) and instants "
    "(2026-01-31T08:00:00Z)."
)
COMPARISONS = "=, !=, <, <=, >, >=, like, in, not in, includes or excludes"


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("A = 1", A),
        ("A=1 AND B=2 And C=3", All((A, B, C))),
        ("A = 1 or B = 2 and C = 3", Any((A, All((B, C))))),
        ("(A = 1 or B = 2) and C = 3", All((Any((A, B)), C))),
        ("not A = 1 and B = 2", All((Not(A), B))),
        ("not (A = 1 and B = 2)", Not(All((A, B)))),
        ("\n A = 1\n  and B = 2 \n", All((A, B))),
        ("A <> null", Comparison("A", Comparator.NOT_EQUAL, None)),
        ("Is__c = TRUE", Comparison("Is__c", Comparator.EQUAL, True)),
        ("A >= -1.50", Comparison("A", Comparator.GREATER_OR_EQUAL, Decimal("-1.5"))),
        ("A < 2026-01-31", Comparison("A", Comparator.LESS, date(2026, 1, 31))),
        (
            "A > 2026-01-31T08:00:00.250+05:30",
            Comparison("A", Comparator.GREATER, datetime(2026, 1, 31, 2, 30, 0, 250_000, UTC)),
        ),
        (
            "A <= 2026-01-31T08:00:00Z",
            Comparison("A", Comparator.LESS_OR_EQUAL, datetime(2026, 1, 31, 8, tzinfo=UTC)),
        ),
        (r"A like 'O\'Hara \\ %'", Comparison("A", Comparator.LIKE, r"O'Hara \ %")),
        ("A in ('a','b')", Comparison("A", Comparator.IN, ("a", "b"))),
        ("A NOT  IN (1, 2)", Comparison("A", Comparator.NOT_IN, (Decimal(1), Decimal(2)))),
        ("A includes ('a;b')", Comparison("A", Comparator.INCLUDES, ("a;b",))),
        ("A excludes ('')", Comparison("A", Comparator.EXCLUDES, ("",))),
        ("Account.Owner.Name = 'x'", Comparison("Account.Owner.Name", Comparator.EQUAL, "x")),
    ],
)
def test_a_filter_becomes_a_tree(text: str, tree: RecordFilter) -> None:
    assert parse_filter(text) == tree


@pytest.mark.parametrize(
    ("text", "position", "sentence"),
    [
        ("A", 2, f"expected a comparison ({COMPARISONS}) after `A`, found the end."),
        ("A =", 4, f"expected a value, found the end; {VALUES}"),
        ("A = B", 5, f"expected a value, found `B`; {VALUES}"),
        ("= 1", 1, "expected a field name, `not` or `(`, found `=`."),
        ("A = 1 and", 10, "expected a field name, `not` or `(`, found the end."),
        ("and = 1", 1, "expected a field name, `not` or `(`, found `and`."),
        ("(A = 1", 7, "expected `and`, `or` or `)`, found the end."),
        ("A = 1)", 6, f"expected `and`, `or` or the end, found `)`. {ALLOWED}"),
        ("A = 1 LIMIT 0", 7, f"expected `and`, `or` or the end, found `LIMIT`. {ALLOWED}"),
        ("A = 1; drop", 6, f"`;` is not allowed. {ALLOWED}"),
        ("A = 'x';", 8, f"`;` is not allowed. {ALLOWED}"),
        ("A = :x", 5, f"`:` is not allowed. {ALLOWED}"),
        ("A = 1 -- x", 7, f"`--` is neither a field nor a value. {ALLOWED}"),
        ("A = 1 /* x */", 7, f"`/` is not allowed. {ALLOWED}"),
        ("A == 1", 4, f"expected a value, found `=`; {VALUES}"),
        ("A is null", 3, "write `= null` or `!= null` instead of `is null`."),
        (
            "DAY_ONLY(A) = 1",
            9,
            "functions such as `DAY_ONLY(...)` are not allowed; compare a field itself.",
        ),
        ("A = TODAY", 5, f"expected a value, found `TODAY`; {VALUES}"),
        ("A = LAST_N_DAYS:3", 5, f"`LAST_N_DAYS:3` is neither a field nor a value. {ALLOWED}"),
        (
            "A = ('x')",
            5,
            f"expected a value, found `(`; {VALUES} Subqueries and lists are not allowed here.",
        ),
        ("Id in (SELECT Id FROM User)", 8, f"expected a value, found `SELECT`; {VALUES}"),
        ("A in 'x'", 6, "expected a list such as ('a', 'b') after `in`, found `'x'`."),
        ("A in ()", 7, f"expected a value, found `)`; {VALUES}"),
        ("A in ('x' 'y')", 11, "expected `,` or `)`, found `'y'`."),
        ("A in ('x', null)", 12, "null cannot stand in a list; write `or Field = null` beside it."),
        ("A in ('x', 1)", 12, "a list holds values of one kind; `1` differs from `'x'`."),
        ("A includes (1)", 13, "`includes` takes texts in quotes only, not `1`."),
        ("A not like 'x'", 7, "expected `in` after `not`, found `like`."),
        ("A like 1", 8, "`like` takes a text such as 'A%', not `1`."),
        ("A > null", 5, "`null` can be compared by = or != only, not by `>`."),
        ("A < true", 5, "`true` can be compared by = or != only, not by `<`."),
        (
            'A = "x"',
            5,
            "`\"` is not a quote of this language; write texts in single quotes: 'text'.",
        ),
        (
            "A = \u2018x\u2019",
            5,
            "`\u2018` is not a quote of this language; write texts in single quotes: 'text'.",
        ),
        ("A = 'x", 5, "the text that begins here has no closing single quote."),
        (r"A = 'x\n'", 7, r"in a text, a backslash stands only before ' or \; write \\ for one."),
        ("A = 'x\\", 7, r"in a text, a backslash stands only before ' or \; write \\ for one."),
        ("A = 'x\0y'", 7, "the invisible character U+0000 is not allowed in a text."),
        ("A = 'x\u202ey'", 7, "the invisible character U+202E is not allowed in a text."),
        ("A\t= 1", 2, "the invisible character U+0009 is not allowed; write spaces."),
        ("A\u00a0= 1", 2, "the invisible character U+00A0 is not allowed; write spaces."),
        ("A = 2026-02-30", 5, "`2026-02-30` is no day or time that exists."),
        ("A = 1699-12-31", 5, "`1699-12-31` is outside the years 1700 to 4000."),
        (
            "A = 2026-01-31T08:00:00",
            5,
            f"`2026-01-31T08:00:00` is neither a field nor a value. {ALLOWED}",
        ),
        ("A = 1e5", 5, f"`1e5` is neither a field nor a value. {ALLOWED}"),
        ("A = \u0661", 5, f"`\u0661` is not allowed. {ALLOWED}"),
        ("a.b.c.d.e.f.g = 1", 1, f"`a.b.c.d.e.f.g` is neither a field nor a value. {ALLOWED}"),
        ("(" * 21 + "A = 1" + ")" * 21, 21, "nested deeper than 20; write it flatter."),
        ("not " * 3_000 + "A = 1", None, None),
    ],
)
def test_what_is_no_filter_says_where_and_why(
    text: str, position: int | None, sentence: str | None
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse_filter(text)
    if sentence is None:
        assert str(raised.value) == "The filter has 12,005 characters; at most 4,000 are allowed."
    else:
        assert str(raised.value) == f"The filter goes wrong at position {position}: {sentence}"


def test_an_empty_filter_says_what_to_write() -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse_filter(" \n")
    assert str(raised.value) == (f"The filter is empty; remove it or write a condition. {ALLOWED}")


def test_the_longest_and_deepest_filter_parses() -> None:
    assert parse_filter("(" * 19 + "A = 1" + ")" * 19) == A
    assert parse_filter("A = '" + "x" * 3_994 + "'")
