"""Audiences over a real warehouse: who came and who left is kept, and one fault has one name."""

import pytest

from crm_pipeline.config.audience_settings import AudienceSettings
from crm_pipeline.config.settings import MarketingSettings, Settings
from crm_pipeline.defs.dbt_project import project_variables
from crm_pipeline.model.audiences import FACTS
from crm_pipeline_tests.marketing.synthetic import SyntheticWarehouse

MEMBERSHIPS = (
    "SELECT a.audience, p.email, a.left_at IS NULL FROM marketing.audiences a"
    " JOIN marketing.dim_people p USING (person_id) ORDER BY 1, 2, a.entered_at"
)
VERSIONS = "SELECT audience, person_id, xmin::text FROM marketing.audiences ORDER BY 1, 2"
AGAIN = ("int_people__records", "dim_people", "audiences", "dim_audiences")
# What SQL, YAML and Jinja each read as something else.
STRANGE = "{{ 1 / 0 }} {% x %} 😀 o'clock \\ 100% -- \" $$"


def told(**audiences: AudienceSettings) -> dict[str, object]:
    """What Dagster tells dbt of such audiences."""
    settings = Settings.model_validate(
        {
            "version": 1,
            "objects": {"Lead": {"fields": ["Email"]}},
            "marketing": MarketingSettings(audiences=audiences),
        }
    )
    return {"audiences": project_variables(settings)["audiences"]}


def quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def test_members_enter_and_leave_and_all_of_it_is_kept(synthetic: SyntheticWarehouse) -> None:
    german, strange = (synthetic.record_id("lead", number) for number in (1, 2))
    synthetic.leads(
        {"id": german, "email": "ada@x", "country": "DE"},
        {"id": strange, "email": "bob@x", "title": STRANGE},
    )
    guest = {"kind": "webinar_attended", "email": "cyd@x", "occurred_at": "2026-01-01Z"}
    synthetic.events(guest, guest, {**guest, "email": None})
    variables = told(
        germans=AudienceSettings(description="It's Germany.", where="country = 'de'"),
        strangers=AudienceSettings(description=STRANGE, where=f"title = {quoted(STRANGE)}"),
        guests=AudienceSettings(
            description="Guests.",
            query="SELECT person_id FROM marketing.fct_engagement\n"
            "WHERE kind = 'webinar_attended' AND email NOT LIKE '{{ % 😀' -- all of them",
        ),
    )

    synthetic.build(variables=variables)
    at_first = [
        ("germans", "ada@x", True),
        ("guests", "cyd@x", True),
        ("strangers", "bob@x", True),
    ]
    assert synthetic.query(MEMBERSHIPS) == at_first
    assert synthetic.query("SELECT * FROM marketing.dim_audiences ORDER BY 1") == [
        ("germans", "It's Germany.", 1),
        ("guests", "Guests.", 1),
        ("strangers", STRANGE, 1),
    ]
    versions = synthetic.query(VERSIONS)
    synthetic.build(variables=variables, select=["audiences"], full_refresh=True)
    assert synthetic.query(VERSIONS) == versions

    synthetic.change("lead", german, country="AT")
    synthetic.build(variables=variables, select=AGAIN)
    assert synthetic.query(MEMBERSHIPS) == [("germans", "ada@x", False), *at_first[1:]]
    synthetic.change("lead", german, country="DE")
    synthetic.build(variables=variables, select=AGAIN, tests=True)
    assert synthetic.query(MEMBERSHIPS) == [("germans", "ada@x", False), *at_first]

    synthetic.build(select=["audiences", "dim_audiences"])
    assert {row[2] for row in synthetic.query(MEMBERSHIPS)} == {False}
    assert synthetic.query("SELECT * FROM marketing.dim_audiences") == []


def test_a_faulty_query_is_named_and_stops_nothing_but_the_audiences(
    synthetic: SyntheticWarehouse,
) -> None:
    synthetic.leads({"id": synthetic.record_id("lead", 1), "email": "ada@x"})
    queries = {
        "misspelt": "SELECT person_idd FROM marketing.dim_people",
        "bursting": "SELECT person_id FROM marketing.dim_people WHERE email::integer > 0",
        "writing": "SELECT 1) q; DELETE FROM marketing.dim_people; --",
        "right": "SELECT person_id FROM marketing.dim_people",
    }
    variables = told(
        **{name: AudienceSettings(description="x", query=query) for name, query in queries.items()}
    )
    with pytest.raises(AssertionError) as raised:
        synthetic.build(variables=variables)
    said = str(raised.value)
    assert 'audience misspelt: column "person_idd" does not exist' in said
    assert "audience bursting: PostgreSQL says 22P02" in said
    assert "audience writing: " in said
    assert "audience right" not in said
    assert "ada@x" not in said
    assert "ERROR=1 " in said
    assert synthetic.query("SELECT email FROM marketing.personalization") == [("ada@x",)]


def test_conditions_may_look_at_every_column_of_personalization_but_its_key(
    synthetic: SyntheticWarehouse,
) -> None:
    synthetic.build(select=["+personalization"])
    columns = synthetic.query(
        "SELECT column_name::text FROM information_schema.columns"
        " WHERE table_schema = 'marketing' AND table_name = 'personalization'"
    )
    assert {name for (name,) in columns} == {"person_id", *FACTS}
    # A condition over each of them is true or false, so the types are the columns' own.
    everything = " or ".join(f"{name} = null" for name in FACTS)
    synthetic.build(
        select=["audiences"],
        variables=told(anybody=AudienceSettings(description="x", where=everything)),
    )
