"""A house whose org holds one custom object, Thing__c, that a test gives the fields it wants.

Belongs here: what the cases of parts C and D say to such an org. Does not belong here: the org of
invented people (crm_pipeline_tests/integration/sync/conftest.py).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.running import running
from crm_pipeline.sandbox.salesforce.schema import FieldDefinition, FieldType, ObjectDefinition
from crm_pipeline_tests.house import House

NAME = FieldDefinition("Name", "Thing Name", "string", length=80, name_field=True)
NUMBERS = ("int", "double", "currency", "percent")


def field(name: str, kind: FieldType, **facts: Any) -> FieldDefinition:
    """A custom field with the room that tests need."""
    if kind in NUMBERS:
        facts = {"precision": 18, "scale": 0 if kind == "int" else 2, **facts}
    return FieldDefinition(name, facts.pop("label", name), kind, **facts)


def an_object(name: str, *fields: FieldDefinition, key_prefix: str = "a0T") -> ObjectDefinition:
    """A custom object with a name and these fields."""
    return ObjectDefinition(name, name, f"{name}s", key_prefix, (NAME, *fields), custom=True)


@contextmanager
def house_of_things(
    database_url: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *fields: FieldDefinition,
    transport: str = "rest",
) -> Iterator[House]:
    """A house that maps every field of Thing__c."""
    org = SandboxOrg()
    org.add_object(an_object("Thing__c", *fields))
    org.clock.advance(0)
    with running(org) as served:
        house = House(org, served, folder, database_url, monkeypatch)
        house.configure(version=1, reference_data=False)
        map_things(house, *(one.name for one in fields), transport=transport)
        yield house
    org.close()


@contextmanager
def ten_things(database_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """Ten things, n0 to n9, with a text field, F__c, fully synced an hour ago."""
    text = field("F__c", "string", length=80)
    with house_of_things(database_url, folder, monkeypatch, text) as house:
        house.org.create_many("Thing__c", ({"Name": f"n{n}", "F__c": f"f{n}"} for n in range(10)))
        pass_time(house)
        house.full()
        pass_time(house)
        yield house


def first(house: House) -> str:
    """The id of the thing n0."""
    return str(things(house)["n0"]["id"])


def map_things(house: House, *fields: str, transport: str = "rest") -> None:
    """Let the settings name these fields of Thing__c."""
    house.configure(objects={"Thing__c": {"transport": transport, "fields": ["Name", *fields]}})


def put(house: House, record_id: str, **values: object) -> None:
    """Store values past the org's own checks, as a change of now."""
    columns = {**values, "SystemModstamp": house.org.clock.stamp()}
    sets = ", ".join(f'"{name}" = ?' for name in columns)
    with house.org.transaction() as connection:
        connection.execute(
            f'UPDATE "Thing__c" SET {sets} WHERE Id = ?', [*columns.values(), record_id]
        )


def pass_time(house: House, seconds: float = 3600) -> None:
    """Let the overlap lie behind us."""
    house.org.clock.advance(seconds=seconds)


def things(house: House) -> dict[str, dict[str, Any]]:
    """The table, whole rows by name."""
    with psycopg.connect(house.database_url) as connection:
        cursor = connection.execute("SELECT * FROM salesforce.thing__c")
        names = [c.name for c in cursor.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in cursor]
    return {row["name"]: row for row in rows}


def fill(house: House, values: list[Any]) -> None:
    """One thing per value of F__c, past the org's own checks."""
    rows = ({"Name": f"n{n}"} for n in range(len(values)))
    for record_id, value in zip(house.org.create_many("Thing__c", rows), values, strict=True):
        put(house, record_id, F__c=value)


def stored(house: House) -> list[Any]:
    """F__c of every thing, in the order in which they were filled."""
    rows = things(house)
    return [rows[f"n{n}"]["f__c"] for n in range(len(rows))]


def text_of(house: House, table: str, columns: str = "*") -> bytes:
    """A table as COPY writes it: equal bytes are equal values."""
    with psycopg.connect(house.database_url) as connection, connection.cursor() as cursor:
        statement = f"COPY (SELECT {columns} FROM salesforce.{table} ORDER BY id) TO STDOUT"
        with cursor.copy(statement.encode()) as copy:
            return b"".join(bytes(part) for part in copy)


def typed_columns(house: House, table: str = "thing__c") -> Mapping[str, str]:
    """Types by column, bookkeeping aside."""
    return dict(
        house.query(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
            f" WHERE attrelid = 'salesforce.{table}'::regclass AND attnum > 0"
            r" AND NOT attisdropped AND attname NOT LIKE '\_%'"
        )
    )
