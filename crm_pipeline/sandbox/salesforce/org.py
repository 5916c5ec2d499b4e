"""The org in Python: its objects, its records, its clock. The HTTP side only translates.

Belongs here: what a test or the demo says to the org. Does not belong here: how a row is
checked (writing.py), deleted (bins.py), asked for (soql*.py, reading.py) or served (server.py).
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from crm_pipeline.sandbox.salesforce import (
    bins,
    editing,
    features,
    field_security,
    founding,
    reading,
    schema_changes,
    truth,
    unions,
)
from crm_pipeline.sandbox.salesforce.catalogue import Catalogue
from crm_pipeline.sandbox.salesforce.clock import OrgClock, stamp_text
from crm_pipeline.sandbox.salesforce.commits import Commits
from crm_pipeline.sandbox.salesforce.custom_fields import CustomFields
from crm_pipeline.sandbox.salesforce.failures import not_found
from crm_pipeline.sandbox.salesforce.housekeeping import Housekeeping
from crm_pipeline.sandbox.salesforce.limits import ApiLimit
from crm_pipeline.sandbox.salesforce.rules import Rules
from crm_pipeline.sandbox.salesforce.schema import FieldDefinition, ObjectDefinition
from crm_pipeline.sandbox.salesforce.sessions import Sessions
from crm_pipeline.sandbox.salesforce.sharing import Sharing
from crm_pipeline.sandbox.salesforce.storage import Store, quoted
from crm_pipeline.sandbox.salesforce.transactions import OpenTransaction, Transactions
from crm_pipeline.sandbox.salesforce.values import keeper
from crm_pipeline.sandbox.salesforce.writing import Author, Batch

Row = dict[str, Any]
_RATES = {"EUR": "1", "USD": "1.08", "GBP": "0.86"}
_BATCH = 20_000  # rows checked and committed together by create_many


class SandboxOrg:
    """A simulated Salesforce org whose records live in SQLite.

    Without a path it is private and gone after `close`; with one it goes on where it stopped.
    Its methods speak for an administrator: rows may carry stamps and Ids of their own, which
    the API refuses. Safe to use from several threads. With `keeps_past=False` it keeps no
    replaced versions, and `truth_at` does not answer.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        objects: Iterable[ObjectDefinition] | None = None,
        clock: OrgClock | None = None,
        organization_id: str | None = None,
        name: str = "Sandbox Org",
        keeps_past: bool = True,
    ) -> None:
        self.clock = clock or OrgClock()
        self.name = name
        self._revision = 0
        self.commits = Commits(self.clock)
        self.store = Store(path, self._prepare, self.commits, keeps_past=keeps_past)
        self.organization_id = founding.organization_id(self, organization_id)
        self.catalogue = Catalogue(self.store, _standard() if objects is None else objects)
        self.catalogue.grants = partial(field_security.granted, self)
        self.user_id = founding.INTEGRATION_USER
        self.sessions = Sessions(self.clock)
        self.transactions = Transactions(self)
        self.sharing = Sharing(self)
        self.rules = Rules(self)
        self.custom_fields = CustomFields(self)
        self.limit = ApiLimit()
        self.delete_log_since: str | None = None
        # With a seed, answers without ORDER BY come in an order of its own, as Salesforce may.
        self.row_order_seed: int | None = None
        founding.found(self)
        self.housekeeping = Housekeeping(self)

    def _prepare(self, connection: sqlite3.Connection) -> None:
        reading.add_functions(self, connection)

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

    def open_transaction(self) -> OpenTransaction:
        """Begin a transaction that nobody sees until its `commit`; several may be open."""
        return self.transactions.open()

    def truth_at(
        self,
        object_name: str,
        instant: str | datetime | None = None,
        *,
        commit: int | None = None,
        include_deleted: bool = False,
    ) -> dict[str, Row]:
        """All records as of an instant of commit time (now if none is given), by Id."""
        moment = stamp_text(instant) if isinstance(instant, datetime) else instant
        return truth.at(
            self, object_name, instant=moment, commit=commit, include_deleted=include_deleted
        )

    def versions(self, object_name: str, record_id: str) -> list[Row]:
        """Every committed version of a record with its commit, oldest first."""
        return truth.versions(self, object_name, record_id)

    def forget_past(self, before: str | datetime) -> None:
        """Drop the versions that were replaced before an instant."""
        truth.forget(self, stamp_text(before) if isinstance(before, datetime) else before)

    # Records

    def create(
        self, object_name: str, values: Mapping[str, Any], *, as_user: str | None = None
    ) -> str:
        """Create one record; returns its 18-character Id."""
        if features.is_person(self.catalogue.object(object_name), values):
            return features.create_person(self, values, as_user=as_user)
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
                field_security.touched(self, definition)
        return made

    def _author(self, as_user: str | None, moves: str = "all") -> Author:
        return Author(as_user or self.user_id, self.commits.stamp(), moves)

    def update(
        self,
        object_name: str,
        record_id: str,
        values: Mapping[str, Any],
        *,
        stamps: str = "all",
        as_user: str | None = None,
    ) -> None:
        """Change a record; its stamps move unless the values carry stamps of their own.

        `stamps` says which: "all", "system" (SystemModstamp alone) or "none".
        """
        definition = self.catalogue.object(object_name)
        editing.update(self, definition, record_id, values, self._author(as_user, stamps))

    def update_all(
        self,
        object_name: str,
        values: Mapping[str, Any],
        matching: str = "",
        *,
        stamps: str = "all",
        as_user: str | None = None,
    ) -> int:
        """Give all records that match the same values in one statement; returns how many.

        `matching` is what follows FROM in a query: "WHERE City = 'Bonn' LIMIT 12000". With
        `stamps="none"` and a stamp among the values, that many records share it.
        """
        definition = self.catalogue.object(object_name)
        author = self._author(as_user, stamps)
        return editing.update_all(self, definition, values, matching, author)

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
            bins.delete(self, connection, definition, editing.own_id(definition, record_id))

    def undelete(self, object_name: str, record_id: str) -> None:
        """Bring a record back from the recycle bin."""
        definition = self.catalogue.object(object_name)
        with self.transaction() as connection:
            bins.undelete(self, connection, definition, editing.own_id(definition, record_id))

    def hard_delete(self, object_name: str, record_id: str) -> None:
        """Remove a record for good: queryAll no longer shows it, getDeleted still does."""
        definition = self.catalogue.object(object_name)
        with self.transaction() as connection:
            bins.hard_delete(self, connection, definition, editing.own_id(definition, record_id))

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

    def query(
        self, soql: str, *, include_deleted: bool = False, as_user: bool = False
    ) -> list[Row]:
        """The rows of a query as Python values; parents are nested dicts.

        It sees everything, unless it is told to see what the API user sees.
        """
        return reading.rows(self, soql, include_deleted=include_deleted, as_user=as_user)

    def count(self, object_name: str, *, include_deleted: bool = False) -> int:
        """How many records an object has."""
        definition = self.catalogue.object(object_name)
        alive = definition.soft_delete and not include_deleted
        row = self.store.reader().execute(
            f"SELECT count(*) FROM {quoted(definition.name)}"
            + (" WHERE IsDeleted = 'false'" if alive else "")
        )
        return int(row.fetchone()[0])

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

    def retype_field(self, object_name: str, field_name: str, **facts: Any) -> None:
        """Give a field other facts, such as `type="string", length=80`; no stamp moves."""
        schema_changes.retype(self, object_name, field_name, **facts)

    def rename_field(self, object_name: str, old_name: str, new_name: str) -> None:
        """Give a field another name; its values stay."""
        schema_changes.rename(self, object_name, old_name, new_name)

    def edit_picklist(
        self, object_name: str, field_name: str, value: str, *, to: str | None = None
    ) -> int:
        """Rename a value, which moves its holders' SystemModstamp, or retire it."""
        return schema_changes.edit_picklist(self, object_name, field_name, value, to=to)

    def enable_currencies(self, rates: Mapping[str, str] = _RATES) -> None:
        """Let amounts say their currency; old records get the first code, and no stamp moves."""
        features.enable_currencies(self, rates)

    def enable_person_accounts(self) -> None:
        """Let an account that is created with a LastName be a person, with a contact as twin."""
        features.enable_person_accounts(self)

    def hide_field(self, object_name: str, field_name: str) -> None:
        """Take a field away from the API user only (field-level security)."""
        self.catalogue.hide_field(object_name, field_name)

    def mask_field(self, object_name: str, field_name: str) -> None:
        """Show the API user the last four characters of a field only."""
        self.catalogue.set_access(object_name, field_name, "masked")

    def show_field(self, object_name: str, field_name: str) -> None:
        """Give a field back to the API user."""
        self.catalogue.show_field(object_name, field_name)

    def hide_records(self, object_name: str, ids: Iterable[str] = (), *, where: str = "") -> None:
        """Hide records from the API user, by Id or while they meet a condition; no stamp moves."""
        self.sharing.hide(object_name, ids, where)

    def show_records(self, object_name: str, ids: Iterable[str] | None = None) -> None:
        """Let hidden records (all of the object by default) come to light; no stamp moves."""
        self.sharing.show(object_name, ids)

    def forbid_object(self, object_name: str) -> None:
        """Take an object away from the API user only."""
        self.catalogue.forbid_object(object_name)

    def set_api_limit(self, remaining: int, maximum: int | None = None) -> None:
        """Say how many API calls are left today, of how many."""
        self.limit.set(remaining, maximum)

    def expire_sessions(self) -> int:
        """End every session; returns how many there were."""
        return self.sessions.expire_all()

    def trim_delete_log(self, before: str, *, inclusive: bool = False) -> None:
        """Forget deletions before a stamp; getDeleted then says so as earliestDateAvailable."""
        self.delete_log_since = max(before, self.delete_log_since or "")
        older = "<=" if inclusive else "<"
        with self.transaction() as connection:
            connection.execute(
                f"DELETE FROM _sandbox_deletions WHERE deleted_at {older} ?", (before,)
            )

    def close(self) -> None:
        """Close the org's connections; a private org is gone."""
        self.store.close()


def _standard() -> Iterable[ObjectDefinition]:
    # Imported late: the standard objects' formulas name this class.
    from crm_pipeline.sandbox.salesforce.standard_objects import STANDARD_OBJECTS  # noqa: PLC0415

    return STANDARD_OBJECTS
