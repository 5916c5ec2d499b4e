"""What the engine remembers: attempts, checkpoints, watermarks, and whose warehouse this is.

Belongs here: reading and writing the control tables. Does not belong here: leases (lease.py), which
have a life of their own, and decisions about what the facts mean (sync/).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import class_row, dict_row

from crm_pipeline.model.sync import SyncMode, SyncOutcome
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.schema import TableShape, staging_identifier
from crm_pipeline.warehouse.staging import drop_staging


@dataclass(frozen=True, slots=True)
class ObjectState:
    """What is known of one object between syncs.

    Attributes:
        watermark: complete up to here, in the CRM's time; None before the first full sync.
        deletions_through: every deletion before it is known, in the CRM's time.
        record_filter: the filter, as text, by which all rows were judged.
        fields: mapped fields whose values are there for every row.
        due_reason: what is not true for every row yet, and the command that mends it.
    """

    object_name: str
    table_name: str
    watermark: datetime | None
    last_full_sync_at: datetime | None
    deletions_through: datetime | None
    record_filter: str | None
    fields: list[str]
    due_reason: str | None


@dataclass(frozen=True, slots=True)
class SyncAttempt:
    """One row of the ledger that has not been committed yet."""

    sync_run_id: int
    run_id: str
    object_name: str
    mode: str
    status: str
    fingerprint: str
    read_token: str | None
    read_started_at: datetime | None
    changed_since: datetime | None
    transport: str | None
    transport_reason: str | None
    expected_records: int | None
    records_read: int
    rejected: int
    replaced_characters: int
    api_calls: int
    seconds: float
    started_at: datetime
    staged_at: datetime | None
    scope_records: int | None
    delta_records: int | None

    @property
    def staging_table(self) -> str:
        """Named after the attempt, so that no two attempts ever share one."""
        return f"sync_{self.sync_run_id}"

    @property
    def scope_table(self) -> str:
        """Ids that changed whether or not they pass the record filter."""
        return f"sync_{self.sync_run_id}_scope"

    @property
    def delta_table(self) -> str:
        """What differs from the live table, where everything was read."""
        return f"sync_{self.sync_run_id}_delta"


@dataclass(frozen=True, slots=True)
class Spent:
    """What a piece of work has cost."""

    api_calls: int
    seconds: float


@dataclass(frozen=True, slots=True)
class LandedPages:
    """The checkpoints of one attempt."""

    keys: tuple[str, ...]
    records: int
    rejected: int
    replaced_characters: int


_ATTEMPT_COLUMNS: LiteralString = (
    "sync_run_id, run_id, object_name, mode, status, fingerprint, read_token, read_started_at,"
    " changed_since, transport, transport_reason, expected_records, records_read, rejected,"
    " replaced_characters, api_calls, seconds, started_at, staged_at, scope_records, delta_records"
)


def known_organization(warehouse: Warehouse) -> tuple[str, str] | None:
    """Id and name of the organisation whose data the warehouse holds; None while it is new."""
    with warehouse.connect(autocommit=True) as connection:
        row = connection.execute(
            "SELECT organization_id, organization_name FROM crm_sync.organization"
        ).fetchone()
    return None if row is None else (str(row[0]), str(row[1]))


def claim_organization(
    warehouse: Warehouse, *, organization_id: str, name: str, crm_type: str
) -> None:
    """Bind a new warehouse to its organisation; of two at once the first wins."""
    with warehouse.connect() as connection:
        connection.execute(
            "INSERT INTO crm_sync.organization (organization_id, organization_name, crm_type)"
            " VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
            [organization_id, name, crm_type],
        )


def read_state(connection: psycopg.Connection, object_name: str) -> ObjectState | None:
    """What is known of an object; None if it was never tried."""
    with connection.cursor(row_factory=class_row(ObjectState)) as cursor:
        return cursor.execute(
            "SELECT object_name, table_name, watermark, last_full_sync_at, deletions_through,"
            " record_filter, fields, due_reason FROM crm_sync.object_state WHERE object_name = %s",
            [object_name],
        ).fetchone()


def known_objects(warehouse: Warehouse) -> tuple[str, ...]:
    """Names of everything that was ever synced, reference tables too."""
    with warehouse.connect(autocommit=True) as connection:
        rows = connection.execute(
            "SELECT object_name FROM crm_sync.object_state ORDER BY object_name"
        ).fetchall()
    return tuple(str(row[0]) for row in rows)


def lock_state(connection: psycopg.Connection, object_name: str) -> ObjectState:
    """The same, locked until the transaction ends: commits into one object take turns."""
    connection.execute(
        "SELECT FROM crm_sync.object_state WHERE object_name = %s FOR UPDATE", [object_name]
    )
    state = read_state(connection, object_name)
    assert state is not None, "note_object ran before anything was staged"
    return state


def note_object(connection: psycopg.Connection, object_name: str, table: str) -> None:
    """Make an object known, so that the status shows it before its first sync."""
    state = read_state(connection, object_name)
    if state is None or state.table_name != table:
        connection.execute(
            "INSERT INTO crm_sync.object_state (object_name, table_name) VALUES (%s, %s)"
            " ON CONFLICT (object_name) DO UPDATE SET table_name = excluded.table_name",
            [object_name, table],
        )


def note_unfilled(connection: psycopg.Connection, object_name: str, fields: Sequence[str]) -> None:
    """Say that columns are new or were retyped: older rows lack their values."""
    connection.execute(
        "UPDATE crm_sync.object_state SET fields = fields - %s::text[] WHERE object_name = %s",
        [list(fields), object_name],
    )


def note_failed_start(
    connection: psycopg.Connection, *, run_id: str, object_name: str, mode: SyncMode, error: str
) -> None:
    """An attempt that ended before anything could be read."""
    connection.execute(
        "INSERT INTO crm_sync.sync_run (run_id, object_name, mode, status, fingerprint,"
        " has_staging, error, finished_at) VALUES (%s, %s, %s, 'failed', '', false, %s, now())",
        [run_id, object_name, mode.value, error],
    )


def open_attempt(
    connection: psycopg.Connection,
    *,
    run_id: str,
    object_name: str,
    mode: SyncMode,
    fingerprint: str,
    changed_since: datetime | None,
) -> SyncAttempt:
    """Begin a ledger row."""
    return _one_attempt(
        connection,
        "INSERT INTO crm_sync.sync_run"
        " (run_id, object_name, mode, status, fingerprint, changed_since, watermark_before)"
        " VALUES (%(run)s, %(object)s, %(mode)s, 'reading', %(fingerprint)s, %(since)s,"
        " (SELECT watermark FROM crm_sync.object_state WHERE object_name = %(object)s))"
        " RETURNING ",
        {
            "run": run_id,
            "object": object_name,
            "mode": mode.value,
            "fingerprint": fingerprint,
            "since": changed_since,
        },
    )


def reopen_attempt(
    connection: psycopg.Connection, attempt: SyncAttempt, run_id: str
) -> SyncAttempt:
    """Go on with an attempt that an earlier run left unfinished."""
    return _one_attempt(
        connection,
        "UPDATE crm_sync.sync_run SET run_id = %(run)s, status = 'reading', error = NULL,"
        " finished_at = NULL WHERE sync_run_id = %(id)s RETURNING ",
        {"run": run_id, "id": attempt.sync_run_id},
    )


def _one_attempt(
    connection: psycopg.Connection, statement: LiteralString, facts: dict[str, object]
) -> SyncAttempt:
    with connection.cursor(row_factory=class_row(SyncAttempt)) as cursor:
        attempt = cursor.execute(statement + _ATTEMPT_COLUMNS, facts).fetchone()
    assert attempt is not None
    return attempt


def unfinished_attempts(connection: psycopg.Connection, object_name: str) -> list[SyncAttempt]:
    """Attempts that were not committed, newest first; not those by hand that may still run."""
    with connection.cursor(row_factory=class_row(SyncAttempt)) as cursor:
        return cursor.execute(
            f"SELECT {_ATTEMPT_COLUMNS} FROM crm_sync.sync_run"
            " WHERE object_name = %s AND status <> 'committed' AND has_staging"
            " AND (mode <> 'record' OR started_at < now() - interval '1 hour')"
            " ORDER BY sync_run_id DESC",
            [object_name],
        ).fetchall()


def staged_attempt(
    connection: psycopg.Connection, object_name: str, run_id: str
) -> SyncAttempt | None:
    """The attempt of one run that is staged, verified and waits for its merge."""
    with connection.cursor(row_factory=class_row(SyncAttempt)) as cursor:
        return cursor.execute(
            f"SELECT {_ATTEMPT_COLUMNS} FROM crm_sync.sync_run"
            " WHERE object_name = %s AND run_id = %s AND status = 'staged'"
            " ORDER BY sync_run_id DESC LIMIT 1",
            [object_name, run_id],
        ).fetchone()


def note_read(
    connection: psycopg.Connection,
    attempt: SyncAttempt,
    *,
    token: str,
    transport: str,
    reason: str,
    read_started_at: datetime,
    expected_records: int | None,
) -> None:
    """Remember how the read was opened, before its first page lands: a restart needs it."""
    connection.execute(
        "UPDATE crm_sync.sync_run SET read_token = %s, transport = %s, transport_reason = %s,"
        " read_started_at = %s, expected_records = %s WHERE sync_run_id = %s",
        [token, transport, reason, read_started_at, expected_records, attempt.sync_run_id],
    )


def landed_pages(connection: psycopg.Connection, attempt: SyncAttempt) -> LandedPages:
    """What is in staging already, in landing order."""
    rows = connection.execute(
        "SELECT page_key, records, rejected, replaced_characters FROM crm_sync.checkpoint"
        " WHERE sync_run_id = %s ORDER BY ordinal",
        [attempt.sync_run_id],
    ).fetchall()
    return LandedPages(
        keys=tuple(str(row[0]) for row in rows),
        records=sum(int(row[1]) for row in rows),
        rejected=sum(int(row[2]) for row in rows),
        replaced_characters=sum(int(row[3]) for row in rows),
    )


def forget_pages(connection: psycopg.Connection, attempt: SyncAttempt) -> None:
    """Begin an attempt's read anew."""
    connection.execute(
        "UPDATE crm_sync.sync_run SET staged_at = NULL WHERE sync_run_id = %s",
        [attempt.sync_run_id],
    )
    for table in ("checkpoint", "quarantine"):
        connection.execute(
            f"DELETE FROM crm_sync.{table} WHERE sync_run_id = %s", [attempt.sync_run_id]
        )


def note_staged(
    connection: psycopg.Connection,
    attempt: SyncAttempt,
    landed: LandedPages,
    spent: Spent,
    *,
    scope_records: int | None,
    delta_records: int | None,
) -> SyncAttempt:
    """The read is complete and its count is verified; the merge counts once more."""
    return _one_attempt(
        connection,
        "UPDATE crm_sync.sync_run SET status = 'staged', staged_at = now(),"
        " scope_records = %(scope)s, delta_records = %(delta)s, records_read = %(read)s,"
        " rejected = %(rejected)s, replaced_characters = %(replaced)s,"
        " api_calls = api_calls + %(calls)s, seconds = seconds + %(seconds)s"
        " WHERE sync_run_id = %(id)s RETURNING ",
        {
            "read": landed.records + landed.rejected,
            "rejected": landed.rejected,
            "replaced": landed.replaced_characters,
            "scope": scope_records,
            "delta": delta_records,
            "calls": spent.api_calls,
            "seconds": spent.seconds,
            "id": attempt.sync_run_id,
        },
    )


def note_failure(
    connection: psycopg.Connection, attempt: SyncAttempt, *, status: str, error: str, spent: Spent
) -> None:
    """The attempt stopped; what has landed stays for the next one. `status` says which way."""
    connection.execute(
        "UPDATE crm_sync.sync_run SET status = %s, error = %s, finished_at = now(),"
        " api_calls = api_calls + %s, seconds = seconds + %s,"
        " records_read = (SELECT coalesce(sum(records + rejected), 0) FROM crm_sync.checkpoint c"
        "                 WHERE c.sync_run_id = sync_run.sync_run_id)"
        " WHERE sync_run_id = %s AND run_id = %s AND status <> 'committed'",
        [status, error, spent.api_calls, spent.seconds, attempt.sync_run_id, attempt.run_id],
    )


def _drop_tables(connection: psycopg.Connection, attempt: SyncAttempt) -> None:
    for table in (attempt.staging_table, attempt.scope_table, attempt.delta_table):
        drop_staging(connection, table)


def discard_attempt(connection: psycopg.Connection, attempt: SyncAttempt) -> bool:
    """Nobody will go on with this attempt: drop what it had staged.

    Returns:
        False when a vanished worker still holds the tables; the next sweep tries again.
    """
    try:
        with connection.transaction():
            connection.execute("SET LOCAL lock_timeout = '2s'")
            _drop_tables(connection, attempt)
    except psycopg.errors.LockNotAvailable:
        return False
    connection.execute(
        "UPDATE crm_sync.sync_run SET has_staging = false,"
        " status = CASE WHEN status IN ('reading', 'staged') THEN 'interrupted' ELSE status END,"
        " finished_at = coalesce(finished_at, now()) WHERE sync_run_id = %s",
        [attempt.sync_run_id],
    )
    forget_pages(connection, attempt)
    return True


@dataclass(frozen=True, slots=True)
class Completeness:
    """What is true of every row after a commit, for later syncs to rely on.

    Attributes:
        watermark: complete up to here, in the CRM's time.
        deletions_through: every deletion before it is known.
        is_full: everything was read whole, by a sync that may set the watermark back.
        is_refreshed: columns that no stamp speaks for were read in every row.
        record_filter: the filter by which all rows were judged, as text.
        fields: CRM fields whose values are there for every row.
        due_reason: what is not true for every row yet; None when nothing is owed.
    """

    watermark: datetime | None
    deletions_through: datetime | None
    is_full: bool
    is_refreshed: bool
    record_filter: str
    fields: Sequence[str]
    due_reason: str | None


def commit_attempt(
    connection: psycopg.Connection, attempt: SyncAttempt, outcome: SyncOutcome
) -> None:
    """Close the ledger row and drop its staging, in the transaction that moves the data."""
    _drop_tables(connection, attempt)
    connection.execute(
        "UPDATE crm_sync.sync_run SET status = 'committed', has_staging = false, error = NULL,"
        " inserted = %s,"
        " updated = %s, deleted = %s, watermark_after = %s, seconds = %s, api_calls = %s,"
        " findings = %s, finished_at = now() WHERE sync_run_id = %s",
        [
            outcome.inserted,
            outcome.updated,
            outcome.deleted,
            outcome.watermark_after,
            outcome.seconds,
            outcome.api_calls,
            json.dumps(dict(outcome.findings)),
            attempt.sync_run_id,
        ],
    )
    connection.execute(
        "DELETE FROM crm_sync.checkpoint WHERE sync_run_id = %s", [attempt.sync_run_id]
    )


def move_watermark(
    connection: psycopg.Connection, object_name: str, completeness: Completeness
) -> None:
    """Say how far the object is complete, in the transaction that makes it so.

    A full sync sets both instants to its own, even if differentials had gone further while it stood
    still: what its older pages brought is then read again, or found deleted. Nothing else moves
    them back.
    """
    connection.execute(
        "UPDATE crm_sync.object_state SET watermark = CASE WHEN %(is_full)s THEN %(watermark)s"
        " ELSE greatest(watermark, %(watermark)s) END,"
        " deletions_through = CASE WHEN %(is_full)s THEN %(deletions_through)s"
        " ELSE greatest(deletions_through, %(deletions_through)s) END,"
        " last_sync_at = now(), record_filter = %(filter)s, fields = %(fields)s,"
        " last_full_sync_at = CASE WHEN %(is_full)s THEN now() ELSE last_full_sync_at END,"
        " refreshed_at = CASE WHEN %(is_refreshed)s THEN now() ELSE refreshed_at END,"
        " due_reason = %(reason)s WHERE object_name = %(object)s",
        {
            "watermark": completeness.watermark,
            "deletions_through": completeness.deletions_through,
            "filter": completeness.record_filter,
            "fields": json.dumps(list(completeness.fields)),
            "is_full": completeness.is_full,
            "is_refreshed": completeness.is_refreshed,
            "reason": completeness.due_reason,
            "object": object_name,
        },
    )


def release_from_quarantine(
    connection: psycopg.Connection, attempt: SyncAttempt, shape: TableShape
) -> None:
    """Older quarantine rows of records that were read again now; a full sync read them all."""
    is_of_object = sql.SQL(
        "DELETE FROM crm_sync.quarantine q WHERE q.object_name = {} AND q.sync_run_id <> {}"
    ).format(sql.Literal(attempt.object_name), sql.Literal(attempt.sync_run_id))
    if attempt.mode in (SyncMode.FULL, SyncMode.REFERENCE):
        connection.execute(is_of_object)
        return
    connection.execute(
        sql.SQL(
            "{} AND (EXISTS (SELECT FROM {} s WHERE s.{} = q.record_id) OR EXISTS"
            " (SELECT FROM crm_sync.quarantine n WHERE n.record_id = q.record_id"
            " AND n.sync_run_id = {}))"
        ).format(
            is_of_object,
            staging_identifier(attempt.staging_table),
            sql.Identifier(shape.id_column),
            sql.Literal(attempt.sync_run_id),
        )
    )


def release_the_gone(
    connection: psycopg.Connection, attempt: SyncAttempt, shape: TableShape
) -> None:
    """Quarantine rows of records that a census did not meet: there is nothing left to mend."""
    connection.execute(
        sql.SQL(
            "DELETE FROM crm_sync.quarantine q WHERE q.object_name = {} AND q.sync_run_id <> {}"
            " AND q.record_id IS NOT NULL"
            " AND NOT EXISTS (SELECT FROM {} s WHERE s.{} = q.record_id)"
        ).format(
            sql.Literal(attempt.object_name),
            sql.Literal(attempt.sync_run_id),
            staging_identifier(attempt.staging_table),
            sql.Identifier(shape.id_column),
        )
    )


def read_status(warehouse: Warehouse) -> list[dict[str, object]]:
    """The view `crm_sync.sync_status`, as people read it."""
    with warehouse.connect(autocommit=True) as connection:
        cursor = connection.cursor(row_factory=dict_row)
        return cursor.execute("SELECT * FROM crm_sync.sync_status ORDER BY object_name").fetchall()


def outcomes_of(warehouse: Warehouse, run_id: str) -> list[dict[str, object]]:
    """Every object that one run touched, in order, as a table for people and scripts."""
    with warehouse.connect(autocommit=True) as connection:
        cursor = connection.cursor(row_factory=dict_row)
        return cursor.execute(
            "SELECT r.object_name, s.table_name, r.mode, r.status, r.records_read, r.inserted,"
            " r.updated, r.deleted, r.rejected, r.replaced_characters,"
            " r.watermark_before, r.watermark_after, r.api_calls, r.seconds, r.transport,"
            " r.transport_reason, r.error"
            " FROM crm_sync.sync_run r LEFT JOIN crm_sync.object_state s USING (object_name)"
            " WHERE r.run_id = %s ORDER BY r.sync_run_id",
            [run_id],
        ).fetchall()
