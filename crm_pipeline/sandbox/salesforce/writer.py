"""Writes of an API user, row by row: permissions, faults, locks, the org's rules, the ledger.

Belongs here: one row's way into the org, whichever request brings it. Does not belong here:
HTTP (rows.py, composites.py, ingest_calls.py), many rows at once (batches.py).
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from crm_pipeline.sandbox.salesforce import features, field_security, owners
from crm_pipeline.sandbox.salesforce.failures import OrgError, not_found
from crm_pipeline.sandbox.salesforce.row_locks import locked_with
from crm_pipeline.sandbox.salesforce.rules import Written
from crm_pipeline.sandbox.salesforce.schema import ObjectDefinition
from crm_pipeline.sandbox.salesforce.storage import quoted
from crm_pipeline.sandbox.salesforce.values import Stored
from crm_pipeline.sandbox.salesforce.writable import matching, permitted
from crm_pipeline.sandbox.salesforce.write_ledger import DONE, WriteRequest, WrittenRow
from crm_pipeline.sandbox.salesforce.write_options import WriteOptions

if TYPE_CHECKING:
    from crm_pipeline.sandbox.salesforce.calls import Server

Row = dict[str, Any]


class Writer:
    """The writes of one request. With a `holder`, its rows stay locked until the answer is out."""

    def __init__(
        self,
        server: "Server",
        options: WriteOptions,
        request: WriteRequest,
        *,
        number: int = 0,
        holds: bool = False,
    ) -> None:
        self._server = server
        self._org = server.org
        self._options = options
        self._number = number
        self._holds = holds
        self.request = request

    def insert(
        self, definition: ObjectDefinition, values: Mapping[str, Any], *, key: str = ""
    ) -> str:
        """Create one record; returns its Id."""
        with self._noted("create", definition, "", values, key) as row:
            if not definition.createable:
                raise OrgError(
                    "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY",
                    f"entity type cannot be inserted: {definition.label}",
                )
            self._server.faults.check_row(definition.name, "", values)
            kept = permitted(self._org, definition, values, creating=True)
            owners.check(self._org, definition, kept)
            self._lock(definition, locked_with(definition, kept))
            with self._org.transaction():
                field_security.check(self._org, definition, kept)
                identifier = self._org.create(definition.name, kept)
                self._settle(definition, identifier, kept, {}, created=True)
            row.id, row.changed = identifier, list(kept)
            self._lock(definition, {identifier})
            return identifier

    def change(
        self,
        definition: ObjectDefinition,
        record_id: str,
        values: Mapping[str, Any],
        *,
        key: str = "",
    ) -> None:
        """Change one record; a converted lead is read only."""
        with self._noted("update", definition, record_id, values, key) as row:
            self._check_reachable(definition, record_id, values)
            features.check_not_twin(self._org, definition, record_id)
            kept = permitted(self._org, definition, values, creating=False)
            owners.check(self._org, definition, kept)
            self._check_not_converted(definition, record_id)
            with self._org.transaction():
                before = self._stored(definition, record_id, kept)
                self._lock(definition, {record_id, *locked_with(definition, kept)})
                self._org.update(definition.name, record_id, kept)
                after = self._stored(definition, record_id, kept)
                row.changed = [name for name in kept if before.get(name) != after.get(name)]
                self._settle(definition, record_id, kept, before, created=False)

    def upsert(
        self,
        definition: ObjectDefinition,
        key: str,
        value: Any,
        values: Mapping[str, Any],
        *,
        update_only: bool = False,
    ) -> tuple[str, bool]:
        """Create or change the record with this external Id; returns its Id and whether it is new.

        Several matches are answered with 300 and nothing is written.
        """
        named = f"{key}={value}"
        found = matching(self._org, definition, key, value) if value is not None else []
        if len(found) > 1:
            with self._noted("upsert", definition, "", values, named):
                raise OrgError(
                    "DUPLICATE_EXTERNAL_ID",
                    f"{key}: more than one record found for external id field: "
                    f"[{', '.join(found)}]",
                    fields=(key,),
                    status=300,
                )
        if found:
            self.change(definition, found[0], values, key=named)
            return found[0], False
        if update_only or (value is not None and key.lower() == "id"):
            with self._noted("upsert", definition, "", values, named):
                raise not_found(
                    f"Provided external ID field does not exist or is not accessible: {value}"
                )
        if key.lower() != "id":
            values = {**values, key: value}
        return self.insert(definition, values, key=named), True

    def remove(
        self, definition: ObjectDefinition, record_id: str, *, for_good: bool = False
    ) -> None:
        """Delete one record, past the bin if told so."""
        with self._noted("delete", definition, record_id, {}, ""):
            self._check_reachable(definition, record_id, {})
            self._lock(definition, {record_id})
            verb = self._org.hard_delete if for_good else self._org.delete
            verb(definition.name, record_id)

    @contextmanager
    def _noted(
        self,
        operation: str,
        definition: ObjectDefinition,
        record_id: str,
        values: Mapping[str, Any],
        key: str,
    ) -> Iterator[WrittenRow]:
        row = self.request.note(operation, definition.name, record_id, values)
        row.key = key
        try:
            yield row
        except OrgError as error:
            row.outcome, row.changed = error.code, []
            raise
        row.outcome = DONE

    def _check_reachable(
        self, definition: ObjectDefinition, record_id: str, values: Mapping[str, Any]
    ) -> None:
        self._server.faults.check_row(definition.name, record_id, values)
        self._org.sharing.check(definition, record_id)
        self._org.rules.check_unlocked(definition, record_id)

    def _check_not_converted(self, definition: ObjectDefinition, record_id: str) -> None:
        if definition.name != "Lead":
            return
        row = self._org.store.reader().execute(
            'SELECT "IsConverted" FROM "Lead" WHERE Id = ?', (record_id,)
        )
        if (row.fetchone() or ("false",))[0] == "true":
            raise OrgError("CANNOT_UPDATE_CONVERTED_LEAD", "cannot reference converted lead")

    def _lock(self, definition: ObjectDefinition, ids: Collection[str]) -> None:
        """Refuse rows whose record or parent somebody holds; hold them if told so."""
        held = self._org.transactions.any_held()
        locks = self._server.locks
        if not (held or locks.busy or self._holds):
            return
        whole = set(ids)
        for one in ids:
            if one.startswith(definition.key_prefix):
                present = self._stored(definition, one, [f.name for f in definition.fields])
                whole |= locked_with(definition, present)
        for one in whole if held else ():
            self._org.transactions.check_free(one)
        locks.check(whole, self._number)
        if self._holds:
            locks.take(whole, self._number)

    def _stored(
        self, definition: ObjectDefinition, record_id: str, names: Collection[str]
    ) -> dict[str, Stored]:
        kept = [one.name for one in definition.fields if one.stored and one.name in set(names)]
        if not kept:
            return {}
        columns = ", ".join(quoted(name) for name in kept)
        row = self._org.store.reader().execute(
            f"SELECT {columns} FROM {quoted(definition.name)} WHERE Id = ?", (record_id,)
        )
        found = row.fetchone()
        return {} if found is None else dict(zip(kept, found, strict=True))

    def _settle(
        self,
        definition: ObjectDefinition,
        record_id: str,
        values: Row,
        before: Mapping[str, Stored],
        *,
        created: bool,
    ) -> None:
        self._org.rules.settle(
            Written(definition, record_id, frozenset(values), before, created, self._options)
        )
