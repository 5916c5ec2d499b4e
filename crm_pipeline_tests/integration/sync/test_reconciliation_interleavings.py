"""Interleavings of reconciliation, refresh, consent and deletions, each of which broke a promise.

Found by a hostile reading of the reading core, kept so that they stay mended.

Belongs here: several syncs whose order matters. Does not belong here: what one sync does by itself
(cases/), interruptions and locks (test_rare_interleavings.py).
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from alembic import command
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from crm_pipeline.errors import MassDisappearance, TransientError
from crm_pipeline.model.sync import SyncMode
from crm_pipeline.sync.engine import SyncEngine
from crm_pipeline.sync.merge_path import MergePath
from crm_pipeline.sync.reading import PageLander
from crm_pipeline.warehouse import merge
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.migrate import migrate
from crm_pipeline.warehouse.schema import table_shape
from crm_pipeline.warehouse.scope import create_scope, note_not_found
from crm_pipeline.warehouse.upgrade import sqlalchemy_url
from crm_pipeline_tests.cases.test_b_disappearance import (
    LEADS,
    TARGETS,
    marks,
    reconcile,
    some,
    vanish,
)
from crm_pipeline_tests.cases.test_c_calculated import (
    CONTACTS,
    account_names,
    account_with_contacts,
)
from crm_pipeline_tests.cases.test_f_crash_and_storage import alembic_config
from crm_pipeline_tests.cases.traces import synced, with_traces
from crm_pipeline_tests.house import House
from crm_pipeline_tests.integration.sync.test_rare_interleavings import make_unstorable, pass_time
from crm_pipeline_tests.integration.warehouse.conftest import Bench, lead_selection


def before_commit(
    monkeypatch: pytest.MonkeyPatch, mode: SyncMode, event: Callable[[], None]
) -> None:
    """Let something happen once, between the comparison and the commit of a sync."""
    commit, left = MergePath.commit, [event]

    def late(self: MergePath, plan: Any, attempt: Any, lease: Any) -> Any:
        if attempt.mode == mode and left:
            left.pop()()
        return commit(self, plan, attempt, lease)

    monkeypatch.setattr(MergePath, "commit", late)


def by_hand(house: House, name: str, record: str) -> None:
    """A person reads one record."""
    with house.engine() as engine:
        engine.sync_record(name, record, run_id="hand")


def due_reason(house: House, name: str = "Lead") -> str | None:
    """What the status says is owed."""
    ((reason,),) = house.query(
        f"SELECT due_reason FROM crm_sync.sync_status WHERE object_name = '{name}'"
    )
    return None if reason is None else str(reason)


# Deletions


def test_b2_b9_an_object_without_a_bin_notices_who_leaves_its_filter(house: House) -> None:
    with_traces(house, filter="Kind__c = 'a'")
    leaver, goner = some(house, 2, name="Trace__c")
    house.org.update("Trace__c", leaver, {"Kind__c": "b"})
    house.org.delete("Trace__c", goner)
    pass_time(house)
    house.sync_once("Trace__c")
    assert marks(house, "trace__c") == {leaver: "left_filter", goner: "deleted"}


def test_b2_a_record_deleted_while_a_differential_opens_its_read_slowly_is_not_overlooked(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_traces(house)
    [one] = some(house, 1, name="Trace__c")
    read, left = PageLander.read_into_staging, [one]

    def throttled(self: PageLander, *args: Any, **facts: Any) -> Any:
        if left:
            house.org.delete("Trace__c", left.pop())
            pass_time(house)
            house.org.clock.advance(0)
            self.source.describe("Trace__c")  # type: ignore[attr-defined]  # time is known now
        return read(self, *args, **facts)

    monkeypatch.setattr(PageLander, "read_into_staging", throttled)
    house.sync_once("Trace__c")
    pass_time(house)
    house.sync_once("Trace__c")
    assert marks(house, "trace__c") == {one: "deleted"}


def test_b2_b4_an_object_without_a_bin_asks_its_log_once_a_differential(house: House) -> None:
    with_traces(house)
    [one] = some(house, 1, name="Trace__c")
    house.org.delete("Trace__c", one)
    pass_time(house)
    house.served.server.ledger.clear()
    assert house.sync_once("Trace__c").deleted == 1
    asked = [e for e in house.served.server.ledger.entries() if "/deleted" in e.path]
    assert len(asked) == 1


def test_f7_an_object_without_a_bin_loses_what_was_deleted_during_a_paused_full_sync(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_traces(house)
    new = house.org.create("Trace__c", {"Name": "Short-lived"})

    def cut_off(*_: object) -> None:
        raise TransientError("the process died between reading and merging")

    with monkeypatch.context() as patched:
        patched.setattr(MergePath, "commit", cut_off)
        with pytest.raises(TransientError):
            house.full()
    house.org.delete("Trace__c", new)
    pass_time(house)
    house.sync_once("Trace__c")
    pass_time(house)
    house.full()
    pass_time(house)
    house.sync_once("Trace__c")
    house.assert_in_step()


@pytest.mark.parametrize("has_log", [True, False])
def test_b3_an_object_without_a_bin_is_compared_where_its_log_does_not_reach(
    house: House, *, has_log: bool
) -> None:
    with_traces(house, has_log=has_log)
    [one] = some(house, 1, name="Trace__c")
    house.org.delete("Trace__c", one)
    if has_log:
        pass_time(house, 4 * 3600)
        house.org.trim_delete_log(house.org.clock.stamp())
        pass_time(house)
    else:
        pass_time(house, 16 * 86_400)
    house.sync_once("Trace__c")
    assert marks(house, "trace__c") == {one: "not_visible"}
    house.assert_in_step()


def test_o3_a_tombstone_that_somebody_made_live_again_is_buried_again(house: House) -> None:
    synced(house, LEADS)
    [one] = some(house, 1)
    house.org.delete("Lead", one)
    pass_time(house)
    house.sync_once("Lead")
    house.execute(f"UPDATE salesforce.lead SET _deleted_at = NULL WHERE id = '{one}'")
    pass_time(house)
    reconcile(house)
    house.assert_in_step()


def test_a_quarantined_record_that_is_gone_for_good_leaves_the_quarantine(house: House) -> None:
    synced(house, {"Lead": {"fields": ["LastName", "NumberOfEmployees"]}})
    [one] = some(house, 1)
    make_unstorable(house, one)
    assert house.sync_once("Lead").rejected == 1
    pass_time(house)
    house.org.hard_delete("Lead", one)
    pass_time(house)
    reconcile(house)
    assert marks(house) == {one: "deleted"}
    assert house.query("SELECT record_id FROM crm_sync.quarantine") == []


# The circuit breaker


def test_b10_consent_for_a_full_sync_is_not_used_up_by_a_differential_that_needs_none(
    house: House,
) -> None:
    synced(house, TARGETS)
    vanish(house, 0.3)
    with pytest.raises(MassDisappearance):
        house.full()
    with house.engine() as engine:
        engine.accept_disappearance("Lead")
    for one in some(house, 2, "WHERE Is_Target__c = true"):
        house.org.update("Lead", one, {"Is_Target__c": False})
    pass_time(house)
    assert house.sync_once("Lead").deleted == 2
    house.full()
    assert house.table("Lead") == house.truth("Lead", "WHERE Is_Target__c = true")


def test_b10_consent_to_what_came_back_by_itself_does_not_wait_for_the_next_mass(
    house: House,
) -> None:
    synced(house, LEADS)
    hidden = some(house, 40)
    with house.org.transaction() as connection:
        columns = [str(c[1]) for c in connection.execute('PRAGMA table_info("Lead")')]
        places = ", ".join("?" for _ in columns)
        kept = [
            tuple(connection.execute('SELECT * FROM "Lead" WHERE Id = ?', (one,)).fetchone())
            for one in hidden
        ]
        connection.executemany('DELETE FROM "Lead" WHERE Id = ?', [(one,) for one in hidden])
    with pytest.raises(MassDisappearance):
        house.sync(SyncMode.RECONCILE)
    with house.engine() as engine:
        engine.accept_disappearance("Lead")
    with house.org.transaction() as connection:
        connection.executemany(f'INSERT INTO "Lead" VALUES ({places})', kept)
    assert reconcile(house) == {}
    vanish(house, 0.1)
    with pytest.raises(MassDisappearance):
        house.sync(SyncMode.RECONCILE)


def test_b10_a_repair_that_finds_nothing_of_what_was_just_seen_stops_too(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced(house, LEADS)
    house.execute("UPDATE salesforce.lead SET company = 'by hand'")
    mended = SyncEngine._mended

    def hidden_meanwhile(self: SyncEngine, *args: Any) -> Any:
        vanish(house)
        return mended(self, *args)

    monkeypatch.setattr(SyncEngine, "_mended", hidden_meanwhile)
    with pytest.raises(MassDisappearance):
        house.sync(SyncMode.RECONCILE)
    assert marks(house) == {}


def test_b10_a_mass_disappearance_of_a_big_table_is_noticed_in_reasonable_time(
    database_url: str,
) -> None:
    warehouse = Warehouse(database_url)
    shape = table_shape(lead_selection(), "salesforce").narrowed()
    ids = [f"00Q{n:015}" for n in range(200_000)]
    with warehouse.connect() as connection:
        create_scope(connection, shape, "scope")
        connection.execute("SET LOCAL work_mem = '1MB'")
        note_not_found(connection, shape, "scope", ids[:-10_000])
        started = time.monotonic()
        note_not_found(connection, shape, "scope", ids[-10_000:])
    assert time.monotonic() - started < 5


# What is owed


def test_b9_a_filter_that_was_changed_and_changed_back_does_not_hide_what_it_left_out(
    house: House,
) -> None:
    synced(house, LEADS)
    [one] = some(house, 1, "WHERE Is_Target__c = false")
    house.configure(objects=TARGETS)
    house.org.update("Lead", one, {"Company": "Changed under the other filter"})
    pass_time(house)
    house.sync_once("Lead")
    house.configure(objects=LEADS)
    pass_time(house)
    outcome = house.sync_once("Lead")
    if outcome.due_reason is None:
        house.assert_in_step()
    reconcile(house)
    assert due_reason(house) is None
    house.assert_in_step()


def test_c1_two_columns_that_changed_places_are_owed_and_filled_by_a_refresh(
    house: House,
) -> None:
    synced(house, {"Lead": {"fields": [{"LastName": "one"}, {"Company": "two"}]}})
    house.configure(objects={"Lead": {"fields": [{"LastName": "two"}, {"Company": "one"}]}})
    pass_time(house)
    assert house.sync_once("Lead").due_reason is not None
    house.sync(SyncMode.REFRESH, "Lead")
    assert due_reason(house) is None
    ((one,),) = house.query("SELECT id FROM salesforce.lead LIMIT 1")
    record = house.org.get("Lead", one) or {}
    assert house.query(f"SELECT one, two FROM salesforce.lead WHERE id = '{one}'") == [
        (record["Company"], record["LastName"])
    ]


@pytest.mark.parametrize("is_mapped_later", [True, False])
def test_c1_a_stamp_that_is_mapped_later_or_no_more_does_not_make_a_refresh_claim_too_much(
    house: House, *, is_mapped_later: bool
) -> None:
    without = {"Lead": {"fields": ["LastName"]}}
    with_stamp = {"Lead": {"fields": ["LastName", "SystemModstamp"]}}
    synced(house, without if is_mapped_later else with_stamp)
    house.configure(
        objects={
            "Lead": {
                "fields": [
                    *(with_stamp if is_mapped_later else without)["Lead"]["fields"],
                    "Company",
                ]
            }
        }
    )
    house.sync(SyncMode.REFRESH, "Lead")
    assert due_reason(house) is None
    true = {
        str(one["Id"]): one["Company"] for one in house.org.query("SELECT Id, Company FROM Lead")
    }
    assert {one: row["company"] for one, row in house.table("Lead").items()} == true
    assert reconcile(house) == {}


def test_b9_a_reconciliation_that_dies_before_its_repair_still_owes_the_new_filter(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced(house, TARGETS)
    house.configure(objects=LEADS)
    house.sync_once("Lead")
    assert due_reason(house) is not None

    def die(*_: object) -> None:
        raise TransientError("the process died")

    monkeypatch.setattr(SyncEngine, "_mended", die)
    with pytest.raises(TransientError):
        house.sync(SyncMode.RECONCILE, "Lead")
    assert due_reason(house) is not None


# Never backwards


def test_a17_c7_a_refresh_does_not_put_back_what_a_record_synced_by_hand_brought_meanwhile(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced(house, CONTACTS)
    account = account_with_contacts(house)
    child = str(
        house.org.query(f"SELECT Id FROM Contact WHERE AccountId = '{account}' LIMIT 1")[0]["Id"]
    )
    house.org.update("Account", account, {"Name": "Older"})

    def renamed_and_read_by_hand() -> None:
        house.org.update("Account", account, {"Name": "Newer"})
        by_hand(house, "Contact", child)

    before_commit(monkeypatch, SyncMode.REFRESH, renamed_and_read_by_hand)
    house.sync(SyncMode.REFRESH, "Contact")
    assert account_names(house)[child] == "Newer"


def test_a17_without_a_stamp_an_older_read_does_not_replace_what_came_meanwhile(
    database_url: str,
) -> None:
    shape = replace(table_shape(lead_selection(), "salesforce"), stamp_column=None)
    bench = Bench(Warehouse(database_url), shape)
    bench.merge(bench.row("a", "Ada"))
    slow = bench.attempt(SyncMode.FULL)
    bench.land(slow, bench.page(bench.row("a", "Old")))
    bench.merge(bench.row("a", "New"))
    with bench.warehouse.connect() as connection:
        merge.key_staging(connection, shape, slow.staging_table)
        merge.merge(connection, shape, slow, source=slow.staging_table)
    assert bench.query("SELECT name FROM salesforce.lead") == [("New",)]


@pytest.mark.parametrize("between", [SyncMode.RECONCILE, SyncMode.REFRESH])
def test_another_sync_between_the_halves_of_a_differential_changes_nothing(
    house: House, between: SyncMode
) -> None:
    synced(house, CONTACTS)
    changed, gone, *_ = sorted(account_names(house))
    house.org.update("Contact", changed, {"LastName": "First"})
    with house.engine() as engine:
        engine.stage_changes("Contact", run_id="halves")
        house.org.update("Contact", changed, {"LastName": "Second"})
        house.org.delete("Contact", gone)
        house.sync(between, "Contact")
        engine.commit_changes("Contact", run_id="halves")
    assert marks(house, "contact") == ({gone: "deleted"} if between == "reconcile" else {})
    house.sync_once("Contact")
    assert marks(house, "contact") == {gone: "deleted"}
    assert house.table("Contact")[changed]["lastname"] == "Second"


def test_b6_marks_that_are_mapped_as_columns_do_not_stand_in_the_way(house: House) -> None:
    marked = ["LastName", "IsDeleted", "MasterRecordId", "SystemModstamp"]
    synced(house, {"Contact": {"fields": marked, "filter": "LastName != 'Out'"}})
    winner, loser, gone, out, altered = some(house, 5, name="Contact")
    house.org.merge("Contact", winner, [loser])
    house.org.delete("Contact", gone)
    house.org.update("Contact", out, {"LastName": "Out"})
    house.execute(f"UPDATE salesforce.contact SET isdeleted = true WHERE id = '{altered}'")
    pass_time(house)
    house.sync_once("Contact")
    expected = {loser: "merged", gone: "deleted", out: "left_filter"}
    assert marks(house, "contact") == expected
    assert reconcile(house, "Contact") == {"altered": 1}
    house.full()
    assert marks(house, "contact") == expected
    assert house.table("Contact") == house.truth("Contact", "WHERE LastName != 'Out'")


def test_o3_s11_a_change_by_a_role_that_may_not_enter_our_schema_is_marked_all_the_same(
    house: House,
) -> None:
    synced(house, LEADS)
    house.execute(
        "CREATE ROLE stranger_for_marks; GRANT USAGE ON SCHEMA salesforce TO stranger_for_marks;"
        "GRANT SELECT, UPDATE ON salesforce.lead TO stranger_for_marks"
    )
    [one] = some(house, 1)
    try:
        house.execute(
            "SET ROLE stranger_for_marks;"
            f"UPDATE salesforce.lead SET company = 'x' WHERE id = '{one}'"
        )
    finally:
        house.execute("DROP OWNED BY stranger_for_marks; DROP ROLE stranger_for_marks")
    assert reconcile(house) == {"altered": 1}
    house.assert_in_step()


# Upgrades


def test_f12_b2_after_an_upgrade_no_deletion_is_taken_for_known_that_nobody_asked_for(
    house: House, empty_database_url: str
) -> None:
    engine = create_engine(sqlalchemy_url(empty_database_url), poolclass=NullPool)
    with engine.begin() as connection:
        for schema in ("crm_sync", "crm_staging", "events", "history"):
            connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    with psycopg.connect(empty_database_url) as plain:
        plain.execute(
            "INSERT INTO crm_sync.object_state (object_name, table_name, watermark,"
            " last_full_sync_at) VALUES ('CampaignMember', 'campaignmember',"
            " '2026-03-20', '2026-03-01')"
        )
    migrate(empty_database_url)
    with psycopg.connect(empty_database_url) as plain:
        found = plain.execute("SELECT deletions_through FROM crm_sync.object_state").fetchone()
    assert found == (None,)
