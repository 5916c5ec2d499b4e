"""The org's own rules for writes: what administrators set up in Setup, and what code does.

A rule looks at a record as it is after the write, inside its transaction, so a refusal takes
the write back. Nothing of the rules is kept: an org that is opened again has none.

Belongs here: the rules of an org, in the order in which Salesforce runs them. Does not belong
here: what one kind of rule does (rule_kinds.py), the checks that are always made (writing.py).
"""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from crm_pipeline.sandbox.salesforce.failures import OrgError
from crm_pipeline.sandbox.salesforce.schema import ObjectDefinition
from crm_pipeline.sandbox.salesforce.soql_compiler import compile_soql
from crm_pipeline.sandbox.salesforce.values import Stored
from crm_pipeline.sandbox.salesforce.write_options import WriteOptions

if TYPE_CHECKING:
    from crm_pipeline.sandbox.salesforce.org import SandboxOrg


@dataclass(frozen=True, slots=True)
class Written:
    """One row that an API user has just written; `before` holds its stored values until then."""

    definition: ObjectDefinition
    record_id: str
    fields: frozenset[str]
    before: Mapping[str, Stored]
    created: bool
    options: WriteOptions


class Rule(Protocol):
    """What every kind of rule has. `uses` counts how often it did something."""

    object_name: str
    uses: int

    def settle(self, org: "SandboxOrg", written: Written) -> None:
        """Let the write stand, refuse it, or change the record further."""

    def facts(self) -> dict[str, Any]:
        """The rule as JSON."""


class Locks(Protocol):
    """A rule that keeps records from being written at all."""

    object_name: str
    uses: int

    def check(self, org: "SandboxOrg", record_id: str) -> None:
        """Refuse a write to a locked record."""

    def facts(self) -> dict[str, Any]:
        """The rule as JSON."""


class Rules:
    """The rules in force. Most orgs have none, and then a write costs nothing more."""

    def __init__(self, org: "SandboxOrg") -> None:
        self._org = org
        self._mutex = threading.Lock()
        self._rules: dict[str, list[tuple[int, str, Rule]]] = {}
        self._locks: dict[str, list[tuple[str, Locks]]] = {}
        self._made = 0

    def add(self, rule: Rule, order: int) -> str:
        """Put a rule into force; those of a lower `order` run first. Returns its name."""
        definition = self._org.catalogue.object(rule.object_name)
        with self._mutex:
            name = self._name()
            entries = [*self._rules.get(definition.name, ()), (order, name, rule)]
            self._rules[definition.name] = sorted(entries, key=lambda one: one[0])
        return name

    def add_lock(self, rule: Locks) -> str:
        """Keep records from being written; returns the rule's name."""
        definition = self._org.catalogue.object(rule.object_name)
        with self._mutex:
            name = self._name()
            self._locks[definition.name] = [*self._locks.get(definition.name, ()), (name, rule)]
        return name

    def _name(self) -> str:
        self._made += 1
        return str(self._made)

    def remove(self, name: str) -> None:
        """Take one rule out of force."""
        with self._mutex:
            for key, entries in self._rules.items():
                self._rules[key] = [one for one in entries if one[1] != name]
            for key, locks in self._locks.items():
                self._locks[key] = [one for one in locks if one[0] != name]

    def clear(self) -> None:
        """Take all rules out of force."""
        with self._mutex:
            self._rules, self._locks = {}, {}

    def report(self) -> list[dict[str, Any]]:
        """All rules with their uses."""
        with self._mutex:
            rules = [(name, rule) for one in self._rules.values() for _, name, rule in one]
            locks = [(name, rule) for one in self._locks.values() for name, rule in one]
        facts = [(name, one.facts()) for name, one in rules]
        facts += [(name, one.facts()) for name, one in locks]
        return [{"rule": name, **one} for name, one in facts]

    def settle(self, written: Written) -> None:
        """Run the rules of a record that was just written."""
        for _, _, rule in self._rules.get(written.definition.name, ()):
            rule.settle(self._org, written)

    def check_unlocked(self, definition: ObjectDefinition, record_id: str) -> None:
        """Refuse a write to a record that an approval holds."""
        for _, rule in self._locks.get(definition.name, ()):
            rule.check(self._org, record_id)


def meets(org: "SandboxOrg", object_name: str, record_id: str, condition: str) -> bool:
    """Whether a record meets a condition of SOQL; every record meets the empty one."""
    if not condition:
        return True
    asked = f"SELECT Id FROM {object_name} WHERE Id = '{record_id}' AND ({condition})"
    compiled = compile_soql(org, asked, include_deleted=True, as_user=False)
    row = org.store.reader().execute(compiled.sql("t0.Id"), compiled.parameters)
    return row.fetchone() is not None


def check_condition(org: "SandboxOrg", object_name: str, condition: str) -> None:
    """Refuse a condition that no query could have."""
    if condition:
        asked = f"SELECT Id FROM {object_name} WHERE {condition}"
        compile_soql(org, asked, include_deleted=True, as_user=False)


def check_fields(org: "SandboxOrg", object_name: str, names: Iterable[str]) -> None:
    """Refuse names of fields that the object does not have."""
    definition = org.catalogue.object(object_name)
    unknown = [name for name in names if definition.field(name) is None]
    if unknown:
        raise OrgError("INVALID_FIELD", f"{object_name} has no {', '.join(unknown)}")
