"""The table of cases is whole, and says of each test what is true."""

import pytest

from crm_pipeline_tests.docs.cases import CASES, PAGE, named_by_case, not_shown, rows_of, with_tests

# Strike off what has a test that holds. It must be empty in the end.
NOT_YET = frozenset[str]()
NOT_BUILT = "Writing side: not built."
ROWS = {row[0]: row for row in rows_of(PAGE.read_text())}


def test_every_case_has_one_row_in_the_order_of_the_contract() -> None:
    assert [row[0] for row in rows_of(PAGE.read_text())] == list(CASES)


@pytest.mark.parametrize("case", CASES)
def test_a_row_says_the_trap_and_what_may_be_counted_on(case: str) -> None:
    _, trap, promise, mechanism, _, _ = ROWS[case]
    assert trap
    if promise == NOT_BUILT:
        assert case.startswith("H")
    else:
        assert promise
        assert mechanism


def test_the_page_shows_the_tests_as_they_are() -> None:
    text = PAGE.read_text()
    assert text == with_tests(text), "run: python -m crm_pipeline_tests.docs.cases"


def test_every_id_in_the_name_of_a_test_is_one_of_a_case() -> None:
    assert set(named_by_case()) <= set(CASES)


def test_every_case_of_what_is_built_has_a_test_that_holds() -> None:
    lacking = {case for case in not_shown() if ROWS[case][2] != NOT_BUILT}
    assert lacking - NOT_YET == set(), "write a test for each"
    assert NOT_YET - lacking == set(), "strike these off NOT_YET"
