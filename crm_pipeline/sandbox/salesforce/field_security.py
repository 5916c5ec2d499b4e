"""Field-level security by permission sets: whom a field that the API made is shown to.

A custom field made through the API is seen by nobody until a permission set that the user has
says so. Fields that are there from the beginning need no permission here.

Belongs here: what FieldPermissions mean and which of them are refused. Does not belong here:
hiding a field for a test (catalogue.py), the objects' fields (standard_objects_permissions.py).
"""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from crm_pipeline.sandbox.salesforce.catalogue import Access
from crm_pipeline.sandbox.salesforce.failures import OrgError
from crm_pipeline.sandbox.salesforce.schema import ObjectDefinition

if TYPE_CHECKING:
    from crm_pipeline.sandbox.salesforce.org import SandboxOrg

_OBJECTS = frozenset({"PermissionSet", "PermissionSetAssignment", "FieldPermissions"})


def granted(
    org: "SandboxOrg", object_name: str, fields: Collection[str]
) -> dict[str, "Access | None"]:
    """What the API user may do with guarded fields, by their small names; None is everything."""
    found: dict[str, Access | None] = dict.fromkeys(fields, "hidden")
    if not org.catalogue.has("FieldPermissions"):
        return found
    rows = org.store.reader().execute(
        'SELECT lower(f."Field"), max(f."PermissionsRead" = \'true\'), '
        'max(f."PermissionsEdit" = \'true\') FROM "FieldPermissions" AS f '
        'JOIN "PermissionSetAssignment" AS a ON a."PermissionSetId" = f."ParentId" '
        'WHERE a."AssigneeId" = ? AND f."SobjectType" = ? COLLATE NOCASE GROUP BY 1',
        (org.user_id, object_name),
    )
    for path, read, edit in rows:
        name = path.partition(".")[2]
        if name in found and read:
            found[name] = None if edit else "read_only"
    return found


def touched(org: "SandboxOrg", definition: ObjectDefinition) -> None:
    """A record of this object was written: who sees what may be another matter now."""
    if definition.name in _OBJECTS:
        org.catalogue.forget_access()


def check(org: "SandboxOrg", definition: ObjectDefinition, values: Mapping[str, Any]) -> None:
    """Refuse field permissions that Salesforce would refuse."""
    if definition.name != "FieldPermissions" or "Field" not in values:
        return
    object_name, path = str(values.get("SobjectType") or ""), str(values["Field"] or "")
    known, _, name = path.partition(".")
    there = org.catalogue.has(object_name) and org.catalogue.object(object_name).field(name)
    if known.lower() != object_name.lower() or not there:
        raise OrgError(
            "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
            f"Field Name: bad value for restricted picklist field: {path}",
            fields=("Field",),
        )
    if _is(values.get("PermissionsEdit")) and not _is(values.get("PermissionsRead")):
        raise OrgError(
            "FIELD_INTEGRITY_EXCEPTION",
            "Permission Edit Field depends on permission(s): Read Field",
            fields=("PermissionsEdit",),
        )
    rows = org.store.reader().execute(
        'SELECT Id FROM "FieldPermissions" WHERE "ParentId" = ? AND "Field" = ? COLLATE NOCASE',
        (values.get("ParentId"), path),
    )
    present = rows.fetchone()
    if present is not None:
        raise OrgError(
            "DUPLICATE_VALUE",
            f"duplicate value found: ParentId duplicates value on record with id: {present[0]}",
            fields=("ParentId",),
        )


def _is(value: Any) -> bool:
    return str(value).lower() == "true"
