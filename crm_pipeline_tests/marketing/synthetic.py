"""A warehouse under test: typed tables made by the engine's own code, filled by hand, and dbt.

Belongs here: making, changing and asking such a warehouse, and building its models. Does not belong
here: assertions, and which rows a test needs.
"""

import hashlib
import json
import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from crm_pipeline.defs.dbt_project import DbtProject, connection_variables
from crm_pipeline.model.objects import CrmField, CrmObject, MappedField, ObjectSelection, ValueType
from crm_pipeline.warehouse.schema import TableShape, add_bookkeeping, guard_rows, table_shape

Row = Mapping[str, object]
_PROJECT = Path(__file__).parents[2] / "dbt_marketing"
_SCHEMA = "salesforce"
_PREFIXES = {"lead": "00Q", "contact": "003", "account": "001", "opportunity": "006"}
_OBJECTS: Mapping[str, str] = {
    "Lead": "FirstName LastName Name Email Phone MobilePhone Company Title Industry Country Status"
    " LeadSource Rating IsConverted? ConvertedDate/ ConvertedContactId ConvertedAccountId OwnerId"
    " HasOptedOutOfEmail? EmailBouncedDate@ CreatedDate@",
    "Contact": "AccountId FirstName LastName Name Email Phone MobilePhone Title Department"
    " MailingCountry LeadSource OwnerId HasOptedOutOfEmail? EmailBouncedDate@ CreatedDate@",
    "Account": "Name Type ParentId Industry Website BillingCountry AnnualRevenue#"
    " NumberOfEmployees# OwnerId CreatedDate@",
    "Opportunity": "AccountId Name StageName Type Amount# Probability# CloseDate/ IsClosed? IsWon?"
    " CampaignId LeadSource OwnerId CreatedDate@",
    "Case": "CaseNumber AccountId ContactId Subject Status Priority Origin IsClosed? ClosedDate@"
    " OwnerId CreatedDate@",
    "Campaign": "Name Type Status ParentId IsActive? StartDate/ EndDate/ BudgetedCost# ActualCost#"
    " OwnerId CreatedDate@",
    "CampaignMember": "CampaignId LeadId ContactId Status HasResponded? FirstRespondedDate/"
    " CreatedDate@",
    "Task": "WhoId WhatId AccountId Subject Status Priority TaskSubtype ActivityDate/ IsClosed?"
    " OwnerId CreatedDate@",
    "Users": "Name FirstName LastName Email Username Title Department Phone IsActive?",
}
"""Fields of the default mapping that the models read; a mark at the end tells the type."""
_TYPES = {
    "?": ValueType.BOOLEAN,
    "/": ValueType.DATE,
    "@": ValueType.DATETIME,
    "#": ValueType.DECIMAL,
}


def _fields(marked: str) -> dict[str, CrmField]:
    fields = {"Id": CrmField("Id", "Id", ValueType.IDENTIFIER, "id")}
    for word in (*marked.split(), "SystemModstamp@"):
        value_type = _TYPES.get(word[-1], ValueType.TEXT)
        name = word.rstrip("".join(_TYPES))
        if name.endswith("Id"):
            value_type = ValueType.IDENTIFIER
        fields[name] = CrmField(name, name, value_type, value_type.value)
    return fields


def _shape(name: str, marked: str) -> TableShape:
    fields = _fields(marked)
    crm_object = CrmObject(name, name, fields, cursor_field="SystemModstamp")
    columns = tuple(MappedField(f, f.name.lower()) for f in fields.values())
    return table_shape(ObjectSelection(crm_object, name.lower(), columns), _SCHEMA)


@dataclass
class SyntheticWarehouse:
    """A migrated database with empty typed tables, and the marketing models over it.

    Attributes:
        url: the database.
        folder: where dbt may write; parsed projects stay there from test to test.
    """

    url: str
    folder: Path
    _numbers: Iterable[int] = field(default_factory=lambda: count(1))

    def create_tables(self, *names: str) -> None:
        """Typed tables as a first full sync leaves them, but empty; of all objects by default."""
        with psycopg.connect(self.url) as connection:
            for name in names or tuple(_OBJECTS):
                shape = _shape(name, _OBJECTS[name])
                parts = [c.definition for c in shape.kept] + [sql.SQL("PRIMARY KEY (id)")]
                connection.execute(
                    sql.SQL("CREATE TABLE {} ({})").format(
                        shape.qualified, sql.SQL(", ").join(parts)
                    )
                )
                add_bookkeeping(connection, shape.qualified)
                guard_rows(connection, shape)

    def record_id(self, table: str, number: int) -> str:
        """The id of the CRM's record of that number."""
        prefix = _PREFIXES[table]
        return f"{prefix}{number:012}{'EAA' if prefix == '00Q' else 'AAA'}"

    def insert(self, table: str, *rows: Row) -> None:
        """Records that a sync has read now: `insert("lead", {"id": ..., "email": ...})`.

        Columns are spelt as in the table; what is left out is null, the stamp is now.
        """
        with psycopg.connect(self.url) as connection:
            for row in rows:
                self._insert(connection, sql.Identifier(_SCHEMA, table), row)

    def leads(self, *rows: Row) -> None:
        """Leads, as `insert` takes them."""
        self.insert("lead", *rows)

    def contacts(self, *rows: Row) -> None:
        """Contacts, as `insert` takes them."""
        self.insert("contact", *rows)

    def accounts(self, *rows: Row) -> None:
        """Accounts, as `insert` takes them."""
        self.insert("account", *rows)

    def opportunities(self, *rows: Row) -> None:
        """Opportunities, as `insert` takes them."""
        self.insert("opportunity", *rows)

    def users(self, *rows: Row) -> None:
        """Users, as `insert` takes them."""
        self.insert("users", *rows)

    def events(self, *rows: Row) -> None:
        """Marketing events, all stored in one transaction; one that is known is left as it is.

        `event_id` is made up where it is left out, and `properties` may be a dictionary.
        """
        with psycopg.connect(self.url) as connection:
            for row in rows:
                event = {"event_id": f"event-{next(iter(self._numbers))}", **row}
                if isinstance(event.get("properties"), Mapping):
                    event["properties"] = Jsonb(event["properties"])
                self._insert(connection, sql.Identifier("events", "marketing_events"), event)

    def consent(self, *rows: Row) -> None:
        """Rows of the consent ledger."""
        with psycopg.connect(self.url) as connection:
            for row in rows:
                self._insert(connection, sql.Identifier("events", "consent_ledger"), row)

    @staticmethod
    def _insert(connection: psycopg.Connection, table: sql.Identifier, row: Row) -> None:
        statement = sql.SQL("INSERT INTO {} ({}) VALUES ({}) ON CONFLICT DO NOTHING").format(
            table,
            sql.SQL(", ").join(sql.Identifier(name) for name in row),
            sql.SQL(", ").join(sql.Placeholder() for _ in row),
        )
        connection.execute(statement, list(row.values()))

    def change(self, table: str, record: str, **values: object) -> None:
        """A sync has read a newer version of a record; it lives again if it was gone."""
        self._write(
            table,
            record,
            {"_deleted_at": None, "_vanished": None, "_merged_into": None, **values},
        )

    def delete(self, table: str, record: str) -> None:
        """A sync has found a record deleted."""
        self._write(table, record, {"_vanished": "deleted"}, is_gone=True)

    def merge(self, table: str, loser: str, winner: str) -> None:
        """A sync has found a record merged into another one."""
        self._write(table, loser, {"_vanished": "merged", "_merged_into": winner}, is_gone=True)

    def convert(self, lead: str, contact: str, account: str | None = None) -> None:
        """A sync has found a lead converted; the contact is the caller's to insert."""
        self.change(
            "lead",
            lead,
            isconverted=True,
            convertedcontactid=contact,
            convertedaccountid=account,
        )

    def _write(
        self, table: str, record: str, values: Mapping[str, object], *, is_gone: bool = False
    ) -> None:
        sets = [
            sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name))
            for name in values
        ] + [sql.SQL("_synced_at = clock_timestamp()")]
        if is_gone:
            sets.append(sql.SQL("_deleted_at = now()"))
        statement = sql.SQL("UPDATE {} SET {} WHERE id = {}").format(
            sql.Identifier(_SCHEMA, table), sql.SQL(", ").join(sets), sql.Placeholder("_key")
        )
        with psycopg.connect(self.url) as connection:
            done = connection.execute(statement, {**values, "_key": record})
            assert done.rowcount == 1, f"{table} has no {record}"

    def execute(self, statement: str) -> int:
        """Any statement, for rows by generate_series; how many rows it changed."""
        with psycopg.connect(self.url) as connection:
            return connection.execute(statement.encode()).rowcount

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Rows of a query."""
        with psycopg.connect(self.url) as connection:
            return connection.execute(statement.encode()).fetchall()

    def build(
        self,
        *,
        full_refresh: bool = False,
        as_of: datetime | str | None = None,
        tests: bool = False,
        schema: str = "marketing",
        select: Sequence[str] = (),
        variables: Mapping[str, object] | None = None,
        project: Path | None = None,
    ) -> dict[str, str]:
        """Build the models as Dagster does, and require that all of it worked.

        Args:
            full_refresh: build everything anew.
            as_of: the instant that models take for now.
            tests: run dbt's tests as well.
            schema: where the marts go; what the models remember stays beside them.
            select: names of models, with dbt's operators; all by default.
            variables: more of dbt's vars.
            project: another folder of models than the repository's, such as a changed copy of it.

        Returns:
            What became of each node, by name: success, pass, warn.
        """
        told: dict[str, object] = dict(variables or {})
        if as_of is not None:
            told["as_of"] = str(as_of)
        built = self._project(told, schema, project or _PROJECT)
        target = built.work / "target"
        command = built.command("build", target=target)
        command += ["--exclude-resource-type", "unit_test"]
        command += [] if tests else ["--exclude-resource-type", "test"]
        command += ["--full-refresh"] if full_refresh else []
        command += ["--select", *select] if select else []
        done = subprocess.run(
            command,
            env={**os.environ, **built.environment(connection_variables(self.url))},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-2_000:]
        results = json.loads((target / "run_results.json").read_bytes())["results"]
        return {r["unique_id"].split(".")[2]: r["status"] for r in results}

    def compiled(self, model: str, *, as_of: str) -> str:
        """What a model asks, as the build that was the last of this instant asked it."""
        built = self._project({"as_of": as_of}, "marketing", _PROJECT)
        [file] = (built.work / "target" / "compiled").rglob(f"{model}.sql")
        return file.read_text()

    def _project(self, variables: Mapping[str, object], schema: str, folder: Path) -> DbtProject:
        told = json.dumps([variables, schema, str(folder)], sort_keys=True)
        work = self.folder / hashlib.sha256(told.encode()).hexdigest()[:16]
        work.mkdir(parents=True, exist_ok=True)
        return DbtProject(folder, variables, work, schema)
