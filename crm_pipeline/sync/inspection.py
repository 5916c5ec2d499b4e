"""Looking at what was synced: a preview for people, counts held against the CRM, the watermark.

Belongs here: questions that change nothing. Does not belong here: syncs (engine.py), and comparing
ids and stamps (a reconciliation is a sync).
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from psycopg import sql

from crm_pipeline.config.settings import Settings
from crm_pipeline.crm.port import CrmConnector, ReadRequest
from crm_pipeline.model.objects import ValueType
from crm_pipeline.model.sync import Parity
from crm_pipeline.sync.plan import SyncPlan
from crm_pipeline.sync.selection import chosen_object, select_object
from crm_pipeline.warehouse import ledger, tables
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.schema import table_shape


class Inspector:
    """Answers questions about the tables of one installation."""

    def __init__(self, settings: Settings, connector: CrmConnector, warehouse: Warehouse) -> None:
        self.settings = settings
        self.connector = connector
        self.warehouse = warehouse
        self._open_columns: dict[str, frozenset[str]] = {}

    def note(self, plan: SyncPlan) -> None:
        """Remember which columns of an object hold ids and options, which a preview may show."""
        self._open_columns[plan.name] = frozenset(
            mapped.column
            for mapped in plan.selection.columns
            if mapped.field.options or mapped.field.value_type is ValueType.IDENTIFIER
        )

    def preview(self, object_name: str, *, rows: int = 5) -> list[Mapping[str, object]]:
        """The rows written last, for an orchestrator's pages; empty before the first full sync.

        Free text is cut to its first letter: those pages and their database are open to more people
        than the tables are. Ids, options, numbers and times show what arrived.
        """
        found = tables.preview_table(self.warehouse, self._table(object_name), rows=rows)
        return [{name: self._veiled(object_name, name, row[name]) for name in row} for row in found]

    def _veiled(self, object_name: str, column: str, value: object) -> object:
        is_plain = not isinstance(value, str) or not value or column.startswith("_")
        if is_plain or column in self._open_columns.get(object_name, ()):
            return value
        return f"{str(value)[0]}…"

    def count_parity(self, object_name: str) -> Parity:
        """Hold the table's count against the CRM's own.

        The org lives on while we count, so a difference is only a fault when more records differ
        than have changed since the table was read.
        """
        selection, _ = select_object(self.settings, self.connector, object_name)
        shape = table_shape(selection, self.warehouse.crm_schema)
        request = ReadRequest(
            selection.crm_object, shape.read_fields, selection.record_filter, include_deleted=False
        )
        crm_count = self.connector.count(request)
        with self.warehouse.connect() as connection:
            table_count = tables.count_live_rows(connection, shape)
            state = ledger.read_state(connection, object_name)
        changed = 0
        has_cursor = selection.crm_object.cursor_field is not None
        if crm_count != table_count and has_cursor and state and state.watermark:
            changed = self.connector.count(
                replace(
                    request,
                    record_filter=None,
                    changed_since=state.watermark,
                    include_deleted=True,
                )
            )
        return Parity(object_name, crm_count, table_count, changed)

    def count_duplicate_ids(self, object_name: str) -> int:
        """Ids that stand in more than one row; the key forbids it, and the check shows it."""
        with self.warehouse.connect() as connection:
            return tables.count_duplicates(connection, self._table(object_name))

    def watermark(self, object_name: str) -> datetime | None:
        """Complete up to here, in the CRM's time; None before the first full sync."""
        with self.warehouse.connect() as connection:
            state = ledger.read_state(connection, object_name)
        return state.watermark if state else None

    def _table(self, object_name: str) -> sql.Identifier:
        name = chosen_object(self.settings, object_name).table_name(object_name)
        return sql.Identifier(self.warehouse.crm_schema, name)
