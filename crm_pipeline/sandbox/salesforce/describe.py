"""Describe: an object's definition as the JSON that clients read.

Belongs here: /sobjects, /sobjects/X and /sobjects/X/describe. Does not belong here: the
definitions (catalogue.py), records (rows.py).
"""

from typing import Any

from crm_pipeline.sandbox.salesforce.catalogue import Catalogue
from crm_pipeline.sandbox.salesforce.schema import (
    COMPOUND_TYPES,
    NUMBER_TYPES,
    FieldDefinition,
    ObjectDefinition,
)

_SOAP_TYPES = {
    "id": "tns:ID",
    "reference": "tns:ID",
    "boolean": "xsd:boolean",
    "int": "xsd:int",
    "double": "xsd:double",
    "currency": "xsd:double",
    "percent": "xsd:double",
    "date": "xsd:date",
    "datetime": "xsd:dateTime",
    "time": "xsd:time",
    "address": "urn:address",
    "location": "urn:location",
    "base64": "xsd:base64Binary",
}
_BYTES_PER_CHARACTER = 3
_MASTER_RECORD_TYPE = "012000000000000AAA"
_LONG_TEXT = 255  # characters beyond which a text area neither groups nor sorts


def field_json(field: FieldDefinition) -> dict[str, Any]:
    """One field as describe shows it."""
    number = field.type in NUMBER_TYPES
    compound = field.type in COMPOUND_TYPES
    formula = field.formula is not None and field.custom
    texty = not number and field.type not in _SOAP_TYPES
    groupable = field.type not in {*COMPOUND_TYPES, "datetime", "double", "currency", "percent"}
    return {
        "aggregatable": not compound and field.type not in {"boolean", "base64"},
        "aiPredictionField": False,
        "autoNumber": field.auto_number,
        "byteLength": field.length * _BYTES_PER_CHARACTER if texty else _bytes(field),
        "calculated": field.calculated or formula,
        "calculatedFormula": field.formula_text if field.calculated or formula else None,
        "cascadeDelete": False,
        "caseSensitive": field.case_sensitive,
        "compoundFieldName": field.compound_field_name,
        "controllerName": None,
        "createable": field.createable and field.formula is None and not compound,
        "custom": field.custom,
        "defaultValue": field.default if field.type == "boolean" else None,
        "defaultValueFormula": None,
        "defaultedOnCreate": field.defaulted_on_create,
        "dependentPicklist": False,
        "deprecatedAndHidden": False,
        "digits": field.precision if field.type == "int" else 0,
        "displayLocationInDecimal": field.type == "location",
        "encrypted": field.encrypted or field.masked,
        "externalId": field.external_id,
        "extraTypeInfo": "plaintextarea" if field.type == "textarea" else None,
        "filterable": field.filterable and not compound,
        "filteredLookupInfo": None,
        "formulaTreatNullNumberAsZero": False,
        "groupable": groupable and field.length <= _LONG_TEXT,
        "highScaleNumber": False,
        "htmlFormatted": field.html_formatted,
        "idLookup": field.type == "id" or field.external_id or field.name_field,
        "inlineHelpText": field.help_text,
        "label": field.label,
        "length": 0 if number else field.length,
        "mask": "X" if field.masked else None,
        "maskType": "lastFour" if field.masked else None,
        "name": field.name,
        "nameField": field.name_field,
        "namePointing": len(field.reference_to) > 1,
        "nillable": field.nillable,
        "permissionable": field.nillable and field.createable,
        "picklistValues": [
            {
                "active": one.active,
                "defaultValue": one.default_value,
                "label": one.label or one.value,
                "validFor": None,
                "value": one.value,
            }
            for one in field.picklist_values
        ],
        "polymorphicForeignKey": len(field.reference_to) > 1,
        "precision": field.precision if number and field.type != "int" else 0,
        "queryByDistance": field.type in COMPOUND_TYPES,
        "referenceTargetField": None,
        "referenceTo": list(field.reference_to),
        "relationshipName": field.relationship_name,
        "relationshipOrder": None,
        "restrictedDelete": False,
        "restrictedPicklist": field.restricted_picklist,
        "scale": field.scale,
        "searchPrefilterable": field.type == "reference",
        "soapType": _SOAP_TYPES.get(field.type, "xsd:string"),
        "sortable": field.sortable and not compound,
        "type": field.type,
        "unique": field.unique,
        "updateable": field.updateable and field.formula is None and not compound,
        "writeRequiresMasterRead": False,
    }


def _bytes(field: FieldDefinition) -> int:
    return 18 if field.type in {"id", "reference"} else 0


def _summary(definition: ObjectDefinition, root: str) -> dict[str, Any]:
    url = f"{root}/sobjects/{definition.name}"
    return {
        "activateable": False,
        "associateEntityType": None,
        "associateParentEntity": None,
        "createable": definition.createable,
        "custom": definition.custom,
        "customSetting": False,
        "deepCloneable": False,
        "deletable": definition.deletable,
        "deprecatedAndHidden": False,
        "feedEnabled": False,
        "hasSubtypes": False,
        "isInterface": False,
        "isSubtype": False,
        "keyPrefix": definition.key_prefix,
        "label": definition.label,
        "labelPlural": definition.label_plural,
        "layoutable": definition.createable,
        "mergeable": definition.mergeable,
        "mruEnabled": True,
        "name": definition.name,
        "queryable": definition.queryable,
        "replicateable": definition.replicateable,
        "retrieveable": True,
        "searchable": definition.searchable,
        "triggerable": True,
        "undeletable": definition.undeletable and definition.soft_delete,
        "updateable": definition.updateable,
        "urls": {
            "rowTemplate": f"{url}/{{ID}}",
            "defaultValues": f"{url}/defaultValues?recordTypeId&fields",
            "describe": f"{url}/describe",
            "sobject": url,
        },
    }


def global_json(catalogue: Catalogue, root: str) -> dict[str, Any]:
    """GET /sobjects."""
    objects = sorted(catalogue.visible_objects(), key=lambda one: one.name)
    return {
        "encoding": "UTF-8",
        "maxBatchSize": 200,
        "sobjects": [_summary(one, root) for one in objects],
    }


def basic_json(definition: ObjectDefinition, root: str) -> dict[str, Any]:
    """GET /sobjects/X, without the recent items (which need the org)."""
    return {"objectDescribe": _summary(definition, root)}


def object_json(catalogue: Catalogue, name: str, root: str) -> dict[str, Any]:
    """GET /sobjects/X/describe: hidden fields are simply not there."""
    definition = catalogue.visible(name)
    summary = _summary(definition, root)
    url = f"{root}/sobjects/{definition.name}"
    summary["urls"] |= {
        "layouts": f"{url}/describe/layouts",
        "approvalLayouts": f"{url}/describe/approvalLayouts",
        "uiDetailTemplate": "/{ID}",
        "uiEditTemplate": "/{ID}/e",
        "uiNewRecord": f"/{definition.key_prefix}/e",
    }
    return summary | {
        "actionOverrides": [],
        "childRelationships": _children(catalogue, definition.name),
        "compactLayoutable": True,
        "defaultImplementation": None,
        "extendedBy": None,
        "extendsInterfaces": None,
        "fields": [field_json(one) for one in definition.fields],
        "implementedBy": None,
        "implementsInterfaces": None,
        "listviewable": None,
        "lookupLayoutable": None,
        "namedLayoutInfos": [],
        "networkScopeFieldName": None,
        "recordTypeInfos": [
            {
                "active": True,
                "available": True,
                "defaultRecordTypeMapping": True,
                "developerName": "Master",
                "master": True,
                "name": "Master",
                "recordTypeId": _MASTER_RECORD_TYPE,
                "urls": {"layout": f"{url}/describe/layouts/{_MASTER_RECORD_TYPE}"},
            }
        ],
        "searchLayoutable": True,
        "sobjectDescribeOption": "FULL",
        "supportedScopes": [{"label": "All records", "name": "everything"}],
    }


def _children(catalogue: Catalogue, name: str) -> list[dict[str, Any]]:
    cascades = set(catalogue.object(name).cascade)
    return [
        {
            "cascadeDelete": (child.name, field.name) in cascades,
            "childSObject": child.name,
            "deprecatedAndHidden": False,
            "field": field.name,
            "junctionIdListNames": [],
            "junctionReferenceTo": [],
            "relationshipName": child.label_plural.replace(" ", "")
            if field.name == f"{name}Id"
            else None,
            "restrictedDelete": False,
        }
        for child in catalogue.visible_objects()
        for field in child.fields
        if name in field.reference_to
    ]
