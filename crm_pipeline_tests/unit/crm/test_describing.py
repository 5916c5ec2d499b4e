"""Describe as model values, JSON as rows, the registry."""

import csv
import io
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm_pipeline.config.environment import Environment
from crm_pipeline.config.settings import CrmSettings
from crm_pipeline.crm.registry import connector_types, make_connector
from crm_pipeline.crm.salesforce.connector import SalesforceConnector
from crm_pipeline.crm.salesforce.describe import description_of
from crm_pipeline.crm.salesforce.fields import value_type_of
from crm_pipeline.crm.salesforce.json_rows import RowWriter, decoded
from crm_pipeline.errors import ConfigurationError, ObjectUnavailable, TransientError
from crm_pipeline.model.objects import CrmField, CrmObject, ValueType


def described(*fields: dict[str, Any], **facts: Any) -> CrmObject:
    entries = [{"name": "Id", "type": "id", "filterable": True}, *fields]
    answer = {"name": "Thing__c", "queryable": True, "updateable": True, "fields": entries}
    return description_of({**answer, **facts}).crm_object


def stamp(name: str, *, filterable: bool = True) -> dict[str, Any]:
    return {"name": name, "type": "datetime", "filterable": filterable}


@pytest.mark.parametrize(
    ("fields", "updateable", "cursor"),
    [
        (("SystemModstamp", "LastModifiedDate", "CreatedDate"), True, "SystemModstamp"),
        (("LastModifiedDate", "CreatedDate"), True, "LastModifiedDate"),
        (("CreatedDate",), True, None),
        (("CreatedDate",), False, "CreatedDate"),
        ((), False, None),
    ],
)
def test_a8_a9_the_cursor_is_the_stamp_that_moves_with_every_change(
    fields: tuple[str, ...], updateable: object, cursor: str | None
) -> None:
    found = described(*(stamp(name) for name in fields), updateable=updateable)
    assert found.cursor_field == cursor


def test_a9_a_stamp_that_cannot_be_filtered_is_no_cursor() -> None:
    found = described(stamp("SystemModstamp", filterable=False), stamp("LastModifiedDate"))
    assert found.cursor_field == "LastModifiedDate"
    assert described(stamp("SystemModstamp", filterable=False)).cursor_field is None


def test_an_object_that_cannot_be_queried_is_unavailable() -> None:
    with pytest.raises(ObjectUnavailable):
        described(queryable=False)


def test_formulas_and_personal_stamps_move_without_the_record() -> None:
    found = described(
        {"name": "F__c", "type": "double", "calculated": True}, stamp("LastViewedDate")
    )
    assert found.fields["F__c"].is_calculated
    assert found.fields["LastViewedDate"].is_calculated


def test_every_field_type_has_a_place() -> None:
    assert value_type_of("reference") is ValueType.IDENTIFIER
    assert value_type_of("percent") is ValueType.DECIMAL
    assert value_type_of("address") is None
    assert value_type_of("base64") is None
    assert value_type_of("something new") is ValueType.TEXT


def _object(**types: ValueType) -> CrmObject:
    fields = {name.replace("_dot_", "."): kind for name, kind in types.items()}
    return CrmObject(
        "Thing", "Thing", {name: CrmField(name, name, kind, "") for name, kind in fields.items()}
    )


def rows(crm_object: CrmObject, body: str) -> list[list[str]]:
    names = tuple(crm_object.fields)
    text, _ = RowWriter(crm_object, names).rows(decoded(body.encode("utf-8", "surrogatepass")))
    return list(csv.reader(io.StringIO(text.decode(), newline=""), strict=True))


def test_values_take_the_form_of_bulk() -> None:
    thing = _object(
        a=ValueType.TEXT,
        b=ValueType.BOOLEAN,
        c=ValueType.DATETIME,
        d=ValueType.DECIMAL,
        e_dot_f=ValueType.TEXT,
        g=ValueType.BOOLEAN,
    )
    body = """[{"a": null, "b": true, "c": "2026-01-31T12:00:00.000+0000", "d": 99999999999999.99,
        "e": {"f": "x"}, "g": null}, {"a": "NULL", "b": false, "c": null, "d": 1.0E7, "e": null,
        "g": false}]"""
    assert rows(thing, body) == [
        ["", "true", "2026-01-31T12:00:00.000Z", "99999999999999.99", "x", ""],
        ["NULL", "false", "", "1.0E7", "", "false"],
    ]


@given(st.lists(st.tuples(st.text(), st.text()), min_size=1))
def test_any_text_comes_through_but_nul_and_half_characters(pairs: list[tuple[str, str]]) -> None:
    thing = _object(a=ValueType.TEXT, b=ValueType.TEXT)
    body = json.dumps([{"a": a, "b": b} for a, b in pairs])
    expected = [
        [
            "".join("\ufffd" if c == "\0" or "\ud800" <= c <= "\udfff" else c for c in v)
            for v in pair
        ]
        for pair in pairs
    ]
    assert rows(thing, body) == expected


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4))
def test_numbers_keep_their_digits(number: Decimal) -> None:
    thing = _object(a=ValueType.DECIMAL)
    assert rows(thing, f'[{{"a": {number:f}}}]') == [[f"{number:f}"]]


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b"\xff\xff"])
def test_broken_json_is_repeated_and_not_repeated_to_anybody(body: bytes) -> None:
    with pytest.raises(TransientError) as caught:
        decoded(body)
    assert caught.value.__cause__ is caught.value.__context__ is None


def environment() -> Environment:
    return Environment(
        SALESFORCE_LOGIN_URL="https://example.my.salesforce.com",
        SALESFORCE_CLIENT_ID="id",
        SALESFORCE_CLIENT_SECRET="canary",
    )


def test_the_registry_makes_connectors_by_name() -> None:
    assert connector_types() == ("salesforce",)
    connector = make_connector(CrmSettings(), environment())
    assert isinstance(connector, SalesforceConnector)
    assert connector.usage.calls == 0
    connector.close()


def test_an_unknown_connector_is_an_error_of_the_settings() -> None:
    with pytest.raises(ConfigurationError, match="salesforce"):
        make_connector(CrmSettings(type="hubspot"), environment())
