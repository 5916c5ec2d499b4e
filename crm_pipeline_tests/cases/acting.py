"""A house in which actions are asked for, decided and delivered.

Belongs here: what the tests of actions share. Does not belong here: assertions (test_*.py).
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest

from crm_pipeline.actions.resolving import resolve
from crm_pipeline.model.actions import ActionsOutcome
from crm_pipeline.sandbox.salesforce.schema import FieldDefinition
from crm_pipeline.sync.assembly import Installation
from crm_pipeline.sync.reference import REFERENCE_DATASETS, sync_reference_dataset
from crm_pipeline_tests.cases.writing import KEY_FIELD, drain, writing_house
from crm_pipeline_tests.house import House

WRITTEN = {
    "Account": ["Name"],
    "Opportunity": ["Name", "StageName"],
    "Task": ["Subject"],
    "Case": ["Subject"],
    "CampaignMember": ["Status"],
}
"""Objects that get the key field beside leads and contacts, with the fields that are synced."""
_numbers = count(1)


@contextmanager
def acting_house(
    database_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[House]:
    """Ten leads, a user, a retired one, two queues, two rules, a campaign, and their tables."""
    with writing_house(database_url, folder, monkeypatch) as house:
        org = house.org
        for name in WRITTEN:
            key = FieldDefinition(
                KEY_FIELD, "CRM Pipeline Key", "string", length=64, unique=True, external_id=True
            )
            org.add_field(name, key)
        for username, is_active in (("ada@co.example", True), ("old@co.example", False)):
            names = {"FirstName": "A", "LastName": "User", "Alias": "a", "IsActive": is_active}
            org.create("User", {**names, "Username": username, "Email": username})
        for name, kind in (("Support", "Case"), ("Inbound", "Lead")):
            queue = org.create("Group", {"Name": name, "DeveloperName": name, "Type": "Queue"})
            org.create("QueueSobject", {"QueueId": queue, "SobjectType": kind})
            org.create("AssignmentRule", {"Name": name, "SobjectType": kind, "Active": False})
        org.create("Campaign", {"Name": "Spring"})
        objects = {name: {"fields": fields} for name, fields in WRITTEN.items()}
        house.configure(objects=house.settings["objects"] | objects)
        house.full()
        with house.engine() as engine:
            for dataset in REFERENCE_DATASETS:
                sync_reference_dataset(engine, dataset.name, run_id="reference")
        yield house


@pytest.fixture
def acting(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """Ten leads and everybody who may own records."""
    with acting_house(database_url, tmp_path, monkeypatch) as house:
        yield house


def ask(house: House, kind: str = "create", name: str = "Lead", **facts: Any) -> str:
    """Ask by SQL, as a tool does; returns the action's id."""
    row = {
        "action_id": f"action {next(_numbers)}",
        "kind": kind,
        "object_name": name,
        "requested_by": "a test",
        **facts,
    }
    for column in ("fields", "options"):
        if column in row:
            row[column] = json.dumps(row[column])
    names = ", ".join(row)
    places = ", ".join(f"%({column})s" for column in row)
    with psycopg.connect(house.database_url) as connection:
        connection.execute(
            f"INSERT INTO crm_sync.action ({names}) VALUES ({places})"
            " ON CONFLICT (action_id) DO NOTHING".encode(),
            row,
        )
    return str(row["action_id"])


def decide(run_id: str = "decider") -> ActionsOutcome:
    """One look at what was asked for, as a new process would have it."""
    installation = Installation.from_environment()
    settings = installation.settings
    connector = installation.connector(settings)
    try:
        return resolve(
            settings,
            connector,
            installation.warehouse(),
            run_id=run_id,
            require_enabled=installation.switch.require,
        )
    finally:
        connector.close()


def act(house: House) -> ActionsOutcome:
    """Decide and deliver."""
    outcome = decide()
    drain(house)
    return outcome


def told(house: House, action_id: str) -> Mapping[str, Any]:
    """The action's line in the log."""
    columns = ("state", "record_id", "code", "reason", "remedy", "matches", "is_created",
               "written_object", "waits_for")  # fmt: skip
    [row] = house.query(
        f"SELECT {', '.join(columns)} FROM crm_sync.action_log WHERE action_id = '{action_id}'"
    )
    return dict(zip(columns, row, strict=True))


def records(house: House, query: str) -> list[dict[str, Any]]:
    """What the org holds."""
    return [dict(row) for row in house.org.query(query)]
