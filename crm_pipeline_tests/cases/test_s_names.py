"""S6: names, labels and options of a hostile org are data, and never SQL."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from crm_pipeline.cli.init import write_settings
from crm_pipeline.config.load import load_settings
from crm_pipeline.config.settings import CrmSettings
from crm_pipeline.errors import ConfigurationError, CrmPipelineError
from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.running import running
from crm_pipeline.sandbox.salesforce.schema import FieldDefinition, ObjectDefinition, PicklistValue
from crm_pipeline.sync.assembly import Installation
from crm_pipeline.sync.reference import sync_reference_dataset
from crm_pipeline_tests.cases.checking import findings
from crm_pipeline_tests.cases.things import NAME
from crm_pipeline_tests.house import House

HOSTILE = (
    'x"; DROP TABLE salesforce.thing__c; --',
    "x'; DROP TABLE salesforce.thing__c; --",
    "x'); DROP TABLE salesforce.thing__c; --",
    "$$; DROP TABLE salesforce.thing__c; $$",
    "{}{0}%s%(x)s",
    "\\'; DROP TABLE salesforce.thing__c; --",
    "*/ DROP TABLE salesforce.thing__c /*",
    "a\nb\r\nc\td",
    "\x1b[31mred",
    'U&"\\0022"',
)
FIELD_NAMES = tuple(f"{text}__c" for text in HOSTILE)


@pytest.fixture
def house(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """An org whose every name, label and option is an attack, and one honest field."""
    org = SandboxOrg(name=HOSTILE[0])
    options = tuple(PicklistValue(text, text) for text in HOSTILE)
    honest = [
        FieldDefinition(f"F{n}__c", label, "picklist", picklist_values=options)
        for n, label in enumerate(HOSTILE)
    ]
    attacks = [FieldDefinition(name, name, "string", length=255) for name in FIELD_NAMES]
    org.add_object(
        ObjectDefinition(
            "Thing__c", HOSTILE[1], HOSTILE[2], "a0T", (NAME, *honest, *attacks), custom=True
        )
    )
    org.add_object(
        ObjectDefinition(f"{HOSTILE[0]}__c", "Attack", "Attacks", "a0X", (NAME,), custom=True)
    )
    org.create_many(
        "Thing__c",
        ({"Name": text} | {f"F{n}__c": text for n in range(len(HOSTILE))} for text in HOSTILE),
    )
    with running(org) as served:
        made = House(org, served, tmp_path, database_url, monkeypatch)
        made.configure(
            version=1,
            objects={"Thing__c": {"fields": ["Name", *(f"F{n}__c" for n in range(len(HOSTILE)))]}},
        )
        yield made
    org.close()


def relations(house: House) -> list[tuple[Any, ...]]:
    """Every relation of the schemas that we write to."""
    return house.query(
        "SELECT relnamespace::regnamespace::text, relname FROM pg_class WHERE relkind IN ('r', 'v')"
        " AND relnamespace IN ('salesforce'::regnamespace, 'crm_staging'::regnamespace) ORDER BY 2"
    )


@pytest.mark.parametrize("transport", ["rest", "bulk"])
def test_s6_labels_options_and_values_of_a_hostile_org_are_kept_as_data(
    house: House, transport: str
) -> None:
    house.settings["objects"]["Thing__c"]["transport"] = transport
    house.configure()
    house.full()
    house.full()
    house.sync_once("Thing__c")
    house.assert_in_step()
    with house.engine() as engine:
        sync_reference_dataset(engine, "picklist_values", run_id="r")
        assert engine.inspector.preview("Thing__c")
    assert relations(house) == [("salesforce", "picklist_values"), ("salesforce", "thing__c")]
    for number, label in enumerate(HOSTILE):
        assert house.query(
            "SELECT col_description(attrelid, attnum) FROM pg_attribute"
            f" WHERE attrelid = 'salesforce.thing__c'::regclass AND attname = 'f{number}__c'"
        ) == [(f"{label} (F{number}__c, picklist)",)]
    assert house.query(
        "SELECT label FROM salesforce.picklist_values"
        " WHERE object_name = 'Thing__c' AND field_name = 'F0__c' ORDER BY position"
    ) == [(text,) for text in HOSTILE]
    assert house.query("SELECT organization_name FROM crm_sync.organization") == [(HOSTILE[0],)]


def test_s6_the_settings_written_for_a_hostile_org_name_no_attack_and_sync(
    house: House,
) -> None:
    installation = Installation.from_environment()
    connector = installation.connector(installation.settings)
    try:
        write_settings(connector, ["Thing__c"], house.settings_file, CrmSettings().api_version)
    finally:
        connector.close()
    written = yaml.safe_load(house.settings_file.read_text())
    fields = written["objects"]["Thing__c"]["fields"]
    assert [f"F{n}__c" in fields for n in range(len(HOSTILE))] == [True] * len(HOSTILE)
    assert not [name for name in fields if "DROP" in str(name)]
    with house.engine() as engine:
        assert list(engine.settings.objects) == ["Thing__c"]
    house.full("Thing__c")
    assert len(house.query("SELECT id FROM salesforce.thing__c")) == len(HOSTILE)


@pytest.mark.parametrize("name", [*HOSTILE, *FIELD_NAMES])
@pytest.mark.parametrize("place", ["object", "field", "column", "table", "schema"])
def test_s6_no_hostile_name_gets_past_the_settings(tmp_path: Path, name: str, place: str) -> None:
    document: dict[str, Any] = {"version": 1, "objects": {"Lead": {"fields": ["Email"]}}}
    match place:
        case "object":
            document["objects"] = {name: {"fields": ["Email"]}}
        case "field":
            document["objects"]["Lead"]["fields"] = [name]
        case "column":
            document["objects"]["Lead"]["fields"] = [{"Email": name}]
        case "table":
            document["objects"]["Lead"]["table"] = name
        case "schema":
            document["marketing"] = {"target_schema": name}
    file = tmp_path / "crm_sync.yaml"
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    with pytest.raises(ConfigurationError) as refusal:
        load_settings(file)
    assert "\x1b" not in str(refusal.value)


def test_s6_preflight_of_a_hostile_org_writes_nothing_and_shows_no_escape(house: House) -> None:
    said = "".join(f.sentence + f.remedy for f in findings())
    assert "\x1b" not in said
    assert relations(house) == []


@pytest.mark.parametrize("name", HOSTILE)
def test_s6_an_object_asked_for_by_a_hostile_name_is_refused(house: House, name: str) -> None:
    with house.engine() as engine:
        for ask in (
            lambda: engine.sync_record(name, "a0T000000000001AAA", run_id="r"),
            lambda: engine.sync_record("Thing__c", name, run_id="r"),
            lambda: engine.connector.describe(name),
        ):
            with pytest.raises(CrmPipelineError):
                ask()
