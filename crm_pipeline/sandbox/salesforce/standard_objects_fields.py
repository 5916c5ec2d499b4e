"""Short words for writing standard objects: one call per field, lengths as Salesforce has them.

Belongs here: builders for field definitions that more than one object family uses.
Does not belong here: any object (standard_objects_*.py) or what a field is (schema.py).
"""

from dataclasses import replace
from typing import Any

from crm_pipeline.sandbox.salesforce.schema import FieldDefinition, FieldType, PicklistValue

LEAD_SOURCES = (
    "Web",
    "Phone Inquiry",
    "Partner Referral",
    "Purchased List",
    "Trade Show",
    "Webinar",
    "Word of mouth",
    "Other",
)
INDUSTRIES = (
    "Agriculture",
    "Apparel",
    "Banking",
    "Biotechnology",
    "Chemicals",
    "Communications",
    "Construction",
    "Consulting",
    "Education",
    "Electronics",
    "Energy",
    "Engineering",
    "Entertainment",
    "Environmental",
    "Finance",
    "Food & Beverage",
    "Government",
    "Healthcare",
    "Hospitality",
    "Insurance",
    "Machinery",
    "Manufacturing",
    "Media",
    "Not For Profit",
    "Recreation",
    "Retail",
    "Shipping",
    "Technology",
    "Telecommunications",
    "Transportation",
    "Utilities",
    "Other",
)
RATINGS = ("Hot", "Warm", "Cold")
SALUTATIONS = ("Mr.", "Ms.", "Mrs.", "Dr.", "Prof.", "Mx.")
GEOCODE_ACCURACIES = (
    "Address",
    "NearAddress",
    "Block",
    "Street",
    "ExtendedZip",
    "Zip",
    "Neighborhood",
    "City",
    "County",
    "State",
    "Unknown",
)


def field(name: str, label: str, kind: FieldType, length: int = 0, **facts: Any) -> FieldDefinition:
    """One field; booleans get the false that Salesforce gives them."""
    if kind == "boolean":
        facts = {"nillable": False, "default": False, "defaulted_on_create": True} | facts
    return replace(FieldDefinition(name, label, kind, length=length), **facts)


def text(name: str, label: str, length: int = 255, **facts: Any) -> FieldDefinition:
    """A line of text."""
    return field(name, label, "string", length, **facts)


def long_text(name: str, label: str, length: int = 32_000, **facts: Any) -> FieldDefinition:
    """A text area; Salesforce neither filters nor sorts by the long ones."""
    searchable = length <= 255
    facts = {"filterable": searchable, "sortable": searchable} | facts
    return field(name, label, "textarea", length, **facts)


def flag(name: str, label: str, **facts: Any) -> FieldDefinition:
    """A checkbox."""
    return field(name, label, "boolean", **facts)


def number(
    name: str, label: str, kind: FieldType, precision: int, scale: int, **facts: Any
) -> FieldDefinition:
    """A double, currency or percent of so many digits, so many of them after the point."""
    return field(name, label, kind, precision=precision, scale=scale, **facts)


def integer(name: str, label: str, **facts: Any) -> FieldDefinition:
    """A whole number of up to eight digits."""
    return field(name, label, "int", precision=8, **facts)


def picklist(
    name: str, label: str, values: tuple[str, ...], *, default: str | None = None, **facts: Any
) -> FieldDefinition:
    """A picklist of these values; the default one is filled in where a record has none."""
    entries = tuple(PicklistValue(one, default_value=one == default) for one in values)
    kind: FieldType = facts.pop("kind", "picklist")
    length = facts.pop("length", 255)
    return field(
        name,
        label,
        kind,
        length,
        picklist_values=entries,
        default=default,
        defaulted_on_create=default is not None,
        **facts,
    )


def reference(
    name: str, label: str, to: tuple[str, ...], relationship: str | None = None, **facts: Any
) -> FieldDefinition:
    """A lookup; its relationship is named after the field unless told otherwise."""
    spoken = relationship if relationship is not None else name.removesuffix("Id")
    return field(
        name, label, "reference", 18, reference_to=to, relationship_name=spoken or None, **facts
    )


def owner(to: tuple[str, ...] = ("User",)) -> FieldDefinition:
    """Who owns the record: whoever made it, until somebody says otherwise."""
    return reference("OwnerId", "Owner ID", to, "Owner", nillable=False, defaulted_on_create=True)


def read_only(one: FieldDefinition) -> FieldDefinition:
    """The same field, written by Salesforce alone."""
    return replace(one, createable=False, updateable=False)


def address_fields(prefix: str, spoken: str) -> tuple[FieldDefinition, ...]:
    """The eight parts of an address and the compound field that shows them together."""
    whole = f"{prefix}Address"
    before = f"{spoken} " if spoken else ""

    def part(name: str, label: str, kind: FieldType, length: int, **facts: Any) -> FieldDefinition:
        return field(
            f"{prefix}{name}", f"{before}{label}", kind, length, compound_field_name=whole, **facts
        )

    return (
        part("Street", "Street", "textarea", 255),
        part("City", "City", "string", 40),
        part("State", "State/Province", "string", 80),
        part("PostalCode", "Zip/Postal Code", "string", 20),
        part("Country", "Country", "string", 80),
        part("Latitude", "Latitude", "double", 0, precision=18, scale=15),
        part("Longitude", "Longitude", "double", 0, precision=18, scale=15),
        part(
            "GeocodeAccuracy",
            "Geocode Accuracy",
            "picklist",
            40,
            restricted_picklist=True,
            picklist_values=tuple(PicklistValue(one) for one in GEOCODE_ACCURACIES),
        ),
        field(
            whole,
            f"{before}Address",
            "address",
            createable=False,
            updateable=False,
            sortable=False,
        ),
    )
