"""The objects that say who may do what: PermissionSet, its assignments, field permissions.

Belongs here: their fields. Does not belong here: what they mean for the API user
(field_security.py).
"""

from crm_pipeline.sandbox.salesforce.schema import ObjectDefinition
from crm_pipeline.sandbox.salesforce.standard_objects_fields import (
    flag,
    long_text,
    picklist,
    read_only,
    reference,
    text,
)

PERMISSION_SET = ObjectDefinition(
    "PermissionSet",
    "Permission Set",
    "Permission Sets",
    "0PS",
    (
        text("Name", "Permission Set Name", 80, nillable=False, name_field=True),
        text("Label", "Permission Set Label", 80, nillable=False),
        long_text("Description", "Description", 255),
        read_only(reference("ProfileId", "Profile ID", ("Profile",))),
        read_only(flag("IsOwnedByProfile", "Is Owned By Profile")),
        read_only(text("NamespacePrefix", "Namespace Prefix", 15)),
        read_only(flag("IsCustom", "Custom", default=True)),
        read_only(
            picklist(
                "Type",
                "Permission Set Type",
                ("Regular", "Standard", "Session", "Group", "Profile"),
                default="Regular",
                length=40,
            )
        ),
        flag("PermissionsApiEnabled", "API Enabled"),
        flag("PermissionsAuthorApex", "Author Apex"),
        flag("PermissionsBulkApiHardDelete", "Bulk API Hard Delete"),
        flag("PermissionsCustomizeApplication", "Customize Application"),
        flag("PermissionsManageUsers", "Manage Internal Users"),
        flag("PermissionsModifyAllData", "Modify All Data"),
        flag("PermissionsViewAllData", "View All Data"),
        flag("PermissionsViewSetup", "View Setup and Configuration"),
    ),
    undeletable=False,
    soft_delete=False,
    cascade=(("PermissionSetAssignment", "PermissionSetId"), ("FieldPermissions", "ParentId")),
)

PERMISSION_SET_ASSIGNMENT = ObjectDefinition(
    "PermissionSetAssignment",
    "Permission Set Assignment",
    "Permission Set Assignments",
    "0Pa",
    (
        reference(
            "PermissionSetId",
            "PermissionSet ID",
            ("PermissionSet",),
            nillable=False,
            updateable=False,
        ),
        reference("AssigneeId", "Assignee ID", ("User",), nillable=False, updateable=False),
    ),
    updateable=False,
    undeletable=False,
    soft_delete=False,
)

FIELD_PERMISSIONS = ObjectDefinition(
    "FieldPermissions",
    "Field Permissions",
    "Field Permissions",
    "01k",
    (
        reference("ParentId", "Parent ID", ("PermissionSet",), nillable=False, updateable=False),
        text("SobjectType", "SObject Type Name", 40, nillable=False, updateable=False),
        text("Field", "Field Name", 255, nillable=False, updateable=False),
        flag("PermissionsEdit", "Edit Field"),
        flag("PermissionsRead", "Read Field"),
    ),
    undeletable=False,
    soft_delete=False,
)

PERMISSION_OBJECTS = (PERMISSION_SET, PERMISSION_SET_ASSIGNMENT, FIELD_PERMISSIONS)
