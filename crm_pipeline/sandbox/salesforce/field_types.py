"""A field in the words of the Metadata API: Text, Number, Checkbox; and back.

Belongs here: the types' names and what each must say. Does not belong here: making the field
(custom_fields.py), describe's words (describe.py).
"""

from collections.abc import Mapping
from typing import Any

from crm_pipeline.sandbox.salesforce.failures import OrgError
from crm_pipeline.sandbox.salesforce.schema import FieldDefinition, FieldType, PicklistValue

_TYPES: dict[str, FieldType] = {
    "Checkbox": "boolean",
    "Currency": "currency",
    "Date": "date",
    "DateTime": "datetime",
    "Email": "email",
    "LongTextArea": "textarea",
    "Lookup": "reference",
    "MultiselectPicklist": "multipicklist",
    "Number": "double",
    "Percent": "percent",
    "Phone": "phone",
    "Picklist": "picklist",
    "Text": "string",
    "TextArea": "textarea",
    "Time": "time",
    "Url": "url",
}
_LENGTHS = {
    "Email": 80,
    "Lookup": 18,
    "MultiselectPicklist": 4099,
    "Phone": 40,
    "Picklist": 255,
    "TextArea": 255,
    "Url": 255,
}
_NEEDS = {
    "Checkbox": ("defaultValue",),
    "Currency": ("precision", "scale"),
    "LongTextArea": ("length", "visibleLines"),
    "Lookup": ("referenceTo",),
    "MultiselectPicklist": ("valueSet",),
    "Number": ("precision", "scale"),
    "Percent": ("precision", "scale"),
    "Picklist": ("valueSet",),
    "Text": ("length",),
}
_SPEAKS_LENGTH = frozenset({"Text", "LongTextArea"})
_MOST_DIGITS = 18
_SPOKEN = {kind: name for name, kind in _TYPES.items() if name != "TextArea"}


def field_of(name: str, metadata: Mapping[str, Any]) -> FieldDefinition:
    """The field that the metadata describe, or the refusal that Salesforce would utter."""
    spoken = str(metadata.get("type") or "")
    kind = _TYPES.get(spoken)
    if kind is None:
        raise _wrong(f"Invalid field type: {spoken}")
    if not metadata.get("label"):
        raise OrgError("REQUIRED_FIELD_MISSING", "Required fields are missing: [MasterLabel]")
    for needed in _NEEDS.get(spoken, ()):
        if metadata.get(needed) is None:
            raise _wrong(f"Must specify '{needed}' for a CustomField of type {spoken}")
    if "length" in metadata and spoken not in _SPEAKS_LENGTH and metadata["length"] is not None:
        raise _wrong(f"Can not specify 'length' for a CustomField of type {spoken}")
    precision, scale = int(metadata.get("precision") or 0), int(metadata.get("scale") or 0)
    if precision > _MOST_DIGITS or scale > precision:
        raise _wrong("Precision must be at most 18 and at least the scale")
    values = _values(metadata.get("valueSet") or {})
    lookup = kind == "reference"
    return FieldDefinition(
        name,
        str(metadata["label"]),
        kind,
        length=int(metadata.get("length") or _LENGTHS.get(spoken, 0)),
        precision=precision,
        scale=scale,
        nillable=kind != "boolean" and not metadata.get("required"),
        filterable=spoken != "LongTextArea",
        sortable=spoken not in {"LongTextArea", "MultiselectPicklist"},
        unique=bool(metadata.get("unique")),
        external_id=bool(metadata.get("externalId")),
        case_sensitive=bool(metadata.get("caseSensitive")),
        picklist_values=values,
        restricted_picklist=bool((metadata.get("valueSet") or {}).get("restricted")),
        reference_to=(str(metadata["referenceTo"]),) if lookup else (),
        relationship_name=name.removesuffix("__c") + "__r" if lookup else None,
        default=_default(metadata, values) if kind in {"boolean", "picklist"} else None,
        defaulted_on_create=kind == "boolean",
        help_text=metadata.get("inlineHelpText"),
    )


def _wrong(message: str) -> OrgError:
    return OrgError("FIELD_INTEGRITY_EXCEPTION", message, fields=("Metadata",))


def _values(value_set: Mapping[str, Any]) -> tuple[PicklistValue, ...]:
    definition = value_set.get("valueSetDefinition") or {}
    return tuple(
        PicklistValue(
            str(one.get("fullName") or one.get("valueName") or one.get("label")),
            label=one.get("label"),
            default_value=bool(one.get("default")),
        )
        for one in definition.get("value") or ()
    )


def _default(metadata: Mapping[str, Any], values: tuple[PicklistValue, ...]) -> Any:
    if metadata.get("type") == "Checkbox":
        return str(metadata.get("defaultValue")).lower() == "true"
    return next((one.value for one in values if one.default_value), None)


def spoken_type(field: FieldDefinition) -> str:
    """The field's type as Setup shows it: Text(80), Number(16, 2), Checkbox."""
    name = metadata_type(field)
    match name:
        case "Text" | "LongTextArea":
            shown = "Long Text Area" if name == "LongTextArea" else name
            return f"{shown}({field.length})"
        case "Number" | "Currency" | "Percent":
            return f"{name}({field.precision - field.scale}, {field.scale})"
        case "DateTime":
            return "Date/Time"
    return name


def metadata_type(field: FieldDefinition) -> str:
    """The field's type in the words of the Metadata API."""
    if field.type == "textarea" and field.length <= 255:
        return "TextArea"
    return "Number" if field.type == "int" else _SPOKEN.get(field.type, "Text")


def metadata_of(field: FieldDefinition) -> dict[str, Any]:
    """What the Tooling API shows as Metadata."""
    name = metadata_type(field)
    number = name in {"Number", "Currency", "Percent"}
    found: dict[str, Any] = {
        "label": field.label,
        "type": name,
        "length": field.length if name in _SPEAKS_LENGTH else None,
        "precision": field.precision if number else None,
        "scale": field.scale if number else None,
        "required": not field.nillable and field.type != "boolean",
        "unique": field.unique,
        "externalId": field.external_id,
        "caseSensitive": field.case_sensitive,
        "inlineHelpText": field.help_text,
        "defaultValue": str(bool(field.default)).lower() if field.type == "boolean" else None,
        "referenceTo": field.reference_to[0] if field.reference_to else None,
        "valueSet": None,
    }
    if field.picklist_values:
        entries = [
            {"valueName": one.value, "label": one.label or one.value, "default": one.default_value}
            for one in field.picklist_values
        ]
        definition = {"sorted": False, "value": entries}
        found["valueSet"] = {
            "restricted": field.restricted_picklist,
            "valueSetDefinition": definition,
        }
    return found
