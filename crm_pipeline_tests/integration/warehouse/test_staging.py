"""Pages land whole or not at all, and nothing in them is bent."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crm_pipeline.errors import LeaseLost, TransientError
from crm_pipeline_tests.integration.warehouse.conftest import Bench

HOSTILE = (
    'say "hi", she said',
    "two\nlines",
    "two\r\nlines",
    "back\\slash \\N \\.",
    "\\.",
    "a\n\\.\nb",
    "U+2028 \u2028 and \u2029 and \u0085",
    "emoji 👩‍👩‍👧 and العربية",
    "e\u0301 is not é",
    "Null",
    "NULL",
    "NA",
    "NaN",
    "00123",
    "1e5",
    "TRUE",
    "  spaces  ",
    "=cmd()",
    "'; DROP TABLE lead; --",
    "x" * 200_000,
)


def test_d1_d3_hostile_text_round_trips_unchanged(bench: Bench) -> None:
    rows = [bench.row(f"id{n}", text) for n, text in enumerate(HOSTILE)]
    bench.merge(*rows)
    stored = [r[0] for r in bench.query("SELECT name FROM salesforce.lead ORDER BY id")]
    assert sorted(map(str, stored)) == sorted(HOSTILE)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None
)
@given(
    st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1)
)
def test_d1_any_text_round_trips_unchanged(bench: Bench, texts: list[str]) -> None:
    attempt = bench.attempt()
    bench.land(attempt, bench.page(*(bench.row(f"id{n}", t) for n, t in enumerate(texts))))
    stored = bench.query(f"SELECT id, name FROM crm_staging.{attempt.staging_table}")
    assert dict(stored) == {f"id{n}": t or None for n, t in enumerate(texts)}


def test_d5_d6_d11_values_keep_their_digits_and_days(bench: Bench) -> None:
    bench.merge(
        bench.row(
            "a",
            Employees="2147483647",
            Revenue="99999999999999.99",
            BornOn="1700-01-01",
            IsTarget="true",
            CallAt="10:00:00.123Z",
        ),
        bench.row("b", Revenue="123456789012345678", BornOn="4000-12-31", IsTarget="false"),
    )
    stored = bench.query(
        "SELECT employees::text, revenue::text, bornon::text, istarget, callat::text"
        " FROM salesforce.lead ORDER BY id"
    )
    assert stored == [
        ("2147483647", "99999999999999.99", "1700-01-01", True, "10:00:00.123"),
        (None, "123456789012345678", "4000-12-31", False, None),
    ]


def test_d2_an_empty_cell_is_null_quoted_or_not(bench: Bench) -> None:
    attempt = bench.attempt()
    columns = ("Id", "Name", "Employees")
    page = bench.page(raw=b'"a","",""\nb,,\n', record_count=2)
    page.columns = columns
    bench.land(attempt, page)
    stored = bench.query(f"SELECT id, name, employees FROM crm_staging.{attempt.staging_table}")
    assert stored == [("a", None, None), ("b", None, None)]


def test_d4_an_integer_written_as_a_decimal_is_still_that_integer(bench: Bench) -> None:
    bench.merge(bench.row("a", Employees="5.0"), bench.row("b", Employees="1.0E7"))
    assert bench.query("SELECT employees FROM salesforce.lead ORDER BY id") == [(5,), (10_000_000,)]


def test_one_bad_value_quarantines_its_row_and_the_others_land(bench: Bench) -> None:
    attempt = bench.attempt()
    landed = bench.land(
        attempt,
        bench.page(
            bench.row("good"), bench.row("bad", Employees="many"), bench.row("late", BornOn="32-13")
        ),
    )
    assert (landed.records, landed.rejected) == (1, 2)
    assert bench.query(f"SELECT id FROM crm_staging.{attempt.staging_table}") == [("good",)]
    assert bench.query(
        "SELECT record_id, column_name, value, reason FROM crm_sync.quarantine ORDER BY 1"
    ) == [
        ("bad", "employees", "many", "not a valid integer"),
        ("late", "bornon", "32-13", "not a valid date"),
    ]


def test_d9_broken_unicode_is_replaced_and_the_rest_is_exact(bench: Bench) -> None:
    attempt = bench.attempt()
    page = bench.page(raw=b'a,"lone \xed\xa0\x80 surrogate"\nb,fine\n', record_count=2)
    page.columns = ("Id", "Name")
    bench.land(attempt, page)
    stored = dict(bench.query(f"SELECT id, name FROM crm_staging.{attempt.staging_table}"))
    assert stored["b"] == "fine"
    assert str(stored["a"]).replace("\ufffd", "") == "lone  surrogate"


def test_a15_a_page_with_another_count_than_announced_does_not_land(bench: Bench) -> None:
    attempt = bench.attempt()
    with pytest.raises(TransientError, match="a page of 3 records arrived with 1"):
        bench.land(attempt, bench.page(bench.row("a"), record_count=3))
    assert bench.query(f"SELECT count(*) FROM crm_staging.{attempt.staging_table}") == [(0,)]
    assert bench.query("SELECT count(*) FROM crm_sync.checkpoint") == [(0,)]


def test_the_same_page_lands_only_once(bench: Bench) -> None:
    attempt = bench.attempt()
    bench.land(attempt, bench.page(bench.row("a")))
    with pytest.raises(LeaseLost, match="another run has taken over"):
        bench.land(attempt, bench.page(bench.row("a")))
    assert bench.query(f"SELECT count(*) FROM crm_staging.{attempt.staging_table}") == [(1,)]


def test_columns_in_another_order_find_their_place(bench: Bench) -> None:
    attempt = bench.attempt()
    page = bench.page(raw=b"Ada,a\n", record_count=1)
    page.columns = ("NAME", "id")
    bench.land(attempt, page)
    stored = bench.query(f"SELECT id, name FROM crm_staging.{attempt.staging_table}")
    assert stored == [("a", "Ada")]
