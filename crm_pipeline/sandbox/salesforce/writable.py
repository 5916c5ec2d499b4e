"""What an API user may write of a record, and which record an external id means.

Belongs here: field permissions of a write, parents named by external ids. Does not belong here:
the write itself (writer.py), the rules all writers obey (writing.py).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from crm_pipeline.sandbox.salesforce import identifiers
from crm_pipeline.sandbox.salesforce.failures import OrgError, no_such_column, not_found
from crm_pipeline.sandbox.salesforce.schema import FieldDefinition, ObjectDefinition
from crm_pipeline.sandbox.salesforce.storage import quoted
from crm_pipeline.sandbox.salesforce.writing import not_writable

if TYPE_CHECKING:
    from crm_pipeline.sandbox.salesforce.org import SandboxOrg

Row = dict[str, Any]


def known(org: "SandboxOrg", name: str) -> ObjectDefinition:
    """The object named in a path, as the API user sees it."""
    try:
        return org.catalogue.visible(name)
    except OrgError:
        raise not_found() from None


def permitted(
    org: "SandboxOrg", definition: ObjectDefinition, values: Mapping[str, Any], *, creating: bool
) -> Row:
    """The values an API user may write, with parents named by external Ids looked up."""
    kept: Row = {}
    refused: list[str] = []
    for name, value in values.items():
        if name == "attributes":
            continue
        field, given = definition.field(name), value
        if field is None:
            field, given = _by_relationship(org, definition, name, value)
        allowed = field.createable if creating else field.updateable
        if not allowed or not field.stored:
            refused.append(field.name)
        kept[field.name] = given
    if refused:
        raise not_writable(refused)
    return kept


def lookup_named(definition: ObjectDefinition, relationship: str) -> FieldDefinition | None:
    """The lookup whose relationship has this name."""
    wanted = relationship.lower()
    return next(
        (one for one in definition.fields if (one.relationship_name or "").lower() == wanted), None
    )


def _by_relationship(
    org: "SandboxOrg", definition: ObjectDefinition, name: str, value: Any
) -> tuple[FieldDefinition, Any]:
    field = lookup_named(definition, name)
    keys = [one for one in value if one != "attributes"] if isinstance(value, dict) else []
    if field is None or len(keys) != 1:
        raise no_such_column(name, definition.name)
    if value[keys[0]] is None:
        return field, None
    parent = org.catalogue.visible(field.reference_to[0])
    found = matching(org, parent, keys[0], value[keys[0]])
    if len(found) != 1:
        raise OrgError(
            "INVALID_FIELD",
            f"Foreign key external ID: {value[keys[0]]} not found for field {keys[0]} "
            f"in entity {parent.name}",
        )
    return field, found[0]


def key_field(definition: ObjectDefinition, name: str) -> FieldDefinition:
    """The field of that name, which must be an external id or the Id."""
    field = definition.field(name)
    if field is None:
        raise no_such_column(name, definition.name)
    if not (field.external_id or field.type == "id"):
        raise OrgError(
            "INVALID_FIELD",
            f"Field name provided, {name} is not an External ID or indexed field "
            f"for {definition.name}",
        )
    return field


def matching(org: "SandboxOrg", definition: ObjectDefinition, name: str, value: Any) -> list[str]:
    """The living records with this value in an external Id field."""
    field = key_field(definition, name)
    alive = " AND IsDeleted = 'false'" if definition.soft_delete else ""
    folding = "" if field.case_sensitive or field.type == "id" else " COLLATE NOCASE"
    wanted = identifiers.normalise(value) if field.type == "id" else str(value)
    rows = org.store.reader().execute(
        f"SELECT Id FROM {quoted(definition.name)} "
        f"WHERE {quoted(field.name)}{folding} = ?{alive} ORDER BY Id",
        (wanted,),
    )
    return [row[0] for row in rows]
