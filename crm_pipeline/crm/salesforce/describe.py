"""Salesforce's describe as model values, and the ways from an object to its parents.

Belongs here: reading the JSON of `/sobjects/<name>/describe`. Does not belong here: fetching it
(connector.py) and choosing columns (config/).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from crm_pipeline.crm.salesforce.failures import hidden_object
from crm_pipeline.crm.salesforce.fields import value_type_of
from crm_pipeline.model.characters import storable
from crm_pipeline.model.objects import CrmField, CrmObject, PicklistOption

_CURSORS = ("SystemModstamp", "LastModifiedDate")
_CHANGES = {"create": "createable", "edit": "updateable", "delete": "deletable"}
# Differs from user to user, and moves without moving any stamp.
_PERSONAL_FIELDS = frozenset({"LastViewedDate", "LastReferencedDate"})


@dataclass(frozen=True, slots=True)
class Relationship:
    """A way to a parent: its name in paths, and the objects it may lead to."""

    name: str
    parents: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Description:
    """A described object with what the model leaves out.

    Attributes:
        relationships: by folded name.
    """

    crm_object: CrmObject
    relationships: dict[str, Relationship]

    def relationship(self, name: str) -> Relationship | None:
        """The way of that name, whatever its case."""
        return self.relationships.get(name.casefold())


def description_of(answer: Mapping[str, Any]) -> Description:
    """Read a describe.

    Raises:
        ObjectUnavailable: our user may not query the object.
    """
    name = str(answer["name"])
    entries = [entry for entry in answer.get("fields", ()) if not entry.get("deprecatedAndHidden")]
    fields = {str(entry["name"]): _field(entry) for entry in entries}
    if answer.get("queryable") is False or not fields:
        raise hidden_object(name)
    crm_object = CrmObject(
        name=name,
        label=storable(str(answer.get("label") or name)),
        fields=fields,
        id_field=next((entry["name"] for entry in entries if entry.get("type") == "id"), "Id"),
        cursor_field=_cursor_field(answer, fields),
        deleted_field="IsDeleted" if "IsDeleted" in fields else None,
        merged_into_field="MasterRecordId" if "MasterRecordId" in fields else None,
        has_delete_log=bool(answer.get("replicateable")),
        converted_into_field="ConvertedContactId" if "ConvertedContactId" in fields else None,
        currency_field="CurrencyIsoCode" if "CurrencyIsoCode" in fields else None,
        is_custom=bool(answer.get("custom")),
        allowed_changes=tuple(word for word, flag in _CHANGES.items() if answer.get(flag)),
        id_prefix=answer.get("keyPrefix"),
    )
    relationships = {
        str(entry["relationshipName"]).casefold(): Relationship(
            str(entry["relationshipName"]), tuple(entry.get("referenceTo") or ())
        )
        for entry in entries
        if entry.get("relationshipName") and entry.get("referenceTo")
    }
    return Description(crm_object, relationships)


def at_path(found: CrmField, path: str) -> CrmField:
    """A parent's field as a field of the child: read only, and moving without the child's stamp."""
    return replace(
        found,
        name=path,
        is_nullable=True,
        is_calculated=True,
        is_updateable=False,
        is_createable=False,
        is_unique=False,
        is_external_id=False,
        is_amount=False,
    )


def with_field(crm_object: CrmObject, added: CrmField) -> CrmObject:
    """The object with one more field."""
    return replace(crm_object, fields={**crm_object.fields, added.name: added})


def _cursor_field(answer: Mapping[str, Any], fields: Mapping[str, CrmField]) -> str | None:
    """The stamp that orders changes.

    SystemModstamp moves with every change; LastModifiedDate misses changes by the system itself
    and can be set back on import, so it only stands in. CreatedDate orders the changes of records
    that nobody can change (history, feed), and no others. A stamp that cannot be filtered by is
    useless (describe says `filterable: false` for some setup objects).
    """
    candidates = _CURSORS if answer.get("updateable") else (*_CURSORS, "CreatedDate")
    for name in candidates:
        if name in fields and fields[name].is_filterable:
            return name
    return None


def _field(entry: Mapping[str, Any]) -> CrmField:
    name = str(entry["name"])
    native_type = str(entry.get("type", ""))
    precision = int(entry.get("precision") or entry.get("digits") or 0)
    return CrmField(
        name=name,
        label=storable(str(entry.get("label") or name)),
        value_type=value_type_of(native_type),
        native_type=native_type,
        length=int(entry.get("length") or 0),
        precision=precision,
        scale=int(entry.get("scale") or 0),
        is_nullable=bool(entry.get("nillable", True)),
        is_filterable=bool(entry.get("filterable", True)),
        is_calculated=bool(entry.get("calculated")) or name in _PERSONAL_FIELDS,
        is_updateable=bool(entry.get("updateable")),
        is_createable=bool(entry.get("createable")),
        is_unique=bool(entry.get("unique")) or native_type == "id",
        is_external_id=bool(entry.get("externalId")),
        is_defaulted=bool(entry.get("defaultedOnCreate")),
        may_be_masked=native_type == "encryptedstring" or bool(entry.get("maskType")),
        is_amount=native_type == "currency",
        references=tuple(entry.get("referenceTo") or ()),
        options=tuple(_option(option) for option in entry.get("picklistValues") or ()),
    )


def _option(entry: Mapping[str, Any]) -> PicklistOption:
    value = storable(str(entry.get("value") or ""))
    return PicklistOption(
        value=value,
        label=storable(str(entry.get("label") or value)),
        is_active=bool(entry.get("active")),
        is_default=bool(entry.get("defaultValue")),
    )
