"""Creating the records of a file in an order that works, under Ids that are free.

Belongs here: parents before children, references that follow their records, circles. Does not
belong here: what the files say (importer_files.py), making fields for it (importer.py).
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from crm_pipeline.sandbox.salesforce import identifiers
from crm_pipeline.sandbox.salesforce.failures import OrgError
from crm_pipeline.sandbox.salesforce.importer_files import FileRecord, ImportRefused
from crm_pipeline.sandbox.salesforce.org import SandboxOrg

Mending = tuple[FileRecord, dict[str, Any]]


class Arrival:
    """Creates records and remembers under which Id each of them arrived."""

    def __init__(self, org: SandboxOrg) -> None:
        self._org = org
        self._went: dict[str, str] = {}  # token (@refId or old Id) -> Id in the org
        self._existing: dict[str, bool] = {}
        self._lookups: dict[str, list[str]] = {}
        self.left_out: Counter[str] = Counter()

    def create(self, by_object: Mapping[str, list[FileRecord]]) -> dict[str, int]:
        """Create all records, parents first; those that wait for each other are mended after.

        Runs in the caller's transaction.

        Raises:
            ImportRefused: The org refuses a record; the message says where it stands.
        """
        self._lookups = {name: self._references(name) for name in by_object}
        for name, group in by_object.items():
            self._keep_free_ids(name, group)
        made: Counter[str] = Counter()
        mendings: list[Mending] = []
        waiting = [record for group in by_object.values() for record in group]
        awaited = Counter(_token(token) for record in waiting for token in record.tokens)
        while waiting:
            ready = [one for one in waiting if not self._blockers(one, awaited)]
            if not ready:
                ready = self._cut(waiting, awaited, mendings)
            self._write(ready, made)
            for record in ready:
                awaited.subtract(_token(token) for token in record.tokens)
            chosen = set(map(id, ready))
            waiting = [one for one in waiting if id(one) not in chosen]
        for record, values in mendings:
            self._mend(record, values)
        return dict(made)

    def _references(self, name: str) -> list[str]:
        fields = self._org.catalogue.object(name).fields
        return [one.name for one in fields if one.type == "reference" and one.stored]

    def _keep_free_ids(self, name: str, group: list[FileRecord]) -> None:
        """Let a record keep its Id where that is the object's and nobody else has it."""
        definition = self._org.catalogue.object(name)
        rows = self._org.query(f"SELECT Id FROM {definition.name}", include_deleted=True)
        taken = {str(row["Id"]) for row in rows}
        for record in group:
            own = identifiers.normalise(record.old_id)
            if own and own.startswith(definition.key_prefix) and own not in taken:
                record.values["Id"] = own
                taken.add(own)

    def _blockers(self, record: FileRecord, awaited: Counter[str]) -> list[str]:
        """The lookups that point to records which are not there yet."""
        return [
            name
            for name in self._lookups[record.object_name]
            if record.values.get(name) and awaited[_token(record.values[name])] > 0
        ]

    def _cut(
        self, waiting: list[FileRecord], awaited: Counter[str], mendings: list[Mending]
    ) -> list[FileRecord]:
        """Break a circle: create one object's records without the lookups they wait for."""
        name = waiting[0].object_name
        definition = self._org.catalogue.object(name)
        ready = [one for one in waiting if one.object_name == name]
        for record in ready:
            blockers = self._blockers(record, awaited)
            for blocker in blockers:
                field = definition.field(blocker)
                if field is not None and not field.nillable and blocker != "OwnerId":
                    raise ImportRefused(
                        f"{record.place}: {blocker} is required and waits for a record that "
                        "waits for this one; take one of the two references out"
                    )
            mendings.append((record, {one: record.values.pop(one) for one in blockers}))
        return ready

    def _write(self, ready: list[FileRecord], made: Counter[str]) -> None:
        groups: dict[str, list[FileRecord]] = {}
        for record in ready:
            groups.setdefault(record.object_name, []).append(record)
        for name, group in groups.items():
            rows = [self._translated(record, record.values) for record in group]
            try:
                arrived = self._org.create_many(name, rows)
            except OrgError as error:
                raise self._refusal(name, group, rows, error) from error
            for record, identifier in zip(group, arrived, strict=True):
                self._existing[identifier] = True
                self._went.update((_token(token), identifier) for token in record.tokens)
            made[name] += len(group)

    def _translated(self, record: FileRecord, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values as the org takes them: references followed, nulls left to the defaults."""
        row = {name: value for name, value in values.items() if value is not None}
        for name in self._lookups[record.object_name]:
            if name not in row:
                continue
            token = _token(row[name])
            target = self._went.get(token, token)
            if target.startswith("@"):
                raise ImportRefused(
                    f"{record.place}: {name} refers to {target}, which is in none of the files"
                )
            if self._exists(target):
                row[name] = target
            else:
                del row[name]
                self.left_out[f"{record.object_name}.{name}"] += 1
        return row

    def _exists(self, identifier: str) -> bool:
        known = self._existing.get(identifier)
        if known is None:
            definition = self._org.catalogue.by_prefix(identifier)
            # An Id of an object the org does not keep (a profile, a role) is opaque and passes.
            known = definition is None or self._org.get(definition.name, identifier) is not None
            self._existing[identifier] = known
        return known

    def _refusal(
        self, name: str, group: list[FileRecord], rows: list[dict[str, Any]], error: OrgError
    ) -> ImportRefused:
        """Name the record that the org refused; the transaction is lost, so trying is free."""
        for record, row in zip(group, rows, strict=True):
            try:
                self._org.create(name, row)
            except OrgError as culprit:
                return ImportRefused(f"{record.place}: {culprit}")
        return ImportRefused(f"{group[0].place}: {error}")

    def _mend(self, record: FileRecord, values: dict[str, Any]) -> None:
        """Fill in the lookups of a circle, without the stamps moving."""
        row = self._translated(record, values)
        if not row:
            return
        identifier = self._went[_token(record.tokens[0])]
        present = self._org.get(record.object_name, identifier) or {}
        stamps = {
            name: present[name]
            for name in ("LastModifiedDate", "LastModifiedById", "SystemModstamp")
            if present.get(name)
        }
        try:
            self._org.update(record.object_name, identifier, stamps | row)
        except OrgError as error:
            raise ImportRefused(f"{record.place}: {error}") from error


def _token(value: Any) -> str:
    """A reference as it is compared: `@refId` as it stands, Ids in their 18 characters."""
    text = str(value)
    return text if text.startswith("@") else identifiers.normalise(text) or text
