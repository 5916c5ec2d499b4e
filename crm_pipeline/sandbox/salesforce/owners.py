"""Owners that a record may not be given: inactive users, queues that do not take the object.

Belongs here: what Salesforce always checks of an OwnerId that an API user writes, and of the
assignment rule that a request names. Does not belong here: assignment itself (rule_kinds.py).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from crm_pipeline.sandbox.salesforce import identifiers
from crm_pipeline.sandbox.salesforce.failures import OrgError, malformed_id
from crm_pipeline.sandbox.salesforce.schema import ObjectDefinition
from crm_pipeline.sandbox.salesforce.write_options import WriteOptions

if TYPE_CHECKING:
    from crm_pipeline.sandbox.salesforce.org import SandboxOrg

_USER, _GROUP = "005", "00G"


def check(org: "SandboxOrg", definition: ObjectDefinition, values: Mapping[str, Any]) -> None:
    """Refuse an owner who cannot own the record; one who is not there is refused elsewhere."""
    owner = identifiers.normalise(values.get("OwnerId"))
    if owner is None:
        return
    if owner.startswith(_USER) and _value(org, "User", "IsActive", owner) == "false":
        raise OrgError(
            "INACTIVE_OWNER_OR_USER",
            f"operation performed with inactive user [{owner}] as owner of "
            f"{definition.label.lower()}",
        )
    if owner.startswith(_GROUP) and _value(org, "Group", "Type", owner) == "Queue":
        _check_queue(org, definition, owner)


def _value(org: "SandboxOrg", object_name: str, field: str, record_id: str) -> Any:
    if not org.catalogue.has(object_name):
        return None
    row = org.store.reader().execute(
        f'SELECT "{field}" FROM "{object_name}" WHERE Id = ?', (record_id,)
    )
    return (row.fetchone() or (None,))[0]


def _check_queue(org: "SandboxOrg", definition: ObjectDefinition, queue: str) -> None:
    row = org.store.reader().execute(
        'SELECT 1 FROM "QueueSobject" WHERE "QueueId" = ? AND "SobjectType" = ?',
        (queue, definition.name),
    )
    if row.fetchone() is None:
        raise OrgError("INVALID_OPERATION", "Queue not associated with this SObject type")


def check_assignment(org: "SandboxOrg", options: WriteOptions) -> None:
    """Refuse a header or a job that names no assignment rule of the org."""
    named = options.assignment
    if named in {"TRUE", "FALSE"}:
        return
    identifier = identifiers.normalise(named)
    if identifier is None:
        raise malformed_id(named, "Assignment Rule ID")
    if not org.catalogue.has("AssignmentRule") or org.get("AssignmentRule", identifier) is None:
        raise OrgError("INVALID_ASSIGNMENT_RULE", f"no such assignment rule: {named}")
