"""Requests as SOQL: no value and no name can become syntax."""

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm_pipeline.crm.port import ReadRequest
from crm_pipeline.crm.salesforce import soql
from crm_pipeline.crm.salesforce.identifiers import full_id
from crm_pipeline.errors import FieldUnavailable, PermanentError
from crm_pipeline.model.filters import All, Any, Comparator, Comparison, Not, RecordFilter
from crm_pipeline.model.objects import CrmField, CrmObject, ValueType

ID = "0018d00000ABCdeAAH"


def _field(name: str, value_type: ValueType, *, is_filterable: bool = True) -> CrmField:
    return CrmField(name, name, value_type, value_type.value, is_filterable=is_filterable)


LEAD = CrmObject(
    "Lead",
    "Lead",
    {
        one.name: one
        for one in (
            _field("Id", ValueType.IDENTIFIER),
            _field("Name", ValueType.TEXT),
            _field("Notes", ValueType.TEXT, is_filterable=False),
            _field("Amount__c", ValueType.DECIMAL),
            _field("Is_Hot__c", ValueType.BOOLEAN),
            _field("Day__c", ValueType.DATE),
            _field("OwnerId", ValueType.IDENTIFIER),
            _field("Owner.Name", ValueType.TEXT),
            _field("SystemModstamp", ValueType.DATETIME),
            _field("IsDeleted", ValueType.BOOLEAN),
        )
    },
    cursor_field="SystemModstamp",
    deleted_field="IsDeleted",
)
ALL = ReadRequest(LEAD, ("Id", "name"))


def where(record_filter: RecordFilter) -> str:
    query = soql.select(replace(ALL, record_filter=record_filter))
    return query.removeprefix("SELECT Id, Name FROM Lead WHERE ")


def test_names_come_out_of_describe() -> None:
    assert soql.select(ALL) == "SELECT Id, Name FROM Lead"
    assert soql.count(ALL) == "SELECT COUNT() FROM Lead"
    assert soql.select(ALL, ordered=True, after_id=ID) == (
        f"SELECT Id, Name FROM Lead WHERE Id > '{ID}' ORDER BY Id"
    )


def test_the_recycle_bin_is_asked_only_where_there_is_one() -> None:
    assert soql.resource(ALL) == "queryAll"
    assert soql.resource(replace(ALL, include_deleted=False)) == "query"
    assert soql.resource(replace(ALL, crm_object=replace(LEAD, deleted_field=None))) == "query"


@pytest.mark.parametrize(
    ("moment", "written"),
    [
        (datetime(2026, 1, 31, 12, tzinfo=UTC), "2026-01-31T12:00:00Z"),
        (datetime(2026, 1, 31, 12, 0, 0, 999_999, UTC), "2026-01-31T12:00:00Z"),
        (datetime(1999, 12, 31, 23, 59, 59, 1, UTC), "1999-12-31T23:59:59Z"),
        (
            datetime(2026, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=14))),
            "2025-12-31T10:30:00Z",
        ),
    ],
)
def test_a7_lower_bounds_are_cut_to_seconds(moment: datetime, written: str) -> None:
    query = soql.select(replace(ALL, changed_since=moment))
    assert query.endswith(f"WHERE SystemModstamp >= {written}")


def test_a_moment_without_a_zone_is_refused() -> None:
    with pytest.raises(PermanentError, match="time zone"):
        soql.select(replace(ALL, changed_since=datetime(2026, 1, 1)))  # noqa: DTZ001


def test_changes_cannot_be_asked_of_an_object_without_a_stamp() -> None:
    timeless = replace(ALL, crm_object=replace(LEAD, cursor_field=None))
    with pytest.raises(PermanentError, match="read whole"):
        soql.select(replace(timeless, changed_since=datetime(2026, 1, 1, tzinfo=UTC)))


@pytest.mark.parametrize(
    ("record_filter", "written"),
    [
        (Comparison("name", Comparator.EQUAL, "O'Neil"), r"Name = 'O\'Neil'"),
        (Comparison("Name", Comparator.EQUAL, None), "Name = null"),
        (Comparison("Name", Comparator.LIKE, r"50\%_'%"), r"Name LIKE '50\%_\'%'"),
        (Comparison("Name", Comparator.LIKE, r"a\b%"), r"Name LIKE 'a\\b%'"),
        (Comparison("Name", Comparator.NOT_IN, ("a", None)), "Name NOT IN ('a', null)"),
        (Comparison("Name", Comparator.INCLUDES, ("a;b",)), "Name INCLUDES ('a;b')"),
        (Comparison("Is_Hot__c", Comparator.NOT_EQUAL, True), "Is_Hot__c != true"),
        (Comparison("Amount__c", Comparator.LESS, Decimal("1E+3")), "Amount__c < 1000"),
        (Comparison("Day__c", Comparator.GREATER, date(2026, 2, 1)), "Day__c > 2026-02-01"),
        (Comparison("OwnerId", Comparator.EQUAL, ID[:15]), f"OwnerId = '{ID}'"),
        (Comparison("owner.name", Comparator.EQUAL, "A"), "Owner.Name = 'A'"),
        (
            All((Comparison("Name", Comparator.EQUAL, "a"), Any((Not(All(())), Any(()))))),
            "(Name = 'a' AND ((NOT (Id != null)) OR Id = null))",
        ),
        (
            Any(
                (Comparison("Name", Comparator.EQUAL, "a"), Comparison("Id", Comparator.IN, (ID,)))
            ),
            f"(Name = 'a' OR Id IN ('{ID}'))",
        ),
    ],
)
def test_filters_are_written_in_soql(record_filter: RecordFilter, written: str) -> None:
    assert where(record_filter) == written


@pytest.mark.parametrize(
    "record_filter",
    [
        Comparison("Name", Comparator.IN, ()),
        Comparison("Name", Comparator.IN, "a"),
        Comparison("Name", Comparator.EQUAL, ("a", "b")),
        Comparison("Name", Comparator.LESS, None),
        Comparison("Name", Comparator.LIKE, Decimal(1)),
        Comparison("Amount__c", Comparator.EQUAL, Decimal("NaN")),
        Comparison("Amount__c", Comparator.EQUAL, Decimal("Infinity")),
        Comparison("Name", Comparator.EQUAL, "a\0b"),
        Comparison("Name", Comparator.EQUAL, "a\ud800b"),
        Comparison("OwnerId", Comparator.EQUAL, "' OR Name != '"),
        Comparison("Notes", Comparator.EQUAL, "a"),
    ],
)
def test_what_soql_cannot_say_is_refused(record_filter: RecordFilter) -> None:
    with pytest.raises(PermanentError):
        where(record_filter)


@given(st.text())
def test_no_text_gets_out_of_its_quotes(text: str) -> None:
    try:
        query = where(Comparison("Name", Comparator.EQUAL, text))
    except PermanentError:
        assert re.search(r"[\x00-\x1f\ud800-\udfff]", text)
        return
    literal = query.removeprefix("Name = ")
    assert re.fullmatch(r"'(?:[^'\\\n\r]|\\['\"\\nrtbf])*'", literal)
    for escape, plain in (("n", "\n"), ("r", "\r"), ("t", "\t"), ("b", "\b"), ("f", "\f")):
        literal = re.sub(rf"(?<!\\)((?:\\\\)*)\\{escape}", lambda m, p=plain: m[1] + p, literal)  # type: ignore[misc]
    assert re.sub(r"\\(['\"\\])", r"\1", literal[1:-1]) == text


@given(st.text(min_size=1))
def test_no_field_name_is_asked_that_describe_does_not_show(name: str) -> None:
    if LEAD.find(name) is None:
        with pytest.raises(FieldUnavailable) as caught:
            soql.select(replace(ALL, fields=("Id", name)))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["Name FROM User", "x;y", "Näme", "a.b.c.d.e.f.g", "", "1st"])
def test_a_describe_that_names_no_names_is_not_trusted(name: str) -> None:
    hostile = replace(LEAD, fields={**LEAD.fields, name: _field(name, ValueType.TEXT)})
    with pytest.raises(PermanentError):
        soql.select(ReadRequest(hostile, ("Id", name)))
    with pytest.raises(PermanentError):
        soql.count(ReadRequest(replace(LEAD, name=name), ("Id",)))


def test_ids_are_lengthened_and_asked_once() -> None:
    query = soql.select(replace(ALL, record_ids=(ID, ID[:15])))
    assert query.endswith(f"WHERE Id IN ('{ID}')")


@pytest.mark.parametrize(
    "record_ids", [(), ("x",), (ID[:-1] + "Z",), tuple(f"00Q{n:012}" for n in range(201))]
)
def test_ids_that_are_none_are_refused(record_ids: tuple[str, ...]) -> None:
    with pytest.raises(PermanentError):
        soql.select(replace(ALL, record_ids=record_ids))


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("001A0000006Vm9r", "001A0000006Vm9rIAC"),
        ("00Q8d0000000001", "00Q8d0000000001EAA"),
        ("aaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaaAAA"),
        ("AAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAA555"),
    ],
)
def test_ids_get_their_checksum(short: str, full: str) -> None:
    assert full_id(short) == full
    assert full_id(full) == full
    assert full_id(short.lower()) != full or short.islower()


@pytest.mark.parametrize(
    "text", ["", "0" * 14, "0" * 16, "001A0000006Vm9rIAA", "００1A0000006Vm9r"]
)
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(PermanentError):
        full_id(text)
