"""A described object for this room's tests."""

import pytest

from crm_pipeline.model.objects import CrmField, CrmObject, ValueType


def field(name: str, value_type: ValueType | None = ValueType.TEXT, **facts: object) -> CrmField:
    described: dict[str, object] = {"label": name, "native_type": "string", **facts}
    return CrmField(name=name, value_type=value_type, **described)  # type: ignore[arg-type]


@pytest.fixture
def lead() -> CrmObject:
    fields = (
        field("Id", ValueType.IDENTIFIER),
        field("FirstName", label="First Name"),
        field("Email"),
        field("Street"),
        field("City"),
        field("Address", None, native_type="address"),
        field("Home__c", None, native_type="location"),
        field("Home__Latitude__s", ValueType.DECIMAL),
        field("Home__Longitude__s", ValueType.DECIMAL),
        field("Photo__c", None, native_type="base64"),
        field("Lead_Score__c", ValueType.DECIMAL, is_calculated=True, label="Score"),
        field("Notes__c", is_filterable=False),
        field("Status"),
        field("Account.Name"),
    )
    return CrmObject(name="Lead", label="Lead", fields={f.name: f for f in fields})
