"""The slow road of a page that COPY refused: each row is judged by itself.

The page is parsed and put into a temporary table of one JSON object per row, which has no types to
offend and no width to outgrow. Rows with a value that does not fit its column go to the quarantine,
the others into staging; where PostgreSQL cannot hold a row at all because it is too wide, the rest
is landed in halves until that row stands alone.

Belongs here: telling good rows from bad ones, and keeping the bad ones with the reason. Does not
belong here: the fast road and the checkpoint (staging.py).
"""

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

import psycopg
from psycopg import sql

from crm_pipeline.errors import TransientError
from crm_pipeline.model import characters
from crm_pipeline.model.pages import ResultPage
from crm_pipeline.warehouse.schema import Column, TableShape, staging_identifier

WHOLE_ROW = "(whole row)"
"""Stands in the quarantine for the column where no single one is at fault."""
_WIDEST_INTEGER_DIGITS = 20


@dataclass(frozen=True, slots=True)
class Sifted:
    """Rows that landed, rows that went to the quarantine, and characters that were replaced."""

    landed: int
    rejected: int
    replaced: int


@dataclass(frozen=True, slots=True)
class Sieve:
    """Where the rows of one page go: staging, or the quarantine of this sync run."""

    connection: psycopg.Connection
    shape: TableShape
    staging_table: str
    sync_run_id: int
    object_name: str

    def sift(self, page: ResultPage) -> Sifted:
        """Land what fits, quarantine the rest.

        Raises:
            TransientError: the page broke off inside a row.
        """
        text = _Text(page.chunks())
        rows = self._parsed(text, page)
        # The first row must be asked for before the page knows its columns.
        first = next(rows, None)
        columns = self.shape.in_order(page.columns)
        last = self._keep_as_json(columns, rows if first is None else _chained(first, rows))
        rejected = self._quarantine_misfits(columns)
        landed, too_wide = self._land(columns, 1, last)
        return Sifted(landed, rejected + too_wide, text.replaced)

    def _parsed(self, text: "_Text", page: ResultPage) -> Iterator[list[str]]:
        """The page's rows; one that ends in the middle of a row was cut on its way."""
        csv.field_size_limit(2**31 - 1)
        try:
            for row in csv.reader(text, strict=True):
                if len(row) != len(page.columns):
                    raise TransientError(f"{self.object_name}: a page broke off inside a row.")
                yield row
        except csv.Error as error:
            raise TransientError(f"{self.object_name}: a page broke off inside a value.") from error

    def _keep_as_json(self, columns: tuple[Column, ...], rows: Iterable[list[str]]) -> int:
        """Fill the temporary table; returns the place of the last row."""
        self.connection.execute("DROP TABLE IF EXISTS pg_temp.page")
        self.connection.execute(
            "CREATE TEMP TABLE page (place bigint PRIMARY KEY, record json) ON COMMIT DROP"
        )
        names = [column.name for column in columns]
        whole = [n for n, column in enumerate(columns) if column.column_type == "integer"]
        place = 0
        statement = "COPY pg_temp.page (place, record) FROM STDIN"
        with self.connection.cursor() as cursor, cursor.copy(statement) as copy:
            for place, row in enumerate(rows, start=1):
                for position in whole:
                    row[position] = _as_integer(row[position])
                values = (value or None for value in row)
                record = dict(zip(names, values, strict=True))
                copy.write_row([place, json.dumps(record, ensure_ascii=False)])
        return place

    def _quarantine_misfits(self, columns: tuple[Column, ...]) -> int:
        """Move rows that do not fit, each with the first column that refuses it."""
        typed = sql.SQL(", ").join(
            sql.SQL("({}, {}, {})").format(*map(sql.Literal, (place, c.name, c.column_type)))
            for place, c in enumerate(columns)
        )
        return self._quarantine(
            sql.SQL(
                "SELECT DISTINCT ON (place) place, name, value, 'not a valid ' || type"
                " FROM pg_temp.page, json_each_text(record) AS one (name, value)"
                " JOIN (VALUES {}) AS typed (ordinal, name, type) USING (name)"
                " WHERE type <> 'text' AND NOT pg_input_is_valid(value, type)"
                " ORDER BY place, ordinal"
            ).format(typed)
        )

    def _land(self, columns: tuple[Column, ...], first: int, last: int) -> tuple[int, int]:
        """Land the rows between two places; also says how many were too wide for PostgreSQL."""
        names = sql.SQL(", ").join(sql.Identifier(column.name) for column in columns)
        landing = sql.SQL(
            "INSERT INTO {table} ({names}) SELECT {names}"
            " FROM pg_temp.page, json_populate_record(NULL::{table}, record)"
            " WHERE place BETWEEN {first} AND {last}"
        ).format(
            table=staging_identifier(self.staging_table),
            names=names,
            first=sql.Literal(first),
            last=sql.Literal(last),
        )
        try:
            with self.connection.transaction():
                return self.connection.execute(landing).rowcount, 0
        except psycopg.errors.ProgramLimitExceeded as error:
            if first == last:
                return 0, self._quarantine_whole(first, error.diag.message_primary or "too wide")
        middle = (first + last) // 2
        landed, too_wide = self._land(columns, first, middle)
        more_landed, more_too_wide = self._land(columns, middle + 1, last)
        return landed + more_landed, too_wide + more_too_wide

    def _quarantine_whole(self, place: int, reason: str) -> int:
        """Move a row of which no single value is at fault."""
        return self._quarantine(
            sql.SQL("SELECT {}::bigint, {}, NULL::text, {}").format(
                sql.Literal(place), sql.Literal(WHOLE_ROW), sql.Literal(reason)
            )
        )

    def _quarantine(self, refused: sql.Composed) -> int:
        """Move rows out of the page, named by place with column, value and reason."""
        return self.connection.execute(
            sql.SQL(
                "WITH refused (place, name, value, reason) AS ({refused}),"
                " moved AS (DELETE FROM pg_temp.page p USING refused r WHERE p.place = r.place"
                " RETURNING r.name, r.value, r.reason, p.record)"
                " INSERT INTO crm_sync.quarantine"
                " (sync_run_id, object_name, record_id, column_name, value, reason, record)"
                " SELECT {run}, {object}, record ->> {id}, name, value, reason, record::jsonb"
                " FROM moved"
            ).format(
                refused=refused,
                run=sql.Literal(self.sync_run_id),
                object=sql.Literal(self.object_name),
                id=sql.Literal(self.shape.id_column),
            )
        ).rowcount


def _chained(first: list[str], rows: Iterator[list[str]]) -> Iterator[list[str]]:
    yield first
    yield from rows


def _as_integer(value: str) -> str:
    """Some answers carry 5.0 or 1.0E7 for an integer."""
    try:
        number = Decimal(value)
        is_whole = number.adjusted() < _WIDEST_INTEGER_DIGITS and number == int(number)
    except (InvalidOperation, ValueError, OverflowError):
        return value
    return str(int(number)) if is_whole else value


class _Text:
    """Lines that end where LF ends them and nowhere else.

    Attributes:
        replaced: characters so far that no warehouse can hold.
    """

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self.replaced = 0

    def __iter__(self) -> Iterator[str]:
        rest = b""
        for chunk in self._chunks:
            # No byte of a longer character is an LF, so lines can be cut before they are decoded.
            *lines, rest = (rest + chunk).split(b"\n")
            yield from (self._decoded(line + b"\n") for line in lines)
        if rest:
            yield self._decoded(rest)

    def _decoded(self, line: bytes) -> str:
        text, replaced = characters.decoded(line)
        self.replaced += replaced
        return text
