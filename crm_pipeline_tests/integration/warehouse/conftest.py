"""A warehouse with one shape, and pages made by hand."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from crm_pipeline.model.objects import CrmField, CrmObject, MappedField, ObjectSelection, ValueType
from crm_pipeline.model.sync import SyncMode
from crm_pipeline.warehouse import comparison, ledger, merge, staging
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.schema import TableShape, table_shape
from crm_pipeline.warehouse.scope import create_scope, note_not_found
from crm_pipeline.warehouse.tables import table_is_live

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def at(minute: int) -> str:
    """A stamp as the CRM writes it."""
    return f"2026-03-02T12:{minute:02}:00.000Z"


@dataclass
class HandmadePage:
    """A page whose rows a test wrote."""

    rows: Sequence[Sequence[str | None]]
    columns: tuple[str, ...]
    key: str = "page"
    record_count: int | None = None
    chunk_bytes: int = 7
    raw: bytes | None = field(default=None)
    replaced_characters: int = 0

    def chunks(self) -> Iterator[bytes]:
        """The rows as CSV, in bits small enough to break every character apart."""
        content = self.raw
        if content is None:
            text = io.StringIO(newline="")
            writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
            writer.writerows([value or "" for value in row] for row in self.rows)
            content = text.getvalue().encode()
        for start in range(0, len(content), self.chunk_bytes):
            yield content[start : start + self.chunk_bytes]


def lead_selection() -> ObjectSelection:
    """A lead of every type."""
    types = {
        "Id": ValueType.IDENTIFIER,
        "Name": ValueType.TEXT,
        "Employees": ValueType.INTEGER,
        "Revenue": ValueType.DECIMAL,
        "BornOn": ValueType.DATE,
        "IsTarget": ValueType.BOOLEAN,
        "CallAt": ValueType.TIME,
        "SystemModstamp": ValueType.DATETIME,
        "IsDeleted": ValueType.BOOLEAN,
        "MasterRecordId": ValueType.IDENTIFIER,
    }
    fields = {n: CrmField(n, n, t, t.value) for n, t in types.items()}
    crm_object = CrmObject(
        "Lead",
        "Lead",
        fields,
        cursor_field="SystemModstamp",
        deleted_field="IsDeleted",
        merged_into_field="MasterRecordId",
    )
    mapped = ("Id", "Name", "Employees", "Revenue", "BornOn", "IsTarget", "CallAt")
    return ObjectSelection(
        crm_object, "lead", tuple(MappedField(fields[n], n.lower()) for n in mapped)
    )


@dataclass
class Bench:
    """A warehouse and the way of rows into it, step by step."""

    warehouse: Warehouse
    shape: TableShape

    def attempt(self, mode: SyncMode = SyncMode.DIFFERENTIAL) -> ledger.SyncAttempt:
        """A ledger row with its empty staging table."""
        with self.warehouse.connect() as connection:
            ledger.note_object(connection, "Lead", "lead")
            attempt = ledger.open_attempt(
                connection,
                run_id="run",
                object_name="Lead",
                mode=mode,
                fingerprint="f",
                changed_since=None,
            )
            is_live = table_is_live(connection, self.shape)
            staging.create_staging(
                connection, self.shape, attempt.staging_table, becomes_live=not is_live
            )
        return attempt

    def row(
        self, record_id: str, name: str | None = "Ada", **values: str | None
    ) -> list[str | None]:
        """One record in the order of the staged columns."""
        known: dict[str, str | None] = {
            "Id": record_id,
            "Name": name,
            "SystemModstamp": at(0),
            "IsDeleted": "false",
        }
        known |= values
        return [known.get(c.source) for c in self.shape.staged]

    def page(self, *rows: Sequence[str | None], **facts: object) -> HandmadePage:
        """A page of such rows."""
        facts.setdefault("record_count", len(rows))
        return HandmadePage(rows, self.shape.read_fields, **facts)  # type: ignore[arg-type]

    def land(self, attempt: ledger.SyncAttempt, page: HandmadePage) -> staging.Landed:
        """Bring a page into staging."""
        with self.warehouse.connect(autocommit=True) as connection:
            return staging.land_page(
                connection,
                page,
                shape=self.shape,
                staging_table=attempt.staging_table,
                sync_run_id=attempt.sync_run_id,
                object_name="Lead",
            )

    def merge(
        self, *rows: Sequence[str | None], scope_table: str | None = None, is_all: bool = False
    ) -> merge.Merged:
        """Stage rows and bring them into the live table; `is_all` says that no others exist."""
        attempt = self.attempt()
        self.land(attempt, self.page(*rows))
        with self.warehouse.connect() as connection:
            source = attempt.staging_table
            if is_all:
                comparison.compare(connection, self.shape, attempt)
                source, scope_table = attempt.delta_table, "scope"
                create_scope(connection, self.shape.narrowed(), scope_table)
                absent = comparison.absent_ids(connection, attempt)
                note_not_found(connection, self.shape, scope_table, absent)
            else:
                merge.key_staging(connection, self.shape, source)
            if not table_is_live(connection, self.shape):
                whole = replace(attempt, records_read=len(rows))
                return merge.publish(connection, self.shape, whole)
            return merge.merge(
                connection, self.shape, attempt, source=source, scope_table=scope_table
            )

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Rows of a query."""
        with self.warehouse.connect() as connection:
            return connection.execute(statement.encode()).fetchall()


@pytest.fixture
def bench(database_url: str) -> Bench:
    """A migrated warehouse without typed tables."""
    return Bench(Warehouse(database_url), table_shape(lead_selection(), "salesforce"))


@pytest.fixture
def connection(bench: Bench) -> Iterator[psycopg.Connection]:
    """A connection to it."""
    with bench.warehouse.connect() as opened:
        yield opened
