"""Definitions that change under a running org: fields retyped and renamed, picklists edited.

Belongs here: what happens to the values that are there. Does not belong here: adding and
hiding (catalogue.py), whole features (features.py).
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from crm_pipeline.sandbox.salesforce.failures import OrgError, no_such_column
from crm_pipeline.sandbox.salesforce.schema import FieldDefinition, ObjectDefinition, PicklistValue
from crm_pipeline.sandbox.salesforce.storage import quoted
from crm_pipeline.sandbox.salesforce.values import Stored, keeper, plainer

if TYPE_CHECKING:
    from crm_pipeline.sandbox.salesforce.org import SandboxOrg


def _field(definition: ObjectDefinition, name: str) -> FieldDefinition:
    found = definition.field(name)
    if found is None or not found.stored:
        raise no_such_column(name, definition.name)
    return found


def retype(org: "SandboxOrg", object_name: str, field_name: str, **facts: Any) -> None:
    """Give a field another type, length or scale; values that cannot follow are lost.

    No stamp moves: an administrator changed the field, nobody changed a record.
    """
    definition = org.catalogue.object(object_name)
    old = _field(definition, field_name)
    new = replace(old, **facts)
    convert = _converter(old, new)
    with org.transaction() as connection:
        table = quoted(definition.name)
        values = connection.execute(f"SELECT rowid, {quoted(old.name)} FROM {table}").fetchall()
        org.store.set_aside(definition, old.name)
        org.catalogue.add_field(definition.name, new)
        connection.executemany(
            f"UPDATE {table} SET {quoted(new.name)} = ? WHERE rowid = ?",
            ((convert(value), rowid) for rowid, value in values),
        )


def _converter(old: FieldDefinition, new: FieldDefinition) -> Callable[[Stored], Stored]:
    shown, keep = plainer(old), keeper(new)

    def convert(value: Stored) -> Stored:
        if value is None and new.type != "boolean":
            return None
        try:
            return keep(shown(value) if shown else value)
        except OrgError:
            return keep(None)

    return convert


def rename(org: "SandboxOrg", object_name: str, old_name: str, new_name: str) -> None:
    """Give a field another API name; its values stay, no stamp moves."""
    definition = org.catalogue.object(object_name)
    field = _field(definition, old_name)
    with org.transaction():
        org.store.rename_column(definition, field.name, new_name)
        org.catalogue.remove_field(definition.name, field.name)
        org.catalogue.add_field(definition.name, replace(field, name=new_name))


def edit_picklist(
    org: "SandboxOrg", object_name: str, field_name: str, value: str, *, to: str | None = None
) -> int:
    """Rename a picklist's value, or retire it if it gets no new name; returns the holders changed.

    Renaming changes every holder, and of its stamps SystemModstamp alone. Retiring leaves the
    holders as they are.
    """
    definition = org.catalogue.object(object_name)
    field = _field(definition, field_name)
    if value not in {one.value for one in field.picklist_values}:
        raise OrgError("INVALID_INPUT", f"{field.name} has no value {value}")
    values = tuple(_edited(one, value, to) for one in field.picklist_values)
    with org.transaction():
        org.catalogue.add_field(definition.name, replace(field, picklist_values=values))
        if to is None:
            return 0
        literal = value.replace("\\", "\\\\").replace("'", "\\'")
        matching = f"WHERE {field.name} = '{literal}'"
        return org.update_all(definition.name, {field.name: to}, matching, stamps="system")


def _edited(one: PicklistValue, value: str, to: str | None) -> PicklistValue:
    if one.value != value:
        return one
    return replace(one, active=False) if to is None else replace(one, value=to, label=to)
