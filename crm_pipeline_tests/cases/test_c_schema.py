"""C: fields and objects come, go, hide and change while the sync goes on."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crm_pipeline.errors import CrmPipelineError, ObjectUnavailable
from crm_pipeline.model.sync import SyncMode
from crm_pipeline.sandbox.salesforce.schema import PicklistValue
from crm_pipeline.sync.findings import Severity
from crm_pipeline.sync.reading import PageLander
from crm_pipeline.sync.reference import sync_reference_dataset
from crm_pipeline_tests.cases.checking import findings, notices
from crm_pipeline_tests.cases.things import (
    an_object,
    field,
    first,
    map_things,
    pass_time,
    put,
    ten_things,
    things,
    typed_columns,
)
from crm_pipeline_tests.house import House

MODE = SyncMode.DIFFERENTIAL
TRANSPORTS = pytest.mark.parametrize("transport", ["rest", "bulk"])


@pytest.fixture
def house(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """Ten things with a text field, F__c, fully synced an hour ago."""
    with ten_things(database_url, tmp_path, monkeypatch) as made:
        yield made


# Fields that come and go


def test_c1_a_field_added_while_a_sync_reads_comes_with_the_next_one(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    map_things(house, "F__c", "New__c")
    read_into_staging = PageLander.read_into_staging

    def and_add(self: PageLander, *args: Any, **facts: Any) -> Any:
        landed = read_into_staging(self, *args, **facts)
        house.org.add_field("Thing__c", field("New__c", "string", length=80, default="d"))
        return landed

    monkeypatch.setattr(PageLander, "read_into_staging", and_add)
    assert house.sync_once("Thing__c").broken_fields == ("New__c",)
    monkeypatch.undo()
    house.configure()
    outcome = house.sync_once("Thing__c")
    assert outcome.broken_fields == ()
    assert "filled in older rows: New__c (" in str(outcome.due_reason)
    house.sync(SyncMode.REFRESH, "Thing__c")
    house.assert_in_step()


def test_c2_a_removed_field_keeps_its_column_and_comes_back_into_it(house: House) -> None:
    one = first(house)
    house.org.remove_field("Thing__c", "F__c")
    house.org.update("Thing__c", one, {"Name": "renamed"})
    outcome = house.sync_once("Thing__c")
    assert (outcome.broken_fields, outcome.updated) == (("F__c",), 1)
    assert things(house)["renamed"]["f__c"] == "f0"
    assert house.full()["Thing__c"].broken_fields == ("F__c",)
    assert things(house)["n1"]["f__c"] == "f1"
    house.org.add_field("Thing__c", field("F__c", "string", length=80))
    put(house, one, F__c="back")
    assert house.sync_once("Thing__c").broken_fields == ()
    house.full()
    house.assert_in_step()


def test_c3_a_hidden_field_is_never_overwritten_with_null_and_unhidden_it_goes_on(
    house: House,
) -> None:
    one = first(house)
    house.org.hide_field("Thing__c", "F__c")
    put(house, one, F__c="changed out of sight")
    assert house.full()["Thing__c"].broken_fields == ("F__c",)
    assert things(house)["n0"]["f__c"] == "f0"
    house.org.catalogue.show_field("Thing__c", "F__c")
    due = house.sync_once("Thing__c").due_reason
    assert "filled in older rows: F__c (" in str(due)
    house.sync(SyncMode.REFRESH, "Thing__c")
    house.assert_in_step()


def test_c2_c3_a_field_of_the_filter_that_is_gone_stops_its_object_and_is_named(
    house: House,
) -> None:
    house.configure(objects={"Thing__c": {"fields": ["Name"], "filter": "F__c = 'f1'"}})
    house.full()
    house.org.hide_field("Thing__c", "F__c")
    with pytest.raises(CrmPipelineError, match="F__c"):
        house.sync_once("Thing__c")
    assert len(house.table("Thing__c")) == 1


@pytest.mark.parametrize(
    "holders", [500, pytest.param(20_000, marks=pytest.mark.long)], ids=["500", "20,000"]
)
@TRANSPORTS
def test_c5_a_renamed_picklist_value_restamps_its_holders_in_chunks_and_renews_the_options(
    house: House, holders: int, transport: str
) -> None:
    options = ("Hot", "Cold")
    stage = field(
        "Stage__c", "picklist", picklist_values=tuple(PicklistValue(one) for one in options)
    )
    house.org.add_field("Thing__c", stage)
    map_things(house, "F__c", "Stage__c", "LastModifiedDate", transport=transport)
    rows = ({"Name": f"h{n}", "Stage__c": options[n % 50 == 0]} for n in range(holders))
    house.org.create_many("Thing__c", rows)
    pass_time(house)
    house.full()
    with house.engine() as engine:
        sync_reference_dataset(engine, "picklist_values", run_id="before")
    pass_time(house)
    renamed = (PicklistValue("Warm"), PicklistValue("Hot", active=False), PicklistValue("Cold"))
    house.org.add_field("Thing__c", replace(stage, picklist_values=renamed))
    with house.org.transaction() as connection:  # LastModifiedDate does not move, only the stamp
        connection.execute(
            'UPDATE "Thing__c" SET "Stage__c" = ?, "SystemModstamp" = ? WHERE "Stage__c" = ?',
            ["Warm", house.org.clock.stamp(), "Hot"],
        )
    outcome = house.sync_once("Thing__c")
    assert outcome.updated == holders - holders // 50
    assert outcome.api_calls <= 8 + holders // 2_000
    house.assert_in_step()
    with house.engine() as engine:
        sync_reference_dataset(engine, "picklist_values", run_id="after")
    assert house.query(
        "SELECT value, is_active FROM salesforce.picklist_values"
        " WHERE object_name = 'Thing__c' AND _deleted_at IS NULL ORDER BY position"
    ) == [("Warm", True), ("Hot", False), ("Cold", True)]


# Fields that are more, or less, than a value


@TRANSPORTS
def test_c8_a_compound_field_is_named_with_its_parts_and_the_others_go_on(
    house: House, transport: str
) -> None:
    parts = [
        field("Home__Latitude__s", "double", compound_field_name="Home__c"),
        field("Home__Longitude__s", "double", compound_field_name="Home__c"),
    ]
    for one in (*parts, field("Home__c", "location")):
        house.org.add_field("Thing__c", one)
    put(house, first(house), Home__Latitude__s="48.1372", Home__Longitude__s="11.5755")
    map_things(house, "F__c", "Home__c", transport=transport)
    assert house.sync_once("Thing__c").broken_fields == ("Home__c",)
    (problem,) = [f for f in findings() if f.severity == "problem"]
    assert "map `Home__Latitude__s` and `Home__Longitude__s` instead" in problem.sentence
    map_things(house, "F__c", *(one.name for one in parts), transport=transport)
    house.full()
    house.assert_in_step()


@TRANSPORTS
def test_c9_long_text_streams_binary_is_refused_by_name_and_a_mask_is_flagged(
    house: House, transport: str
) -> None:
    house.org.add_field("Thing__c", field("Long__c", "textarea", length=131_072))
    house.org.add_field("Thing__c", field("Secret__c", "encryptedstring", length=175))
    house.org.add_field("Thing__c", field("Photo__c", "base64"))
    long = 'ä\n"' * 43_690
    put(house, first(house), Long__c=long, Secret__c="****1234")
    map_things(house, "F__c", "Long__c", "Secret__c", "Photo__c", transport=transport)
    said = {f.severity: f.sentence + f.remedy for f in findings()}
    assert "`Photo__c` (base64) cannot be stored" in said[Severity.PROBLEM]
    map_things(house, "F__c", "Long__c", "Secret__c", transport=transport)
    (notice,) = notices()
    assert "`Secret__c` may arrive masked" in notice.sentence
    assert "View Encrypted Data" in notice.remedy
    house.full()
    house.assert_in_step()
    assert things(house)["n0"]["long__c"] == long
    assert comment_of(house, "secret__c").endswith("(Secret__c, encryptedstring, may be masked)")


def comment_of(house: House, column: str) -> str:
    """What the catalogue says about a column."""
    ((comment,),) = house.query(
        "SELECT col_description(attrelid, attnum) FROM pg_attribute"
        f" WHERE attrelid = 'salesforce.thing__c'::regclass AND attname = '{column}'"
    )
    return str(comment)


def test_c3_a_field_that_arrives_masked_is_told_before_and_is_exact_again_afterwards(
    house: House,
) -> None:
    house.org.mask_field("Thing__c", "F__c")
    (notice,) = notices()
    assert "`F__c` may arrive masked" in notice.sentence
    house.org.catalogue.show_field("Thing__c", "F__c")
    assert not notices()
    house.full()
    house.assert_in_step()


def test_c11_person_accounts_switched_on_later_are_linked_to_their_contacts(
    house: House,
) -> None:
    org = house.org
    objects = {
        "Account": {"fields": ["Name", "Industry"]},
        "Contact": {"fields": ["LastName", "Email", "AccountId"]},
    }
    company = org.create("Account", {"Name": "Company"})
    org.create("Contact", {"LastName": "Employee", "AccountId": company})
    house.configure(objects=objects)
    house.full()
    for name in ("Account", "Contact"):
        org.add_field(name, field("IsPersonAccount", "boolean", default=False))
    org.add_field(
        "Account", field("PersonContactId", "reference", reference_to=("Contact",), length=18)
    )
    org.add_field("Account", field("Tier__pc", "string", length=80))
    objects["Account"]["fields"] += ["IsPersonAccount", "PersonContactId", "Tier__pc"]
    objects["Contact"]["fields"] += ["IsPersonAccount"]
    house.configure(objects=objects)
    person = org.create("Account", {"Name": "Ada Person", "IsPersonAccount": True})
    twin = org.create(
        "Contact", {"LastName": "Person", "AccountId": person, "IsPersonAccount": True}
    )
    org.update("Account", person, {"PersonContactId": twin, "Tier__pc": "Gold"})
    for name in objects:
        assert house.sync_once(name).due_reason is not None
    house.full()
    house.assert_in_step()
    assert house.query(
        "SELECT a.tier__pc, c.lastname FROM salesforce.account a JOIN salesforce.contact c"
        " ON c.id = a.personcontactid AND c.accountid = a.id"
        " WHERE a.ispersonaccount AND c.ispersonaccount"
    ) == [("Gold", "Person")]


def test_c12_an_amount_carries_its_currency_from_the_day_there_are_several(house: House) -> None:
    house.org.add_field("Thing__c", field("Price__c", "currency"))
    house.org.add_field("Thing__c", field("Amount__c", "currency"))
    map_things(house, "F__c", "Price__c", "Amount__c")
    put(house, first(house), Price__c="99.9", Amount__c="12.5")
    house.full()
    assert "currencyisocode" not in typed_columns(house)
    pass_time(house)
    house.org.add_field("Thing__c", field("CurrencyIsoCode", "picklist", default="EUR"))
    put(house, first(house), CurrencyIsoCode="JPY")
    due = house.sync_once("Thing__c").due_reason
    assert "filled in older rows: CurrencyIsoCode (" in str(due)
    house.sync(SyncMode.REFRESH, "Thing__c")
    codes = {name: row["currencyisocode"] for name, row in things(house).items()}
    assert codes == {f"n{n}": "EUR" if n else "JPY" for n in range(10)}
    map_things(house, "F__c", "Price__c", "Amount__c", "CurrencyIsoCode")
    house.assert_in_step()
    asked = [str(r.path) for r in house.served.server.ledger.entries()]
    assert not [path for path in asked if "convertcurrency" in path.lower()]


# Objects that go


@pytest.mark.parametrize("how", ["forbidden", "gone", "refused with 403", "refused with 404"])
def test_c13_an_object_that_is_gone_or_forbidden_is_named_and_the_others_go_on(
    house: House, how: str
) -> None:
    house.org.add_object(an_object("Other__c", key_prefix="a0O"))
    house.org.create("Other__c", {"Name": "kept"})
    objects = {name: {"fields": ["Name"]} for name in ("Other__c", "Thing__c")}
    house.configure(objects=objects)
    house.full()
    pass_time(house)
    refusal = '[{"errorCode": "%s", "message": "no access"}]'
    faults = house.served.server.faults
    if how == "forbidden":
        house.org.forbid_object("Other__c")
    elif how == "gone":
        house.org.catalogue._objects.pop("other__c")
        house.org.catalogue._forget()
    else:
        status = int(how[-3:])
        code = "INSUFFICIENT_ACCESS" if status == 403 else "NOT_FOUND"
        path = "*/sobjects/Other__c/*"
        faults.script(
            [{"kind": "status", "status": status, "path": path, "times": 0, "body": refusal % code}]
        )
    put(house, first(house), Name="goes on")
    ends: dict[str, object] = {}
    with house.engine() as engine:
        for name in objects:
            try:
                ends[name] = engine.sync_object(name, mode=MODE, run_id="r").updated
            except ObjectUnavailable as error:
                ends[name] = str(error)
    assert ends["Thing__c"] == 1
    assert "Other__c" in str(ends["Other__c"])
    assert [row["name"] for row in house.table("Other__c").values()] == ["kept"]
    statuses = dict(house.query("SELECT object_name, status FROM crm_sync.sync_status"))
    assert statuses == {"Other__c": "last sync failed", "Thing__c": "in step"}
    with pytest.raises(ObjectUnavailable, match="Other__c"):
        house.full("Other__c")
    assert [row["name"] for row in house.table("Other__c").values()] == ["kept"]
