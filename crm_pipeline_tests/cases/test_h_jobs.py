"""H20, H21, H29: many records by a bulk job, and what of it cannot be believed."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from crm_pipeline.errors import CrmPipelineError
from crm_pipeline.model.writeback import Lane
from crm_pipeline.sandbox.salesforce.faults import RowFault
from crm_pipeline.warehouse.outbox import enqueue_from
from crm_pipeline.writeback.context import Report
from crm_pipeline.writeback.drain import DrainOutcome
from crm_pipeline_tests.cases.victims import in_own_process
from crm_pipeline_tests.cases.writing import (
    QUICK,
    assert_conserved,
    codes,
    create,
    drain_installation,
    held_by,
    ids,
    states,
    update,
    wish,
    writing_house,
)
from crm_pipeline_tests.cases.writing import drain as written_drain
from crm_pipeline_tests.house import House


@pytest.fixture
def many(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """Thirty leads."""
    with writing_house(database_url, tmp_path, monkeypatch, leads=30) as house:
        yield house


FIVE_ARE_MANY = replace(QUICK, most_by_calls=5)


def drain(house: House, report: Report = lambda step: None) -> DrainOutcome:
    """A drainer for which more than five write-backs are worth a job."""
    return written_drain(house, manners=FIVE_ARE_MANY, report=report)


def transports(house: House) -> list[str]:
    rows = house.query(
        "SELECT transport FROM crm_sync.outbox_claim WHERE writes > 0 ORDER BY claim_id"
    )
    return [str(transport) for (transport,) in rows]


def test_h20_many_write_backs_travel_by_one_job_and_say_why(many: House) -> None:
    query = sql.SQL(
        "SELECT id AS idempotency_key, 3 AS lane, 'scores' AS origin, 'Lead' AS object_name,"
        " id AS record_id, 'Lead_Score__c' AS field, 7.25 AS value FROM salesforce.lead"
    )
    with psycopg.connect(many.database_url) as connection:
        enqueue_from(connection, query)
    assert drain(many).applied == 30
    assert {held_by(many, one, "Lead_Score__c") for one in ids(many)} == {7.25}
    assert many.query("SELECT transport, reason FROM crm_sync.outbox_claim") == [
        ("bulk", "Bulk: more than 5 write-backs; a job takes about 12 calls whatever its size")
    ]
    assert many.served.server.ingest.all() == []


def test_h21_absent_null_and_value_are_three_things_in_a_job(many: House) -> None:
    leads = ids(many)
    for lead in leads:
        many.org.update("Lead", lead, {"Phone": "1", "Lead_Score__c": 1})
    wishes = [
        update(leads[0], Phone=None),
        update(leads[1], Phone=""),
        update(leads[2], Phone="2"),
        *(update(one, Lead_Score__c=9) for one in leads[3:]),
    ]
    wish(many, *wishes)
    drain(many)
    assert transports(many) == ["bulk"]
    assert [held_by(many, one, "Phone") for one in leads[:4]] == [None, None, "2", "1"]
    assert [held_by(many, one, "Lead_Score__c") for one in leads[:4]] == [1, 1, 1, 9]


def test_h21_a_person_named_like_null_and_a_long_text_travel_by_single_calls(many: House) -> None:
    leads = ids(many)
    long = "x" * 32_000
    wish(many, update(leads[0], LastName="#N/A"), update(leads[1], Description=long))
    wish(many, *(update(one, LastName="Plain") for one in leads[2:]))
    drain(many)
    assert transports(many) == ["bulk", "rest"]
    assert held_by(many, leads[0], "LastName") == "#N/A"
    assert held_by(many, leads[1], "Description") == long


def test_h21_columns_come_from_all_rows_and_not_from_the_first(many: House) -> None:
    wish(
        many,
        create(LastName="first", Company="New"),
        *(create(LastName=f"n{n}", Company="New", Phone=str(n)) for n in range(10)),
    )
    drain(many)
    found = many.org.query("SELECT LastName, Phone FROM Lead WHERE Company = 'New'")
    assert {row["LastName"]: row["Phone"] for row in found} == {
        "first": None,
        **{f"n{n}": str(n) for n in range(10)},
    }
    made = many.query(
        "SELECT count(DISTINCT written_id), bool_and(is_created) FROM crm_sync.outbox"
    )
    assert made == [(11, True)]


def test_h21_a_job_that_fails_halfway_settles_what_it_did_and_goes_on_with_the_rest(
    many: House,
) -> None:
    many.served.server.ingest.fail_after = 12
    wish(many, *(update(one, Lead_Score__c=5) for one in ids(many)))
    drain(many)
    assert states(many) == {"applied": 30}
    counted = many.served.server.writes.counts("Lead")["records"]
    assert all(record["writes"] == 1 for record in counted.values())
    assert_conserved(many)


def test_h21_refused_rows_of_a_job_are_parked_with_their_code(many: House) -> None:
    leads = ids(many)
    wish(
        many,
        *(update(one, Email="no address" if one in leads[:3] else "a@b.example") for one in leads),
    )
    drain(many)
    assert states(many) == {"applied": 27, "parked": 3}
    assert codes(many) == {"INVALID_EMAIL_ADDRESS": 3}


def test_h21_one_wrong_field_of_a_record_in_a_job_does_not_hold_back_the_others(
    many: House,
) -> None:
    leads = ids(many)
    wish(many, update(leads[0], Email="no address", Company="New"))
    wish(many, *(update(one, Company="New") for one in leads[1:]))
    drain(many)
    assert {held_by(many, one, "Company") for one in leads} == {"New"}
    assert codes(many) == {"INVALID_EMAIL_ADDRESS": 1}


def test_h5_h20_records_that_were_merged_away_are_followed_from_a_job(many: House) -> None:
    loser, winner, *_ = leads = ids(many)
    many.org.merge("Lead", winner, [loser])
    wish(many, *(update(one, Lead_Score__c=5) for one in leads if one != winner))
    drain(many)
    assert held_by(many, winner, "Lead_Score__c") == 5
    assert_conserved(many)


def die_at(step: str) -> None:
    """A drainer that dies at a step of its job."""

    def report(now: str) -> None:
        if now == step:
            os.kill(os.getpid(), signal.SIGKILL)

    drain_installation(manners=FIVE_ARE_MANY, report=report, run_id=f"victim {os.getpid()}")


@pytest.mark.parametrize("step", ["claimed", "begun", "uploaded", "ended", "settled"])
def test_h2_h29_after_a_death_the_job_is_asked_and_nothing_is_sent_twice(
    many: House, step: str
) -> None:
    wish(many, *(update(one, Lead_Score__c=5) for one in ids(many)))
    in_own_process(die_at, step)
    many.execute("UPDATE crm_sync.lease SET expires_at = now() - interval '1 second'")
    drain(many)
    assert states(many) == {"applied": 30}
    counted = many.served.server.writes.counts("Lead")["records"]
    assert all(record["writes"] == 1 for record in counted.values())
    assert_conserved(many)


@pytest.mark.parametrize("kind", ["lost_answer", "reset"])
@pytest.mark.parametrize("path", ["*/jobs/ingest", "*/batches", "*/jobs/ingest/750*"])
def test_h29_a_lost_answer_about_a_job_loses_and_doubles_nothing(
    many: House, path: str, kind: str
) -> None:
    many.served.server.faults.script(
        [{"kind": kind, "path": path, "method": "POST,PUT,PATCH", "times": 1}]
    )
    wish(many, *(update(one, Lead_Score__c=5) for one in ids(many)))
    for _ in range(2):
        try:
            drain(many)
        except CrmPipelineError:
            continue
    assert states(many) == {"applied": 30}
    counted = many.served.server.writes.counts("Lead")["records"]
    assert all(record["writes"] == 1 for record in counted.values())


def test_h20_consent_overtakes_a_job_that_is_at_work(many: House) -> None:
    lead, *others = ids(many)
    many.served.server.ingest.hold()
    wish(many, *(update(one, Lead_Score__c=5) for one in others))
    landed: list[bool] = []

    def report(step: str) -> None:
        if step == "uploaded":
            wish(many, update(lead, Lane.CONSENT, HasOptedOutOfEmail=True))
        if step == "settled" and not landed:
            landed.append(bool(held_by(many, lead, "HasOptedOutOfEmail")))
            many.served.server.ingest.release()

    drain(many, report=report)
    assert landed == [True]
    assert states(many) == {"applied": 30}


def test_h9_locked_rows_of_a_job_are_tried_again(many: House) -> None:
    many.served.server.faults.script(
        [RowFault("UNABLE_TO_LOCK_ROW", object_name="Lead", times=0, rate=0.3)]
    )
    wish(many, *(update(one, Lead_Score__c=5) for one in ids(many)))
    drain(many)
    assert states(many) == {"applied": 30}
