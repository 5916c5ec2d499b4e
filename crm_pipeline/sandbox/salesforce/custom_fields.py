"""Custom fields made from metadata; deleted ones lie in a bin for fifteen days, names and all.

Belongs here: metadata turned into a field, names that are taken. Does not belong here: HTTP
(tooling.py), who may see the field (field_security.py).
"""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import orjson

from crm_pipeline.sandbox.salesforce import identifiers
from crm_pipeline.sandbox.salesforce.clock import stamp_moment
from crm_pipeline.sandbox.salesforce.failures import OrgError, not_found
from crm_pipeline.sandbox.salesforce.field_types import field_of
from crm_pipeline.sandbox.salesforce.schema import FieldDefinition, ObjectDefinition

if TYPE_CHECKING:
    from crm_pipeline.sandbox.salesforce.org import SandboxOrg

_IDS, _BIN = "custom_field_ids", "deleted_custom_fields"
_PREFIX = "00N"
_DAYS_IN_BIN = 15
_MOST_PER_OBJECT = 500  # as in the Enterprise Edition
_NAME = re.compile(r"[A-Za-z](?:_?[A-Za-z0-9])*__c")


class CustomFields:
    """The custom fields of an org by their Ids, and those in the bin.

    An object has room for `most_per_object`; those in the bin count.
    """

    def __init__(self, org: "SandboxOrg") -> None:
        self._org = org
        self.most_per_object = _MOST_PER_OBJECT

    def id_of(self, object_name: str, field_name: str) -> str:
        """The Id of a custom field; it stays the same from the first time it is asked for."""
        ids = self._kept(_IDS)
        full = f"{object_name}.{field_name}"
        if full not in ids:
            with self._org.transaction():
                number = self._org.store.take_numbers(_PREFIX, 1)
                ids[full] = identifiers.make_id(_PREFIX, number)
                self._keep(_IDS, ids)
        return str(ids[full])

    def find(self, given: str) -> tuple[ObjectDefinition, FieldDefinition]:
        """The field with this Id."""
        identifier = identifiers.normalise(given)
        for full, known in self._kept(_IDS).items():
            object_name, _, name = full.partition(".")
            if known == identifier and self._org.catalogue.has(object_name):
                definition = self._org.catalogue.object(object_name)
                field = definition.field(name)
                if field is not None:
                    return definition, field
        raise not_found()

    def create(self, full_name: str, metadata: Mapping[str, Any]) -> str:
        """Make a field; nobody sees it yet, unless it is required. Returns its Id."""
        object_name, _, name = full_name.partition(".")
        if not _NAME.fullmatch(name) or len(name) > 43:
            raise OrgError(
                "FIELD_INTEGRITY_EXCEPTION",
                f"The field name you provided {name} on object {object_name} can only contain "
                "alphanumeric characters, must begin with a letter, cannot end with an underscore "
                "or contain two consecutive underscore characters, and must be unique across all "
                f"{object_name} fields",
                fields=("FullName",),
            )
        field = field_of(name, metadata)
        with self._org.transaction():
            definition = self._org.catalogue.object(object_name)
            self._check_free(definition, name)
            self._check_room(definition)
            if self._org.store.has_column(definition, name):
                self._org.store.set_aside(definition, name)
            self._org.add_field(definition.name, field)
            # A checkbox is never null, and hidden all the same.
            if field.nillable or field.type == "boolean":
                self._org.catalogue.guard_field(definition.name, name)
            return self.id_of(definition.name, name)

    def _check_free(self, definition: ObjectDefinition, name: str) -> None:
        binned = {full.lower() for full in self._in_bin()}
        if definition.field(name) or f"{definition.name}.{name}".lower() in binned:
            raise OrgError(
                "DUPLICATE_DEVELOPER_NAME",
                f"There is already a field named {name.removesuffix('__c')} on {definition.label}.",
                fields=("DeveloperName",),
            )

    def _check_room(self, definition: ObjectDefinition) -> None:
        custom = sum(one.name.endswith("__c") for one in definition.fields)
        binned = sum(full.startswith(f"{definition.name}.") for full in self._in_bin())
        if custom + binned >= self.most_per_object:
            raise OrgError(
                "LIMIT_EXCEEDED",
                f"You have reached the maximum number of custom fields for {definition.label}.",
            )

    def delete(self, object_name: str, field_name: str) -> None:
        """Put a field into the bin; its name stays taken for fifteen days, or until `erase`."""
        full = f"{object_name}.{field_name}"
        with self._org.transaction():
            self._org.remove_field(object_name, field_name)
            self._keep(_BIN, {**self._kept(_BIN), full: self._org.clock.stamp()})
            ids = self._kept(_IDS)
            ids.pop(full, None)
            self._keep(_IDS, ids)

    def erase(self, object_name: str, field_name: str) -> None:
        """Empty the bin of one field, as an administrator does in Setup."""
        binned = self._kept(_BIN)
        binned.pop(f"{object_name}.{field_name}", None)
        self._keep(_BIN, binned)

    def _in_bin(self) -> list[str]:
        oldest = self._org.clock.now() - timedelta(days=_DAYS_IN_BIN)
        return [full for full, at in self._kept(_BIN).items() if stamp_moment(at) > oldest]

    def _kept(self, key: str) -> dict[str, Any]:
        found: dict[str, Any] = orjson.loads(self._org.store.meta(key) or "{}")
        return found

    def _keep(self, key: str, value: Mapping[str, Any]) -> None:
        self._org.store.set_meta(key, orjson.dumps(value).decode())
