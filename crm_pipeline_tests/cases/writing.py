"""A small house of leads for the cases of writing: wishes, a drainer, and what became of both.

Belongs here: what the files of part H share. Does not belong here: assertions (test_h_*.py).
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest

from crm_pipeline.model.writeback import Enqueued, Intent, Lane, Operation, Value, WriteOptions
from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.running import running
from crm_pipeline.sandbox.salesforce.schema import FieldDefinition
from crm_pipeline.sync.assembly import Installation
from crm_pipeline.warehouse.outbox import enqueue
from crm_pipeline.writeback.context import WriteManners
from crm_pipeline.writeback.drain import Drain, DrainOutcome
from crm_pipeline_tests.house import House

KEY_FIELD = "Crm_Pipeline_Key__c"
QUICK = WriteManners(
    retry_seconds=0.0,
    wait_seconds=0.0,
    first_look_seconds=0.01,
    slowest_look_seconds=0.05,
    patience_seconds=60.0,
)
SLOW_RETRIES = WriteManners(retry_seconds=3600.0, wait_seconds=7200.0)
OBJECTS: Mapping[str, Any] = {
    "Lead": {"fields": ["LastName", "Company", "Email", "Lead_Score__c", "HasOptedOutOfEmail"]},
    "Contact": {"fields": ["LastName", "Email", "AccountId", "Description"]},
    "Account": {"fields": ["Name"]},
}
_keys = count(1)


@contextmanager
def writing_house(
    database_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *, leads: int = 10
) -> Iterator[House]:
    """Leads l0, l1, ... with the key field for creates on leads and contacts, fully synced."""
    org = SandboxOrg()
    for name in ("Lead", "Contact"):
        key = FieldDefinition(
            KEY_FIELD, "CRM Pipeline Key", "string", length=64, unique=True, external_id=True
        )
        org.add_field(name, key)
    score = FieldDefinition("Lead_Score__c", "Lead Score", "double", precision=18, scale=2)
    org.add_field("Contact", score)
    org.clock.advance(0)
    with running(org) as served:
        house = House(org, served, folder, database_url, monkeypatch)
        house.configure(version=1, reference_data=False, objects=dict(OBJECTS))
        rows = (
            {"LastName": f"l{n}", "Company": "Co", "Email": f"l{n}@example.com"}
            for n in range(leads)
        )
        org.create_many("Lead", rows)
        house.full()
        yield house
    org.close()


@pytest.fixture
def writing(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """Ten leads."""
    with writing_house(database_url, tmp_path, monkeypatch) as house:
        yield house


def ids(house: House, name: str = "Lead") -> list[str]:
    """Ids of the living records in the order of their names."""
    rows = house.org.query(f"SELECT Id FROM {name} ORDER BY CreatedDate, Id")
    return [str(row["Id"]) for row in rows]


def update(
    record_id: str,
    lane: Lane = Lane.SCORE,
    *,
    object_name: str = "Lead",
    at: datetime | None = None,
    key: str | None = None,
    parent_id: str | None = None,
    before: Mapping[str, Value] | None = None,
    **fields: Value,
) -> Intent:
    """A wish to change a record."""
    return Intent(
        key=key or f"wish {next(_keys)}",
        operation=Operation.UPDATE,
        object_name=object_name,
        fields=fields,
        lane=lane,
        origin="a test",
        record_id=record_id,
        value_at=at,
        parent_id=parent_id,
        before=before or {},
    )


def create(
    object_name: str = "Lead",
    *,
    key: str | None = None,
    options: WriteOptions | None = None,
    **fields: Value,
) -> Intent:
    """A wish to make a record."""
    return Intent(
        key=key or f"wish {next(_keys)}",
        operation=Operation.CREATE,
        object_name=object_name,
        fields=fields,
        lane=Lane.ACTION,
        origin="a test",
        options=options or WriteOptions(),
    )


def wish(house: House, *intents: Intent) -> Enqueued:
    """Enqueue and commit."""
    with psycopg.connect(house.database_url) as connection:
        return enqueue(connection, intents)


def drain(
    house: House,
    *,
    manners: WriteManners = QUICK,
    report: Callable[[str], None] = lambda step: None,
    run_id: str = "drainer",
) -> DrainOutcome:
    """One drainer, as a new process would have it."""
    return drain_installation(manners=manners, report=report, run_id=run_id)


def drain_installation(
    *,
    manners: WriteManners = QUICK,
    report: Callable[[str], None] = lambda step: None,
    run_id: str = "drainer",
) -> DrainOutcome:
    """The same for the installation that the environment describes."""
    installation = Installation.from_environment()
    settings = installation.settings
    connector = installation.write_connector(settings)
    try:
        drainer = Drain(
            settings, connector, installation.warehouse(), installation.switch.require, manners
        )
        return drainer.run(run_id, report)
    finally:
        connector.close()


def states(house: House) -> dict[str, int]:
    """How many write-backs have which state."""
    rows = house.query("SELECT state, count(*) FROM crm_sync.outbox GROUP BY 1")
    return {str(state): int(number) for state, number in rows}


def codes(house: House, state: str = "parked") -> Counter[str]:
    """Codes of the write-backs with that state."""
    rows = house.query(f"SELECT code FROM crm_sync.outbox WHERE state = '{state}'")
    return Counter(str(code) for (code,) in rows)


def held_by(house: House, record_id: str, field: str, name: str = "Lead") -> Any:
    """What the org holds now."""
    found = house.org.get(name, record_id)
    assert found is not None
    return found[field]


def writes(house: House) -> int:
    """Calls that wrote records, or tried to."""
    return len(house.served.server.writes.requests())


def assert_conserved(house: House) -> None:
    """enqueued = applied + superseded + parked + pending, and every end has its instant."""
    rows = house.query(
        "SELECT enqueued, applied + superseded + parked + pending FROM crm_sync.write_back_balance"
    )
    assert all(enqueued == accounted for enqueued, accounted in rows)
    lacking = "SELECT count(*) FROM crm_sync.outbox WHERE state = 'parked' AND remedy IS NULL"
    assert house.query(lacking) == [(0,)]
