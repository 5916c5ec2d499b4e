"""SQLite under the org: connections, transactions, tables.

One writer at a time behind one lock; every thread reads through a connection of its own, and
write-ahead logging lets it read while another writes. An org without a path lives in a private
directory that goes away with it: the same engine either way, so no difference in behaviour.

Belongs here: how rows are kept. Does not belong here: what a record may hold (writing.py).
"""

import shutil
import sqlite3
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from crm_pipeline.sandbox.salesforce.commits import Commits
from crm_pipeline.sandbox.salesforce.schema import FieldDefinition, ObjectDefinition

_SYSTEM_TABLES = """
CREATE TABLE IF NOT EXISTS _sandbox_meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS _sandbox_sequence (name TEXT PRIMARY KEY, last INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS _sandbox_deletions (
    object TEXT NOT NULL, id TEXT NOT NULL, deleted_at TEXT NOT NULL, PRIMARY KEY (object, id)
);
CREATE INDEX IF NOT EXISTS _sandbox_deletions_when ON _sandbox_deletions (object, deleted_at);
CREATE TABLE IF NOT EXISTS _sandbox_unshared (id TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS _sandbox_commits (
    number INTEGER PRIMARY KEY, begun_at TEXT NOT NULL, committed_at TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS _sandbox_commits_when ON _sandbox_commits (committed_at);
"""


def quoted(name: str) -> str:
    """A table or column name for SQL; names come from definitions, never from clients."""
    return '"' + name.replace('"', '""') + '"'


_EVENTS = ("UPDATE", "DELETE")  # what replaces a version


def past_table(definition: ObjectDefinition) -> str:
    """The table, quoted for SQL, of an object's replaced versions."""
    return quoted(f"_past.{definition.name}")


class Store:
    """The org's database file and its connections.

    `prepare` teaches a connection the org's functions; `commits` hears of every transaction's
    end. With `keeps_past`, every version of a record that is replaced or removed is kept.
    """

    def __init__(
        self,
        path: Path | None,
        prepare: Callable[[sqlite3.Connection], None],
        commits: Commits,
        *,
        keeps_past: bool,
    ) -> None:
        self._prepare = prepare
        self._commits = commits
        self.keeps_past = keeps_past
        if path is None:
            directory = Path(tempfile.mkdtemp(prefix="sandbox-org-"))
            self._cleanup = weakref.finalize(self, shutil.rmtree, directory, ignore_errors=True)
            path = directory / "org.sqlite"
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._lock = threading.RLock()
        self._owner: int | None = None
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._writer = self._connect()
        self._writer.executescript("PRAGMA journal_mode = WAL;" + _SYSTEM_TABLES)
        commits.load(self._writer)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, isolation_level=None, check_same_thread=False, timeout=60
        )
        # The org is a simulation: a power cut may lose it, so it never waits for the disk.
        connection.executescript(
            "PRAGMA synchronous = OFF; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -32000;"
            "PRAGMA wal_autocheckpoint = 8000;"
        )
        self._prepare(connection)
        self._connections.append(connection)
        return connection

    def reader(self) -> sqlite3.Connection:
        """This thread's connection; inside its own transaction, the one that sees it."""
        if self._owner == threading.get_ident():
            return self._writer
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._connect()
        return connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction; nested ones join the outer one and roll back with it."""
        with self._lock:
            if self._owner is not None:
                with self._savepoint():
                    yield self._writer
                return
            self._writer.execute("BEGIN IMMEDIATE")
            self._owner = threading.get_ident()
            try:
                yield self._writer
                self._commits.settle(self._writer, kept=True)
                self._writer.execute("COMMIT")
            except BaseException:
                self._writer.execute("ROLLBACK")
                self._commits.settle(self._writer, kept=False)
                raise
            finally:
                self._owner = None

    @contextmanager
    def _savepoint(self) -> Iterator[None]:
        self._writer.execute("SAVEPOINT nested")
        try:
            yield
        except BaseException:
            self._writer.execute("ROLLBACK TO nested")
            self._writer.execute("RELEASE nested")
            raise
        self._writer.execute("RELEASE nested")

    def ensure_table(self, definition: ObjectDefinition) -> None:
        """Make the object's tables, or add the columns they have not got yet."""
        stored = [field for field in definition.fields if field.stored]
        # _born is the commit that made the row.
        own = {field.name: _column(field) for field in stored} | {"_born": "_born INTEGER"}
        # Without types: a past value stays as it was, whatever its field is now.
        past = {name: quoted(name) for name in (*own, "_until")}
        with self.writing() as connection:
            _ensure_columns(connection, quoted(definition.name), own)
            for field in _indexed(definition, stored):
                self._index(connection, definition, field)
            if self.keeps_past:
                _ensure_columns(connection, past_table(definition), past)
                connection.execute(
                    f"CREATE INDEX IF NOT EXISTS {quoted(f'_past.{definition.name}._until')} "
                    f"ON {past_table(definition)} (_until)"
                )
            self._triggers(connection, definition, list(own))

    def set_aside(self, definition: ObjectDefinition, name: str) -> None:
        """Free the name of a column for one of another type; what it held stays out of sight."""
        with self.writing() as connection:
            number = self.take_numbers(f"{definition.name}.{name} set aside", 1)
            connection.execute(f"DROP INDEX IF EXISTS {quoted(f'{definition.name}.{name}')}")
            self._drop_triggers(connection, definition)
            connection.execute(
                f"ALTER TABLE {quoted(definition.name)} "
                f"RENAME COLUMN {quoted(name)} TO {quoted(f'{name}.{number}')}"
            )

    def has_column(self, definition: ObjectDefinition, name: str) -> bool:
        """Whether there is such a column, of a field in use or of one that is gone."""
        rows = self.reader().execute(f"PRAGMA table_info({quoted(definition.name)})")
        return any(str(row[1]).lower() == name.lower() for row in rows)

    def index(self, definition: ObjectDefinition, name: str) -> None:
        """Let a field be looked up fast."""
        field = definition.field(name)
        if field is not None and field.stored:
            with self.writing() as connection:
                self._index(connection, definition, field)

    def rename_column(self, definition: ObjectDefinition, old: str, new: str) -> None:
        """Rename a column, of present and past versions."""
        with self.writing() as connection:
            connection.execute(f"DROP INDEX IF EXISTS {quoted(f'{definition.name}.{old}')}")
            self._drop_triggers(connection, definition)
            past = [past_table(definition)] if self.keeps_past else []
            for table in (quoted(definition.name), *past):
                connection.execute(
                    f"ALTER TABLE {table} RENAME COLUMN {quoted(old)} TO {quoted(new)}"
                )

    def _drop_triggers(self, connection: sqlite3.Connection, definition: ObjectDefinition) -> None:
        for event in _EVENTS:
            name = quoted(f"{definition.name}.{event.lower()}")
            connection.execute(f"DROP TRIGGER IF EXISTS {name}")

    def _triggers(
        self, connection: sqlite3.Connection, definition: ObjectDefinition, columns: list[str]
    ) -> None:
        """Copy aside what an UPDATE or DELETE replaces."""
        names = ", ".join(quoted(one) for one in columns)
        olds = ", ".join(f"OLD.{quoted(one)}" for one in columns)
        self._drop_triggers(connection, definition)
        for event in _EVENTS if self.keeps_past else ():
            name = quoted(f"{definition.name}.{event.lower()}")
            connection.execute(
                f"CREATE TRIGGER {name} AFTER {event} ON {quoted(definition.name)} BEGIN "
                f"INSERT INTO {past_table(definition)} ({names}, _until) "
                f"VALUES ({olds}, org_commit()); END"
            )

    def _index(
        self, connection: sqlite3.Connection, definition: ObjectDefinition, field: FieldDefinition
    ) -> None:
        folded = field.type not in {"id", "reference", "datetime"}
        connection.execute(
            f"CREATE INDEX IF NOT EXISTS {quoted(f'{definition.name}.{field.name}')} "
            f"ON {quoted(definition.name)} ({quoted(field.name)}"
            f"{' COLLATE NOCASE' if folded else ''})"
        )

    def take_numbers(self, name: str, count: int) -> int:
        """Reserve consecutive numbers of a sequence; returns the first."""
        with self.writing() as connection:
            connection.execute(
                "INSERT INTO _sandbox_sequence VALUES (?, ?) "
                "ON CONFLICT (name) DO UPDATE SET last = last + excluded.last",
                (name, count),
            )
            row = connection.execute("SELECT last FROM _sandbox_sequence WHERE name = ?", (name,))
            return int(row.fetchone()[0]) - count + 1

    def pass_number(self, name: str, number: int) -> None:
        """Let a sequence go on after a number that came from outside."""
        with self.writing() as connection:
            connection.execute(
                "INSERT INTO _sandbox_sequence VALUES (?, ?) "
                "ON CONFLICT (name) DO UPDATE SET last = max(last, excluded.last)",
                (name, number),
            )

    def meta(self, key: str) -> str | None:
        """A fact kept beside the records, such as the org's own Id."""
        row = self.reader().execute("SELECT value FROM _sandbox_meta WHERE key = ?", (key,))
        found = row.fetchone()
        return None if found is None else str(found[0])

    def set_meta(self, key: str, value: str) -> None:
        """Keep a fact beside the records."""
        with self.writing() as connection:
            connection.execute(
                "INSERT INTO _sandbox_meta VALUES (?, ?) "
                "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                (key, value),
            )

    def close(self) -> None:
        """Close all connections; an org without a path is gone after this."""
        for connection in self._connections:
            with suppress(sqlite3.ProgrammingError):
                connection.close()
        if hasattr(self, "_cleanup"):
            self._cleanup()


def _column(field: FieldDefinition) -> str:
    kind = "INTEGER" if field.type == "int" else "TEXT"
    return f"{quoted(field.name)} {kind}{' PRIMARY KEY' if field.name == 'Id' else ''}"


def _ensure_columns(connection: sqlite3.Connection, table: str, columns: dict[str, str]) -> None:
    connection.execute(f"CREATE TABLE IF NOT EXISTS {table} ({', '.join(columns.values())})")
    present = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
    for name, column in columns.items():
        if name not in present:
            connection.execute(f"ALTER TABLE {table} ADD COLUMN {column}")


def _indexed(
    definition: ObjectDefinition, stored: Iterable[FieldDefinition]
) -> Iterator[FieldDefinition]:
    """The fields Salesforce indexes and our queries lean on: stamp, keys, parents."""
    for field in stored:
        parent = field.type == "reference" and "User" not in field.reference_to
        if field.name == "SystemModstamp" or field.unique or field.external_id or parent:
            yield field
