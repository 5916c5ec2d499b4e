"""The file that init writes."""

from dataclasses import replace
from pathlib import Path

import pytest

from crm_pipeline.config.load import load_settings
from crm_pipeline.config.settings import Settings
from crm_pipeline.config.template import render_settings
from crm_pipeline.errors import ConfigurationError
from crm_pipeline.model.objects import CrmField, CrmObject, ValueType


def reload(text: str, tmp_path: Path) -> Settings:
    path = tmp_path / "crm_sync.yaml"
    path.write_text(text, encoding="utf-8")
    return load_settings(path)


def test_the_template_loads_with_the_defaults_of_the_settings(
    lead: CrmObject, tmp_path: Path
) -> None:
    settings = reload(render_settings([lead], api_version="58.0"), tmp_path)
    assert settings.crm.api_version == "58.0"
    assert settings.differential == Settings.model_fields["differential"].default
    assert settings.marketing == Settings.model_fields["marketing"].default
    assert [m.field for m in settings.objects["Lead"].columns] == [
        "Id",
        "FirstName",
        "Email",
        "Street",
        "City",
        "Home__Latitude__s",
        "Home__Longitude__s",
        "Notes__c",
        "Status",
    ]


def test_with_everything_on_the_examples_are_no_comments(lead: CrmObject, tmp_path: Path) -> None:
    settings = reload(render_settings([lead], api_version="62.0", everything_on=True), tmp_path)
    assert list(settings.marketing.audiences) == ["hot_customers", "form_senders"]
    assert (settings.events.folder, settings.events.poll_minutes) == ("events", 1)
    writes = settings.write_backs
    assert writes.consent.direction == "both"
    assert (writes.lead_scores.enabled, writes.visits.enabled, writes.touches.enabled) == (
        True,
        True,
        True,
    )


def test_the_examples_are_comments_until_their_marks_are_taken_away(lead: CrmObject) -> None:
    plain = render_settings([lead], api_version="62.0")
    shown = render_settings([lead], api_version="62.0", everything_on=True)
    uncommented = [line.replace("  # ", "  ") for line in plain.splitlines()]
    examples = shown.partition("  audiences:\n")[2].partition("  poll_minutes")[0].splitlines()
    assert len(examples) > 10
    assert not [line for line in examples if line.replace("  # ", "  ") not in uncommented]


def test_labels_and_calculated_fields_are_comments(lead: CrmObject) -> None:
    lines = render_settings([lead], api_version="62.0").splitlines()
    assert "      - FirstName  # First Name" in lines
    assert (
        "      # - Lead_Score__c  # Score: calculated, so it changes without the record "
        "being marked "
        "as changed"
    ) in lines
    assert not [line for line in lines if "Address" in line or "Photo__c" in line]


@pytest.mark.parametrize(
    "text",
    [
        'x"; DROP TABLE lead; --',
        "a\nversion: 2",
        "a\x85b\u2028c\u2029d\x0be",
        "\x00\x07\x1b[31m",
        "\ud800",
        "\ufeff\ufffe",
        "# : {} [] & * ! | > ' \" % @ `",
        "{0} {api_version}",
        "*" * 10_000,
    ],
)
def test_hostile_labels_and_names_stay_comments_or_stay_out(
    lead: CrmObject, tmp_path: Path, text: str
) -> None:
    hostile = CrmField(name=text, label=text, value_type=ValueType.TEXT, native_type="string")
    labelled = replace(lead.fields["Email"], label=text)
    fields = {**lead.fields, text: hostile, "Email": labelled}
    org = [replace(lead, fields=fields, label=text), replace(lead, name=text)]
    settings = reload(render_settings(org, api_version="62.0"), tmp_path)
    expected = reload(render_settings([lead], api_version="62.0"), tmp_path)
    assert settings == expected


def test_names_that_yaml_or_postgres_would_take_amiss_still_load(tmp_path: Path) -> None:
    names = ("Id", "No", "On", "True", "Null", "Xmin", "A" * 70)
    fields = {
        name: CrmField(name=name, label="", value_type=ValueType.TEXT, native_type="string")
        for name in names
    }
    org = [CrmObject(name="Users", label="", fields=fields)]
    chosen = reload(render_settings(org, api_version="62.0"), tmp_path).objects["Users"]
    assert [m.field for m in chosen.fields] == list(names)
    assert chosen.table == "users_7dfb4cf6"
    assert chosen.fields[5].column.startswith("xmin_")
    assert len(chosen.fields[6].column) == 63


def test_a_template_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigurationError) as raised:
        render_settings([], api_version="62.0")
    assert str(raised.value) == "Name at least one CRM object to write settings for."
