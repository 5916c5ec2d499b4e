"""Part B: records that vanish, each in its own way, and records that come back.

Belongs here: what a table says about a record that is not there any more. Does not belong here: the
connector's side of the log of deletions (integration/crm/test_deletions.py).
"""

import pytest

from crm_pipeline.errors import MassDisappearance, UsageError
from crm_pipeline.model.sync import SyncMode
from crm_pipeline_tests.cases.traces import with_traces
from crm_pipeline_tests.house import House
from crm_pipeline_tests.integration.sync.test_rare_interleavings import pass_time

DAY = 86_400
LEADS = {"Lead": {"fields": ["LastName", "Company", "Is_Target__c"]}}
TARGETS = {"Lead": {**LEADS["Lead"], "filter": "Is_Target__c = true"}}


@pytest.fixture
def leads(house: House) -> House:
    """Leads, fully synced an hour ago."""
    house.configure(objects=LEADS)
    house.full()
    pass_time(house)
    return house


@pytest.fixture
def targets(house: House) -> House:
    """The same with a record filter."""
    house.configure(objects=TARGETS)
    house.full()
    pass_time(house)
    return house


def some(house: House, count: int, where: str = "", name: str = "Lead") -> list[str]:
    """Ids of records that are in the table."""
    return sorted(house.truth(name, where))[:count]


def marks(house: House, name: str = "lead") -> dict[str, str]:
    """How the rows that are gone went."""
    return dict(
        house.query(f"SELECT id, _vanished FROM salesforce.{name} WHERE _deleted_at IS NOT NULL")
    )


def reconcile(house: House, name: str = "Lead") -> dict[str, int]:
    """What a reconciliation finds."""
    return dict(house.sync(SyncMode.RECONCILE, name)[name].findings)


# B1, B2, B5: deleted and restored


def test_b1_a_record_in_the_bin_is_a_tombstone_after_one_differential(leads: House) -> None:
    [one] = some(leads, 1)
    leads.org.delete("Lead", one)
    assert leads.sync_once("Lead").deleted == 1
    assert marks(leads) == {one: "deleted"}


def test_b2_a_record_deleted_for_good_is_found_by_the_reconciliation_and_named(
    leads: House,
) -> None:
    one, other = some(leads, 2)
    leads.org.hard_delete("Lead", one)
    leads.org.delete("Lead", other)
    leads.org.empty_bin("Lead")
    pass_time(leads)
    leads.sync_once("Lead")
    assert reconcile(leads) == {"deleted": 2}
    assert marks(leads) == {one: "deleted", other: "deleted"}
    assert reconcile(leads) == {}
    leads.assert_in_step()


def test_b2_an_object_without_a_bin_loses_its_records_by_differentials(house: House) -> None:
    with_traces(house)
    [one] = some(house, 1, name="Trace__c")
    house.org.delete("Trace__c", one)
    pass_time(house)
    assert house.sync_once("Trace__c").deleted == 1
    assert marks(house, "trace__c") == {one: "deleted"}


@pytest.mark.parametrize("is_restamped", [True, False])
def test_b5_an_undeleted_record_lives_again_and_says_when(
    leads: House, *, is_restamped: bool
) -> None:
    [one] = some(leads, 1)
    leads.org.delete("Lead", one)
    leads.sync_once("Lead")
    in_the_bin = leads.org.get("Lead", one)
    assert in_the_bin is not None
    stamp = in_the_bin["SystemModstamp"]
    pass_time(leads)
    leads.org.undelete("Lead", one)
    if not is_restamped:
        with leads.org.transaction() as connection:
            connection.execute('UPDATE "Lead" SET "SystemModstamp" = ? WHERE Id = ?', (stamp, one))
    pass_time(leads)
    leads.sync_once("Lead")
    reconcile(leads)
    assert marks(leads) == {}
    leads.assert_in_step()
    ((restored,),) = leads.query(f"SELECT _restored_at FROM salesforce.lead WHERE id = '{one}'")
    assert restored is not None


# B3, B4: the horizon of deletions


@pytest.mark.parametrize("days", [16, 31])
def test_b3_after_a_pause_beyond_the_bin_one_differential_compares_the_ids_first(
    leads: House, days: int
) -> None:
    one, changed = some(leads, 2)
    leads.org.delete("Lead", one)
    pass_time(leads, days * DAY)
    leads.org.empty_bin("Lead")
    leads.org.update("Lead", changed, {"Company": "Changed"})
    pass_time(leads)
    outcome = leads.sync_once("Lead")
    assert one in marks(leads)
    assert outcome.due_reason is None
    leads.assert_in_step()


def test_b3_a_log_trimmed_after_two_hours_makes_the_differential_compare_ids(house: House) -> None:
    with_traces(house)
    [one] = some(house, 1, name="Trace__c")
    house.org.delete("Trace__c", one)
    pass_time(house, 4 * 3600)
    house.org.trim_delete_log(house.org.clock.stamp())
    pass_time(house)
    house.sync_once("Trace__c")
    assert one in marks(house, "trace__c")
    house.assert_in_step()


# B6, B7, B8: merged, converted, gone with a parent


def test_b6_the_losers_of_a_merge_point_to_the_winner_and_the_children_follow(
    house: House,
) -> None:
    house.full("Contact", "Case", "Task")
    pass_time(house)
    winner, first, second, last = some(house, 4, name="Contact")
    house.org.merge("Contact", winner, [first, second])
    house.org.merge("Contact", last, [winner])
    pass_time(house)
    house.sync(SyncMode.DIFFERENTIAL, "Contact", "Case", "Task")
    merged = dict(
        house.query("SELECT id, _merged_into FROM salesforce.contact WHERE _vanished = 'merged'")
    )
    assert merged == {first: winner, second: winner, winner: last}
    house.assert_in_step("Contact", "Case", "Task")


def test_b7_a_converted_lead_stays_and_names_what_it_became(leads: House) -> None:
    [one] = some(leads, 1, "WHERE IsConverted = false")
    became = leads.org.convert_lead(one)
    pass_time(leads)
    leads.sync_once("Lead")
    ((contact, deleted),) = leads.query(
        f"SELECT _converted_into, _deleted_at FROM salesforce.lead WHERE id = '{one}'"
    )
    assert contact == leads.org.get("Lead", one)["ConvertedContactId"]  # type: ignore[index]
    assert contact in became.values()
    assert deleted is None


def test_b8_what_goes_with_an_account_goes_here_too_and_comes_back_with_it(house: House) -> None:
    names = ("Account", "Contact", "Opportunity")
    house.full(*names)
    pass_time(house)
    account = house.org.query("SELECT AccountId FROM Opportunity WHERE AccountId != null LIMIT 1")
    one = str(account[0]["AccountId"])
    children = house.org.query(f"SELECT Id FROM Opportunity WHERE AccountId = '{one}'")
    house.org.delete("Account", one)
    pass_time(house)
    house.sync(SyncMode.DIFFERENTIAL, *names)
    assert marks(house, "account") == {one: "deleted"}
    assert set(marks(house, "opportunity")) == {str(child["Id"]) for child in children}
    house.assert_in_step(*names)
    house.org.undelete("Account", one)
    pass_time(house)
    house.sync(SyncMode.DIFFERENTIAL, *names)
    assert marks(house, "opportunity") == {}
    house.assert_in_step(*names)


# B9: in and out of the filter


def test_b9_a_record_that_leaves_the_filter_is_marked_and_revived_when_it_returns(
    targets: House,
) -> None:
    [one] = some(targets, 1, "WHERE Is_Target__c = true")
    targets.org.update("Lead", one, {"Is_Target__c": False})
    pass_time(targets)
    targets.sync_once("Lead")
    assert marks(targets) == {one: "left_filter"}
    targets.org.update("Lead", one, {"Is_Target__c": True})
    pass_time(targets)
    targets.sync_once("Lead")
    assert marks(targets) == {}


def test_b9_a_record_that_is_deleted_outside_of_the_filter_is_called_deleted(
    targets: House,
) -> None:
    [one] = some(targets, 1, "WHERE Is_Target__c = true")
    targets.org.update("Lead", one, {"Is_Target__c": False})
    targets.org.delete("Lead", one)
    pass_time(targets)
    targets.sync_once("Lead")
    assert marks(targets) == {one: "deleted"}


def test_b4_b9_a_record_that_is_merged_outside_of_the_filter_is_called_merged(
    targets: House,
) -> None:
    one, other = some(targets, 2, "WHERE Is_Target__c = true")
    targets.org.update("Lead", one, {"Is_Target__c": False})
    targets.org.merge("Lead", other, [one])
    pass_time(targets)
    targets.sync(SyncMode.RECONCILE)
    assert marks(targets) == {one: "merged"}
    assert targets.query(f"SELECT _merged_into FROM salesforce.lead WHERE id = '{one}'") == [
        (other,)
    ]


def test_b9_a_new_filter_is_judged_by_the_reconciliation(leads: House) -> None:
    inside, outside = (
        some(leads, 1, "WHERE Is_Target__c = true"),
        some(leads, 1, "WHERE Is_Target__c = false"),
    )
    leads.configure(objects=TARGETS)
    assert "record filter changed" in str(leads.sync_once("Lead").due_reason)
    with pytest.raises(MassDisappearance):
        leads.sync(SyncMode.RECONCILE)
    with leads.engine() as engine:
        engine.accept_disappearance("Lead")
    outcome = leads.sync(SyncMode.RECONCILE)["Lead"]
    assert outcome.due_reason is None
    assert marks(leads)[outside[0]] == "left_filter"
    assert inside[0] in leads.table("Lead")
    assert leads.table("Lead") == leads.truth("Lead", "WHERE Is_Target__c = true")


# B10: mass disappearance


def vanish(house: House, share: float = 1.0) -> int:
    """Let records disappear without a trace."""
    ids = sorted(house.truth("Lead"))
    gone = ids[: int(len(ids) * share)]
    with house.org.transaction() as connection:
        connection.executemany('DELETE FROM "Lead" WHERE Id = ?', [(one,) for one in gone])
    return len(gone)


@pytest.mark.parametrize("mode", [SyncMode.FULL, SyncMode.RECONCILE])
@pytest.mark.parametrize("share", [1.0, 0.1])
def test_b10_a_mass_disappearance_stops_and_waits_for_a_person(
    leads: House, mode: SyncMode, share: float
) -> None:
    before = len(leads.table("Lead"))
    gone = vanish(leads, share)
    with pytest.raises(MassDisappearance, match="crm-pipeline accept Lead"):
        leads.sync(mode)
    assert len(leads.table("Lead")) == before
    assert leads.query("SELECT status, held_disappearance FROM crm_sync.sync_status") == [
        ("waits for a person", gone)
    ]
    with leads.engine() as engine:
        assert engine.accept_disappearance("Lead") == gone
    assert leads.sync(mode)["Lead"].deleted == gone
    assert leads.query("SELECT status FROM crm_sync.sync_status") == [("in step",)]
    leads.assert_in_step()


def test_b10_a_full_sync_that_was_held_merges_after_consent_without_reading_again(
    leads: House,
) -> None:
    vanish(leads)
    with pytest.raises(MassDisappearance):
        leads.full()
    with leads.engine() as engine:
        engine.accept_disappearance("Lead")
    leads.served.server.ledger.clear()
    leads.full()
    paths = [entry.path for entry in leads.served.server.ledger.entries()]
    assert not [path for path in paths if "/jobs/" in path or "/query" in path]


def test_b10_consent_is_used_up_by_one_sync_and_needs_something_that_waits(leads: House) -> None:
    with leads.engine() as engine, pytest.raises(UsageError, match="nothing to accept"):
        engine.accept_disappearance("Lead")
    vanish(leads, 0.2)
    with pytest.raises(MassDisappearance):
        leads.full()
    with leads.engine() as engine:
        engine.accept_disappearance("Lead")
    leads.full()
    vanish(leads, 0.2)
    with pytest.raises(MassDisappearance):
        leads.full()


def test_b10_what_the_crm_itself_shows_as_deleted_is_no_mass_disappearance(leads: House) -> None:
    for one in some(leads, 60):
        leads.org.delete("Lead", one)
    pass_time(leads)
    assert leads.sync_once("Lead").deleted == 60


def test_b10_many_that_leave_the_filter_at_once_stop_a_differential(targets: House) -> None:
    before = len(targets.table("Lead"))
    for one in some(targets, 40, "WHERE Is_Target__c = true"):
        targets.org.update("Lead", one, {"Is_Target__c": False})
    pass_time(targets)
    with pytest.raises(MassDisappearance):
        targets.sync_once("Lead")
    assert len(targets.table("Lead")) == before


# B11: reference data


def test_b11_a_deactivated_user_and_a_queue_that_is_gone_stay_as_rows(house: House) -> None:
    from crm_pipeline.sync.reference import sync_reference_dataset  # noqa: PLC0415

    def read() -> None:
        with house.engine() as engine:
            for name in ("users", "queues"):
                sync_reference_dataset(engine, name, run_id="reference")

    read()
    user = str(house.org.query("SELECT Id FROM User WHERE IsActive = true LIMIT 1")[0]["Id"])
    queue = str(house.org.query("SELECT Id FROM Group WHERE Type = 'Queue' LIMIT 1")[0]["Id"])
    house.org.update("User", user, {"IsActive": False})
    house.org.delete("Group", queue)
    pass_time(house)
    read()
    assert house.query(
        f"SELECT isactive, _deleted_at FROM salesforce.users WHERE id = '{user}'"
    ) == [(False, None)]
    assert queue in marks(house, "queues")
