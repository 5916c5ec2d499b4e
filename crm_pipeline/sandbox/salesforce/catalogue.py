"""Which objects and fields the org has, and which of them the API user may see.

Belongs here: the definitions in force, changes to them while the org runs, field-level
security. Does not belong here: the tables behind them (storage.py), describe's JSON.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict, replace
from typing import Any, Literal

import orjson

from crm_pipeline.sandbox.salesforce.failures import invalid_type
from crm_pipeline.sandbox.salesforce.schema import (
    FieldDefinition,
    ObjectDefinition,
    PicklistValue,
    with_system_fields,
)
from crm_pipeline.sandbox.salesforce.storage import Store

Access = Literal["hidden", "masked", "read_only"]
Grants = Callable[[str, Collection[str]], dict[str, "Access | None"]]
"""What permission sets let the API user do with an object's fields, by their small names."""
_KEPT = "catalogue"


class Catalogue:
    """The org's definitions by name, whatever the case.

    Objects and fields added while the org runs are kept with its data, so that a demo's custom
    field is still there after a restart.
    """

    def __init__(self, store: Store, objects: Iterable[ObjectDefinition]) -> None:
        self._store = store
        self._objects: dict[str, ObjectDefinition] = {}
        self._visible: dict[str, ObjectDefinition] = {}
        self._access: dict[str, dict[str, Access]] = {}
        self._guarded: dict[str, set[str]] = {}
        self.grants: Grants = lambda _object, fields: dict.fromkeys(fields, "hidden")
        self._forbidden: set[str] = set()
        self._added: dict[str, dict[str, Any]] = {}
        for definition in objects:
            self._put(with_system_fields(definition))
        self._restore()
        self.revision = 0

    def _restore(self) -> None:
        kept = orjson.loads(self._store.meta(_KEPT) or "{}")
        for entry in kept.values():
            if "object" in entry:
                self.add_object(_object(entry["object"]))
            for field in entry.get("fields", ()):
                if entry["name"].lower() in self._objects:
                    self.add_field(entry["name"], _field(field))
            for name in entry.get("removed", ()):
                self.remove_field(entry["name"], name)
            for name in entry.get("guarded", ()):
                self.guard_field(entry["name"], name)

    def _keep(self) -> None:
        self._store.set_meta(_KEPT, orjson.dumps(self._added).decode())

    def _put(self, definition: ObjectDefinition) -> None:
        self._objects[definition.name.lower()] = definition
        self._store.ensure_table(definition)
        self._forget()

    def _forget(self) -> None:
        self._visible = {}
        self.revision = getattr(self, "revision", 0) + 1

    def object(self, name: str) -> ObjectDefinition:
        """The definition as the system sees it; INVALID_TYPE if there is none."""
        found = self._objects.get(name.lower())
        if found is None:
            raise invalid_type(name)
        return found

    def has(self, name: str) -> bool:
        """Whether the org has the object at all."""
        return name.lower() in self._objects

    def all(self) -> list[ObjectDefinition]:
        """Every object, as the system sees it."""
        return list(self._objects.values())

    def visible(self, name: str) -> ObjectDefinition:
        """The definition as the API user sees it: hidden fields absent, forbidden objects unknown.

        Salesforce does not tell "you may not" from "there is none".
        """
        key = name.lower()
        found = self._visible.get(key)
        if found is None:
            definition = self.object(name)
            if key in self._forbidden:
                raise invalid_type(name)
            guarded = self._guarded.get(key)
            granted = self.grants(definition.name, guarded) if guarded else {}
            access = {**granted, **self._access.get(key, {})}
            seen = (_seen(one, access.get(one.name.lower())) for one in definition.fields)
            fields = tuple(one for one in seen if one is not None)
            found = self._visible[key] = replace(definition, fields=fields)
        return found

    def visible_objects(self) -> list[ObjectDefinition]:
        """Every object the API user may see."""
        return [self.visible(key) for key in self._objects if key not in self._forbidden]

    def by_prefix(self, identifier: str) -> ObjectDefinition | None:
        """The object that an Id belongs to."""
        prefix = identifier[:3]
        return next((one for one in self._objects.values() if one.key_prefix == prefix), None)

    def add_object(self, definition: ObjectDefinition) -> None:
        """Give the org a further object, with its system fields."""
        self._put(with_system_fields(definition))
        self._added[definition.name] = {
            "name": definition.name,
            "object": _plain(definition),
            "fields": [],
        }
        self._keep()

    def add_field(self, object_name: str, field: FieldDefinition) -> None:
        """Give an object a further field; present records hold its default for booleans, else null.

        A field with a formula works until the org's file is opened again: code is not kept.
        """
        definition = self.object(object_name)
        others = tuple(one for one in definition.fields if one.name.lower() != field.name.lower())
        self._put(replace(definition, fields=(*others, field)))
        entry = self._entry(definition.name)
        entry["fields"] = [one for one in entry["fields"] if one["name"] != field.name]
        if field.formula is None:
            entry["fields"].append(_plain(field))
        entry["removed"] = [one for one in entry.get("removed", ()) if one != field.name]
        self._keep()

    def remove_field(self, object_name: str, field_name: str) -> None:
        """Take a field away from clients; its column stays, as in the org's 15-day bin."""
        definition = self.object(object_name)
        fields = tuple(one for one in definition.fields if one.name.lower() != field_name.lower())
        self._objects[object_name.lower()] = replace(definition, fields=fields)
        self._forget()
        entry = self._entry(definition.name)
        entry["fields"] = [
            one for one in entry["fields"] if one["name"].lower() != field_name.lower()
        ]
        entry["removed"] = [*entry.get("removed", ()), field_name]
        self._keep()

    def guard_field(self, object_name: str, field_name: str) -> None:
        """Let only permission sets show a field, as it is with those that the API makes."""
        definition = self.object(object_name)
        self._guarded.setdefault(definition.name.lower(), set()).add(field_name.lower())
        self._note_guarded(definition.name)

    def _note_guarded(self, name: str) -> None:
        self._entry(name)["guarded"] = sorted(self._guarded.get(name.lower(), ()))
        self._keep()
        self._forget()

    def forget_access(self) -> None:
        """Permissions changed: look at them again."""
        if self._guarded:
            self._forget()

    def _entry(self, name: str) -> dict[str, Any]:
        return self._added.setdefault(name, {"name": name, "fields": []})

    def set_access(self, object_name: str, field_name: str, access: "Access | None") -> None:
        """Field-level security: what the API user may do with a field; None is everything."""
        fields = self._access.setdefault(object_name.lower(), {})
        if access is None:
            fields.pop(field_name.lower(), None)
            guarded = self._guarded.get(object_name.lower(), set())
            if field_name.lower() in guarded:
                guarded.discard(field_name.lower())
                self._note_guarded(self.object(object_name).name)
        else:
            fields[field_name.lower()] = access
        self._forget()

    def hide_field(self, object_name: str, field_name: str) -> None:
        """The API user no longer sees the field."""
        self.set_access(object_name, field_name, "hidden")

    def show_field(self, object_name: str, field_name: str) -> None:
        """Give a field back to the API user."""
        self.set_access(object_name, field_name, None)

    def forbid_object(self, object_name: str) -> None:
        """Take the object away from the API user."""
        self._forbidden.add(object_name.lower())
        self._forget()

    def allow_object(self, object_name: str) -> None:
        """Undo `forbid_object`."""
        self._forbidden.discard(object_name.lower())
        self._forget()


def _seen(field: FieldDefinition, access: "Access | None") -> FieldDefinition | None:
    """A field as the API user sees it."""
    match access:
        case "hidden":
            return None
        case "masked":
            return replace(field, masked=True, filterable=False, sortable=False)
        case "read_only":
            return replace(field, createable=False, updateable=False)
    return field


def _plain(value: ObjectDefinition | FieldDefinition) -> dict[str, Any]:
    if isinstance(value, FieldDefinition):
        return asdict(replace(value, formula=None))
    fields = tuple(replace(one, formula=None) for one in value.fields)
    return asdict(replace(value, fields=fields))


def _field(entry: dict[str, Any]) -> FieldDefinition:
    values = tuple(PicklistValue(**one) for one in entry["picklist_values"])
    references = tuple(entry["reference_to"])
    return FieldDefinition(**{**entry, "picklist_values": values, "reference_to": references})


def _object(entry: dict[str, Any]) -> ObjectDefinition:
    fields = tuple(_field(one) for one in entry["fields"])
    cascade = tuple((child, name) for child, name in entry["cascade"])
    return ObjectDefinition(**{**entry, "fields": fields, "cascade": cascade})
