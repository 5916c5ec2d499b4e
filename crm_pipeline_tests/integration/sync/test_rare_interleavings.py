"""Rare interleavings, each of which once broke a promise.

Crashes between the halves of a sync, records that come by another path meanwhile, locks of others,
schemas that changed: found by a hostile reading of the engine, kept so that they stay mended.
"""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest

from crm_pipeline.errors import CrmPipelineError, LeaseBusy, PermanentError, TransientError
from crm_pipeline.model.objects import CrmField, CrmObject, MappedField, ObjectSelection, ValueType
from crm_pipeline.model.sync import Progress, SyncMode
from crm_pipeline.sync import engine as engine_module
from crm_pipeline.sync.merge_path import MergePath
from crm_pipeline.sync.reading import PageLander
from crm_pipeline.warehouse import ledger, merge, schema, staging
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.lease import held_lease, running_syncs
from crm_pipeline.warehouse.migrate import migrate
from crm_pipeline_tests.house import House
from crm_pipeline_tests.integration.sync.test_interruptions import (
    LEADS,
    downloads,
    free_the_lease,
    kill_in_the_middle,
)
from crm_pipeline_tests.integration.warehouse.conftest import Bench, lead_selection

HOUR = 3600
TARGETS = {
    "Lead": {
        "filter": "Is_Target__c = true",
        "fields": ["LastName", "Company", "NumberOfEmployees", "Is_Target__c"],
    }
}


def pass_time(house: House, seconds: float = HOUR) -> None:
    """Let the overlap lie behind us."""
    house.org.clock.advance(seconds=seconds)


def make_unstorable(house: House, lead: str) -> None:
    """Give a lead a number of employees that fits no integer column, as a change of now."""
    with house.org.transaction() as connection:
        connection.execute(
            'UPDATE "Lead" SET "NumberOfEmployees" = 3000000000, "SystemModstamp" = ? WHERE Id = ?',
            (house.org.clock.stamp(), lead),
        )


def mark_of(house: House, lead: str) -> str | None:
    """How the warehouse says that a lead went; None while it lives."""
    ((mark,),) = house.query(f"SELECT _vanished FROM salesforce.lead WHERE id = '{lead}'")
    return None if mark is None else str(mark)


def in_background(work: Callable[[], Any]) -> tuple[threading.Thread, list[BaseException]]:
    """Run in a thread, and keep what it raises."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, errors


def wait_for_a_lock(house: House) -> None:
    """Until some session of the warehouse waits for another."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if house.query(
            "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            " AND datname = current_database()"
        ):
            return
        time.sleep(0.02)
    raise AssertionError("nobody waits")


@pytest.fixture
def paged(house: House) -> House:
    """Leads by Bulk in pages of 40, fully synced an hour ago."""
    house.served.server.settings.bulk_page_records = 40
    house.configure(objects=LEADS)
    house.full()
    pass_time(house)
    return house


# Staging that is not what was verified


def test_f2_staging_emptied_by_a_crash_between_the_halves_loses_no_change(house: House) -> None:
    house.full("Lead")
    pass_time(house)
    one = next(iter(house.truth("Lead")))
    house.org.update("Lead", one, {"Company": "Changed"})
    pass_time(house)
    with house.engine() as engine:
        attempt = engine.stage_changes("Lead", run_id="r")
        house.execute(f"TRUNCATE crm_staging.{attempt.staging_table}")  # as crash recovery does
        with contextlib.suppress(CrmPipelineError):
            engine.commit_changes("Lead", run_id="r")
    pass_time(house)
    house.sync_once("Lead")
    house.assert_in_step("Lead")


def test_f2_staging_emptied_by_a_crash_before_a_full_merge_buries_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.full("Lead")
    pass_time(house)
    before = house.table("Lead")
    commit = MergePath.commit

    def after_a_crash(self: MergePath, work: Any, attempt: Any, lease: Any) -> Any:
        house.execute(f"TRUNCATE crm_staging.{attempt.staging_table}")  # as crash recovery does
        return commit(self, work, attempt, lease)

    monkeypatch.setattr(MergePath, "commit", after_a_crash)
    with contextlib.suppress(CrmPipelineError):
        house.full("Lead")
    assert house.table("Lead") == before


def test_a_table_dropped_between_the_halves_is_not_replaced_by_the_changes_alone(
    house: House,
) -> None:
    house.full("Lead")
    house.org.update("Lead", next(iter(house.truth("Lead"))), {"Company": "Changed"})
    with house.engine() as engine:
        engine.stage_changes("Lead", run_id="r")
        house.execute("DROP TABLE salesforce.lead")
        try:
            engine.commit_changes("Lead", run_id="r")
        except CrmPipelineError:
            return
    house.assert_in_step("Lead")


# A full sync that goes on later


def test_f7_a_record_deleted_during_a_paused_full_sync_does_not_come_back(paged: House) -> None:
    house = paged
    new = house.org.create("Lead", {"LastName": "Short-lived", "Company": "c"})
    kill_in_the_middle(2)
    free_the_lease(house)
    pass_time(house)
    house.org.delete("Lead", new)
    pass_time(house)
    house.sync_once("Lead")
    pass_time(house)
    house.full()
    pass_time(house)
    house.sync_once("Lead")
    house.assert_in_step()


def test_f7_a_record_deleted_twice_during_a_paused_full_sync_does_not_come_back(
    paged: House,
) -> None:
    house = paged
    one = next(iter(house.truth("Lead")))
    house.org.delete("Lead", one)
    house.sync_once("Lead")
    pass_time(house, 60)
    house.org.undelete("Lead", one)
    house.org.update("Lead", one, {"Company": "Back"})
    pass_time(house)
    kill_in_the_middle(2)
    free_the_lease(house)
    pass_time(house)
    house.org.delete("Lead", one)
    pass_time(house)
    house.sync_once("Lead")
    pass_time(house)
    house.full()
    pass_time(house)
    house.sync_once("Lead")
    house.assert_in_step()


def test_a_value_quarantined_during_a_paused_full_sync_stays_reported(paged: House) -> None:
    house = paged
    house.configure(
        objects={"Lead": {"transport": "bulk", "fields": ["LastName", "NumberOfEmployees"]}}
    )
    one = next(iter(house.truth("Lead")))
    kill_in_the_middle(2)
    free_the_lease(house)
    pass_time(house)
    make_unstorable(house, one)
    pass_time(house)
    assert house.sync_once("Lead").rejected == 1
    pass_time(house)
    house.full()
    pass_time(house)
    house.sync_once("Lead")
    assert house.query("SELECT record_id FROM crm_sync.quarantine") == [(one,)]


def test_c1_a_full_sync_that_was_paused_does_not_call_a_column_filled_that_is_not(
    paged: House,
) -> None:
    house = paged
    one = next(iter(house.truth("Lead")))
    kill_in_the_middle(2)
    free_the_lease(house)
    house.configure(objects={"Lead": {"transport": "bulk", "fields": ["LastName", "Email"]}})
    pass_time(house)
    house.org.update("Lead", one, {"Company": "Changed while not mapped"})
    pass_time(house)
    house.sync_once("Lead")
    pass_time(house)
    house.configure(objects=LEADS)
    house.full()
    pass_time(house)
    outcome = house.sync_once("Lead")
    if outcome.due_reason is None:
        house.assert_in_step()


def test_a_record_seen_gone_by_hand_is_not_revived_by_a_full_sync_that_read_it_earlier(
    paged: House,
) -> None:
    house = paged
    one = next(iter(house.truth("Lead")))
    kill_in_the_middle(2)
    free_the_lease(house)
    pass_time(house)
    house.org.hard_delete("Lead", one)
    with house.engine() as engine:
        assert engine.sync_record("Lead", one, run_id="hand").deleted == 1
    house.full()
    pass_time(house)
    house.sync_once("Lead")
    house.assert_in_step()


def test_a_record_that_became_visible_and_came_by_hand_is_not_buried_by_an_older_full_sync(
    paged: House,
) -> None:
    house = paged
    kill_in_the_middle(2)
    free_the_lease(house)
    old = house.org.clock.stamp()
    pass_time(house)
    shared = house.org.create("Lead", {"LastName": "Shared later", "Company": "c"})
    with house.org.transaction() as connection:
        connection.execute(
            'UPDATE "Lead" SET "SystemModstamp" = ? WHERE Id = ?',
            (old.replace(old[:4], "2020", 1), shared),
        )
    with house.engine() as engine:
        assert engine.sync_record("Lead", shared, run_id="hand").inserted == 1
    house.full()
    house.assert_in_step()


def test_m6_a_full_sync_stopped_in_its_merge_reads_no_page_again(
    paged: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = paged
    merge_rows = merge.merge

    def cut_off(*_: object, **__: object) -> None:
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(merge, "merge", cut_off)
    with pytest.raises(psycopg.OperationalError):
        house.full()
    monkeypatch.setattr(merge, "merge", merge_rows)
    before = len(downloads(house))
    house.full()
    house.assert_in_step()
    again = [p for p in downloads(house)[before:] if "/resultPages" not in p]
    assert len(again) <= 1, f"{len(again)} pages were read again"


# Tombstones of records that are not gone


def test_b9_a_record_changed_while_a_differential_reads_is_not_called_out_of_the_filter(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.configure(objects=TARGETS)
    house.full()
    pass_time(house)
    inside = next(iter(house.truth("Lead", "WHERE Is_Target__c = true")))
    read_into_staging = PageLander.read_into_staging

    def edited_meanwhile(self: PageLander, *args: Any, **facts: Any) -> ledger.LandedPages:
        landed = read_into_staging(self, *args, **facts)
        house.org.update("Lead", inside, {"Company": "Edited while the sync was at work"})
        return landed

    monkeypatch.setattr(PageLander, "read_into_staging", edited_meanwhile)
    house.sync_once("Lead")
    assert mark_of(house, inside) is None


@pytest.mark.parametrize("mode", ["full", "filtered differential", "by hand"])
def test_a_record_in_quarantine_is_not_called_gone(house: House, mode: str) -> None:
    filtered = mode == "filtered differential"
    house.configure(objects={"Lead": {**TARGETS["Lead"], "filter": TARGETS["Lead"]["filter"]}})
    if not filtered:
        house.configure(objects={"Lead": {"fields": TARGETS["Lead"]["fields"]}})
    house.full()
    pass_time(house)
    one = next(iter(house.truth("Lead", "WHERE Is_Target__c = true")))
    make_unstorable(house, one)
    if mode == "full":
        assert house.full()["Lead"].rejected == 1
    elif filtered:
        assert house.sync_once("Lead").rejected == 1
    else:
        with house.engine() as engine:
            assert engine.sync_record("Lead", one, run_id="hand").rejected == 1
    assert mark_of(house, one) is None


def test_b2_a_hard_deleted_record_is_not_said_to_have_left_the_filter(house: House) -> None:
    house.configure(objects=TARGETS)
    house.full()
    pass_time(house)
    one = next(iter(house.truth("Lead", "WHERE Is_Target__c = true")))
    house.org.hard_delete("Lead", one)
    house.full()
    assert mark_of(house, one) == "deleted"


def test_a17_a_record_read_by_hand_before_does_not_bury_what_a_differential_brought_after(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.configure(objects=TARGETS)
    house.full()
    pass_time(house)
    one = next(iter(house.truth("Lead", "WHERE Is_Target__c = true")))
    house.org.update("Lead", one, {"Is_Target__c": False})
    commit = MergePath.commit

    def slowly(self: MergePath, work: Any, attempt: Any, lease: Any) -> Any:
        if attempt.mode == "record":
            pass_time(house, 60)
            house.org.update("Lead", one, {"Is_Target__c": True})
            house.sync_once("Lead")
        return commit(self, work, attempt, lease)

    monkeypatch.setattr(MergePath, "commit", slowly)
    with house.engine() as engine:
        engine.sync_record("Lead", one, run_id="hand")
    assert mark_of(house, one) is None


# Several at once


def test_g6_two_records_of_an_object_are_synced_by_hand_at_the_same_time(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.full("Lead")
    first, second, *_ = house.truth("Lead")
    read_into_staging = PageLander.read_into_staging
    nested: list[str] = []

    def overtaken(self: PageLander, *args: Any, **facts: Any) -> ledger.LandedPages:
        landed = read_into_staging(self, *args, **facts)
        if not nested:
            nested.append(second)
            with house.engine() as other:
                other.sync_record("Lead", second, run_id="hand 2")
        return landed

    monkeypatch.setattr(PageLander, "read_into_staging", overtaken)
    with house.engine() as engine:
        assert engine.sync_record("Lead", first, run_id="hand 1").records_read == 1


def test_g6_a_new_record_synced_by_hand_during_a_merge_does_not_fail_the_merge(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.full("Lead")
    new = house.org.create("Lead", {"LastName": "New", "Company": "c"})
    commit_attempt = ledger.commit_attempt
    is_merged, may_commit = threading.Event(), threading.Event()

    def held(connection: Any, attempt: ledger.SyncAttempt, outcome: Any) -> None:
        if attempt.mode == "record":
            is_merged.set()
            may_commit.wait(20)
        commit_attempt(connection, attempt, outcome)

    monkeypatch.setattr(ledger, "commit_attempt", held)

    def by_hand() -> None:
        with house.engine() as engine:
            engine.sync_record("Lead", new, run_id="hand")

    hand, hand_errors = in_background(by_hand)
    assert is_merged.wait(20)
    differential, errors = in_background(lambda: house.sync_once("Lead"))
    wait_for_a_lock(house)
    may_commit.set()
    hand.join(20)
    differential.join(20)
    assert (hand_errors, errors) == ([], [])


def test_f12_two_processes_that_prepare_a_new_database_at_once_do_not_fail_each_other(
    empty_database_url: str,
) -> None:
    errors: list[BaseException] = []

    def prepare() -> None:
        try:
            migrate(empty_database_url)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=prepare) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []


def during_the_merge(monkeypatch: pytest.MonkeyPatch, work: Callable[[], None]) -> None:
    """Do something while a sync of the engine is in its merging transaction."""
    key_staging = merge.key_staging

    def and_work(*args: Any) -> None:
        key_staging(*args)
        work()

    monkeypatch.setattr(merge, "key_staging", and_work)


def test_a_full_sync_still_holds_its_lease_when_its_merge_takes_long(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse = Warehouse(house.database_url)
    monkeypatch.setattr(engine_module, "held_lease", partial(held_lease, seconds=0.5))
    holders: list[str] = []

    def look() -> None:
        time.sleep(1.2)
        holders.extend(holder.name for holder in running_syncs(warehouse))

    during_the_merge(monkeypatch, look)
    house.full("Lead")
    assert holders == ["Lead"]


def test_g5_a_rival_of_a_long_or_frozen_merge_is_told_so_and_does_not_hang(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse = Warehouse(house.database_url)
    answers: list[object] = []

    def take() -> None:
        with held_lease(warehouse, "Lead", owner="b", mode=SyncMode.DIFFERENTIAL):
            pass

    def rival() -> None:
        thread, errors = in_background(take)
        thread.join(5)
        answers.append("hangs" if thread.is_alive() else [type(error) for error in errors])

    during_the_merge(monkeypatch, rival)
    house.full("Lead")
    assert answers == [[LeaseBusy]]


def test_g5_a_dead_run_that_still_holds_its_staging_does_not_hang_the_next_run(
    house: House,
) -> None:
    house.full("Lead")
    with house.engine() as engine:
        attempt = engine.stage_changes("Lead", run_id="dead")
    with psycopg.connect(house.database_url) as frozen:  # a host that vanished in mid-COPY
        frozen.execute(f"LOCK TABLE crm_staging.{attempt.staging_table} IN ROW EXCLUSIVE MODE")
        thread, errors = in_background(lambda: house.sync_once("Lead"))
        thread.join(8)
        hangs = thread.is_alive()
    thread.join(20)
    assert errors == []
    assert not hangs


# Analysts and operators


def test_a_new_column_does_not_stall_readers_behind_a_slow_one(house: House) -> None:
    house.configure(objects={"Lead": {"fields": ["LastName"]}})
    house.full()
    house.configure(objects={"Lead": {"fields": ["LastName", "Company"]}})
    with psycopg.connect(house.database_url) as slow:
        slow.execute("SELECT count(*) FROM salesforce.lead")
        thread, _ = in_background(lambda: house.sync_once("Lead"))
        wait_for_a_lock(house)
        with psycopg.connect(house.database_url, options="-c statement_timeout=2000") as reader:
            reader.execute("SELECT count(*) FROM salesforce.lead")
    thread.join(20)


def test_c4_a_view_over_a_column_that_must_be_widened_stands_and_the_column_is_widened(
    house: House,
) -> None:
    house.full("Lead")
    house.execute(
        "ALTER TABLE salesforce.lead ALTER annualrevenue TYPE integer"
        " USING NULL::integer;"
        "CREATE VIEW public.revenue AS SELECT annualrevenue FROM salesforce.lead"
    )
    house.org.update("Lead", next(iter(house.truth("Lead"))), {"Company": "Changed"})
    assert house.sync_once("Lead").broken_fields == ()
    assert house.query("SELECT pg_typeof(annualrevenue)::text FROM public.revenue LIMIT 1") == [
        ("numeric",)
    ]


def test_a_missing_bookkeeping_column_is_mended_or_named(house: House) -> None:
    house.full("Lead")
    house.execute("ALTER TABLE salesforce.lead DROP COLUMN _merged_into")
    house.org.update("Lead", next(iter(house.truth("Lead"))), {"Company": "Changed"})
    said = "_merged_into"
    try:
        house.sync_once("Lead")
    except CrmPipelineError as error:
        said = str(error)
    assert "_merged_into" in said


def test_analysts_may_enter_a_schema_that_the_operator_had_made(house: House) -> None:
    house.execute("DROP SCHEMA salesforce; CREATE SCHEMA salesforce")
    house.full("Lead")
    assert house.query("SELECT has_schema_privilege('analyst', 'salesforce', 'USAGE')") == [(True,)]


def test_s11_a_current_schema_needs_no_right_to_create_in_the_database(
    empty_database_url: str,
) -> None:
    role = f"loader_{uuid4().hex}"
    parts = urlsplit(empty_database_url)
    database, where = parts.path.lstrip("/"), parts.netloc.rpartition("@")[2]
    as_loader = parts._replace(netloc=f"{role}:secret@{where}").geturl()
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'secret'".encode())
        connection.execute(f"GRANT CREATE ON DATABASE {database} TO {role}".encode())
        try:
            migrate(as_loader)
            connection.execute(f"REVOKE CREATE ON DATABASE {database} FROM {role}".encode())
            migrate(as_loader)
        finally:
            connection.execute(f"DROP OWNED BY {role} CASCADE".encode())
            connection.execute(f"DROP ROLE {role}".encode())


# Honesty


def test_o1_an_object_that_cannot_be_described_is_not_in_step(house: House) -> None:
    house.full("Contact")
    house.org.forbid_object("Contact")
    with pytest.raises(CrmPipelineError):
        house.sync_once("Contact")
    ((status,),) = house.query("SELECT status FROM crm_sync.sync_status")
    assert status != "in step"


def test_o1_a_killed_sync_is_not_in_step(paged: House) -> None:
    house = paged
    kill_in_the_middle(2)
    free_the_lease(house)
    ((status,),) = house.query("SELECT status FROM crm_sync.sync_status")
    assert status != "in step"


def test_o1_a_record_synced_by_hand_does_not_hide_that_the_last_differential_failed(
    house: House,
) -> None:
    house.full("Lead")

    def boom(_: Progress) -> None:
        raise RuntimeError("boom")

    house.org.update("Lead", next(iter(house.truth("Lead"))), {"Company": "Changed"})
    with house.engine() as engine:
        with pytest.raises(RuntimeError):
            engine.sync_object("Lead", mode=SyncMode.DIFFERENTIAL, run_id="r", report=boom)
        assert house.query("SELECT status FROM crm_sync.sync_status") == [("last sync failed",)]
        engine.sync_record("Lead", next(iter(house.truth("Lead"))), run_id="hand")
    assert house.query("SELECT status FROM crm_sync.sync_status") == [("last sync failed",)]


# Left-overs and stops


def test_f8_bulk_jobs_of_failed_syncs_are_deleted_at_last(paged: House) -> None:
    house = paged

    def boom(_: Progress) -> None:
        raise RuntimeError("boom")

    house.org.update("Lead", next(iter(house.truth("Lead"))), {"Company": "Changed"})
    with house.engine() as engine, pytest.raises(RuntimeError):
        engine.sync_object("Lead", mode=SyncMode.DIFFERENTIAL, run_id="r", report=boom)
    house.sync_once("Lead")
    kill_in_the_middle(2)
    free_the_lease(house)
    house.full(restart=True)
    assert house.served.server.jobs.all() == []


def test_f11_ctrl_c_stops_a_full_sync_before_its_other_pages(paged: House) -> None:
    script = textwrap.dedent("""
        import os, signal, time
        from crm_pipeline.model.sync import SyncMode
        from crm_pipeline.sync.assembly import Installation

        pages = 0

        def interrupt(_):
            global pages
            pages += 1
            if pages == 1:
                os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.3)

        with Installation.from_environment().engine() as engine:
            engine.sync_object("Lead", mode=SyncMode.FULL, run_id="victim", report=interrupt)
    """)
    done = subprocess.run(
        [sys.executable, "-c", script],
        check=False,
        capture_output=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        env=dict(os.environ),
    )
    assert done.returncode != 0
    ((landed,),) = paged.query("SELECT count(*) FROM crm_sync.checkpoint")
    assert landed <= 4, f"{landed} pages landed after the interrupt was asked for"


def test_e9_a_page_that_took_a_minute_and_broke_off_is_still_read_again(
    paged: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = paged
    land_page, monotonic = staging.land_page, time.monotonic
    offset = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + offset[0])

    def slow_and_cut(*args: Any, **facts: Any) -> staging.Landed:
        if not offset[0]:
            offset[0] = 60.0
            raise TransientError("the connection broke off after a minute")
        return land_page(*args, **facts)

    monkeypatch.setattr(staging, "land_page", slow_and_cut)
    house.full()
    house.assert_in_step()


def test_a_short_id_marks_a_record_that_is_gone_as_the_long_one_does(house: House) -> None:
    house.full("Lead")
    one = next(iter(house.truth("Lead")))
    house.org.hard_delete("Lead", one)
    with house.engine() as engine:
        assert engine.sync_record("Lead", one[:15], run_id="hand").deleted == 1


def test_the_ledger_of_a_resumed_full_sync_does_not_say_that_the_watermark_went_back(
    paged: House,
) -> None:
    house = paged
    kill_in_the_middle(2)
    free_the_lease(house)
    pass_time(house)
    house.sync_once("Lead")
    outcome = house.full()["Lead"]
    with house.engine() as engine:
        assert engine.inspector.watermark("Lead") == outcome.watermark_after


# More of the two halves, of types and of odd pages


def test_a_full_sync_asked_for_after_staging_in_the_same_run_is_a_full_sync(house: House) -> None:
    house.full("Lead")
    with house.engine() as engine:
        engine.stage_changes("Lead", run_id="r")
        outcome = engine.sync_object("Lead", mode=SyncMode.FULL, run_id="r")
    assert outcome.mode is SyncMode.FULL


def test_g11_a_mapping_changed_between_the_halves_does_not_end_in_a_bug_report(
    house: House,
) -> None:
    house.configure(objects={"Lead": {"fields": ["LastName"]}})
    house.full()
    with house.engine() as engine:
        engine.stage_changes("Lead", run_id="r")
    house.configure(objects={"Lead": {"fields": ["LastName", "Company"]}})
    with house.engine() as engine, contextlib.suppress(CrmPipelineError):
        engine.commit_changes("Lead", run_id="r")


def test_c4_rows_that_kept_the_rendering_of_a_former_type_make_a_full_sync_due(
    house: House,
) -> None:
    house.full("Lead")
    house.execute("ALTER TABLE salesforce.lead ALTER company TYPE boolean USING true")
    house.org.update("Lead", next(iter(house.truth("Lead"))), {"Title": "Changed"})
    assert house.sync_once("Lead").due_reason is not None


def test_c4_a_field_that_became_an_integer_does_not_stop_the_object(house: House) -> None:
    house.full("Lead")
    house.execute("ALTER TABLE salesforce.lead ALTER numberofemployees TYPE numeric")
    one = next(iter(house.truth("Lead")))
    house.org.update("Lead", one, {"Title": "Goes on"})
    with contextlib.suppress(PermanentError):
        house.sync_once("Lead")
    assert house.table("Lead")[one]["title"] == "Goes on"


@pytest.mark.parametrize("raw", [b'a,"broke o', b"a,Ada\nb"], ids=["in quotes", "in a row"])
def test_e9_a_page_that_broke_off_unnoticed_is_a_transient_error(
    database_url: str, raw: bytes
) -> None:
    bench = Bench(Warehouse(database_url), schema.table_shape(lead_selection(), "salesforce"))
    page = bench.page(raw=raw, record_count=2)
    page.columns = ("Id", "Name")
    with pytest.raises(TransientError):
        bench.land(bench.attempt(), page)


def test_c10_a_row_too_wide_for_postgresql_is_quarantined_and_the_others_land(
    database_url: str,
) -> None:
    names = ["Id", *(f"Text{n}__c" for n in range(500))]
    fields = {
        n: CrmField(n, n, ValueType.IDENTIFIER if n == "Id" else ValueType.TEXT, "text")
        for n in names
    }
    selection = ObjectSelection(
        CrmObject("Lead", "Lead", fields),
        "lead",
        tuple(MappedField(fields[n], n.lower()) for n in names),
    )
    bench = Bench(Warehouse(database_url), schema.table_shape(selection, "salesforce"))
    wide: list[str | None] = ["wide", *(sha256(n.encode()).hexdigest()[:40] for n in names[1:])]
    narrow: list[str | None] = ["narrow", *["x"] * 500]
    landed = bench.land(bench.attempt(), bench.page(wide, narrow))
    assert (landed.records, landed.rejected) == (1, 1)
