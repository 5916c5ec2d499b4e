"""The golden month: fourteen people of March 2026, loaded in two portions, and what must come out.

The CSV files beside this module are the whole truth: `crm/` what the CRM said, `events.csv` and
`opt_ins.csv` what happened, `rules/` what it is worth, `expected/` what was computed by hand; the
arithmetic stands in docs/explanation/golden-month.md. Nothing here knows the models' SQL.

Belongs here: loading the month, building it, and reading both sides. Does not belong here:
assertions.
"""

import csv
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import yaml
from psycopg import sql
from psycopg.types.json import Jsonb

from crm_pipeline.config.settings import Settings
from crm_pipeline.defs.dbt_project import project_variables
from crm_pipeline.warehouse.history import keep
from crm_pipeline.warehouse.schema import TableShape
from crm_pipeline_tests.marketing.synthetic import SyntheticWarehouse

FOLDER = Path(__file__).parent
PROJECT = FOLDER.parents[2] / "dbt_marketing"
BEFORE = "2026-03-24 12:00:00+00"
"""The clock at the first build: the first portion is loaded."""
AFTER = "2026-04-01 12:00:00+00"
"""The clock at the second build: everything is loaded."""
FAR_FROM_UTC = "Pacific/Kiritimati"
"""Fourteen hours ahead: a model that counts days in the session's zone gets every age wrong."""
Cells = Mapping[str, str | None]


def read(name: str) -> list[dict[str, str | None]]:
    """The rows of one file; what is empty is None, blanks around a value stay."""
    with (FOLDER / name).open(newline="") as file:
        return [{k: v or None for k, v in row.items()} for row in csv.DictReader(file)]


def with_golden_rules(folder: Path) -> Path:
    """A copy of the models whose seeds are the month's own.

    The shipped rules are an operator's to change, and ours to tune: the figures of the month must
    not move with them.
    """
    project = folder / "dbt_marketing"
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("target", "logs"))
    for file in (FOLDER / "rules").glob("*.csv"):
        shutil.copy(file, project / "seeds" / file.name)
    return project


@dataclass
class GoldenMonth:
    """A warehouse that holds the month, or its first portion.

    Attributes:
        warehouse: with empty typed tables.
        project: the models, with the month's own rules.
    """

    warehouse: SyntheticWarehouse
    project: Path

    def prepare(self) -> None:
        """Let leads have a history, and put the database's clock far away from UTC."""
        shape = TableShape("salesforce", "lead", "", (), (), "id", "systemmodstamp", None, None)
        with psycopg.connect(self.warehouse.url) as connection:
            keep(connection, shape, is_wanted=True)
            connection.execute("UPDATE history.kept_table SET begins_at = '2026-01-01 00:00Z'")
            connection.execute(
                sql.SQL("ALTER DATABASE {} SET timezone = {}").format(
                    sql.Identifier(self.database), sql.Literal(FAR_FROM_UTC)
                )
            )

    @property
    def database(self) -> str:
        """The database's name."""
        return urlsplit(self.warehouse.url).path[1:]

    def load(self, portion: str) -> None:
        """Portion "1" or "2": what the sync, the tools and the preference page brought till then.

        Records stand before events and opt-ins, so that nothing is a stranger for lack of order.
        """
        for file in sorted((FOLDER / "crm").glob("*.csv")):
            for row in _portion(f"crm/{file.name}", portion):
                self._load_record(file.stem, row)
        self.warehouse.events(*(_event(row) for row in _portion("events.csv", portion)))
        opted_in = {"status": "subscribed", "side": "marketing"}
        self.warehouse.consent(*({**row, **opted_in} for row in _portion("opt_ins.csv", portion)))

    def _load_record(self, table: str, row: Cells) -> None:
        values = dict(row)
        vanished, winner = values.pop("_vanished", None), values.pop("_merged_into", None)
        record = str(values["id"])
        if not self.warehouse.query(f"SELECT FROM salesforce.{table} WHERE id = '{record}'"):
            self.warehouse.insert(table, {**values, "_synced_at": values.get("systemmodstamp")})
        elif vanished is None:
            self.warehouse.change(table, record, **values)
        elif vanished == "merged":
            self.warehouse.merge(table, record, str(winner))
        else:
            self.warehouse.delete(table, record)

    def build(self, as_of: str, *, full_refresh: bool = False, tests: bool = False) -> None:
        """Build every model at an instant."""
        self.warehouse.build(
            as_of=as_of,
            full_refresh=full_refresh,
            tests=tests,
            project=self.project,
            variables={"audiences": _audiences()},
        )

    def rows(self, statement: str) -> list[dict[str, Any]]:
        """Rows by column name."""
        with psycopg.connect(self.warehouse.url) as connection:
            cursor = connection.execute(statement.encode())
            names = [column.name for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor]

    def found(self, mart: str, expected: str, *, of_people: bool = True) -> list[dict[str, Any]]:
        """What a mart says in the columns of an expectation, with people by their name.

        A person's name is the address, and for people without one their record's id.
        """
        columns = [name for name in read(f"expected/{expected}")[0] if name != "person"]
        if not of_people:
            return self.rows(f"SELECT {', '.join(columns)} FROM marketing.{mart}")
        listed = ", ".join(f"m.{name}" for name in columns)
        return self.rows(
            f"SELECT coalesce(p.email, p.primary_record_id) AS person, {listed}"
            f" FROM marketing.{mart} AS m LEFT JOIN marketing.dim_people AS p USING (person_id)"
        )

    def expected(self, name: str, like: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """An expectation, each cell as the type that PostgreSQL gave to its column."""
        types = {
            column: next((type(row[column]) for row in like if row[column] is not None), str)
            for column in (like[0] if like else {})
        }
        return [
            {column: _as(types.get(column, str), cell) for column, cell in row.items()}
            for row in read(f"expected/{name}")
        ]


def _audiences() -> str:
    """What the settings file would tell dbt."""
    chosen = yaml.safe_load((FOLDER / "rules" / "audiences.yaml").read_text())
    settings = Settings.model_validate(
        {
            "version": 1,
            "objects": {"Lead": {"fields": ["Email"]}},
            "marketing": {"audiences": chosen},
        }
    )
    told: str = project_variables(settings)["audiences"]
    return told


def _portion(name: str, portion: str) -> Iterator[dict[str, str | None]]:
    for row in read(name):
        if row.pop("load") == portion:
            yield row


def _event(row: Cells) -> dict[str, object]:
    event: dict[str, object] = {k: v for k, v in row.items() if k != "points"}
    points = row["points"]
    return {**event, "properties": Jsonb({"points": float(points)} if points else {})}


def _as(wanted: type, cell: str | None) -> object:
    """A cell as a value; instants and days are compared as such, lists as lists."""
    if cell is None:
        return None
    if wanted is bool:
        return cell == "true"
    if wanted is list:
        return [name for name in cell.strip("{}").split(",") if name]
    if hasattr(wanted, "fromisoformat"):
        text = cell.replace("Z", "+00:00") if wanted is datetime else cell
        return wanted.fromisoformat(text)
    return wanted(cell)


def in_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows in an order of their own, for a mart has none."""
    return sorted(rows, key=lambda row: [str(row[name]) for name in sorted(row)])
