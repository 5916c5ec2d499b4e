"""Staging: where pages of bytes land, each together with its checkpoint in one transaction.

COPY reads the CRM's CSV as it is. A page that COPY refuses is read again by the slow road, which
parses it, lands the rows that fit and puts the others into the quarantine with the reason.

Belongs here: staging tables and landing one page. Does not belong here: deciding what to read
(sync/) and what becomes of the rows (merge.py).
"""

import codecs
import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import psycopg
from psycopg import sql

from crm_pipeline.errors import LeaseLost, TransientError
from crm_pipeline.model.pages import ResultPage
from crm_pipeline.warehouse.schema import (
    Column,
    TableShape,
    add_bookkeeping,
    column_types,
    staging_identifier,
)


@dataclass(frozen=True, slots=True)
class Landed:
    """What a page brought: rows in staging, and rows that do not fit their columns."""

    records: int
    rejected: int


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
    place = _Place(connection, shape, staging_table, sync_run_id, object_name)
    try:
        with connection.transaction():
            place.claim(page)
            return place.settle(page, Landed(copy_page(connection, page, shape, staging_table), 0))
    except psycopg.DataError:
        with connection.transaction():
            place.claim(page)
            return place.settle(page, place.sift(page))


def copy_page(
    connection: psycopg.Connection, page: ResultPage, shape: TableShape, staging_table: str
) -> int:
    """The fast road: bytes go through as they are.

    Returns:
        Rows that COPY counted.
    """
    chunks = page.chunks()
    first = next(chunks, b"")
    columns = sql.SQL(", ").join(sql.Identifier(c.name) for c in _in_order(page, shape))
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
    """Where one page goes."""

    connection: psycopg.Connection
    shape: TableShape
    staging_table: str
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
            "UPDATE crm_sync.checkpoint SET records = %s, rejected = %s"
            " WHERE sync_run_id = %s AND page_key = %s",
            [landed.records, landed.rejected, self.sync_run_id, page.key],
        )
        return landed

    def sift(self, page: ResultPage) -> Landed:
        """The slow road: row by row, and each value is asked whether it fits."""
        csv.field_size_limit(2**31 - 1)
        rows = self._parsed(page)
        first = next(rows, None)
        columns = _in_order(page, self.shape)
        self._copy_as_text(columns, [] if first is None else chain([first], rows))
        return Landed(records=self._land_fitting(columns), rejected=self._quarantine(columns))

    def _parsed(self, page: ResultPage) -> Iterator[list[str]]:
        """The page's rows; one that ends in the middle of a row was cut on its way."""
        try:
            for row in csv.reader(_lines(page.chunks()), strict=True):
                if len(row) != len(page.columns):
                    raise TransientError(f"{self.object_name}: a page broke off inside a row.")
                yield row
        except csv.Error as error:
            raise TransientError(f"{self.object_name}: a page broke off inside a value.") from error

    def _copy_as_text(self, columns: tuple[Column, ...], rows: Iterable[list[str]]) -> None:
        names = sql.SQL(", ").join(sql.Identifier(c.name) for c in columns)
        self.connection.execute("DROP TABLE IF EXISTS pg_temp.page")
        self.connection.execute(
            sql.SQL("CREATE TEMP TABLE page ({}) ON COMMIT DROP").format(
                sql.SQL(", ").join(
                    sql.SQL("{} text").format(sql.Identifier(c.name)) for c in columns
                )
            )
        )
        statement = sql.SQL("COPY pg_temp.page ({}) FROM STDIN").format(names)
        with self.connection.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row([value.replace("\0", "\ufffd") or None for value in row])

    def _land_fitting(self, columns: tuple[Column, ...]) -> int:
        return self.connection.execute(
            sql.SQL("INSERT INTO {} ({}) SELECT {} FROM pg_temp.page WHERE {}").format(
                staging_identifier(self.staging_table),
                sql.SQL(", ").join(sql.Identifier(c.name) for c in columns),
                sql.SQL(", ").join(
                    sql.SQL("({})::{}").format(_trimmed(c), sql.SQL(c.column_type)) for c in columns
                ),
                _all_fit(columns),
            )
        ).rowcount

    def _quarantine(self, columns: tuple[Column, ...]) -> int:
        """Keep each row that does not fit, with the first column that refuses it."""
        faults = sql.SQL(" ").join(
            sql.SQL("WHEN NOT {} THEN ARRAY[{}, {}, {}]").format(
                _fits(c), sql.Literal(c.name), sql.Identifier(c.name), sql.Literal(c.column_type)
            )
            for c in columns
        )
        return self.connection.execute(
            sql.SQL(
                "INSERT INTO crm_sync.quarantine"
                " (sync_run_id, object_name, record_id, column_name, value, reason, record)"
                " SELECT {run}, {object}, {id}, fault[1], fault[2],"
                " 'not a valid ' || fault[3], record"
                " FROM (SELECT p.*, CASE {faults} END AS fault, to_jsonb(p) AS record"
                "       FROM pg_temp.page p) refused WHERE fault IS NOT NULL"
            ).format(
                run=sql.Literal(self.sync_run_id),
                object=sql.Literal(self.object_name),
                id=sql.Identifier(self.shape.id_column),
                faults=faults,
            )
        ).rowcount


def _in_order(page: ResultPage, shape: TableShape) -> tuple[Column, ...]:
    """The staged columns in the order in which the page carries their fields."""
    by_source = {column.source.casefold(): column for column in shape.staged}
    return tuple(by_source[name.casefold()] for name in page.columns)


def _trimmed(column: Column) -> sql.Composable:
    """A value as its type wants it: some answers carry 5.0 or 1.0E7 for an integer."""
    name = sql.Identifier(column.name)
    if column.column_type != "integer":
        return name
    return sql.SQL(
        "CASE WHEN pg_input_is_valid({0}, 'numeric') AND {0}::numeric % 1 = 0"
        " THEN trunc({0}::numeric)::text ELSE {0} END"
    ).format(name)


def _fits(column: Column) -> sql.Composable:
    return sql.SQL("({} IS NULL OR pg_input_is_valid({}, {}))").format(
        sql.Identifier(column.name), _trimmed(column), sql.Literal(column.column_type)
    )


def _all_fit(columns: tuple[Column, ...]) -> sql.Composable:
    return sql.SQL(" AND ").join(_fits(c) for c in columns)


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Lines that end where LF ends them and nowhere else; broken UTF-8 becomes U+FFFD."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    rest = ""
    for chunk in chunks:
        *lines, rest = (rest + decoder.decode(chunk)).split("\n")
        yield from (line + "\n" for line in lines)
    rest += decoder.decode(b"", final=True)
    if rest:
        yield rest
