"""The census: ids and stamps of everything, held against the live table.

It finds what no watermark can: rows of another version than the CRM's, rows that somebody else has
changed, and tombstones of records that live. Those are the suspects, which are then read by id.

Belongs here: telling what is out of step. Does not belong here: the comparison under it
(comparison.py), reading the suspects again (sync/engine.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg import sql

from crm_pipeline.model.sync import Finding
from crm_pipeline.warehouse.ledger import SyncAttempt
from crm_pipeline.warehouse.merge import Merged, bury, distrust_the_future, mark_absent
from crm_pipeline.warehouse.schema import TableShape
from crm_pipeline.warehouse.sides import Sides

MOST_SUSPECTS_BY_ID = 10_000


@dataclass(frozen=True, slots=True)
class Suspects:
    """Records whose rows a census found out of step, and that are read again.

    Attributes:
        findings: how many of each kind.
        ids: all of them; empty when they are too many to ask for by id.
        changed_since: the oldest stamp among them, from which everything is read instead.
    """

    findings: Mapping[str, int]
    ids: tuple[str, ...]
    changed_since: datetime | None


def take_census(
    connection: psycopg.Connection,
    shape: TableShape,
    attempt: SyncAttempt,
    *,
    scope_table: str | None,
    watermark: datetime | None,
) -> tuple[Merged, Suspects]:
    """Compare ids and stamps alone: mark what is gone, and tell which rows are not as in the CRM.

    What changed since the watermark is no finding: the next differential reads it.
    """
    sides = Sides(shape, attempt, attempt.delta_table)
    vanished = bury(connection, sides)
    if scope_table is not None:
        vanished += mark_absent(connection, sides, scope_table)
    distrust_the_future(connection, sides)
    connection.execute(_collect_suspects(sides, watermark))
    rows = connection.execute("SELECT finding, count(*) FROM pg_temp.suspect GROUP BY 1").fetchall()
    findings = {str(finding): int(count) for finding, count in rows}
    is_few = sum(findings.values()) <= MOST_SUSPECTS_BY_ID
    ids = connection.execute("SELECT id FROM pg_temp.suspect").fetchall() if is_few else []
    oldest = connection.execute("SELECT min(stamp) FROM pg_temp.suspect").fetchone()
    suspects = Suspects(findings, tuple(str(one[0]) for one in ids), oldest[0] if oldest else None)
    return Merged(0, 0, sum(vanished.values()), vanished), suspects


def _collect_suspects(sides: Sides, watermark: datetime | None) -> sql.Composed:
    """Records that live in the CRM and whose row is not of their version."""
    return sql.SQL(
        "CREATE TEMP TABLE suspect ON COMMIT DROP AS"
        " SELECT s.{key} AS id, s.{stamp} AS stamp, CASE"
        " WHEN t._synced_at = '-infinity' THEN {altered}"
        " WHEN q.record_id IS NOT NULL THEN {quarantined}"
        " WHEN t.{key} IS NULL THEN {missing}"
        " WHEN t._deleted_at IS NOT NULL THEN {restored} ELSE {stale} END AS finding"
        " FROM {source} s LEFT JOIN {target} t ON {same_key}"
        " LEFT JOIN (SELECT DISTINCT record_id FROM crm_sync.quarantine"
        "            WHERE object_name = {object}) q ON q.record_id = s.{key}"
        " WHERE s.{key} IS NOT NULL AND {lives}"
        " AND (t._synced_at = '-infinity' OR q.record_id IS NOT NULL"
        " OR (s.{stamp} < {watermark} AND (t.{key} IS NULL OR ({is_untouched}"
        " AND (t._deleted_at IS NOT NULL OR t.{stamp} IS DISTINCT FROM s.{stamp})))))"
    ).format(
        stamp=sql.Identifier(sides.shape.stamp_column or ""),
        watermark=sql.Literal(watermark),
        object=sql.Literal(sides.attempt.object_name),
        **{finding.value: sql.Literal(finding.value) for finding in Finding},
        **sides.names,
    )
