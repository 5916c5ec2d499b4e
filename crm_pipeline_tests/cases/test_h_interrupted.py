"""H1, H2, H12, H20, H29 and G10: lost answers, deaths, poison, and what is urgent meanwhile."""

import os
import signal
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Literal

import pytest

from crm_pipeline.errors import LeaseBusy, NotAccepted, SyncsDisabled, TransientError
from crm_pipeline.model.sync import SyncMode
from crm_pipeline.model.writeback import Lane
from crm_pipeline.sandbox.salesforce.faults import Fault, RowFault
from crm_pipeline.sandbox.salesforce.rule_kinds import Poison
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.lease import WRITE_BACK_LEASE, held_lease
from crm_pipeline_tests.cases.victims import in_own_process
from crm_pipeline_tests.cases.writing import (
    SLOW_RETRIES,
    assert_conserved,
    codes,
    create,
    drain,
    drain_installation,
    held_by,
    ids,
    states,
    update,
    wish,
    writes,
    writing,
    writing_house,
)
from crm_pipeline_tests.house import House

__all__ = ["writing"]

COLLECTIONS = "*/composite/sobjects*"


@pytest.fixture
def crowd(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """Two hundred leads: one full collection."""
    with writing_house(database_url, tmp_path, monkeypatch, leads=200) as house:
        yield house


def names_of(house: House) -> list[str]:
    rows = house.org.query("SELECT LastName FROM Lead WHERE Company = 'New'")
    return sorted(str(row["LastName"]) for row in rows)


def test_h1_a_create_whose_answer_was_lost_does_not_undo_what_people_changed_since(
    writing: House,
) -> None:
    wish(writing, create(LastName="Doe", Company="New", Title="Ours"))
    writing.served.server.faults.script([Fault("lost_answer", COLLECTIONS, "PATCH")])
    drain(writing, manners=SLOW_RETRIES)
    [lead] = [str(r["Id"]) for r in writing.org.query("SELECT Id FROM Lead WHERE Company = 'New'")]
    writing.org.update("Lead", lead, {"Title": "Theirs"})
    writing.execute("UPDATE crm_sync.outbox SET not_before = now()")
    drain(writing)
    assert states(writing) == {"applied": 1}
    assert held_by(writing, lead, "Title") == "Theirs"


def test_h1_a_create_whose_answer_was_lost_is_sought_by_the_key_that_it_was_sent_with(
    writing: House,
) -> None:
    wish(writing, create(LastName="Doe", Company="New"))
    writing.served.server.faults.script([Fault("lost_answer", COLLECTIONS, "PATCH")])
    drain(writing, manners=SLOW_RETRIES)
    writing.configure(write_backs={"key_field": "External_Key__c"})
    writing.execute("UPDATE crm_sync.outbox SET not_before = now()")
    drain(writing)
    assert names_of(writing) == ["Doe"]


@pytest.mark.parametrize("kind", ["lost_answer", "reset", "late_status"])
def test_h1_h29_a_create_without_an_answer_makes_one_record(writing: House, kind: str) -> None:
    writing.served.server.faults.script([{"kind": kind, "path": COLLECTIONS, "method": "PATCH"}])
    wish(writing, *(create(LastName=f"n{n}", Company="New") for n in range(5)))
    drain(writing)
    assert names_of(writing) == [f"n{n}" for n in range(5)]
    assert states(writing) == {"applied": 5}
    made = writing.query("SELECT written_id FROM crm_sync.outbox")
    assert {record for (record,) in made} <= set(ids(writing))


@pytest.mark.parametrize("kind", ["lost_answer", "reset", "late_status"])
def test_h29_an_update_without_an_answer_is_read_back_and_sent_only_if_it_is_not_there(
    writing: House, kind: str
) -> None:
    writing.served.server.faults.script([{"kind": kind, "path": COLLECTIONS, "method": "PATCH"}])
    wish(writing, *(update(one, Lead_Score__c=5) for one in ids(writing)))
    assert drain(writing).applied == 10
    assert codes(writing, "applied")["READ_BACK"] == (0 if kind == "reset" else 10)
    counted = writing.served.server.writes.counts("Lead")["records"]
    assert all(record["writes"] == 1 for record in counted.values())


def die_at(step: str, nth: int) -> None:
    """A drainer that dies at a step, in a process of its own."""
    seen = count(1)

    def report(now: str) -> None:
        if now == step and next(seen) == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    drain_installation(report=report, run_id=f"victim {os.getpid()}")


@pytest.mark.parametrize("step", ["claimed", "sent", "settled"])
def test_h2_a_drainer_that_is_killed_anywhere_doubles_and_loses_nothing(
    writing: House, step: str
) -> None:
    wish(writing, *(create(LastName=f"n{n}", Company="New") for n in range(3)))
    wish(writing, *(update(one, Lead_Score__c=5) for one in ids(writing)))
    for nth in (1, 2):
        in_own_process(die_at, step, nth)
        writing.execute("UPDATE crm_sync.lease SET expires_at = now() - interval '1 second'")
    drain(writing)
    assert names_of(writing) == ["n0", "n1", "n2"]
    assert states(writing) == {"applied": 13}
    assert {held_by(writing, one, "Lead_Score__c") for one in ids(writing)[:10]} == {5}
    assert_conserved(writing)


def test_h13_a_newer_value_overtakes_one_whose_drainer_died(writing: House) -> None:
    lead = ids(writing)[0]
    wish(writing, update(lead, Lead_Score__c=1))
    in_own_process(die_at, "claimed", 1)
    assert states(writing) == {"sending": 1}
    wish(writing, update(lead, Lead_Score__c=2))
    assert states(writing) == {"sending": 1, "waiting": 1}
    writing.execute("UPDATE crm_sync.lease SET expires_at = now() - interval '1 second'")
    drain(writing)
    assert states(writing) == {"applied": 1, "superseded": 1}
    assert held_by(writing, lead, "Lead_Score__c") == 2
    assert writes(writing) == 1


@pytest.mark.parametrize(
    ("scope", "code"),
    [("request", "FAILED_MIDWAY"), ("batch", "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY")],
)
def test_h12_one_poisoned_record_costs_sixteen_calls_and_holds_back_nobody(
    crowd: House, scope: Literal["request", "batch"], code: str
) -> None:
    leads = ids(crowd)
    poisoned = leads[77]
    crowd.org.rules.add(Poison("Lead", f"Id = '{poisoned}'", scope), 0)
    wish(crowd, *(update(one, Lead_Score__c=5) for one in leads))
    drain(crowd, manners=SLOW_RETRIES)
    assert states(crowd)["applied"] == 199
    assert writes(crowd) <= 1 + 16
    drain(crowd)
    crowd.execute("UPDATE crm_sync.outbox SET not_before = now() WHERE state = 'waiting'")
    drain(crowd)
    assert crowd.query("SELECT record_id, code FROM crm_sync.outbox WHERE state = 'parked'") == [
        (poisoned, code)
    ]
    assert_conserved(crowd)


def test_h12_where_everything_fails_nobody_is_blamed(crowd: House) -> None:
    crowd.served.server.faults.script([Fault("status", COLLECTIONS, "PATCH", status=500, times=40)])
    wish(crowd, *(update(one, Lead_Score__c=5) for one in ids(crowd)))
    outcome = drain(crowd)
    assert outcome.parked == 0
    drain(crowd)
    assert states(crowd) == {"applied": 200}


def test_h29_an_outage_ends_the_drainer_and_keeps_the_queue(writing: House) -> None:
    writing.served.server.faults.script(
        [Fault("status", COLLECTIONS, "PATCH", status=503, times=0)]
    )
    wish(writing, *(update(one, Lead_Score__c=5) for one in ids(writing)))
    with pytest.raises(TransientError):
        drain(writing)
    assert states(writing) == {"waiting": 10}
    writing.served.server.faults.clear()
    assert drain(writing).applied == 10


@pytest.mark.parametrize("allowed", range(4))
def test_g10_the_off_switch_holds_all_writes_and_keeps_the_queue(
    writing: House, allowed: int
) -> None:
    wish(writing, *(update(one, Lead_Score__c=5) for one in ids(writing)))
    wish(writing, create(LastName="n", Company="New"))
    requests = count(1)

    def switch_off(_: object) -> None:
        if next(requests) == allowed + 1:
            writing.configure(syncs_enabled=False)

    writing.served.server.faults.script([Fault("call", times=0, callback=switch_off)])
    before = len(writing.served.server.ledger.entries())
    with pytest.raises(SyncsDisabled):
        drain(writing)
    after = len(writing.served.server.ledger.entries())
    assert after - before <= allowed + 1
    assert_conserved(writing)
    writing.configure(syncs_enabled=True)
    drain(writing)
    assert states(writing) == {"applied": 11}
    assert names_of(writing) == ["n"]


def test_g10_writing_has_a_switch_of_its_own(writing: House) -> None:
    wish(writing, update(ids(writing)[0], Lead_Score__c=5))
    writing.configure(write_backs={"enabled": False})
    with pytest.raises(SyncsDisabled, match="write_backs"):
        drain(writing)
    assert (writes(writing), states(writing)) == (0, {"waiting": 1})
    writing.sync_once("Lead")


def test_h13_there_is_one_drainer_at_a_time(writing: House) -> None:
    warehouse = Warehouse(writing.database_url)
    with (
        held_lease(warehouse, WRITE_BACK_LEASE, owner="another", mode=SyncMode.WRITE_BACK),
        pytest.raises(LeaseBusy),
    ):
        drain(writing)


def test_h20_consent_goes_first_and_a_bad_score_does_not_hold_it_back(writing: House) -> None:
    lead = ids(writing)[0]
    writing.served.server.faults.script(
        [
            RowFault(
                "FIELD_CUSTOM_VALIDATION_EXCEPTION",
                object_name="Lead",
                match={"Lead_Score__c": 5},
                times=0,
            )
        ]
    )
    wish(writing, *(update(one, Lead_Score__c=5) for one in ids(writing)))
    wish(writing, update(lead, Lane.CONSENT, HasOptedOutOfEmail=True))
    drain(writing)
    first = writing.served.server.writes.requests()[0]
    assert [row.values for row in first.rows] == [{"HasOptedOutOfEmail": True}]
    assert held_by(writing, lead, "HasOptedOutOfEmail") is True


def test_h20_the_last_calls_of_the_day_are_kept_for_consent(writing: House) -> None:
    lead, *others = ids(writing)
    limit = writing.org.limit
    limit.set(remaining=int(limit.maximum * 0.48), maximum=limit.maximum)  # 52 % are used
    wish(writing, *(update(one, Lead_Score__c=5) for one in others))
    wish(writing, update(lead, Lane.CONSENT, HasOptedOutOfEmail=True))
    outcome = drain(writing)
    assert (outcome.applied, outcome.waiting) == (1, 9)
    assert any("only consent" in problem for problem in outcome.problems)
    limit.set(remaining=int(limit.maximum * 0.40), maximum=limit.maximum)  # beyond the reserve
    wish(writing, update(others[0], Lane.CONSENT, HasOptedOutOfEmail=True))
    with pytest.raises(NotAccepted):
        drain(writing)
