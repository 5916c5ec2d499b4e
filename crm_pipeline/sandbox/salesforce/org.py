"""The org in Python: its objects, its records, its clock. The HTTP side only translates.

Belongs here: what a test or the demo says to the org. Does not belong here: how a row is
checked (writing.py), deleted (bins.py), asked for (soql*.py, reading.py) or served (server.py).
"""

import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from crm_pipeline.sandbox.salesforce import bins, identifiers, reading, unions
from crm_pipeline.sandbox.salesforce.catalogue import Catalogue
from crm_pipeline.sandbox.salesforce.clock import OrgClock
from crm_pipeline.sandbox.salesforce.failures import entity_is_deleted, malformed_id, not_found
from crm_pipeline.sandbox.salesforce.limits import ApiLimit
from crm_pipeline.sandbox.salesforce.schema import FieldDefinition, ObjectDefinition
from crm_pipeline.sandbox.salesforce.sessions import Sessions
from crm_pipeline.sandbox.salesforce.storage import Store, quoted
from crm_pipeline.sandbox.salesforce.values import keeper
from crm_pipeline.sandbox.salesforce.writing import (
    Author,
    Batch,
    check_references,
    check_required,
    check_unique,
    resolved,
)

Row = dict[str, Any]
_BATCH = 20_000  # rows checked and committed together by create_many
INTEGRATION_USER = identifiers.make_id("005", 1)


class SandboxOrg:
    """A simulated Salesforce org whose records live in SQLite.

    Without a path it is private and gone after `close`; with one it goes on where it stopped.
    Its methods speak for an administrator: rows may carry stamps and Ids of their own, which
    the API refuses. Safe to use from several threads.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        objects: Iterable[ObjectDefinition] | None = None,
        clock: OrgClock | None = None,
        organization_id: str | None = None,
        name: str = "Sandbox Org",
    ) -> None:
        self.clock = clock or OrgClock()
        self.name = name
        self.store = Store(path, self._prepare)
        self.organization_id = self._identity(organization_id)
        self.catalogue = Catalogue(self.store, _standard() if objects is None else objects)
        self.user_id = INTEGRATION_USER
        self.sessions = Sessions(self.clock)
        self.limit = ApiLimit()
        self.delete_log_since: str | None = None
        self._revision = 0
        self._formula = threading.local()
        self._ensure_user()
        self._ensure_organization()

    def _identity(self, given: str | None) -> str:
        kept = given or self.store.meta("organization_id") or identifiers.make_id("00D", 1)
        identifier = identifiers.normalise(kept)
        if identifier is None:
            raise malformed_id(kept, "Organization ID")
        self.store.set_meta("organization_id", identifier)
        return identifier

    def _prepare(self, connection: sqlite3.Connection) -> None:
        reading.add_functions(self, connection)

    def _ensure_user(self) -> None:
        """Every record names its author, so the integration user must exist before any other."""
        if not self.catalogue.has("User") or self.get("User", INTEGRATION_USER) is not None:
            return
        facts: Row = {
            "Id": INTEGRATION_USER,
            "Username": "integration@sandbox.example",
            "LastName": "Integration User",
            "Email": "integration@sandbox.example",
            "Alias": "integ",
            "IsActive": True,
        }
        definition = self.catalogue.object("User")
        self.create("User", {name: one for name, one in facts.items() if definition.field(name)})

    def _ensure_organization(self) -> None:
        """Every org can name itself, an empty one too."""
        is_there = not self.catalogue.has("Organization") or self.get(
            "Organization", self.organization_id
        )
        if is_there:
            return
        facts: Row = {
            "Id": self.organization_id,
            "Name": self.name,
            "OrganizationType": "Developer Edition",
            "IsSandbox": True,
            "InstanceName": "SBX1",
            "DefaultLocaleSidKey": "en_US",
            "LanguageLocaleKey": "en_US",
            "TimeZoneSidKey": "GMT",
        }
        definition = self.catalogue.object("Organization")
        facts = {name: one for name, one in facts.items() if definition.field(name)}
        self.create("Organization", facts)

    @property
    def revision(self) -> int:
        """Moves with every change to records or definitions; caches compare it."""
        return self._revision + self.catalogue.revision

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Writes that all happen or none; nested ones join in."""
        try:
            with self.store.writing() as connection:
                yield connection
        finally:
            self._revision += 1

    # Records

    def create(
        self, object_name: str, values: Mapping[str, Any], *, as_user: str | None = None
    ) -> str:
        """Create one record; returns its 18-character Id."""
        return self.create_many(object_name, [values], as_user=as_user)[0]

    def create_many(
        self, object_name: str, rows: Iterable[Mapping[str, Any]], *, as_user: str | None = None
    ) -> list[str]:
        """Create records, committing batch by batch; a batch goes in whole or not at all."""
        definition = self.catalogue.object(object_name)
        batch = Batch(self, definition, self._author(as_user))
        made: list[str] = []
        remaining = iter(rows)
        while chunk := list(islice(remaining, _BATCH)):
            with self.transaction() as connection:
                made.extend(batch.insert(connection, chunk))
        return made

    def _author(self, as_user: str | None) -> Author:
        return Author(as_user or self.user_id, self.clock.stamp())

    def update(
        self,
        object_name: str,
        record_id: str,
        values: Mapping[str, Any],
        *,
        as_user: str | None = None,
    ) -> None:
        """Change a record; its stamps move unless the values carry stamps of their own."""
        definition = self.catalogue.object(object_name)
        identifier = self._id(definition, record_id)
        author = self._author(as_user)
        [given] = resolved(definition, [values])
        fields = {field.name: field for field in definition.fields}
        columns = {name: [keeper(fields[name])(value)] for name, value in given.items()}
        columns.pop("Id", None)
        stamps = {
            "LastModifiedDate": author.stamp,
            "LastModifiedById": author.user,
            "SystemModstamp": author.stamp,
        }
        for name, value in stamps.items():
            if name in fields:
                columns.setdefault(name, [value])
        with self.transaction() as connection:
            self._check_alive(connection, definition, identifier)
            check_required(definition, columns)
            check_unique(connection, definition, columns, [identifier])
            check_references(connection, self, definition, columns)
            connection.execute(
                f"UPDATE {quoted(definition.name)} SET "
                f"{', '.join(f'{quoted(name)} = ?' for name in columns)} WHERE Id = ?",
                [*(column[0] for column in columns.values()), identifier],
            )

    def update_many(
        self,
        object_name: str,
        record_ids: Sequence[str],
        values_of: Callable[[Row], Mapping[str, Any]],
        *,
        as_user: str | None = None,
    ) -> None:
        """Change many records in one transaction; the function sees each one as it is."""
        with self.transaction():
            for record_id in record_ids:
                record = self.get(object_name, record_id)
                if record is None:
                    raise not_found()
                self.update(object_name, record_id, values_of(record), as_user=as_user)

    def delete(self, object_name: str, record_id: str) -> None:
        """Delete a record and what is deleted with it."""
        definition = self.catalogue.object(object_name)
        with self.transaction() as connection:
            bins.delete(self, connection, definition, self._id(definition, record_id))

    def undelete(self, object_name: str, record_id: str) -> None:
        """Bring a record back from the recycle bin."""
        definition = self.catalogue.object(object_name)
        with self.transaction() as connection:
            bins.undelete(self, connection, definition, self._id(definition, record_id))

    def hard_delete(self, object_name: str, record_id: str) -> None:
        """Remove a record for good: queryAll no longer shows it, getDeleted still does."""
        definition = self.catalogue.object(object_name)
        with self.transaction() as connection:
            bins.hard_delete(self, connection, definition, self._id(definition, record_id))

    def merge(self, object_name: str, winner: str, losers: list[str]) -> None:
        """Fold one or two records into another of the same object."""
        unions.merge(self, object_name, winner, losers)

    def convert_lead(
        self, lead_id: str, *, account_id: str | None = None, opportunity: bool = True
    ) -> Row:
        """Turn a lead into a contact of a new or given account; returns what it became."""
        return unions.convert_lead(self, lead_id, account_id=account_id, opportunity=opportunity)

    def empty_bin(self, object_name: str) -> int:
        """Empty the recycle bin of one object; returns how many records went."""
        with self.transaction() as connection:
            return bins.empty(self, connection, self.catalogue.object(object_name))

    def get(self, object_name: str, record_id: str) -> Row | None:
        """A record with all its fields, deleted or not; None if there is no such row."""
        return reading.record(self, object_name, record_id)

    def query(self, soql: str, *, include_deleted: bool = False) -> list[Row]:
        """The rows of a query as Python values; parents are nested dicts."""
        return reading.rows(self, soql, include_deleted=include_deleted)

    def count(self, object_name: str, *, include_deleted: bool = False) -> int:
        """How many records an object has."""
        definition = self.catalogue.object(object_name)
        alive = definition.soft_delete and not include_deleted
        row = self.store.reader().execute(
            f"SELECT count(*) FROM {quoted(definition.name)}"
            + (" WHERE IsDeleted = 'false'" if alive else "")
        )
        return int(row.fetchone()[0])

    def _id(self, definition: ObjectDefinition, record_id: str) -> str:
        identifier = identifiers.normalise(record_id)
        if identifier is None or not identifier.startswith(definition.key_prefix):
            raise malformed_id(record_id, f"{definition.label} ID")
        return identifier

    def _check_alive(
        self, connection: sqlite3.Connection, definition: ObjectDefinition, identifier: str
    ) -> None:
        shown = "IsDeleted" if definition.soft_delete else "'false'"
        row = connection.execute(
            f"SELECT {shown} FROM {quoted(definition.name)} WHERE Id = ?", (identifier,)
        ).fetchone()
        if row is None:
            raise not_found()
        if row[0] == "true":
            raise entity_is_deleted()

    # Definitions and limits

    def add_object(self, definition: ObjectDefinition) -> None:
        """Give the org a further object."""
        self.catalogue.add_object(definition)

    def add_field(self, object_name: str, field: FieldDefinition) -> None:
        """Give an object a further field; boolean fields hold their default in old records."""
        self.catalogue.add_field(object_name, field)
        if field.stored and (field.type == "boolean" or field.default is not None):
            with self.transaction() as connection:
                connection.execute(
                    f"UPDATE {quoted(self.catalogue.object(object_name).name)} "
                    f"SET {quoted(field.name)} = ? WHERE {quoted(field.name)} IS NULL",
                    (keeper(field)(field.default),),
                )

    def remove_field(self, object_name: str, field_name: str) -> None:
        """Take a field away; its values stay in storage, out of sight."""
        self.catalogue.remove_field(object_name, field_name)

    def hide_field(self, object_name: str, field_name: str) -> None:
        """Take a field away from the API user only (field-level security)."""
        self.catalogue.hide_field(object_name, field_name)

    def forbid_object(self, object_name: str) -> None:
        """Take an object away from the API user only."""
        self.catalogue.forbid_object(object_name)

    def set_api_limit(self, remaining: int, maximum: int | None = None) -> None:
        """Say how many API calls are left today, of how many."""
        self.limit.set(remaining, maximum)

    def expire_sessions(self) -> int:
        """End every session; returns how many there were."""
        return self.sessions.expire_all()

    def trim_delete_log(self, before: str) -> None:
        """Forget deletions before a stamp; getDeleted then says so as earliestDateAvailable."""
        self.delete_log_since = before
        with self.transaction() as connection:
            connection.execute("DELETE FROM _sandbox_deletions WHERE deleted_at < ?", (before,))

    def close(self) -> None:
        """Close the org's connections; a private org is gone."""
        self.store.close()


def _standard() -> Iterable[ObjectDefinition]:
    # Imported late: the standard objects' formulas name this class.
    from crm_pipeline.sandbox.salesforce.standard_objects import STANDARD_OBJECTS  # noqa: PLC0415

    return STANDARD_OBJECTS
