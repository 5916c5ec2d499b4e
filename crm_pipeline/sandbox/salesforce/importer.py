"""Records from files that real tools write, put into an org with their references intact.

Belongs here: fields and objects the org lacks, children nested in parents. Does not belong
here: the files' formats (importer_files.py), guessing types (importer_types.py), the order of
creation and Ids that clash (importer_arrival.py).
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Literal

from crm_pipeline.sandbox.salesforce import identifiers
from crm_pipeline.sandbox.salesforce.importer_arrival import Arrival
from crm_pipeline.sandbox.salesforce.importer_files import (
    FileRecord,
    ImportRefused,
    read_csv,
    read_trees,
)
from crm_pipeline.sandbox.salesforce.importer_types import guessed_field, guessed_object
from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.schema import FieldDefinition, ObjectDefinition

__all__ = ["ImportRefused", "Importer", "import_csv", "import_tree"]

OnUnknown = Literal["add", "error"]


def import_tree(
    org: SandboxOrg, paths: Iterable[Path], *, on_unknown: OnUnknown = "add"
) -> dict[str, int]:
    """Import sObject tree JSON, as `sf data export tree` writes it.

    Args:
        org: Where the records go; all of them or none.
        paths: Tree files, plans (`*-plan.json`) or directories of them, in any order.
        on_unknown: Add fields and objects the org lacks, or refuse them.

    Returns:
        How many records each object received.

    Raises:
        ImportRefused: The files cannot be imported; the message says what and where.
    """
    return Importer(org, on_unknown=on_unknown).tree(paths)


def import_csv(
    org: SandboxOrg, object_name: str, path: Path, *, on_unknown: OnUnknown = "add"
) -> int:
    """Import one CSV export of one object; returns how many records there were.

    Several files that refer to each other's Ids belong to one `Importer`, which remembers
    where an Id went.

    Raises:
        ImportRefused: The file cannot be imported; the message says what and where.
    """
    return Importer(org, on_unknown=on_unknown).csv(object_name, path)


class Importer:
    """Puts the records of files into an org and remembers what became of their Ids.

    An Id from a file is kept where it is free and belongs to the object; otherwise the record
    gets a new one, and references follow. A reference to a record that is neither in the files
    nor in the org is left empty and counted in `left_out` (an export seldom holds its users).
    """

    def __init__(self, org: SandboxOrg, *, on_unknown: OnUnknown = "add") -> None:
        self._org = org
        self._on_unknown = on_unknown
        self._arrival = Arrival(org)

    @property
    def left_out(self) -> Counter[str]:
        """How many references were left empty, by `Object.Field`."""
        return self._arrival.left_out

    def tree(self, paths: Iterable[Path]) -> dict[str, int]:
        """Import tree files and plans; see `import_tree`."""
        return self._load(read_trees(paths))

    def csv(self, object_name: str, path: Path) -> int:
        """Import a CSV export; see `import_csv`."""
        return sum(self._load(read_csv(object_name, path)).values())

    def _load(self, records: list[FileRecord]) -> dict[str, int]:
        by_object: dict[str, list[FileRecord]] = defaultdict(list)
        for record in records:
            by_object[record.object_name].append(record)
        with self._org.transaction():
            for name in by_object:
                self._know_object(name, by_object[name][0].place)
            kinds = {
                token: self._org.catalogue.object(record.object_name).name
                for record in records
                for token in record.tokens
            }
            for name, group in by_object.items():
                self._know_fields(name, group, kinds)
                self._adopt_parents(name, group)
            return self._arrival.create(by_object)

    # What the org does not know yet

    def _know_object(self, name: str, place: str) -> None:
        if self._org.catalogue.has(name):
            return
        if self._on_unknown == "error":
            raise ImportRefused(f"{place}: the org has no object {name}")
        taken = {one.key_prefix: one.name for one in self._org.catalogue.all()}
        self._org.add_object(guessed_object(name, taken))

    def _know_fields(self, name: str, group: list[FileRecord], kinds: dict[str, str]) -> None:
        """Add the fields the object lacks, or refuse them; drop what the org computes itself."""
        for key in {key: None for record in group for key in record.values}:
            known = self._org.catalogue.object(name).field(key)
            if known is None and "." not in key:
                values = [record.values.get(key) for record in group]
                if self._on_unknown == "error":
                    raise ImportRefused(f"{group[0].place}: {name} has no field {key}")
                known = guessed_field(key, values, partial(self._target, kinds))
                self._org.add_field(name, known)
            elif known is None and self._on_unknown == "error":
                raise ImportRefused(f"{group[0].place}: {key} is a field of another record")
            _respell(group, key, known)

    def _target(self, kinds: dict[str, str], value: str) -> str | None:
        """The object a value refers to: a token of the files, or an Id with its checksum."""
        if value in kinds:
            return kinds[value]
        identifier = identifiers.normalise(value) if len(value) == 18 else None
        found = self._org.catalogue.by_prefix(identifier) if identifier else None
        return found.name if found else None

    def _adopt_parents(self, name: str, group: list[FileRecord]) -> None:
        """Give a record that was nested in another the lookup that leads to it."""
        for record in group:
            for parent, token in record.parents.items():
                field = _lookup(self._org.catalogue.object(name), parent)
                if field is None:
                    if self._on_unknown == "error":
                        raise ImportRefused(f"{record.place}: {name} has no lookup to {parent}")
                    field = guessed_field(
                        f"{parent.removesuffix('__c')}__c", [token], {token: parent}.get
                    )
                    self._org.add_field(name, field)
                if record.values.get(field.name) is None:
                    record.values[field.name] = token


def _lookup(definition: ObjectDefinition, parent: str) -> FieldDefinition | None:
    """The field by which a record refers to its parent: the one named after it, else the first."""
    able = [
        one
        for one in definition.fields
        if one.type == "reference" and parent in one.reference_to and one.createable
    ]
    named = {f"{parent}id".lower(), parent.lower(), f"{parent.removesuffix('__c')}__c".lower()}
    return next((one for one in able if one.name.lower() in named), able[0] if able else None)


def _respell(group: list[FileRecord], key: str, known: FieldDefinition | None) -> None:
    """Spell a column as the object does; one that holds no value of its own goes."""
    if known is not None and known.stored and known.name == key:
        return
    for record in group:
        value = record.values.pop(key, None)
        if known is not None and known.stored:
            record.values[known.name] = value
