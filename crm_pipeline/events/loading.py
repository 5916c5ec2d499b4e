"""Loading one file: staged as text, judged row by row in SQL, stored whole or not at all.

Everything is one transaction: the staging table, the events, what they say of consent, the rejected
rows, and the line that says that the file was read. A load that dies leaves nothing. Loads take
turns, so two of them never wait for each other's rows.

Belongs here: from a file to rows of the warehouse. Does not belong here: formats (formats.py),
which files are loaded (intake.py), and what becomes of rejected rows (quarantine.py).
"""

import time
from collections.abc import Iterable
from typing import IO

import psycopg
from psycopg import sql

from crm_pipeline.errors import PermanentError, TransientError
from crm_pipeline.events.files import EventFile
from crm_pipeline.events.formats import LONGEST_KEPT, Misfit, Reading, reading_of
from crm_pipeline.events.judging import judged_rows
from crm_pipeline.model.events import COLUMNS, FileOutcome
from crm_pipeline.warehouse.connection import EVENT_LOAD_LOCK, STAGING_SCHEMA, Warehouse

_TABLE = sql.Identifier("events", "marketing_events")


def load_file(
    warehouse: Warehouse, file: EventFile, stream: IO[bytes], *, run_id: str
) -> FileOutcome | None:
    """Load one file in the state in which it was listed.

    Args:
        warehouse: migrated.
        file: what it is called, and in which state it is.
        stream: its bytes.
        run_id: who loads it.

    Returns:
        What it brought; None if somebody else has loaded this state of it meanwhile.

    Raises:
        PermanentError: nothing of it can be read; the warehouse is as it was.
        TransientError: the database or the store went away.
    """
    begin = time.monotonic()
    try:
        with warehouse.connect() as connection:
            _pin_session(connection)
            file_id = _claim(connection, file, run_id)
            if file_id is None:
                return None
            load = _Load(connection, file_id)
            reading = load.stage(file.name, stream)
            counts = load.store(reading)
            load.supersede(file.location, reading)
            load.drop_staging()
            seconds = time.monotonic() - begin
            outcome = FileOutcome(file.name, *counts, seconds)
            _note(connection, file_id, outcome)
            return outcome
    except psycopg.errors.DeadlockDetected as error:
        raise TransientError(
            f"{file.name}: another tool was inserting the same events; the next load goes on."
        ) from error


def refuse_file(warehouse: Warehouse, file: EventFile, reason: str, *, run_id: str) -> FileOutcome:
    """Remember that nothing of a file can be read, so that it is not tried again until it changes.

    Returns:
        The refusal as an outcome.
    """
    with warehouse.connect() as connection:
        connection.execute(
            "INSERT INTO events.event_file (location, version, run_id, refusal)"
            " VALUES (%s, %s, %s, %s) ON CONFLICT (location, version)"
            " DO UPDATE SET run_id = excluded.run_id, refusal = excluded.refusal",
            [file.location, file.version, run_id, reason],
        )
    return FileOutcome(file.name, refusal=reason)


def _pin_session(connection: psycopg.Connection) -> None:
    """A pooler may have refused our settings: times without a zone must still be UTC."""
    connection.execute("SET LOCAL TimeZone = 'UTC'")
    connection.execute("SET LOCAL DateStyle = 'ISO'")
    connection.execute("SELECT pg_advisory_xact_lock(%s)", [EVENT_LOAD_LOCK])


def _claim(connection: psycopg.Connection, file: EventFile, run_id: str) -> int | None:
    row = connection.execute(
        "INSERT INTO events.event_file (location, version, run_id) VALUES (%s, %s, %s)"
        " ON CONFLICT (location, version) DO NOTHING RETURNING event_file_id",
        [file.location, file.version, run_id],
    ).fetchone()
    return None if row is None else int(row[0])


def _note(connection: psycopg.Connection, file_id: int, outcome: FileOutcome) -> None:
    connection.execute(
        "UPDATE events.event_file SET file_rows = %s, loaded = %s, known = %s, rejected = %s,"
        " seconds = %s, loaded_at = clock_timestamp() WHERE event_file_id = %s",
        [
            outcome.rows,
            outcome.loaded,
            outcome.known,
            outcome.rejected,
            outcome.seconds,
            file_id,
        ],
    )


class _Load:
    """One load, in its transaction."""

    def __init__(self, connection: psycopg.Connection, file_id: int) -> None:
        self._connection = connection
        self._file_id = file_id
        self._staging = sql.Identifier(STAGING_SCHEMA, f"events_{file_id}")

    def stage(self, name: str, stream: IO[bytes]) -> Reading:
        """Bring the file's rows into staging, as text."""
        reading = reading_of(name, stream)
        texts = ("document",) if reading.has_documents else COLUMNS
        columns = sql.SQL(", ").join(sql.SQL("{} text").format(sql.Identifier(c)) for c in texts)
        self._connection.execute(
            sql.SQL(
                "CREATE UNLOGGED TABLE {}"
                " (row_number bigint GENERATED BY DEFAULT AS IDENTITY (CACHE 1000), {})"
            ).format(self._staging, columns)
        )
        statement = sql.SQL("COPY {} ({}) FROM STDIN WITH ({})").format(
            self._staging,
            sql.SQL(", ").join(map(sql.Identifier, reading.columns)),
            sql.SQL(reading.copy_options),
        )
        with self._connection.cursor() as cursor:
            with cursor.copy(statement) as copy:
                for page in reading.pages:
                    copy.write(page)
            if cursor.rowcount != reading.rows:
                raise PermanentError(
                    f"{reading.rows:,} rows were read, and {cursor.rowcount:,} arrived; nothing "
                    "was loaded. Please report this as a bug, with the file's format."
                )
        return reading

    def store(self, reading: Reading) -> tuple[int, int, int, int]:
        """Events into their table, and all other rows into the quarantine.

        Returns:
            Rows of the file, events that are new, events that were known, rejected rows.
        """
        judged = judged_rows(self._staging, has_documents=reading.has_documents)
        columns = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
        row = self._connection.execute(
            sql.SQL(
                "WITH judged AS MATERIALIZED (SELECT row_number, {columns}, fault_column, fault,"
                " CASE WHEN fault IS NOT NULL THEN file_row END AS file_row FROM ({judged}) j),"
                " stored AS (INSERT INTO {events} ({columns}) SELECT {columns} FROM judged"
                " WHERE fault_column IS NULL ON CONFLICT (event_id) DO NOTHING RETURNING 1),"
                " kept AS (INSERT INTO events.quarantine"
                " (event_file_id, row_number, event_id, column_name, reason, file_row)"
                " SELECT {file}, row_number, left(event_id, 200), fault_column, fault, file_row"
                " FROM judged WHERE fault_column IS NOT NULL RETURNING 1)"
                " SELECT (SELECT count(*) FROM judged), (SELECT count(*) FROM stored),"
                " (SELECT count(*) FROM kept)"
            ).format(judged=judged, events=_TABLE, columns=columns, file=sql.Literal(self._file_id))
        ).fetchone()
        assert row is not None
        found, loaded, rejected = (int(count) for count in row)
        if loaded + rejected < found:
            rejected += self._reject_second_meanings(judged)
        rejected += self._keep(reading.misfits)
        rows = found + len(reading.misfits)
        return rows, loaded, rows - loaded - rejected, rejected

    def _reject_second_meanings(self, judged: sql.Composable) -> int:
        """An id that stands for another event already: the first one stays, this one is told."""
        return self._connection.execute(
            sql.SQL(
                "INSERT INTO events.quarantine"
                " (event_file_id, row_number, event_id, column_name, reason, file_row)"
                " SELECT {file}, j.row_number, j.event_id, 'event_id',"
                " 'is the id of another event already, which stays; give each event its own',"
                " j.file_row FROM ({judged}) j JOIN {events} e USING (event_id)"
                " WHERE j.fault_column IS NULL AND (e.occurred_at, e.kind, e.email, e.crm_id)"
                " IS DISTINCT FROM (j.occurred_at, j.kind, j.email, j.crm_id)"
            ).format(
                file=sql.Literal(self._file_id),
                events=_TABLE,
                judged=judged,
            )
        ).rowcount

    def _keep(self, misfits: Iterable[Misfit]) -> int:
        rows = [
            (self._file_id, one.row_number, one.column, one.reason, one.row[:LONGEST_KEPT])
            for one in misfits
        ]
        if rows:
            with self._connection.cursor() as cursor:
                cursor.executemany(
                    "INSERT INTO events.quarantine"
                    " (event_file_id, row_number, column_name, reason, file_row)"
                    " VALUES (%s, %s, %s, %s, %s)",
                    rows,
                )
        return len(rows)

    def supersede(self, location: str, reading: Reading) -> None:
        """Let go of rows that an older state of the file had in the quarantine.

        Only where this state shows what became of them: the event is there now, or the row is in
        the quarantine again, or it was only the beginning of a line that is whole now. A row that
        simply vanished from the file stays, for its event is nowhere else.
        """
        grown: sql.Composable = sql.SQL("false")
        if reading.has_documents:
            grown = sql.SQL(
                "EXISTS (SELECT FROM {} s WHERE s.row_number = q.row_number"
                " AND length(s.document) > length(q.file_row)"
                " AND starts_with(s.document, q.file_row))"
            ).format(self._staging)
        self._connection.execute(
            sql.SQL(
                "DELETE FROM events.quarantine q USING events.event_file f"
                " WHERE f.event_file_id = q.event_file_id AND f.location = {location}"
                " AND q.event_file_id <> {file}"
                " AND (EXISTS (SELECT FROM {events} e WHERE e.event_id = q.event_id"
                " AND q.column_name <> 'event_id')"
                " OR EXISTS (SELECT FROM events.quarantine n WHERE n.event_file_id = {file}"
                " AND n.file_row = q.file_row) OR {grown})"
            ).format(
                location=sql.Literal(location),
                file=sql.Literal(self._file_id),
                events=_TABLE,
                grown=grown,
            )
        )

    def drop_staging(self) -> None:
        """Nothing of it outlives the load."""
        self._connection.execute(sql.SQL("DROP TABLE {}").format(self._staging))
