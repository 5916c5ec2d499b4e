"""Each kind of rule: validation, duplicates, assignment, automation, poison, approval lock.

Belongs here: what a rule does to a write. Does not belong here: which rules there are (rules.py),
how a test names them (control_rules.py).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from crm_pipeline.sandbox.salesforce import identifiers
from crm_pipeline.sandbox.salesforce.duplicates import Found, duplicate_refusal, same
from crm_pipeline.sandbox.salesforce.failures import BatchFails, OrgError, RequestFails
from crm_pipeline.sandbox.salesforce.rules import Written, meets
from crm_pipeline.sandbox.salesforce.values import plainer

if TYPE_CHECKING:
    from crm_pipeline.sandbox.salesforce.org import SandboxOrg

Scope = Literal["row", "batch", "request"]


@dataclass(slots=True)
class Validation:
    """Refuses a record that meets the condition, as the formula of a validation rule does."""

    object_name: str
    condition: str
    message: str = "Not valid."
    fields: tuple[str, ...] = ()
    uses: int = 0

    def settle(self, org: "SandboxOrg", written: Written) -> None:
        """Refuse what meets the condition."""
        if meets(org, self.object_name, written.record_id, self.condition):
            self.uses += 1
            raise OrgError("FIELD_CUSTOM_VALIDATION_EXCEPTION", self.message, fields=self.fields)

    def facts(self) -> dict[str, Any]:
        """The rule as JSON."""
        return {"kind": "validation", **asdict(self)}


@dataclass(slots=True)
class Duplicate:
    """Refuses a record whose `fields` another one has, of the same or of other objects.

    With `block` nothing helps; otherwise `allowSave` lets the write through.
    """

    object_name: str
    fields: tuple[str, ...] = ("Email",)
    against: tuple[str, ...] = ()
    block: bool = False
    name: str = ""
    message: str = "Use one of these records?"
    uses: int = 0

    def settle(self, org: "SandboxOrg", written: Written) -> None:
        """Refuse a duplicate, unless the client may save it and says so."""
        if not (written.created or written.fields & set(self.fields)):
            return
        if written.options.allow_save and not self.block:
            return
        found: list[Found] = []
        for other in self.against or (self.object_name,):
            found += same(org, written, self.fields, other)
        if found:
            self.uses += 1
            name = self.name or f"Standard_{self.object_name}_Duplicate_Rule"
            raise duplicate_refusal(written, found, name, self.message, block=self.block)

    def facts(self) -> dict[str, Any]:
        """The rule as JSON."""
        return {"kind": "duplicate", **asdict(self)}


@dataclass(slots=True)
class Assignment:
    """Gives a written record the owner of the first entry whose condition it meets.

    `rule_id` is that of an AssignmentRule, which is active or not.
    """

    object_name: str
    rule_id: str
    entries: list[dict[str, str]]
    uses: int = 0

    def settle(self, org: "SandboxOrg", written: Written) -> None:
        """Set the owner where the request's header lets this rule decide."""
        if not self._applies(org, written):
            return
        for entry in self.entries:
            if meets(org, self.object_name, written.record_id, entry.get("condition", "")):
                self.uses += 1
                owner = {"OwnerId": entry["owner"]}
                org.update(self.object_name, written.record_id, owner, stamps="none")
                return

    def _applies(self, org: "SandboxOrg", written: Written) -> bool:
        asked = written.options.assignment
        if asked == "FALSE":
            return False
        if asked == "TRUE":
            rule = org.get("AssignmentRule", self.rule_id) or {}
            return bool(rule.get("Active"))
        return written.created and identifiers.normalise(asked) == self.rule_id

    def facts(self) -> dict[str, Any]:
        """The rule as JSON."""
        return {"kind": "assignment", **asdict(self)}


@dataclass(slots=True)
class Automation:
    """Changes a record that was written and meets the condition: `set` values, or `back`.

    `back` names fields that get the value they had before the write. `when` narrows it to writes
    of these fields.
    """

    object_name: str
    condition: str = ""
    when: tuple[str, ...] = ()
    set: dict[str, Any] = field(default_factory=dict)
    back: tuple[str, ...] = ()
    uses: int = 0

    def settle(self, org: "SandboxOrg", written: Written) -> None:
        """Change what meets the condition."""
        if self.when and not written.fields & {*self.when}:
            return
        values = {**self.set, **self._before(written)}
        if values and meets(org, self.object_name, written.record_id, self.condition):
            self.uses += 1
            org.update(self.object_name, written.record_id, values)

    def _before(self, written: Written) -> Mapping[str, Any]:
        values: dict[str, Any] = {}
        for name in self.back:
            definition = written.definition.field(name)
            if definition is not None and name in written.before:
                form = plainer(definition)
                stored = written.before[name]
                values[name] = form(stored) if form else stored
        return values

    def facts(self) -> dict[str, Any]:
        """The rule as JSON."""
        return {"kind": "automation", **asdict(self)}


@dataclass(slots=True)
class Poison:
    """An Apex exception under records that meet the condition.

    It refuses the `row`, all rows of its `batch`, or fails the whole `request` with status 500.
    """

    object_name: str
    condition: str
    scope: Scope = "batch"
    message: str = ""
    uses: int = 0

    def settle(self, org: "SandboxOrg", written: Written) -> None:
        """Fail if the record is poisoned."""
        if not meets(org, self.object_name, written.record_id, self.condition):
            return
        self.uses += 1
        if self.scope == "request":
            raise RequestFails("UNKNOWN_EXCEPTION", "An unexpected error occurred", status=500)
        event = "AfterInsert" if written.created else "AfterUpdate"
        message = self.message or (
            f"{self.object_name}Trigger: execution of {event}\n\ncaused by: "
            "System.NullPointerException: Attempt to de-reference a null object\n\n"
            f"Trigger.{self.object_name}Trigger: line 7, column 1"
        )
        kind = BatchFails if self.scope == "batch" else OrgError
        raise kind("CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", message)

    def facts(self) -> dict[str, Any]:
        """The rule as JSON."""
        return {"kind": "poison", **asdict(self)}


@dataclass(slots=True)
class ApprovalLock:
    """Records under approval: named by Id, or all that meet the condition."""

    object_name: str
    ids: tuple[str, ...] = ()
    condition: str = ""
    uses: int = 0

    def check(self, org: "SandboxOrg", record_id: str) -> None:
        """Refuse a write to one of them."""
        named = record_id in self.ids
        found = bool(self.condition) and meets(org, self.object_name, record_id, self.condition)
        if named or found:
            self.uses += 1
            raise OrgError("ENTITY_IS_LOCKED", "the entity is locked for editing")

    def facts(self) -> dict[str, Any]:
        """The rule as JSON."""
        return {"kind": "lock", **asdict(self)}


@dataclass(slots=True)
class InactiveOwner:
    """Refuses changes to records whose owner is inactive, as without the permission for them."""

    object_name: str
    uses: int = 0

    def settle(self, org: "SandboxOrg", written: Written) -> None:
        """Refuse a record of an inactive user."""
        if meets(org, self.object_name, written.record_id, _OF_INACTIVE):
            self.uses += 1
            owner = (org.get(self.object_name, written.record_id) or {}).get("OwnerId")
            raise OrgError(
                "INACTIVE_OWNER_OR_USER",
                f"operation performed with inactive user [{owner}] as owner of "
                f"{self.object_name.lower()}",
            )

    def facts(self) -> dict[str, Any]:
        """The rule as JSON."""
        return {"kind": "inactive_owner", **asdict(self)}


_OF_INACTIVE = "OwnerId IN (SELECT Id FROM User WHERE IsActive = false)"
ORDER = (Poison, Validation, InactiveOwner, Duplicate, Assignment, Automation)
"""Which kinds go first."""
