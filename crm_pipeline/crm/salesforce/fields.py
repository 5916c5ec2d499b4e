"""Salesforce's field types and how we store each.

Belongs here: the table. Does not belong here: PostgreSQL's types (warehouse/).

Source: Object Reference, "Field Types"; a type that is not listed is stored as text, because new
types of the API have so far always had a textual form in JSON and CSV.
"""

from crm_pipeline.model.objects import ValueType

_TYPES: dict[str, ValueType | None] = {
    "id": ValueType.IDENTIFIER,
    "reference": ValueType.IDENTIFIER,
    "string": ValueType.TEXT,
    "textarea": ValueType.TEXT,
    "picklist": ValueType.TEXT,
    "multipicklist": ValueType.TEXT,
    "combobox": ValueType.TEXT,
    "email": ValueType.TEXT,
    "phone": ValueType.TEXT,
    "url": ValueType.TEXT,
    "encryptedstring": ValueType.TEXT,
    "anyType": ValueType.TEXT,
    "int": ValueType.INTEGER,
    "long": ValueType.INTEGER,
    "double": ValueType.DECIMAL,
    "currency": ValueType.DECIMAL,
    "percent": ValueType.DECIMAL,
    "boolean": ValueType.BOOLEAN,
    "date": ValueType.DATE,
    "datetime": ValueType.DATETIME,
    "time": ValueType.TIME,
    # Compound and binary: their parts are fields of their own, and Bulk refuses to read them.
    "address": None,
    "location": None,
    "base64": None,
    "complexvalue": None,
    "json": None,
}


def value_type_of(native_type: str) -> ValueType | None:
    """How a field of this type is stored; None when it cannot be."""
    return _TYPES.get(native_type, ValueType.TEXT)
