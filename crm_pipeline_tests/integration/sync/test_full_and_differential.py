"""The main job: every table equals the org after a full sync and after each differential."""

from dataclasses import replace

import pytest

from crm_pipeline.errors import UsageError
from crm_pipeline.model.sync import SyncMode
from crm_pipeline.sandbox.salesforce.living import apply_burst
from crm_pipeline.sync.reference import REFERENCE_DATASETS, sync_reference_dataset
from crm_pipeline_tests.house import House, all_objects


@pytest.mark.parametrize("transport", ["rest", "bulk", "auto"])
def test_every_table_equals_the_org_cell_by_cell_after_full_and_differential(
    house: House, transport: str
) -> None:
    house.configure(objects=all_objects(transport))
    outcomes = house.full()
    house.assert_in_step()
    assert all(o.records_read >= o.inserted > 0 for o in outcomes.values())
    if transport != "auto":
        assert {o.transport for o in outcomes.values()} == {transport}
    apply_burst(house.org, deletes=2, seed=1)
    house.sync()
    apply_burst(house.org, updates=137, inserts=40, deletes=9, undeletes=2, seed=2)
    changed = house.sync().values()
    house.assert_in_step()
    assert sum(o.inserted for o in changed) == 40
    assert sum(o.deleted for o in changed) >= 9, "children go with their parents"
    assert sum(o.updated for o in changed) >= 137 + 2


def test_rest_and_bulk_fill_equal_tables(house: House) -> None:
    house.configure(objects=all_objects("rest"))
    house.full()
    by_rest = {name: house.table(name) for name in all_objects()}
    house.configure(objects=all_objects("bulk"))
    outcomes = house.full(restart=True)
    assert {name: house.table(name) for name in all_objects()} == by_rest
    assert not any(o.has_changes for o in outcomes.values())


def test_a16_a_differential_of_an_unchanged_org_writes_nothing(house: House) -> None:
    house.full("Lead")
    for _ in range(3):
        outcome = house.sync_once("Lead")
        assert replace(outcome, records_read=0).has_changes is False
        assert outcome.api_calls <= 4


def test_a_differential_before_the_first_full_sync_says_what_to_do(house: House) -> None:
    with pytest.raises(UsageError, match="Lead has never been fully synced"):
        house.sync_once("Lead")


def test_the_watermark_moves_with_each_committed_sync_and_stays_behind_the_org(
    house: House,
) -> None:
    first = house.full("Lead")["Lead"]
    second = house.sync_once("Lead")
    assert first.watermark_after == second.watermark_before
    assert second.watermark_before is not None
    assert second.watermark_after is not None
    assert second.watermark_before <= second.watermark_after < house.org.clock.now()


def test_b1_a_deleted_record_is_a_tombstone_after_one_differential_and_undelete_revives_it(
    house: House,
) -> None:
    house.full("Contact")
    gone = next(iter(house.truth("Contact")))
    house.org.delete("Contact", gone)
    assert house.sync_once("Contact").deleted == 1
    assert house.query(f"SELECT _vanished FROM salesforce.contact WHERE id = '{gone}'") == [
        ("deleted",)
    ]
    house.org.undelete("Contact", gone)
    assert house.sync_once("Contact").updated == 1
    house.assert_in_step("Contact")


def test_a_full_sync_over_a_live_table_finds_hard_deleted_records(house: House) -> None:
    house.org.clock.advance(seconds=-86_400)
    house.full("Task")
    gone = next(iter(house.truth("Task")))
    house.org.hard_delete("Task", gone)
    house.org.clock.advance(seconds=86_400)
    assert house.full("Task")["Task"].deleted == 1
    assert house.query(f"SELECT _vanished FROM salesforce.task WHERE id = '{gone}'") == [
        ("deleted",)
    ]


def test_one_record_is_synced_by_hand(house: House) -> None:
    house.full("Lead")
    one = next(iter(house.truth("Lead")))
    house.org.update("Lead", one, {"Company": "By hand"})
    with house.engine() as engine:
        outcome = engine.sync_record("Lead", one, run_id="hand")
    assert (outcome.records_read, outcome.updated) == (1, 1)
    assert house.table("Lead")[one]["company"] == "By hand"


def test_b2_a_record_that_is_gone_for_good_is_noticed_when_synced_by_hand(house: House) -> None:
    house.full("Lead")
    one = next(iter(house.truth("Lead")))
    house.org.hard_delete("Lead", one)
    with house.engine() as engine:
        assert engine.sync_record("Lead", one, run_id="hand").deleted == 1


def test_b9_a_record_filter_holds_for_full_and_differential_and_leavers_are_marked(
    house: House,
) -> None:
    objects = {"Lead": {"filter": "Is_Target__c = true", "fields": ["LastName", "Is_Target__c"]}}
    house.configure(objects=objects)
    house.full()
    where = "WHERE Is_Target__c = true"
    assert house.table("Lead") == house.truth("Lead", where)
    inside = next(iter(house.truth("Lead", where)))
    outside = next(iter(house.truth("Lead", "WHERE Is_Target__c = false")))
    house.org.update("Lead", inside, {"Is_Target__c": False})
    house.org.update("Lead", outside, {"Is_Target__c": True})
    outcome = house.sync_once("Lead")
    assert (outcome.inserted, outcome.deleted) == (1, 1)
    assert house.table("Lead") == house.truth("Lead", where)
    assert house.query(f"SELECT _vanished FROM salesforce.lead WHERE id = '{inside}'") == [
        ("left_filter",)
    ]
    house.org.update("Lead", inside, {"Is_Target__c": True})
    assert house.sync_once("Lead").updated == 1
    assert house.table("Lead") == house.truth("Lead", where)


def test_only_mapped_fields_are_ever_requested(house: House) -> None:
    house.configure(objects={"Lead": {"fields": ["LastName", {"Email": "email_address"}]}})
    house.full()
    columns = house.query(
        "SELECT attname FROM pg_attribute"
        " WHERE attrelid = 'salesforce.lead'::regclass AND attnum > 0 AND NOT attisdropped"
        " ORDER BY attnum"
    )
    assert [name for (name,) in columns] == [
        *("id", "lastname", "email_address", "_modstamp", "_converted_into"),
        *("_synced_at", "_deleted_at", "_vanished", "_merged_into", "_restored_at"),
    ]


def test_a_relationship_path_fills_a_column_of_its_own(house: House) -> None:
    house.configure(objects={"Contact": {"fields": ["LastName", "Account.Name"]}})
    house.full()
    accounts = {
        row["Id"]: (row["Account"] or {}).get("Name")
        for row in house.org.query("SELECT Id, Account.Name FROM Contact")
    }
    assert {k: v["account_name"] for k, v in house.table("Contact").items()} == accounts


def test_c1_a_newly_mapped_field_is_announced_until_a_refresh_has_filled_it(
    house: House,
) -> None:
    house.configure(objects={"Lead": {"fields": ["LastName"]}})
    house.full()
    house.configure(objects={"Lead": {"fields": ["LastName", "Company"]}})
    due = house.sync_once("Lead").due_reason
    assert due is not None
    assert "Company (fill them: crm-pipeline sync refresh --objects Lead)" in due
    assert house.query("SELECT status FROM crm_sync.sync_status") == [("refresh due",)]
    assert house.sync(SyncMode.REFRESH)["Lead"].due_reason is None
    house.assert_in_step()


def test_c2_c3_a_hidden_field_keeps_its_values_and_is_named_while_the_rest_goes_on(
    house: House,
) -> None:
    house.full("Lead")
    before = {k: v["company"] for k, v in house.table("Lead").items()}
    house.org.hide_field("Lead", "Company")
    one = next(iter(before))
    house.org.update("Lead", one, {"Title": "Goes on"})
    outcome = house.sync_once("Lead")
    assert outcome.broken_fields == ("Company",)
    after = house.table("Lead")
    assert after[one]["title"] == "Goes on"
    assert {k: v["company"] for k, v in after.items()} == before


def test_reference_data_holds_users_queues_rules_and_options(house: House) -> None:
    with house.engine() as engine:
        for dataset in REFERENCE_DATASETS:
            sync_reference_dataset(engine, dataset.name, run_id="reference")
    assert house.query("SELECT count(*) FROM salesforce.users") == [(house.org.count("User"),)]
    assert house.query("SELECT count(*) FROM salesforce.queues") == [
        (len(house.org.query("SELECT Id FROM Group WHERE Type = 'Queue'")),)
    ]
    assert house.query("SELECT value FROM salesforce.case_priorities ORDER BY position") == [
        ("High",),
        ("Medium",),
        ("Low",),
    ]
    assert house.query("SELECT count(*) > 0 FROM salesforce.case_queues") == [(True,)]
    assert house.query(
        "SELECT count(*) FROM salesforce.assignment_rules WHERE sobjecttype = 'Lead' AND active"
    ) == [(1,)]


def test_parity_is_explained_while_the_org_lives_and_a_fault_when_rows_are_missing(
    house: House,
) -> None:
    house.full("Lead")
    with house.engine() as engine:
        assert engine.inspector.count_parity("Lead").is_in_step
        house.org.create("Lead", {"LastName": "New", "Company": "C"})
        assert engine.inspector.count_parity("Lead").is_in_step
        house.execute("DELETE FROM salesforce.lead WHERE _modstamp < now() - interval '1 day'")
        assert not engine.inspector.count_parity("Lead").is_in_step
