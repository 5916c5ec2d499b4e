"""The tables that the Tooling API is asked for: EntityDefinition, FieldDefinition, CustomField.

They live in an org of their own, written from the catalogue whenever that has changed, so the
same SOQL finds its way through them.

Belongs here: these objects and how they are filled. Does not belong here: HTTP (tooling.py),
making fields (custom_fields.py).
"""

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson

from crm_pipeline.sandbox.salesforce.field_types import metadata_of, spoken_type
from crm_pipeline.sandbox.salesforce.schema import FieldDefinition, ObjectDefinition
from crm_pipeline.sandbox.salesforce.standard_objects_fields import field, flag, integer, text
from crm_pipeline.sandbox.salesforce.storage import quoted

if TYPE_CHECKING:
    from crm_pipeline.sandbox.salesforce.org import SandboxOrg

Row = dict[str, Any]


def _of_entity(name: str = "EntityDefinitionId") -> FieldDefinition:
    # A lookup by a durable id such as Lead: text where other lookups hold record Ids.
    return replace(
        text(name, "Entity Definition ID", 80),
        reference_to=("EntityDefinition",),
        relationship_name="EntityDefinition",
    )


ENTITY_DEFINITION = ObjectDefinition(
    "EntityDefinition",
    "Entity Definition",
    "Entity Definitions",
    "4ie",
    (
        text("DurableId", "Durable ID", 80),
        text("QualifiedApiName", "Qualified API Name", 255, name_field=True),
        text("DeveloperName", "Developer Name", 255),
        text("Label", "Label", 255),
        text("PluralLabel", "Plural Label", 255),
        text("KeyPrefix", "Key Prefix", 3),
        text("NamespacePrefix", "Namespace Prefix", 15),
        flag("IsCustomizable", "Is Customizable"),
        flag("IsQueryable", "Is Queryable"),
    ),
    soft_delete=False,
)
FIELD_DEFINITION = ObjectDefinition(
    "FieldDefinition",
    "Field Definition",
    "Field Definitions",
    "4fe",
    (
        text("DurableId", "Durable ID", 255),
        _of_entity(),
        text("QualifiedApiName", "Qualified API Name", 255, name_field=True),
        text("DeveloperName", "Developer Name", 255),
        text("Label", "Label", 255),
        text("DataType", "Data Type", 255),
        integer("Length", "Length"),
        integer("Precision", "Precision"),
        integer("Scale", "Scale"),
        flag("IsNillable", "Is Nillable"),
        flag("IsIndexed", "Is Indexed"),
    ),
    soft_delete=False,
)
CUSTOM_FIELD = ObjectDefinition(
    "CustomField",
    "Custom Field",
    "Custom Fields",
    "00N",
    (
        text("DeveloperName", "Developer Name", 255, name_field=True),
        text("FullName", "Full Name", 255),
        text("TableEnumOrId", "Table Enum or ID", 80),
        _of_entity(),
        text("NamespacePrefix", "Namespace Prefix", 15),
        text("ManageableState", "Manageable State", 40),
        integer("Length", "Length"),
        integer("Precision", "Precision"),
        integer("Scale", "Scale"),
        text("InlineHelpText", "Inline Help Text", 510),
        field("Metadata", "Metadata", "complexvalue"),
    ),
    soft_delete=False,
)


class ToolingTables:
    """The tables of one org, made when they are first asked for."""

    def __init__(self, org: "SandboxOrg") -> None:
        self._org = org
        self._lock = threading.Lock()
        self._made: SandboxOrg | None = None
        self._revision = -1

    def org(self) -> "SandboxOrg":
        """An org of these tables alone, up to date."""
        with self._lock:
            if self._made is None:
                self._made = type(self._org)(
                    objects=(ENTITY_DEFINITION, FIELD_DEFINITION, CUSTOM_FIELD),
                    clock=self._org.clock,
                    keeps_past=False,
                )
            if self._revision != self._org.catalogue.revision:
                self._fill(self._made)
                self._revision = self._org.catalogue.revision
            return self._made

    def _fill(self, made: "SandboxOrg") -> None:
        stamp = self._org.clock.stamp()
        for definition, rows in (
            (ENTITY_DEFINITION, list(self._entities())),
            (FIELD_DEFINITION, list(self._fields())),
            (CUSTOM_FIELD, list(self._custom_fields())),
        ):
            with made.transaction() as connection:
                connection.execute(f"DELETE FROM {quoted(definition.name)}")
                for row in rows:
                    row["SystemModstamp"] = row["LastModifiedDate"] = row["CreatedDate"] = stamp
                    names = ", ".join(quoted(name) for name in row)
                    connection.execute(
                        f"INSERT INTO {quoted(definition.name)} ({names}) "
                        f"VALUES ({', '.join('?' * len(row))})",
                        list(row.values()),
                    )

    def _entities(self) -> Iterator[Row]:
        for one in self._org.catalogue.all():
            yield {
                "Id": one.name,
                "DurableId": one.name,
                "QualifiedApiName": one.name,
                "DeveloperName": one.name.removesuffix("__c"),
                "Label": one.label,
                "PluralLabel": one.label_plural,
                "KeyPrefix": one.key_prefix,
                "IsCustomizable": "true",
                "IsQueryable": str(one.queryable).lower(),
            }

    def _fields(self) -> Iterator[Row]:
        for one in self._org.catalogue.all():
            for each in one.fields:
                durable = f"{one.name}.{self._durable(one, each)}"
                yield {
                    "Id": durable,
                    "DurableId": durable,
                    "EntityDefinitionId": one.name,
                    "QualifiedApiName": each.name,
                    "DeveloperName": each.name.removesuffix("__c"),
                    "Label": each.label,
                    "DataType": spoken_type(each),
                    "Length": each.length,
                    "Precision": each.precision,
                    "Scale": each.scale,
                    "IsNillable": str(each.nillable).lower(),
                    "IsIndexed": str(each.unique or each.external_id).lower(),
                }

    def _durable(self, definition: ObjectDefinition, field_: FieldDefinition) -> str:
        if not field_.name.endswith("__c"):
            return field_.name
        return self._org.custom_fields.id_of(definition.name, field_.name)[:15]

    def _custom_fields(self) -> Iterator[Row]:
        for one in self._org.catalogue.all():
            for each in one.fields:
                if each.name.endswith("__c"):
                    yield {
                        "Id": self._org.custom_fields.id_of(one.name, each.name),
                        "DeveloperName": each.name.removesuffix("__c"),
                        "FullName": f"{one.name}.{each.name}",
                        "TableEnumOrId": one.name,
                        "EntityDefinitionId": one.name,
                        "ManageableState": "unmanaged",
                        "Length": each.length or None,
                        "Precision": each.precision or None,
                        "Scale": each.scale if each.precision else None,
                        "InlineHelpText": each.help_text,
                        "Metadata": orjson.dumps(metadata_of(each)).decode(),
                    }

    def close(self) -> None:
        """Forget the tables."""
        if self._made is not None:
            self._made.close()
