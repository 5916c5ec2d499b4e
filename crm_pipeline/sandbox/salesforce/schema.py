"""What an object and a field of the org are, as plain values.

Belongs here: the definitions that describe, SOQL and the row checks all read.
Does not belong here: the standard objects themselves (standard_objects.py), describe's
JSON (describe.py), storage (org.py).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from crm_pipeline.sandbox.salesforce.org import SandboxOrg

FieldType = Literal[
    "id",
    "string",
    "textarea",
    "picklist",
    "multipicklist",
    "boolean",
    "int",
    "double",
    "currency",
    "percent",
    "date",
    "datetime",
    "time",
    "email",
    "phone",
    "url",
    "reference",
    "address",
    "location",
    "base64",
    "combobox",
    "complexvalue",
    "encryptedstring",
]
"""The words describe uses for a field's type."""

Formula = Callable[[Mapping[str, Any], "SandboxOrg"], Any]
"""Computes a formula field from the record (API field names) and the org it lives in."""

COMPOUND_TYPES = frozenset({"address", "location"})
"""Types that hold no value of their own: they show their components."""

NUMBER_TYPES = frozenset({"int", "double", "currency", "percent"})
"""Types that compare and sort as numbers."""


@dataclass(frozen=True, slots=True)
class PicklistValue:
    """One entry of a picklist; a retired value stays in old records and is not active."""

    value: str
    label: str | None = None
    active: bool = True
    default_value: bool = False


@dataclass(frozen=True, slots=True)
class FieldDefinition:
    """One field of an object, in the terms of describe.

    Lengths are in characters; `precision` counts all digits and `scale` those after the point.
    A field with a `formula` is computed at read time and never stored, so its value changes
    without any stamp moving, as in the real org. Of a `masked` one only the last four characters
    are shown.
    """

    name: str
    label: str
    type: FieldType
    length: int = 0
    precision: int = 0
    scale: int = 0
    nillable: bool = True
    createable: bool = True
    updateable: bool = True
    filterable: bool = True
    sortable: bool = True
    calculated: bool = False
    unique: bool = False
    external_id: bool = False
    case_sensitive: bool = False
    picklist_values: tuple[PicklistValue, ...] = ()
    restricted_picklist: bool = False
    reference_to: tuple[str, ...] = ()
    relationship_name: str | None = None
    default: Any = None
    defaulted_on_create: bool = False
    compound_field_name: str | None = None
    formula: Formula | None = None
    formula_text: str | None = None
    name_field: bool = False
    auto_number: bool = False
    html_formatted: bool = False
    encrypted: bool = False
    masked: bool = False
    help_text: str | None = None

    @property
    def custom(self) -> bool:
        """Whether an administrator made this field (its name says so)."""
        return self.name.endswith(("__c", "__pc"))

    @property
    def stored(self) -> bool:
        """Whether the field has a column; formulas and compound fields have none."""
        return self.formula is None and self.type not in COMPOUND_TYPES


@dataclass(frozen=True, slots=True)
class ObjectDefinition:
    """One object of the org.

    `cascade` names the (child object, child field) pairs whose records share this object's
    fate: deleting an Account deletes its Contacts, undeleting brings them back. `key_prefix`
    is the three characters every Id of the object begins with.
    """

    name: str
    label: str
    label_plural: str
    key_prefix: str
    fields: tuple[FieldDefinition, ...]
    queryable: bool = True
    createable: bool = True
    updateable: bool = True
    deletable: bool = True
    undeletable: bool = True
    replicateable: bool = True
    searchable: bool = True
    mergeable: bool = False
    custom: bool = False
    soft_delete: bool = True
    cascade: tuple[tuple[str, str], ...] = ()
    bulk: bool = True

    def field(self, name: str) -> FieldDefinition | None:
        """The field of that name, whatever its case, or None."""
        wanted = name.lower()
        return next((one for one in self.fields if one.name.lower() == wanted), None)


def with_system_fields(definition: ObjectDefinition) -> ObjectDefinition:
    """Add the fields Salesforce itself keeps on every record, where they are not there yet.

    IsDeleted is added only to objects that have a recycle bin.
    """
    present = {one.name for one in definition.fields}
    before = tuple(one for one in leading_fields(definition) if one.name not in present)
    after = tuple(one for one in STAMP_FIELDS if one.name not in present)
    return replace(definition, fields=before + definition.fields + after)


def leading_fields(definition: ObjectDefinition) -> tuple[FieldDefinition, ...]:
    """The system fields that describe lists first."""
    return (ID_FIELD, IS_DELETED_FIELD) if definition.soft_delete else (ID_FIELD,)


ID_FIELD = FieldDefinition(
    "Id",
    "Record ID",
    "id",
    length=18,
    nillable=False,
    createable=False,
    updateable=False,
    defaulted_on_create=True,
)
IS_DELETED_FIELD = FieldDefinition(
    "IsDeleted",
    "Deleted",
    "boolean",
    nillable=False,
    createable=False,
    updateable=False,
    default=False,
    defaulted_on_create=True,
)


def _stamp(name: str, label: str) -> FieldDefinition:
    return FieldDefinition(
        name,
        label,
        "datetime",
        nillable=False,
        createable=False,
        updateable=False,
        defaulted_on_create=True,
    )


def _author(name: str, label: str, relationship: str) -> FieldDefinition:
    return FieldDefinition(
        name,
        label,
        "reference",
        length=18,
        nillable=False,
        createable=False,
        updateable=False,
        reference_to=("User",),
        relationship_name=relationship,
        defaulted_on_create=True,
    )


STAMP_FIELDS = (
    _stamp("CreatedDate", "Created Date"),
    _author("CreatedById", "Created By ID", "CreatedBy"),
    _stamp("LastModifiedDate", "Last Modified Date"),
    _author("LastModifiedById", "Last Modified By ID", "LastModifiedBy"),
    _stamp("SystemModstamp", "System Modstamp"),
)
