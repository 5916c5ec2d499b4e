"""A tray of event files, and the warehouse that takes them in."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from crm_pipeline.events.files import LocalFolder
from crm_pipeline.events.intake import Intake, take_in
from crm_pipeline.warehouse.connection import Warehouse

CONTRACT = "event_id, occurred_at, kind, email, crm_id, campaign, channel, source, url, properties"


def event(number: int = 1, **facts: object) -> dict[str, Any]:
    """One event that is right; facts replace what it says."""
    return {
        "event_id": f"e{number}",
        "occurred_at": f"2026-03-02T12:{number % 60:02}:00Z",
        "kind": "page_visited",
        "email": f"person{number}@example.com",
        **facts,
    }


def lines(*rows: Mapping[str, object]) -> str:
    """Rows as JSON lines."""
    return "".join(json.dumps(row) + "\n" for row in rows)


@dataclass
class Tray:
    """A folder of files, and where its events go."""

    folder: Path
    warehouse: Warehouse

    def put(self, name: str, content: str | bytes) -> Path:
        """A file in the folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def take_in(self, run_id: str = "run") -> Intake:
        """Load what is new."""
        return take_in(
            self.warehouse, LocalFolder(self.folder), run_id=run_id, require_enabled=lambda: None
        )

    def query(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Rows of the warehouse."""
        with psycopg.connect(self.warehouse.url) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            cursor = connection.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def events(self) -> list[tuple[Any, ...]]:
        """All that the contract says of every event."""
        return self.query(f"SELECT {CONTRACT} FROM events.marketing_events ORDER BY event_id")

    def rejected(self) -> list[tuple[Any, ...]]:
        """File, row, column and reason."""
        return self.query(
            "SELECT regexp_replace(location, '.*/', ''), row_number, column_name, reason"
            " FROM events.quarantine JOIN events.event_file USING (event_file_id)"
            " ORDER BY location, row_number, quarantine_id"
        )

    def leftovers(self) -> list[tuple[Any, ...]]:
        """Tables in the staging schema."""
        return self.query(
            "SELECT relname FROM pg_class WHERE relnamespace = 'crm_staging'::regnamespace"
        )


@pytest.fixture
def tray(database_url: str, tmp_path: Path) -> Tray:
    folder = tmp_path / "events"
    folder.mkdir()
    return Tray(folder, Warehouse(database_url))
