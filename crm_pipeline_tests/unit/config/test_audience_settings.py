"""Audiences in the settings file: what loads, and the sentence for what does not."""

from pathlib import Path

import pytest

from crm_pipeline.config.audience_settings import LONGEST_QUERY, AudienceSettings
from crm_pipeline.config.load import load_settings
from crm_pipeline.config.settings import MOST_AUDIENCE_CHARACTERS, Settings
from crm_pipeline.errors import ConfigurationError
from crm_pipeline.model.audiences import FACTS
from crm_pipeline.model.filters import All, Comparison

HEAD = "version: 1\nobjects:\n  Lead:\n    fields: [Email]\nmarketing:\n  audiences:\n"
FIRST_LINE = HEAD.count("\n") + 1


def load(folder: Path, audiences: str) -> Settings:
    file = folder / "crm_sync.yaml"
    file.write_text(HEAD + audiences, encoding="utf-8")
    return load_settings(file)


def refusal(folder: Path, **audience: str) -> ConfigurationError:
    lines = "".join(f"      {key}: {value!r}\n" for key, value in audience.items())
    with pytest.raises(ConfigurationError) as raised:
        load(folder, f"    hot:\n      description: Somebody.\n{lines}")
    return raised.value


def test_an_audience_is_chosen_by_a_condition_or_by_a_query(tmp_path: Path) -> None:
    audiences = load(
        tmp_path,
        "    hot_customers:\n"
        "      description: Customers with a high score.\n"
        "      where: is_customer = true AND total_score >= 50\n"
        "    spring_guests:\n"
        "      description: Guests 😀 of the spring webinar.\n"
        "      query: |\n"
        "        SELECT person_id FROM marketing.fct_engagement\n"
        "        WHERE kind = 'webinar_attended';\n",
    ).marketing.audiences
    assert list(audiences) == ["hot_customers", "spring_guests"]
    assert isinstance(audiences["hot_customers"].condition, All)
    assert audiences["spring_guests"].condition is None
    assert audiences["spring_guests"].query == (
        "SELECT person_id FROM marketing.fct_engagement\nWHERE kind = 'webinar_attended'"
    )


def test_no_audience_is_needed(tmp_path: Path) -> None:
    file = tmp_path / "crm_sync.yaml"
    file.write_text("version: 1\nobjects:\n  Lead:\n    fields: [Email]\n")
    assert load_settings(file).marketing.audiences == {}


@pytest.mark.parametrize("audience", [{}, {"where": "total_score > 1", "query": "SELECT 1"}])
def test_there_is_exactly_one_way_to_belong(tmp_path: Path, audience: dict[str, str]) -> None:
    error = refusal(tmp_path, **audience)
    assert error.line == FIRST_LINE
    assert "either `where` or `query`; write exactly one of them." in str(error)


def test_an_unknown_column_is_refused_with_its_line_and_the_columns_that_there_are(
    tmp_path: Path,
) -> None:
    error = refusal(tmp_path, where="total_scor > 5")
    assert error.line == FIRST_LINE + 2
    assert f"crm_sync.yaml:{FIRST_LINE + 2}: `marketing.audiences.hot.where`" in str(error)
    assert "there is no column `total_scor`; did you mean `total_score`?" in str(error)
    assert all(f"`{name}`" in str(error) for name in FACTS)


@pytest.mark.parametrize(
    ("where", "sentence"),
    [
        ("total_score >= '5'", "`total_score` holds numbers, so it cannot be compared with `5`."),
        ("email = 5", "`email` holds text, so it cannot be compared with `5`."),
        ("is_customer = 'yes'", "`is_customer` holds true or false, so it cannot be compared"),
        ("is_customer in (true)", "`is_customer` holds true or false, which `in` does not"),
        ("email < 'm'", "`email` holds text, which `<` does not compare."),
        ("total_score like '5%'", "`total_score` holds numbers, which `like` does not compare."),
        ("title includes ('x')", "`includes` looks into lists of choices, and `title` holds one"),
        ("title = ''", "`title` is never an empty text; write `= null`"),
        ("title in ('a', '')", "`title` is never an empty text; write `= null`"),
        ("next_close_on > 2026-01-31T00:00:00Z", "`next_close_on` holds days such as 2026-01-31"),
        ("last_engaged_at = 2026-01-31", "`last_engaged_at` holds instants such as"),
        ("person_id = 'x'", "there is no column `person_id`"),
        ("total_score >", "The filter goes wrong at position 14"),
        ("lower(email) = 'x'", "functions such as `lower(...)` are not allowed"),
    ],
)
def test_a_comparison_that_makes_no_sense_is_refused(
    tmp_path: Path, where: str, sentence: str
) -> None:
    assert sentence in str(refusal(tmp_path, where=where))


@pytest.mark.parametrize(
    "where",
    [
        "Total_Score >= 5 and not (TITLE like '%chief%' or country in ('DE', 'AT'))",
        "last_engaged_at >= 2026-01-31 or last_engaged_at = 2026-01-31T08:00:00Z",
        "next_close_on = 2026-01-31 and open_opportunity_amount > 1000.50",
        "consent_status != null and is_customer != null and total_score = null",
    ],
)
def test_a_comparison_that_makes_sense_is_taken(where: str) -> None:
    assert AudienceSettings(description="x", where=where).condition is not None


def test_columns_are_known_in_any_case() -> None:
    tree = AudienceSettings(description="x", where="Is_Customer = true").condition
    assert isinstance(tree, Comparison)


@pytest.mark.parametrize("name", ["Hot", "hot-ones", "1st", "_hot", "h" * 64])
def test_an_audience_is_named_like_a_column(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="use a-z, 0-9 and `_`") as raised:
        load(tmp_path, f"    {name}:\n      description: x\n      where: total_score > 1\n")
    assert raised.value.line == FIRST_LINE


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        (" ; ", "the query is empty; write one that returns `person_id`."),
        ("x" * (LONGEST_QUERY + 1), "the query has 4,001 characters; at most 4,000 are allowed."),
    ],
)
def test_a_query_is_there_and_short(tmp_path: Path, query: str, sentence: str) -> None:
    assert sentence in str(refusal(tmp_path, query=query))


@pytest.mark.parametrize("key", ["description", "where", "query"])
@pytest.mark.parametrize("hidden", ["\u0000", "\u202e", "\u2028", "\u0085", "\ufffe"])
def test_an_invisible_character_is_refused(key: str, hidden: str) -> None:
    audience = {"description": "x", "query": "SELECT 1", key: f"x{hidden}y"}
    with pytest.raises(ValueError, match=f"invisible character U[+]{ord(hidden):04X}"):
        AudienceSettings(**audience)


def test_all_audiences_together_are_small_enough_for_dbts_command_line(tmp_path: Path) -> None:
    query = f"SELECT '{'x' * (LONGEST_QUERY - 20)}'"
    count = MOST_AUDIENCE_CHARACTERS // LONGEST_QUERY + 1
    with pytest.raises(ConfigurationError, match="at most 16,000 are allowed"):
        load(
            tmp_path,
            "".join(
                f'    a{i}:\n      description: x\n      query: "{query}"\n' for i in range(count)
            ),
        )
