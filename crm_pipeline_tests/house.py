"""A whole small house for tests: a living sandbox org, a warehouse, settings and an engine.

Holds the oracle, too: what every table must look like is asked from the org itself, past the
connector, so that both sides cannot share a mistake.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from crm_pipeline.model.sync import SyncMode, SyncOutcome
from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.running import RunningOrg
from crm_pipeline.sync.assembly import Installation
from crm_pipeline.sync.engine import SyncEngine

EVERY_OBJECT: Mapping[str, tuple[str, ...]] = {
    "Lead": (
        *("FirstName", "LastName", "Salutation", "Title", "Company", "Email", "Phone", "Street"),
        *("City", "State", "PostalCode", "Country", "Website", "Description", "LeadSource"),
        *("Status", "AnnualRevenue", "NumberOfEmployees", "OwnerId", "HasOptedOutOfEmail"),
        *("EmailBouncedDate", "IsConverted", "ConvertedDate", "ConvertedContactId", "CreatedDate"),
        *("Lead_Score__c", "Marketing_Segments__c", "Preferred_Call_Time__c", "Is_Target__c"),
        "External_Key__c",
    ),
    "Account": ("Name", "Industry", "AnnualRevenue", "BillingPostalCode", "OwnerId", "ParentId"),
    "Contact": ("FirstName", "LastName", "Email", "AccountId", "Birthdate", "HasOptedOutOfEmail"),
    "Opportunity": ("Name", "Amount", "CloseDate", "StageName", "Probability", "AccountId"),
    "Case": ("CaseNumber", "Subject", "Priority", "Status", "OwnerId"),
    "Task": ("Subject", "Status", "ActivityDate", "WhoId"),
    "Campaign": ("Name", "StartDate", "Status"),
    "CampaignMember": ("CampaignId", "LeadId", "ContactId", "Status"),
    "Event_Registration__c": (
        *("Name", "Contact__c", "Event_Date__c", "Attendance__c", "Ticket_Price__c"),
    ),
}


@dataclass
class House:
    """Everything that one test needs, and the oracle."""

    org: SandboxOrg
    served: RunningOrg
    folder: Path
    database_url: str
    monkeypatch: pytest.MonkeyPatch
    settings: dict[str, Any] = field(default_factory=dict)
    runs: int = 0

    @property
    def settings_file(self) -> Path:
        """The settings file of this house."""
        return self.folder / "crm_sync.yaml"

    def configure(self, **changes: Any) -> None:
        """Write the settings file, and point the environment at this house."""
        self.settings |= changes
        self.settings_file.write_text(yaml.safe_dump(self.settings, sort_keys=False))
        environment = {
            "CRM_PIPELINE_CONFIG": str(self.settings_file),
            "CRM_PIPELINE_HOME": str(self.folder / "home"),
            "CRM_PIPELINE_DATABASE_URL": self.database_url,
            "SALESFORCE_LOGIN_URL": self.served.url,
            "SALESFORCE_CLIENT_ID": self.served.client_id,
            "SALESFORCE_CLIENT_SECRET": self.served.client_secret,
        }
        for name, value in environment.items():
            self.monkeypatch.setenv(name, value)

    @contextmanager
    def engine(self) -> Iterator[SyncEngine]:
        """A fresh engine, as a new process would have it."""
        with Installation.from_environment().engine() as engine:
            yield engine

    def sync(
        self, mode: SyncMode = SyncMode.DIFFERENTIAL, *names: str, restart: bool = False
    ) -> dict[str, SyncOutcome]:
        """Sync the named objects, or all, in one run."""
        self.runs += 1
        with self.engine() as engine:
            return {
                name: engine.sync_object(
                    name, mode=mode, run_id=f"run {self.runs}", restart=restart
                )
                for name in names or engine.settings.enabled_objects
            }

    def full(self, *names: str, restart: bool = False) -> dict[str, SyncOutcome]:
        """A full sync."""
        return self.sync(SyncMode.FULL, *names, restart=restart)

    def sync_once(self, name: str) -> SyncOutcome:
        """A differential of one object."""
        return self.sync(SyncMode.DIFFERENTIAL, name)[name]

    def execute(self, statement: str) -> None:
        """Change the warehouse behind the engine's back."""
        with psycopg.connect(self.database_url) as connection:
            connection.execute(statement.encode())

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Rows of the warehouse."""
        with psycopg.connect(self.database_url) as connection:
            return connection.execute(statement.encode()).fetchall()

    def table(self, name: str) -> dict[str, dict[str, Any]]:
        """The live rows of a typed table by id, mapped columns alone."""
        with psycopg.connect(self.database_url) as connection:
            cursor = connection.execute(
                f'SELECT * FROM salesforce."{name.lower()}" WHERE _deleted_at IS NULL'.encode()
            )
            names = [c.name for c in cursor.description or ()]
            rows = [dict(zip(names, row, strict=True)) for row in cursor]
        return {row["id"]: {k: v for k, v in row.items() if not k.startswith("_")} for row in rows}

    def truth(self, name: str, where: str = "") -> dict[str, dict[str, Any]]:
        """What the table must hold, from the org itself."""
        fields = ("Id", *self.mapped(name))
        types = {f.name: f.type for f in self.org.catalogue.object(name).fields}
        rows = self.org.query(f"SELECT {', '.join(fields)} FROM {name} {where}")
        return {
            str(row["Id"]): {f.lower(): typed(row[f], types[f]) for f in fields} for row in rows
        }

    def mapped(self, name: str) -> list[str]:
        """Fields that the settings map."""
        return [str(f) for f in self.settings["objects"][name]["fields"]]

    def assert_in_step(self, *names: str) -> None:
        """Every table equals the org, cell by cell."""
        for name in names or self.settings["objects"]:
            assert self.table(name) == self.truth(name), name


def typed(value: Any, native_type: str) -> Any:
    """A value of the org as PostgreSQL's driver would hand it over."""
    if value is None or value == "":
        return None
    match native_type:
        case "datetime":
            return datetime.fromisoformat(value).astimezone(UTC)
        case "date":
            return date.fromisoformat(value)
        case "time":
            return time.fromisoformat(value.removesuffix("Z"))
        case "double" | "currency" | "percent":
            return Decimal(str(value))
        case _:
            return value


def all_objects(transport: str = "auto") -> dict[str, Any]:
    """Settings for every object of the sandbox org."""
    return {
        name: {"transport": transport, "fields": list(fields)}
        for name, fields in EVERY_OBJECT.items()
    }
