"""A small org and its warehouse, made in milliseconds, and the oracle that compares them.

Belongs here: the org, fingerprints of tables, what every table must hold. Does not belong here: how
the org is edited (edits.py), how anything is killed (victims.py).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import md5
from typing import Any

import psycopg
from psycopg import sql

from crm_pipeline.sandbox.salesforce import rest
from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.running import RunningOrg, running
from crm_pipeline_tests.house import typed
from crm_pipeline_tests.reliability.engines import Place, settings_text
from crm_pipeline_tests.reliability.server import ProofServer

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
FILTER = "Is_Target__c = true"
OVERLAP_SECONDS = 15 * 60
FIELDS: Mapping[str, tuple[str, ...]] = {
    "Account": ("Name", "Industry", "AnnualRevenue"),
    "Contact": ("FirstName", "LastName", "Email", "AccountId", "HasOptedOutOfEmail"),
    "Lead": (
        *("FirstName", "LastName", "Company", "Email", "AnnualRevenue", "NumberOfEmployees"),
        *("HasOptedOutOfEmail", "IsConverted", "ConvertedContactId", "Is_Target__c"),
    ),
}
_NOT_COMPARED = frozenset({"_synced_at", "_deleted_at"})  # the warehouse's own clock


def objects(transport: str = "auto", *names: str) -> dict[str, Any]:
    """The settings' objects: leads by a filter, the others whole."""
    chosen = names or tuple(FIELDS)
    found: dict[str, Any] = {
        name: {"transport": transport, "fields": list(FIELDS[name])} for name in chosen
    }
    if "Lead" in found:
        found["Lead"]["filter"] = FILTER
    return found


@dataclass(frozen=True)
class Seen:
    """A table and its watermark, as somebody sees them at one moment.

    Attributes:
        digest: of every cell that does not come from the warehouse's clock; empty without a table.
    """

    digest: str
    rows: int
    watermark: datetime | None


@dataclass
class Lab:
    """An org, where its engine works, and the oracle."""

    server: ProofServer
    org: SandboxOrg
    served: RunningOrg
    place: Place
    transport: str = "auto"

    def at(self, database: str, **changes: Any) -> "Lab":
        """The same org with another database, or other settings."""
        place = replace(self.place, database_url=self.server.url(database), **changes)
        return replace(self, place=place)

    def connect(self) -> psycopg.Connection:
        """To look into the warehouse."""
        return psycopg.connect(self.place.database_url, autocommit=True)

    def seen(self, name: str) -> Seen:
        """The table of an object with its watermark, at one moment."""
        with psycopg.connect(self.place.database_url) as connection:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            return seen(connection, name)

    def rows(self, name: str, at: datetime | None = None) -> dict[str, str]:
        """The rows of a table by id, each as text; with an instant, from the time machine."""
        with self.connect() as connection:
            return dict(compared_rows(connection, name, at) or ())

    def now(self) -> datetime:
        """An instant by the warehouse's clock."""
        with self.connect() as connection:
            row = connection.execute("SELECT clock_timestamp()").fetchone()
        assert row is not None
        found: datetime = row[0]
        return found

    def marks(self, name: str) -> dict[str, str | None]:
        """How each row vanished; None for those that live."""
        statement = sql.SQL("SELECT id, _vanished FROM salesforce.{}")
        with self.connect() as connection:
            return dict(
                connection.execute(statement.format(sql.Identifier(name.lower()))).fetchall()
            )

    def truth(self, name: str) -> dict[str, dict[str, Any]]:
        """What the live rows of a table must be, from the org itself."""
        fields = ("Id", *FIELDS[name])
        types = {f.name: f.type for f in self.org.catalogue.object(name).fields}
        where = f"WHERE {FILTER}" if name == "Lead" else ""
        rows = self.org.query(f"SELECT {', '.join(fields)} FROM {name} {where}")
        return {
            str(row["Id"]): {f.lower(): typed(row[f], types[f]) for f in fields} for row in rows
        }

    def table(self, name: str) -> dict[str, dict[str, Any]]:
        """The live rows of a table, mapped columns alone."""
        columns = sql.SQL(", ").join(sql.Identifier(f.lower()) for f in ("Id", *FIELDS[name]))
        with self.connect() as connection:
            cursor = connection.execute(
                sql.SQL("SELECT {} FROM salesforce.{} WHERE _deleted_at IS NULL").format(
                    columns, sql.Identifier(name.lower())
                )
            )
            names = [c.name for c in cursor.description or ()]
            return {row[0]: dict(zip(names, row, strict=True)) for row in cursor}

    def differences(self, name: str) -> list[str]:
        """Where a table differs from the org, cell by cell; empty when they are in step."""
        return differences(self.truth(name), self.table(name))

    def requests(self) -> list[str]:
        """Paths that the org was asked for since the ledger was cleared."""
        return [f"{e.method} {e.path}" for e in self.served.server.ledger.entries()]


def differences(
    expected: Mapping[str, Mapping[str, Any]], found: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Two tables by id, compared."""
    lost = [f"{key} is missing" for key in expected.keys() - found.keys()]
    extra = [f"{key} is too much" for key in found.keys() - expected.keys()]
    bent = [
        f"{key}.{column}: {found[key].get(column)!r} for {value!r}"
        for key in expected.keys() & found.keys()
        for column, value in expected[key].items()
        if found[key].get(column) != value
    ]
    return lost + extra + bent


def seen(connection: psycopg.Connection, name: str) -> Seen:
    """The same within a transaction of the caller's."""
    found = connection.execute(
        "SELECT watermark FROM crm_sync.object_state WHERE object_name = %s", [name]
    ).fetchone()
    watermark = found[0] if found else None
    rows = compared_rows(connection, name)
    if rows is None:
        return Seen("", 0, watermark)
    return Seen(md5(repr(rows).encode(), usedforsecurity=False).hexdigest(), len(rows), watermark)


def compared_rows(
    connection: psycopg.Connection, name: str, at: datetime | None = None
) -> list[tuple[str, str]] | None:
    """Every row as text, without what comes from the warehouse's clock; None without a table."""
    columns = connection.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0"
        " AND NOT attisdropped ORDER BY attname",
        [f"salesforce.{name.lower()}"],
    ).fetchall()
    if not columns:
        return None
    cells = sql.SQL(", ").join(
        sql.Identifier(column) for (column,) in columns if column not in _NOT_COMPARED
    )
    table: sql.Composable = sql.Identifier("salesforce", name.lower())
    if at is not None:
        table = sql.SQL("history.as_of(NULL::{}, {})").format(table, sql.Literal(at))
    return connection.execute(
        sql.SQL(
            "SELECT id::text, ROW({cells}, _deleted_at IS NULL)::text FROM {table} ORDER BY id"
        ).format(cells=cells, table=table)
    ).fetchall()


@contextmanager
def lab(
    server: ProofServer,
    *,
    transport: str = "auto",
    bulk_page_records: int = 40,
    rest_page_records: int = 2_000,
) -> Iterator[Lab]:
    """A new org, empty, its clock standing still, with an empty warehouse."""
    org = SandboxOrg()
    org.clock.set(NOON)
    database = server.copy()
    paged, rest._BATCH_SIZE = rest._BATCH_SIZE, rest_page_records
    try:
        with running(org, bulk_page_records=bulk_page_records) as served:
            place = Place(
                served.url,
                served.client_id,
                served.client_secret,
                server.url(database),
                settings_text(objects(transport)),
            )
            yield Lab(server, org, served, place, transport)
    finally:
        rest._BATCH_SIZE = paged
        org.close()
        server.drop(database)
