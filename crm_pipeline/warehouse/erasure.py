"""Finding and removing every trace of one person in our schemas.

A person is an e-mail address, record ids, or both. Whole values are compared, in every text column
of every table, so that no table that comes later is left out. A record that once told of her loses
its whole history: it cannot be told with a hole in it. Everything runs in the caller's transaction.

Belongs here: the statements. Does not belong here: which schemas there are, what the CRM still
holds, and what people are told (sync/forget.py).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import LiteralString

import psycopg
from psycopg import sql

from crm_pipeline.config.names import REFERENCE_TABLES
from crm_pipeline.errors import TransientError
from crm_pipeline.warehouse.connection import (
    CONTROL_SCHEMA,
    EVENT_LOAD_LOCK,
    EVENTS_SCHEMA,
    HISTORY_SCHEMA,
    STAGING_SCHEMA,
)
from crm_pipeline.warehouse.schema import is_relation
from crm_pipeline.warehouse.staging import drop_staging

_STAGING_TABLE = re.compile(r"sync_(?P<run>\d+)(?:_scope)?")


@dataclass(frozen=True, slots=True)
class Person:
    """Who is to be forgotten.

    Attributes:
        address: an e-mail address in lower case; None when only ids are known.
        record_ids: ids of records that are about the person.
        person_ids: ids under which the marts know the person.
    """

    address: str | None = None
    record_ids: frozenset[str] = frozenset()
    person_ids: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Trace:
    """Rows of one table that tell of a person.

    Attributes:
        is_removed: whether they go; living rows that only point at her are the CRM's to change.
    """

    schema: str
    table: str
    rows: int
    is_removed: bool = True


@dataclass(frozen=True, slots=True)
class _Table:
    """A table with its text columns, and its key where it holds records of the CRM."""

    schema: str
    name: str
    texts: tuple[str, ...]
    lists: tuple[str, ...]
    key: str | None
    has_people: bool

    @property
    def qualified(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)


@dataclass(frozen=True, slots=True)
class Search:
    """One search in one transaction.

    Attributes:
        schemas: those whose tables hold records or events: the CRM's, the marts' and ours.
        marts_memory: the schema in which the marts remember what they have seen.
    """

    connection: psycopg.Connection
    schemas: Sequence[str]
    marts_memory: str

    def completed(self, person: Person) -> Person:
        """The person with every record id that stands beside the address or was merged into her."""
        known = person
        while True:
            found = set(known.record_ids)
            for table in self._tables():
                # A colleague's id stands in every record that she owns: they are not about her.
                if table.name not in REFERENCE_TABLES:
                    found |= self._ids(table, known)
            found |= self._ids_in_quarantine(known) | self._ids_in_events(known)
            if found == known.record_ids:
                return replace(known, person_ids=self._person_ids(known))
            known = replace(known, record_ids=frozenset(found))

    def traces(self, person: Person) -> tuple[Trace, ...]:
        """Where the person stands, and how often."""
        found = []
        for table in self._tables():
            rows = self._count(table, self._is_hers(table, person))
            found.append(Trace(table.schema, table.name, rows))
            if table.key is not None:
                pointing = self._count(table, self._points_at(table, person))
                found.append(Trace(table.schema, table.name, pointing, is_removed=False))
        quarantined = sql.SQL("SELECT count(*) FROM crm_sync.quarantine q WHERE {}").format(
            self._is_quarantined(person)
        )
        found.append(Trace(CONTROL_SCHEMA, "quarantine", self._number(quarantined)))
        former = sql.SQL("SELECT count(*) FROM history.version v WHERE {}").format(
            self._is_in_her_history(person)
        )
        found.append(Trace(HISTORY_SCHEMA, "version", self._number(former)))
        rejected = sql.SQL("SELECT count(*) FROM events.quarantine q WHERE {}").format(
            self._is_in_file_row(person)
        )
        found.append(Trace(EVENTS_SCHEMA, "quarantine", self._number(rejected)))
        wanted = sql.SQL("SELECT count(*) FROM crm_sync.outbox o WHERE {}").format(
            self._is_in_outbox(person)
        )
        found.append(Trace(CONTROL_SCHEMA, "outbox", self._number(wanted)))
        asked = sql.SQL("SELECT count(*) FROM crm_sync.action a WHERE {}").format(
            self._is_in_action(person)
        )
        found.append(Trace(CONTROL_SCHEMA, "action", self._number(asked)))
        found += [
            Trace(STAGING_SCHEMA, table.name, rows)
            for table in self._tables_of([STAGING_SCHEMA])
            if (rows := self._count(table, self._is_anywhere(table, person)))
        ]
        return tuple(trace for trace in found if trace.rows)

    def erase(self, person: Person) -> None:
        """Remove all of it, half-read syncs aside; history last, for it keeps what is removed."""
        # A load of events that is at work could bring her back; the next one reads new files only.
        self.connection.execute("SELECT pg_advisory_xact_lock(%s)", [EVENT_LOAD_LOCK])
        # The ledger of consent lets nobody delete who has not said that this is an erasure.
        self.connection.execute("SELECT set_config('crm_pipeline.is_erasing', 'on', true)")
        for table in self._tables():
            self.connection.execute(
                sql.SQL("DELETE FROM {} t WHERE {}").format(
                    table.qualified, self._is_hers(table, person)
                )
            )
        self._let_marts_follow(person)
        self.connection.execute(
            sql.SQL("DELETE FROM crm_sync.quarantine q WHERE {}").format(
                self._is_quarantined(person)
            )
        )
        self.connection.execute(
            sql.SQL("DELETE FROM events.quarantine q WHERE {}").format(self._is_in_file_row(person))
        )
        self.connection.execute(
            sql.SQL("DELETE FROM history.version v WHERE {}").format(
                self._is_in_her_history(person)
            )
        )

        self.connection.execute("SET LOCAL crm_pipeline.is_erasing = 'on'")
        self.connection.execute(
            sql.SQL("DELETE FROM crm_sync.outbox o WHERE {}").format(self._is_in_outbox(person))
        )
        # Who decides it just now finds it gone, and enqueues nothing.
        self.connection.execute(
            sql.SQL("DELETE FROM crm_sync.action a WHERE {}").format(self._is_in_action(person))
        )

    def half_read(self, person: Person) -> tuple[int, ...]:
        """Attempts whose staging tells of the person."""
        found = {
            int(match["run"])
            for table in self._tables_of([STAGING_SCHEMA])
            if (match := _STAGING_TABLE.fullmatch(table.name))
            and self._count(table, self._is_anywhere(table, person))
        }
        return tuple(sorted(found))

    def drop_half_read(self, sync_run_ids: Sequence[int]) -> None:
        """Let attempts begin anew: a staging table that lacks a row is worth nothing.

        Raises:
            TransientError: one of them is at work.
        """
        self.connection.execute("SET LOCAL lock_timeout = '5s'")
        try:
            for run in sync_run_ids:
                drop_staging(self.connection, f"sync_{run}")
                drop_staging(self.connection, f"sync_{run}_scope")
        except psycopg.errors.LockNotAvailable as error:
            raise TransientError("A sync is reading this person now; try again later.") from error
        for table in ("checkpoint", "quarantine"):
            self.connection.execute(
                f"DELETE FROM crm_sync.{table} WHERE sync_run_id = ANY(%s)", [list(sync_run_ids)]
            )
        self.connection.execute(
            "UPDATE crm_sync.sync_run SET has_staging = false, status = 'interrupted'"
            " WHERE sync_run_id = ANY(%s) AND status <> 'committed'",
            [list(sync_run_ids)],
        )

    def _tables(self) -> tuple[_Table, ...]:
        return self._tables_of(self.schemas)

    def _tables_of(self, schemas: Sequence[str]) -> tuple[_Table, ...]:
        """Tables with their text columns, and the key of those that are synced."""
        rows = self.connection.execute(
            "SELECT n.nspname, c.relname, array_agg(a.attname)"
            " FILTER (WHERE a.atttypid IN ('text'::regtype, 'varchar'::regtype)),"
            " array_agg(a.attname) FILTER (WHERE a.atttypid = 'text[]'::regtype),"
            " min(a.attname) FILTER (WHERE a.attnum = i.indkey[0]"
            " AND EXISTS (SELECT FROM pg_attribute b WHERE b.attrelid = c.oid"
            " AND b.attname = '_merged_into' AND NOT b.attisdropped)),"
            " bool_or(a.attname = 'person_id' AND a.atttypid = 'uuid'::regtype)"
            " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
            " LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary"
            " WHERE c.relkind IN ('r', 'p') AND n.nspname = ANY(%s) GROUP BY 1, 2 ORDER BY 1, 2",
            [list(schemas)],
        ).fetchall()
        return tuple(
            _Table(schema, name, tuple(texts or ()), tuple(lists or ()), key, has_people)
            for schema, name, texts, lists, key, has_people in rows
        )

    def _ids(self, table: _Table, person: Person) -> set[str]:
        """Ids of records about her, where the table has a key."""
        if table.key is None:
            return set()
        rows = self.connection.execute(
            sql.SQL("SELECT t.{} FROM {} t WHERE {}").format(
                sql.Identifier(table.key), table.qualified, self._is_her_record(table, person)
            )
        )
        return {str(row[0]) for row in rows}

    def _ids_in_quarantine(self, person: Person) -> set[str]:
        """Ids of rejected records with her address: they may never have reached a table."""
        rows = self.connection.execute(
            "SELECT q.record_id FROM crm_sync.quarantine q WHERE q.record_id IS NOT NULL AND EXISTS"
            " (SELECT FROM jsonb_each_text(q.record) v WHERE lower(btrim(v.value)) = %s)",
            [person.address],
        )
        return {str(row[0]) for row in rows}

    def _ids_in_events(self, person: Person) -> set[str]:
        """Ids of records beside her address: the CRM may hold none of them any more."""
        rows = self.connection.execute(
            "SELECT DISTINCT crm_id FROM events.marketing_events"
            " WHERE email = %s AND crm_id IS NOT NULL",
            [person.address],
        )
        return {str(row[0]) for row in rows}

    def _person_ids(self, person: Person) -> frozenset[str]:
        """Ids of the marts for her: what they make of her address, and whose her records are."""
        ids = set()
        if person.address is not None:
            ids |= self._column("SELECT md5('email:' || %s)::uuid::text", [person.address])
        records = sql.Identifier(self.marts_memory, "int_people__records")
        if is_relation(self.connection, records):
            ids |= self._column(
                sql.SQL("SELECT DISTINCT person_id::text FROM {} WHERE record_id = ANY(%s)").format(
                    records
                ),
                [sorted(person.record_ids)],
            )
        return frozenset(ids)

    def _column(self, query: LiteralString | sql.Composed, values: Sequence[object]) -> set[str]:
        return {str(row[0]) for row in self.connection.execute(query, values)}

    def _let_marts_follow(self, person: Person) -> None:
        """The next build makes anew what is left of her: records of others at her address."""
        noted = sql.Identifier(self.marts_memory, "person_change")
        if is_relation(self.connection, noted):
            self.connection.execute(
                sql.SQL("INSERT INTO {} (person_id) SELECT unnest(%s::uuid[])").format(noted),
                [sorted(person.person_ids)],
            )

    def _is_her_record(self, table: _Table, person: Person) -> sql.Composable:
        """By address, by key, or merged into one of hers."""
        assert table.key is not None, "only synced tables hold records"
        return _any(
            [
                self._has_address(table, person),
                self._among(table.key, person),
                self._among("_merged_into", person),
            ]
        )

    def _is_hers(self, table: _Table, person: Person) -> sql.Composable:
        """Rows to remove: her records, and what is gone and pointed at her."""
        if table.key is None:
            return self._is_anywhere(table, person)
        return sql.SQL("({} OR t._deleted_at IS NOT NULL AND {})").format(
            self._is_her_record(table, person), self._is_anywhere(table, person)
        )

    def _points_at(self, table: _Table, person: Person) -> sql.Composable:
        return sql.SQL("{} AND NOT coalesce({}, false)").format(
            self._is_anywhere(table, person), self._is_hers(table, person)
        )

    def _is_anywhere(self, table: _Table, person: Person) -> sql.Composable:
        ids = sql.Literal(sorted(person.record_ids))
        if (table.schema, table.name) == (EVENTS_SCHEMA, "consent_ledger"):
            # Evidence of the CRM's side names the object and the record.
            evidence = sql.SQL("split_part(t.evidence, ' ', 2) = ANY({}::text[])").format(ids)
            return _any([self._has_address(table, person), evidence])
        by_id = [self._among(name, person) for name in table.texts]
        listed = [
            sql.SQL("t.{} && {}::text[]").format(sql.Identifier(name), ids) for name in table.lists
        ]
        if table.has_people:
            by_id.append(
                sql.SQL("t.person_id = ANY({}::uuid[])").format(
                    sql.Literal(sorted(person.person_ids))
                )
            )
        return _any([self._has_address(table, person), *by_id, *listed])

    def _has_address(self, table: _Table, person: Person) -> sql.Composable:
        if person.address is None:
            return sql.SQL("false")
        return _any(
            [
                sql.SQL("lower(btrim(t.{})) = {}").format(
                    sql.Identifier(name), sql.Literal(person.address)
                )
                for name in table.texts
            ]
        )

    @staticmethod
    def _among(column: str, person: Person) -> sql.Composable:
        return sql.SQL("t.{} = ANY({}::text[])").format(
            sql.Identifier(column), sql.Literal(sorted(person.record_ids))
        )

    def _is_quarantined(self, person: Person) -> sql.Composable:
        return self._is_in_json("q.record_id", "q.record", person)

    def _is_in_outbox(self, person: Person) -> sql.Composable:
        """Write-backs about her, but for an opt-out that has not got through yet: it must."""
        return sql.SQL(
            "({} OR o.written_id = ANY({ids}::text[]) OR lower(o.external_id) = {address}"
            " OR coalesce(position({address}::text IN lower(o.idempotency_key)) > 0, false))"
            " AND NOT (o.lane = 0 AND o.state IN ('waiting', 'held', 'sending'))"
        ).format(
            self._is_in_json(
                "o.record_id", "coalesce(o.fields, jsonb_build_object('value', o.value))", person
            ),
            ids=sql.Literal(sorted(person.record_ids)),
            address=sql.Literal(person.address),
        )

    def _is_in_action(self, person: Person) -> sql.Composable:
        """Actions about her, whatever became of them."""
        return sql.SQL(
            "({} OR a.matches && {ids}::text[]"
            " OR coalesce({address}::text IN (a.match_email, lower(a.external_id)), false)"
            " OR coalesce(position({address}::text IN lower(a.action_id)) > 0, false))"
        ).format(
            self._is_in_json("a.record_id", "a.fields", person),
            ids=sql.Literal(sorted(person.record_ids)),
            address=sql.Literal(person.address),
        )

    def _is_in_her_history(self, person: Person) -> sql.Composable:
        """Every version of a record of which one tells of her."""
        return sql.SQL(
            "(v.table_name, v.record_id) IN (SELECT h.table_name, h.record_id"
            " FROM history.version h WHERE {})"
        ).format(self._is_in_json("h.record_id", "h.former", person))

    @staticmethod
    def _is_in_json(key: str, record: str, person: Person) -> sql.Composable:
        return sql.SQL(
            "({key} = ANY({ids}::text[]) OR EXISTS (SELECT FROM jsonb_each_text({record}) f"
            " WHERE f.value = ANY({ids}::text[]) OR lower(btrim(f.value)) = {address}))"
        ).format(
            key=sql.SQL(key),
            record=sql.SQL(record),
            ids=sql.Literal(sorted(person.record_ids)),
            address=sql.Literal(person.address),
        )

    @staticmethod
    def _is_in_file_row(person: Person) -> sql.Composable:
        """Rows of files that are no events may be anything: her words are looked for in the text.

        As whole words, or somebody whose address ends like hers would lose a row.
        """
        told = []
        if person.address is not None:
            pattern = f"(^|[^a-z0-9._%+-]){re.escape(person.address)}($|[^a-z0-9._-])"
            told.append(sql.SQL("lower(q.file_row) ~ {}").format(sql.Literal(pattern)))
        if person.record_ids:
            ids = "|".join(sorted(re.escape(one[:15]) for one in person.record_ids))
            pattern = f"(^|[^a-zA-Z0-9])({ids})([a-zA-Z0-9]{{3}})?($|[^a-zA-Z0-9])"
            told.append(sql.SQL("q.file_row ~ {}").format(sql.Literal(pattern)))
        return _any(told)

    def _count(self, table: _Table, condition: sql.Composable) -> int:
        return self._number(
            sql.SQL("SELECT count(*) FROM {} t WHERE {}").format(table.qualified, condition)
        )

    def _number(self, query: sql.Composed) -> int:
        row = self.connection.execute(query).fetchone()
        assert row is not None
        return int(row[0])


def _any(conditions: Sequence[sql.Composable]) -> sql.Composable:
    if not conditions:
        return sql.SQL("false")
    return sql.SQL("({})").format(sql.SQL(" OR ").join(conditions))
