"""What is sent to Salesforce, and what its answers mean, without an org."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal

import pytest

from crm_pipeline.crm.salesforce.write_failures import bulk_outcome, outcome_of, refused_row
from crm_pipeline.crm.salesforce.writing import headers_of, key_refusal, refusal_of
from crm_pipeline.crm.salesforce.written_values import Unfit, as_body, holds, written
from crm_pipeline.model.objects import CrmField, CrmObject, ValueType
from crm_pipeline.model.writeback import OnDuplicate, Operation, Value, Verdict, WriteOptions


def a_field(value_type: ValueType, scale: int = 0) -> CrmField:
    return CrmField("F__c", "F", value_type, "native", scale=scale)


@pytest.mark.parametrize(
    ("value_type", "value", "form"),
    [
        (ValueType.TEXT, "a", "a"),
        (ValueType.TEXT, "", None),
        (ValueType.TEXT, Decimal("1.50"), "1.50"),
        (ValueType.DECIMAL, Decimal("99999999999999.99"), Decimal("99999999999999.99")),
        (ValueType.DECIMAL, "1.5", Decimal("1.5")),
        (ValueType.INTEGER, Decimal(7), 7),
        (ValueType.BOOLEAN, None, False),
        (ValueType.BOOLEAN, "true", True),
        (ValueType.DATE, date(2026, 3, 2), "2026-03-02"),
        (ValueType.DATE, "2026-03-02", "2026-03-02"),
        (ValueType.TIME, time(9, 30), "09:30:00.000Z"),
        (ValueType.DATETIME, datetime(2026, 3, 2, 12, tzinfo=UTC), "2026-03-02T12:00:00.000Z"),
        (ValueType.DATETIME, "2026-03-02T12:00:00.123456+00:00", "2026-03-02T12:00:00.123Z"),
        (
            ValueType.DATETIME,
            datetime(2026, 3, 2, 14, tzinfo=timezone(timedelta(hours=2))),
            "2026-03-02T12:00:00.000Z",
        ),
    ],
)
def test_a_value_has_the_form_of_its_field(
    value_type: ValueType, value: Value, form: object
) -> None:
    assert written(a_field(value_type), value) == form


@pytest.mark.parametrize(
    ("value_type", "value"),
    [
        (ValueType.DECIMAL, "many"),
        (ValueType.DECIMAL, True),
        (ValueType.DECIMAL, Decimal("NaN")),
        (ValueType.INTEGER, Decimal("1.5")),
        (ValueType.BOOLEAN, "perhaps"),
        (ValueType.DATE, "yesterday"),
        (ValueType.DATETIME, "2026-03-02T12:00:00"),
        (ValueType.TIME, "noon"),
        (ValueType.TIME, "10:00:00+02:00"),
    ],
)
def test_a_value_that_is_none_of_the_fields_is_told_without_being_repeated(
    value_type: ValueType, value: Value
) -> None:
    with pytest.raises(Unfit) as raised:
        written(a_field(value_type), value)
    assert (str(raised.value), raised.value.__cause__, raised.value.__context__) == ("", None, None)


@pytest.mark.parametrize(
    ("field", "ours", "theirs", "is_same"),
    [
        (a_field(ValueType.DECIMAL, scale=2), Decimal("3.14159"), Decimal("3.14"), True),
        (a_field(ValueType.DECIMAL, scale=2), Decimal("3.15"), Decimal("3.14"), False),
        (a_field(ValueType.TEXT), "a ", "a", True),
        (a_field(ValueType.TEXT), "", None, True),
        (a_field(ValueType.BOOLEAN), None, False, True),
        (a_field(ValueType.IDENTIFIER), "005000000000001", "005000000000001AAA", True),
        (a_field(ValueType.DATETIME), "2026-03-02T12:00:00Z", "2026-03-02T12:00:00.000+0000", True),
    ],
)
def test_h29_reading_back_knows_how_salesforce_rounds_and_trims(
    field: CrmField,
    ours: Value,
    theirs: Value,
    is_same: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    assert holds(field, ours, theirs) is is_same


def test_a_body_keeps_every_digit() -> None:
    body = as_body({"records": [{"a": Decimal("99999999999999.99"), "b": None, "c": "\n'"}]})
    assert "99999999999999.99" in body
    assert json.loads(body)["records"][0]["c"] == "\n'"


def test_fields_that_describe_keeps_from_us_are_refused_before_anything_is_sent() -> None:
    fields = {
        "Name": CrmField("Name", "Name", ValueType.TEXT, "string", length=5),
        "Ro__c": CrmField("Ro__c", "Ro", ValueType.TEXT, "string", is_updateable=False),
    }
    thing = CrmObject("Thing__c", "Thing", fields)
    update, create = Operation.UPDATE, Operation.CREATE
    found = {
        (operation, name, value): refused and refused.code
        for operation, name, value in (
            (update, "Name", "short"),
            (update, "name", None),
            (update, "Name", "too long"),
            (update, "Ro__c", "x"),
            (create, "Ro__c", "x"),
            (update, "Other__c", "x"),
        )
        for refused in [refusal_of(thing, operation, name, value)]
    }
    assert list(found.values()) == [
        None,
        None,
        "STRING_TOO_LONG",
        "INVALID_FIELD_FOR_INSERT_UPDATE",
        None,
        "INVALID_FIELD",
    ]


def test_h3_a_key_field_must_be_a_unique_external_id() -> None:
    def key(*, is_unique: bool = False, is_external_id: bool = False) -> CrmObject:
        field = CrmField("K__c", "K", ValueType.TEXT, "string")
        field = replace(field, is_unique=is_unique, is_external_id=is_external_id)
        return CrmObject("Lead", "Lead", {"K__c": field})

    assert key_refusal(key(is_unique=True, is_external_id=True), "K__c") is None
    for lacking in (key(is_external_id=True), key(is_unique=True), CrmObject("Lead", "Lead", {})):
        found = key_refusal(lacking, "K__c")
        assert found is not None
        assert found.code == "NO_KEY_FIELD"
        assert "K__c on Lead" in (found.remedy or "")


def test_h10_only_a_write_that_says_so_may_save_duplicates_or_be_assigned() -> None:
    assert headers_of(WriteOptions()) == {"Sforce-Auto-Assign": "FALSE"}
    assert headers_of(WriteOptions(OnDuplicate.ALLOW, "default")) == {
        "Sforce-Auto-Assign": "TRUE",
        "Sforce-Duplicate-Rule-Header": "allowSave=true",
    }
    assert headers_of(WriteOptions(assignment="01Q000000000001"))["Sforce-Auto-Assign"] == (
        "01Q000000000001"
    )


def test_messages_of_salesforce_are_recognised_and_never_repeated() -> None:
    secret = "ada@example.com"
    entry = {
        "success": False,
        "errors": [{"statusCode": "DUPLICATE_VALUE", "message": f"{secret} exists", "fields": []}],
    }
    assert secret not in str(outcome_of(entry))
    assert secret not in str(refused_row(f"{secret}: forged\n", secret))
    assert secret not in str(bulk_outcome(f"DUPLICATE_VALUE:{secret}:Email --"))


@pytest.mark.parametrize(
    ("error", "code", "fields"),
    [
        ("STRING_TOO_LONG:Last Name: data value too large: x:LastName --", "STRING_TOO_LONG", 1),
        ("UNABLE_TO_LOCK_ROW:unable to obtain exclusive access:--", "UNABLE_TO_LOCK_ROW", 0),
        ("REQUIRED_FIELD_MISSING:Missing: [A, B]:A,B --", "REQUIRED_FIELD_MISSING", 2),
        ("something else", "UNKNOWN", 0),
    ],
)
def test_h21_the_error_of_a_job_is_taken_apart(error: str, code: str, fields: int) -> None:
    found = bulk_outcome(error)
    assert (found.code, len(found.fields)) == (code, fields)


def test_h4_a_record_that_left_the_bin_is_gone_and_a_missing_parent_is_not() -> None:
    gone = refused_row("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id")
    parent = refused_row("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", ("OwnerId",))
    assert (gone.verdict, parent.verdict) == (Verdict.GONE, Verdict.PARK)
