"""Cases O2 and O3: what the status says is true, and drift is found, shown and repaired.

Belongs here: the reconciliation's findings. Does not belong here: how rows vanish
(test_b_disappearance.py), alerts (test_g_schedules.py and the Dagster room).
"""

from datetime import timedelta

import pytest

from crm_pipeline.model.sync import SyncMode
from crm_pipeline_tests.cases.test_b_disappearance import LEADS, marks, reconcile, some
from crm_pipeline_tests.house import House
from crm_pipeline_tests.integration.sync.test_rare_interleavings import pass_time


@pytest.fixture
def leads(house: House) -> House:
    """Leads, fully synced an hour ago."""
    house.configure(objects=LEADS)
    house.full()
    pass_time(house)
    return house


def test_o3_a_table_that_is_true_yields_no_finding_and_no_write(leads: House) -> None:
    leads.sync_once("Lead")
    versions = leads.query("SELECT id, xmin::text FROM salesforce.lead ORDER BY id")
    assert reconcile(leads) == {}
    assert leads.query("SELECT id, xmin::text FROM salesforce.lead ORDER BY id") == versions


def test_o3_changes_that_the_next_differential_reads_are_no_drift(leads: House) -> None:
    one, other = some(leads, 2)
    leads.sync_once("Lead")
    leads.org.update("Lead", one, {"Company": "Changed"})
    leads.org.create("Lead", {"LastName": "New", "Company": "New"})
    leads.org.delete("Lead", other)
    assert reconcile(leads) == {"deleted": 1}
    leads.sync_once("Lead")
    leads.assert_in_step()


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE salesforce.lead SET company = 'Forged' WHERE id = '{}'",
        "UPDATE salesforce.lead SET _modstamp = _modstamp + interval '1 year' WHERE id = '{}'",
        "UPDATE salesforce.lead SET _modstamp = _modstamp - interval '1 year' WHERE id = '{}'",
    ],
)
def test_o3_a_row_that_somebody_else_changed_is_found_and_repaired(
    leads: House, tampering: str
) -> None:
    [one] = some(leads, 1)
    leads.execute(tampering.format(one))
    pass_time(leads)
    assert sum(reconcile(leads).values()) == 1
    leads.assert_in_step()
    assert reconcile(leads) == {}


def test_o3_rows_that_somebody_else_deleted_or_added_are_found(leads: House) -> None:
    lost, model = some(leads, 2)
    forged = "00Q000000000000AAA"
    leads.execute(f"DELETE FROM salesforce.lead WHERE id = '{lost}'")
    leads.execute(
        "INSERT INTO salesforce.lead (id, lastname, _modstamp, _synced_at)"
        f" SELECT '{forged}', 'Forged', _modstamp, _synced_at FROM salesforce.lead"
        f" WHERE id = '{model}'"
    )
    pass_time(leads)
    assert reconcile(leads) == {"missing": 1, "not_visible": 1}
    assert marks(leads) == {forged: "not_visible"}
    leads.assert_in_step()


def test_o3_a_table_restored_from_a_backup_is_brought_up_to_date(leads: House) -> None:
    leads.execute("CREATE TABLE public.backup AS SELECT * FROM salesforce.lead")
    changed = some(leads, 20)
    for one in changed:
        leads.org.update("Lead", one, {"Company": "Later"})
    gone = some(leads, 25)[20:]
    for one in gone:
        leads.org.delete("Lead", one)
    pass_time(leads)
    leads.sync_once("Lead")
    pass_time(leads)
    leads.sync_once("Lead")
    leads.execute(
        "DELETE FROM salesforce.lead; INSERT INTO salesforce.lead SELECT * FROM public.backup"
    )
    assert reconcile(leads) == {"stale": 20, "deleted": 5}
    leads.assert_in_step()


def test_o3_a_record_that_becomes_visible_without_a_stamp_arrives(leads: House) -> None:
    [one] = some(leads, 1)
    leads.org.hide_records("Lead", [one])
    leads.full()
    assert marks(leads) == {one: "not_visible"}
    pass_time(leads)
    leads.org.show_records("Lead", [one])
    leads.sync_once("Lead")
    assert marks(leads) == {one: "not_visible"}
    assert reconcile(leads) == {"restored": 1}
    leads.assert_in_step()


def test_o3_a1_a_transaction_that_stayed_open_beyond_the_overlap_is_found(leads: House) -> None:
    [one] = some(leads, 1)
    transaction = leads.org.open_transaction()
    transaction.update("Lead", one, {"Company": "Late"})
    transaction.insert("Lead", {"LastName": "Late", "Company": "Late"})
    pass_time(leads, 40 * 60)
    leads.sync_once("Lead")
    transaction.commit()
    pass_time(leads)
    leads.sync_once("Lead")
    assert leads.table("Lead") != leads.truth("Lead")
    assert reconcile(leads) == {"stale": 1, "missing": 1}
    leads.assert_in_step()


def test_o3_more_drift_than_can_be_asked_for_by_id_is_read_from_its_oldest_stamp_on(
    leads: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crm_pipeline.warehouse.census.MOST_SUSPECTS_BY_ID", 10)
    leads.execute("UPDATE salesforce.lead SET company = 'Forged'")
    outcome = leads.sync(SyncMode.RECONCILE)["Lead"]
    assert outcome.findings == {"altered": len(leads.table("Lead"))}
    leads.assert_in_step()


def test_o2_synced_through_is_never_later_than_the_truth(leads: House) -> None:
    overlap = timedelta(minutes=15)
    for step in range(6):
        leads.org.update("Lead", some(leads, 6)[step], {"Company": f"Step {step}"})
        late = leads.org.open_transaction()
        late.update("Lead", some(leads, 12)[6 + step], {"Company": f"Late {step}"})
        pass_time(leads, 400)
        leads.sync_once("Lead")
        late.commit()
        ((through,),) = leads.query("SELECT synced_through FROM crm_sync.sync_status")
        assert through <= leads.org.clock.now() - overlap + timedelta(seconds=1)
        rows = leads.query("SELECT id, company, _modstamp FROM salesforce.lead")
        held = {str(row[0]): row[1:] for row in rows}
        for record_id, row in leads.org.truth_at("Lead", through).items():
            stamp = leads.truth("Lead")[record_id]
            assert held[record_id][0] in (row["Company"], stamp["company"])
