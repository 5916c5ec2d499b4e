"""The standard facts on every materialisation.

Belongs here: names and forms of metadata that several assets share. Does not belong here: progress
while a sync runs (progress.py).
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import dagster as dg

from crm_pipeline.config.names import printable
from crm_pipeline.config.object_settings import ObjectSettings
from crm_pipeline.model.sync import SyncMode, SyncOutcome
from crm_pipeline.sync.engine import SyncEngine
from crm_pipeline.warehouse.ledger import SyncAttempt
from crm_pipeline.warehouse.schema import column_comments, column_types

OWNERS = ["team:data-engineering"]
PREVIEW_ROWS = 5
_LONGEST_TEXT = 500
_LOOK_ALIKES = str.maketrans("<>[]|`", "‹›()¦'")

Metadata = dict[str, Any]


def definition_metadata(relation: str, chosen: ObjectSettings | None = None) -> Metadata:
    """What is known of a table before it exists: where it will be, and the operator's mapping."""
    known: Metadata = {"dagster/relation_identifier": relation}
    if chosen is not None:
        known["dagster/column_schema"] = dg.TableSchema(
            columns=[
                dg.TableColumn(mapping.column, description=f"CRM field {mapping.field}")
                for mapping in chosen.columns
            ]
        )
        known["record_filter"] = chosen.filter or "all records"
    return known


def staged_metadata(attempt: SyncAttempt) -> Metadata:
    """A verified read that waits for its merge."""
    return _present(
        rows_read=attempt.records_read,
        rows_rejected=attempt.rejected,
        changed_since=_stamp(attempt.changed_since),
        read_started_at=_stamp(attempt.read_started_at),
        api_calls=attempt.api_calls,
        seconds=round(attempt.seconds, 3),
        transport=attempt.transport,
        transport_reason=attempt.transport_reason,
    )


def outcome_metadata(outcome: SyncOutcome) -> Metadata:
    """A committed sync."""
    return _present(
        mode=outcome.mode.value,
        rows_read=outcome.records_read,
        rows_inserted=outcome.inserted,
        rows_updated=outcome.updated,
        rows_deleted=outcome.deleted,
        rows_rejected=outcome.rejected,
        watermark_before=_stamp(outcome.watermark_before),
        watermark_after=_stamp(outcome.watermark_after),
        api_calls=outcome.api_calls,
        seconds=round(outcome.seconds, 3),
        transport=outcome.transport or None,
        transport_reason=outcome.transport_reason or None,
        broken_fields=list(outcome.broken_fields) or None,
        findings=dict(outcome.findings) or None,
        due=outcome.due_reason,
    )


def table_metadata(engine: SyncEngine, object_name: str, outcome: SyncOutcome) -> Metadata:
    """How the table looks after a sync; costs queries, so only when it looks different now."""
    if not outcome.has_changes and outcome.mode is not SyncMode.FULL:
        return {}
    schema, _, table = outcome.table.rpartition(".")
    with engine.warehouse.connect() as connection:
        types = column_types(connection, schema, table)
        comments = column_comments(connection, schema, table)
    columns = [
        dg.TableColumn(name, type_name, description=without_markup(comments.get(name, "")))
        for name, type_name in types.items()
    ]
    found: Metadata = {"dagster/column_schema": dg.TableSchema(columns=columns)}
    if outcome.watermark_before is None:
        # Exact and free where the table was new; a count of a large table would cost seconds.
        found["dagster/row_count"] = outcome.inserted
    rows = engine.inspector.preview(object_name, rows=PREVIEW_ROWS)
    if rows:
        found["preview"] = preview(rows)
    return found


def preview(rows: list[Mapping[str, object]]) -> dg.TableMetadataValue:
    """A few rows as a table; whatever is no plain value is shown as text."""
    return dg.MetadataValue.table(
        records=[dg.TableRecord({key: _plain(value) for key, value in row.items()}) for row in rows]
    )


def without_markup(text: str) -> str:
    """Words of the org, on one line, in which no page finds HTML, Markdown or a link.

    Some of Dagster's pages render descriptions and some do not, so nothing is escaped: the signs
    are replaced by others that look alike.
    """
    return printable(text, limit=_LONGEST_TEXT).translate(_LOOK_ALIKES)


def _plain(value: object) -> str | int | float | bool | None:
    is_plain = value is None or isinstance(value, int | float | bool)
    return value if is_plain else without_markup(str(value))  # type: ignore[return-value]


def _stamp(moment: datetime | None) -> dg.TimestampMetadataValue | None:
    return None if moment is None else dg.MetadataValue.timestamp(moment)


def _present(**facts: object) -> Metadata:
    return {name: fact for name, fact in facts.items() if fact is not None}
