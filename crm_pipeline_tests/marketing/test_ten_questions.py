"""The ten questions of the how-to page, asked as the page writes them, by the role analyst.

The page's tables are the expectation: they were computed by hand from the golden month.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from crm_pipeline_tests.marketing.golden.month import AFTER, GoldenMonth

# Whoever comes first builds the month.
pytestmark = pytest.mark.timeout(900)
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "ten-questions.md"
BLOCK = re.compile(r"^```sql (\w+)\n(.*?)^```\n+(.*?)(?:\n\n|\Z)", re.DOTALL | re.MULTILINE)
QUESTIONS = {name: (query, table) for name, query, table in BLOCK.findall(PAGE.read_text())}


@pytest.fixture(scope="module")
def analyst(golden_month: GoldenMonth) -> Iterator[psycopg.Connection]:
    """A session of a person with the role, on 1 April: `now()` is answered by the test's clock."""
    with psycopg.connect(golden_month.warehouse.url) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS clock")
        connection.execute("GRANT USAGE ON SCHEMA clock TO analyst")
        connection.execute(
            "CREATE OR REPLACE FUNCTION clock.now() RETURNS timestamptz STABLE"
            f" RETURN '{AFTER}'::timestamptz"
        )
    with psycopg.connect(golden_month.warehouse.url, autocommit=True) as connection:
        connection.execute("SET search_path = clock, pg_catalog")
        connection.execute("SET timezone = 'UTC'")
        connection.execute("SET default_transaction_read_only = on")
        connection.execute("SET ROLE analyst")
        yield connection


def _shown(value: object) -> str:
    """A value as the page shows it."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def test_the_page_has_ten_questions() -> None:
    headings = re.findall(r"^## (\d+)\. .+\?$", PAGE.read_text(), re.MULTILINE)
    assert headings == [str(number) for number in range(1, 11)]
    assert len(QUESTIONS) == 10


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_is_answered_as_the_page_shows(analyst: psycopg.Connection, name: str) -> None:
    query, table = QUESTIONS[name]
    cursor = analyst.execute(query.encode())
    columns = [column.name for column in cursor.description or ()]
    answer = [columns, *([_shown(value) for value in row] for row in cursor)]
    lines = [line for line in table.splitlines() if not line.startswith("|---")]
    assert answer == [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]


def test_who_asks_can_change_nothing(analyst: psycopg.Connection) -> None:
    analyst.execute("SET default_transaction_read_only = off")
    for statement in (
        "DELETE FROM marketing.dim_people",
        "UPDATE marketing.fct_lead_scores SET total_score = 100",
        "DELETE FROM events.consent_ledger",
        "DELETE FROM history.version",
        "CREATE TABLE marketing.mine ()",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            analyst.execute(statement.encode())
