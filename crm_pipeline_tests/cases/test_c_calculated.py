"""Cases C6 and C7: columns whose values change without moving any stamp.

Formulas, roll-ups and fields of a parent cannot be kept true by reading changes. They are read on a
schedule of their own, and with them whatever was mapped since the last full sync.

Belongs here: the refresh. Does not belong here: other changes of a schema (test_c_schema.py).
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from crm_pipeline.model.sync import SyncMode
from crm_pipeline.sandbox.salesforce.schema import FieldDefinition
from crm_pipeline_tests.house import House
from crm_pipeline_tests.integration.sync.test_rare_interleavings import pass_time

DAY = 86_400
CONTACTS = {"Contact": {"fields": ["LastName", "Account.Name", "Name"]}}


def refresh(house: House, name: str) -> int:
    """Rows that a refresh changed."""
    return house.sync(SyncMode.REFRESH, name)[name].updated


def account_names(house: House) -> dict[str, str]:
    """What each contact's row says about her account."""
    return dict(house.query("SELECT id, account_name FROM salesforce.contact"))


def account_with_contacts(house: House) -> str:
    """An account that has contacts."""
    found = house.org.query("SELECT AccountId FROM Contact WHERE AccountId != null LIMIT 1")
    return str(found[0]["AccountId"])


def days_open(record: Mapping[str, Any], org: Any) -> int:
    """`TODAY() - DATEVALUE(CreatedDate)`."""
    created = datetime.fromisoformat(str(record["CreatedDate"]))
    return int((org.clock.now() - created).days)


def test_c6_a_formula_over_time_is_true_again_after_a_refresh(house: House) -> None:
    house.org.add_field(
        "Opportunity",
        FieldDefinition(
            "Days_Open__c", "Days open", "double", 0, 18, 0, calculated=True, formula=days_open
        ),
    )
    house.configure(objects={"Opportunity": {"fields": ["Name", "CloseDate", "Days_Open__c"]}})
    house.full()
    pass_time(house, 40 * DAY)
    house.sync_once("Opportunity")
    assert house.table("Opportunity") != house.truth("Opportunity")
    assert refresh(house, "Opportunity") == len(house.table("Opportunity"))
    house.assert_in_step()


def test_c6_a_refresh_writes_only_rows_that_differ_and_reads_only_what_it_must(
    house: House,
) -> None:
    house.configure(objects=CONTACTS)
    house.full()
    house.served.server.ledger.clear()
    assert refresh(house, "Contact") == 0
    asked = "".join(entry.query for entry in house.served.server.ledger.entries())
    assert "LastName" not in asked


def test_c6_an_object_without_calculated_columns_costs_no_read(house: House) -> None:
    house.configure(objects={"Campaign": {"fields": ["Name"]}})
    house.full()
    house.sync_once("Campaign")
    house.served.server.ledger.clear()
    outcome = house.sync(SyncMode.REFRESH)["Campaign"]
    paths = [e.path for e in house.served.server.ledger.entries()]
    assert outcome.records_read == 0
    assert [path for path in paths if "/query" in path] == []


def test_c6_the_status_says_how_fresh_calculated_columns_are(house: House) -> None:
    house.configure(objects=CONTACTS)
    house.full()
    ((before,),) = house.query("SELECT refreshed_at FROM crm_sync.sync_status")
    refresh(house, "Contact")
    ((after,),) = house.query("SELECT refreshed_at FROM crm_sync.sync_status")
    assert before < after


def test_c7_the_name_of_a_parent_is_true_again_after_a_refresh(house: House) -> None:
    house.configure(objects=CONTACTS)
    house.full()
    pass_time(house)
    account = account_with_contacts(house)
    house.org.update("Account", account, {"Name": "Renamed"})
    pass_time(house)
    house.sync_once("Contact")
    assert "Renamed" not in account_names(house).values()
    updated = refresh(house, "Contact")
    children = house.org.query(f"SELECT Id FROM Contact WHERE AccountId = '{account}'")
    assert updated == len(children)
    names = account_names(house)
    assert {names[str(child["Id"])] for child in children} == {"Renamed"}


def test_c7_a_record_changed_during_a_refresh_is_left_to_its_differential(house: House) -> None:
    house.configure(objects=CONTACTS)
    house.full()
    pass_time(house)
    account = account_with_contacts(house)
    child = str(house.org.query(f"SELECT Id FROM Contact WHERE AccountId = '{account}'")[0]["Id"])
    house.org.update("Account", account, {"Name": "Renamed"})
    house.org.update("Contact", child, {"LastName": "Changed"})
    refresh(house, "Contact")
    assert account_names(house)[child] != "Renamed"
    pass_time(house)
    house.sync_once("Contact")
    assert account_names(house)[child] == "Renamed"


def test_c1_a_newly_mapped_field_is_filled_without_reading_the_others_again(house: House) -> None:
    house.configure(objects={"Lead": {"fields": ["LastName"]}})
    house.full()
    house.configure(objects={"Lead": {"fields": ["LastName", "Company"]}})
    assert "Company" in str(house.sync_once("Lead").due_reason)
    house.served.server.ledger.clear()
    outcome = house.sync(SyncMode.REFRESH)["Lead"]
    asked = "".join(entry.query for entry in house.served.server.ledger.entries())
    assert outcome.due_reason is None
    assert "LastName" not in asked
    house.assert_in_step()
