"""Staging: where pages of bytes land, each together with its checkpoint in one transaction.

COPY reads the CRM's CSV as it is. A page that COPY refuses is read again by the slow road.

Belongs here: staging tables and landing one page. Does not belong here: judging rows one by one
(sifting.py), deciding what to read (sync/) and what becomes of the rows (merge.py).
"""

from dataclasses import dataclass

import psycopg
from psycopg import sql

from crm_pipeline.errors import LeaseLost, TransientError
from crm_pipeline.model.pages import ResultPage
from crm_pipeline.warehouse.schema import (
    TableShape,
    add_bookkeeping,
    column_types,
    staging_identifier,
)
from crm_pipeline.warehouse.sifting import Sieve

REFUSALS = (psycopg.DataError, psycopg.errors.ProgramLimitExceeded)
"""How COPY says that a page holds a row which it cannot take: a value, or a row too wide."""


@dataclass(frozen=True, slots=True)
class Landed:
    """What a page brought: rows in staging, and rows that do not fit their columns.

    Attributes:
        replaced: characters that PostgreSQL cannot hold, and which are U+FFFD now.
    """

    records: int
    rejected: int
    replaced: int = 0


def create_staging(
    connection: psycopg.Connection, shape: TableShape, staging_table: str, *, becomes_live: bool
) -> None:
    """Make an empty staging table.

    Args:
        connection: in a transaction of the caller's.
        shape: the columns.
        staging_table: unqualified name.
        becomes_live: it will be renamed into place, so it is crash-safe and carries the
            bookkeeping columns. Otherwise it is unlogged: a crash of the server empties it, the
            count shows that, and the read begins anew.
    """
    table = staging_identifier(staging_table)
    connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(table))
    connection.execute(
        sql.SQL("CREATE {} TABLE {} ({})").format(
            sql.SQL("" if becomes_live else "UNLOGGED"),
            table,
            sql.SQL(", ").join(column.definition for column in shape.staged),
        )
    )
    if becomes_live:
        add_bookkeeping(connection, table)


def staging_matches(connection: psycopg.Connection, shape: TableShape, staging_table: str) -> bool:
    """Whether a staging table left by an earlier attempt is there, with the columns needed now."""
    found = column_types(connection, "crm_staging", staging_table)
    return all(found.get(column.name) == column.column_type for column in shape.staged)


def staged_count(connection: psycopg.Connection, staging_table: str) -> int:
    """Rows in a staging table."""
    row = connection.execute(
        sql.SQL("SELECT count(*) FROM {}").format(staging_identifier(staging_table))
    ).fetchone()
    assert row is not None
    return int(row[0])


def drop_staging(connection: psycopg.Connection, staging_table: str) -> None:
    """Remove a staging table that nobody will go on with."""
    connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(staging_identifier(staging_table)))


def land_page(
    connection: psycopg.Connection,
    page: ResultPage,
    *,
    shape: TableShape,
    staging_table: str,
    sync_run_id: int,
    object_name: str,
) -> Landed:
    """Bring one page into staging, whole or not at all.

    Raises:
        TransientError: the page broke off, or holds other records than the CRM announced.
        LeaseLost: another process has landed the same page meanwhile.
    """
    place = _Place(connection, sync_run_id, object_name)
    try:
        with connection.transaction():
            place.claim(page)
            copied = copy_page(connection, page, shape, staging_table)
            return place.settle(page, Landed(copied, 0, page.replaced_characters))
    except REFUSALS:
        sieve = Sieve(connection, shape, staging_table, sync_run_id, object_name)
        with connection.transaction():
            place.claim(page)
            sifted = sieve.sift(page)
            replaced = page.replaced_characters + sifted.replaced
            return place.settle(page, Landed(sifted.landed, sifted.rejected, replaced))


def copy_page(
    connection: psycopg.Connection, page: ResultPage, shape: TableShape, staging_table: str
) -> int:
    """The fast road: bytes go through as they are.

    Returns:
        Rows that COPY counted.
    """
    chunks = page.chunks()
    first = next(chunks, b"")
    columns = sql.SQL(", ").join(sql.Identifier(c.name) for c in shape.in_order(page.columns))
    statement = sql.SQL(
        "COPY {table} ({columns}) FROM STDIN"
        " WITH (FORMAT csv, ENCODING 'UTF8', FORCE_NULL ({columns}))"
    ).format(table=staging_identifier(staging_table), columns=columns)
    with connection.cursor() as cursor:
        with cursor.copy(statement) as copy:
            copy.write(first)
            for chunk in chunks:
                copy.write(chunk)
        return cursor.rowcount


@dataclass(frozen=True, slots=True)
class _Place:
    """The checkpoint of one page."""

    connection: psycopg.Connection
    sync_run_id: int
    object_name: str

    def claim(self, page: ResultPage) -> None:
        """Write the checkpoint first: a rival with the same page waits here, then gives up."""
        try:
            self.connection.execute(
                "INSERT INTO crm_sync.checkpoint (sync_run_id, page_key) VALUES (%s, %s)",
                [self.sync_run_id, page.key],
            )
        except (psycopg.errors.UniqueViolation, psycopg.errors.ForeignKeyViolation) as error:
            raise LeaseLost(f"{self.object_name}: another run has taken over this sync.") from error

    def settle(self, page: ResultPage, landed: Landed) -> Landed:
        """Compare with the CRM's count and fill in the checkpoint."""
        total = landed.records + landed.rejected
        if page.record_count is not None and total != page.record_count:
            raise TransientError(
                f"{self.object_name}: a page of {page.record_count} records arrived with {total}."
            )
        self.connection.execute(
            "UPDATE crm_sync.checkpoint SET records = %s, rejected = %s, replaced_characters = %s"
            " WHERE sync_run_id = %s AND page_key = %s",
            [landed.records, landed.rejected, landed.replaced, self.sync_run_id, page.key],
        )
        return landed
