"""H13, H14, H22, H23, H27: what gets into the outbox, and that nothing leaves it unaccounted."""

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import permutations

import psycopg
import pytest
from psycopg import sql

from crm_pipeline.errors import UsageError
from crm_pipeline.model.writeback import Enqueued, Lane
from crm_pipeline.sync.alerts import AlertKind, read_alerts
from crm_pipeline.sync.assembly import Installation
from crm_pipeline.sync.forget import forget_person
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.erasure import Person
from crm_pipeline.warehouse.outbox import enqueue, enqueue_from
from crm_pipeline.warehouse.outbox_desk import Chosen, dismiss, requeue
from crm_pipeline.warehouse.retention import prune_outbox
from crm_pipeline_tests.cases.writing import (
    assert_conserved,
    codes,
    drain,
    held_by,
    ids,
    states,
    update,
    wish,
    writing,
)
from crm_pipeline_tests.house import House

__all__ = ["writing"]

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)


@pytest.mark.parametrize("order", list(permutations((10, 50, 30))))
def test_h13_the_newest_value_wins_in_whatever_order_values_are_enqueued(
    writing: House, order: tuple[int, ...]
) -> None:
    lead = ids(writing)[0]
    spoken = {10: 0, 50: 1, 30: 2}
    for score in order:
        wish(writing, update(lead, Lead_Score__c=score, at=MONDAY + timedelta(hours=spoken[score])))
    drain(writing)
    assert held_by(writing, lead, "Lead_Score__c") == 30
    assert states(writing) == {"applied": 1, "superseded": 2}
    assert_conserved(writing)


def test_h13_an_older_value_never_lands_over_one_that_was_written(writing: House) -> None:
    lead = ids(writing)[0]
    wish(writing, update(lead, Lead_Score__c=50, at=MONDAY + timedelta(hours=1)))
    drain(writing)
    assert wish(writing, update(lead, Lead_Score__c=10, at=MONDAY)) == Enqueued(superseded=1)
    drain(writing)
    assert held_by(writing, lead, "Lead_Score__c") == 50


def test_h13_each_field_has_its_own_newest_value(writing: House) -> None:
    lead = ids(writing)[0]
    wish(writing, update(lead, Lead_Score__c=1, Company="A", at=MONDAY))
    wish(writing, update(lead, Lead_Score__c=2, at=MONDAY + timedelta(hours=1)))
    drain(writing)
    found = writing.org.get("Lead", lead)
    assert found is not None
    assert (found["Lead_Score__c"], found["Company"]) == (2, "A")


def test_h27_the_same_key_is_the_same_wish(writing: House) -> None:
    lead = ids(writing)[0]
    assert wish(writing, update(lead, key="once", Lead_Score__c=1)) == Enqueued(waiting=1)
    assert wish(writing, update(lead, key="once", Lead_Score__c=2)) == Enqueued(known=1)
    drain(writing)
    assert wish(writing, update(lead, key="once", Lead_Score__c=3)) == Enqueued(known=1)
    assert held_by(writing, lead, "Lead_Score__c") == 1


def test_h27_a_wish_exists_if_and_only_if_its_transaction_commits(writing: House) -> None:
    lead = ids(writing)[0]
    wish(writing, update(lead, Lead_Score__c=1))
    with psycopg.connect(writing.database_url) as connection:
        enqueue(connection, [update(lead, Lead_Score__c=2)])
        connection.rollback()
    drain(writing)
    assert held_by(writing, lead, "Lead_Score__c") == 1
    assert states(writing) == {"applied": 1}


def test_h27_a_query_enqueues_without_its_rows_leaving_the_server(writing: House) -> None:
    query = sql.SQL(
        "SELECT 'score/' || id AS idempotency_key, 3 AS lane, 'scores' AS origin,"
        " 'Lead' AS object_name, id AS record_id, 'Lead_Score__c' AS field,"
        " 12345678901234.99::numeric AS value FROM salesforce.lead"
    )
    with psycopg.connect(writing.database_url) as connection:
        assert enqueue_from(connection, query) == Enqueued(waiting=10)
    assert drain(writing).applied == 10
    assert held_by(writing, ids(writing)[0], "Lead_Score__c") == Decimal("12345678901234.99")


def test_h27_a_query_with_a_column_that_means_nothing_is_refused(writing: House) -> None:
    with psycopg.connect(writing.database_url) as connection:
        with pytest.raises(UsageError, match="lacks idempotency_key"):
            enqueue_from(connection, sql.SQL("SELECT 1 AS lane"))
        with pytest.raises(UsageError, match="colour is none of them"):
            enqueue_from(
                connection,
                sql.SQL(
                    "SELECT 'k' AS idempotency_key, 1 AS lane, 'o' AS origin,"
                    " 'Lead' AS object_name, 'red' AS colour"
                ),
            )


def test_h27_nobody_can_change_delete_or_end_a_write_back_twice(writing: House) -> None:
    wish(writing, update(ids(writing)[0], Lead_Score__c=1))
    drain(writing)
    for change in (
        "UPDATE crm_sync.outbox SET state = 'waiting', ended_at = NULL",
        "UPDATE crm_sync.outbox SET value = '2'",
        "DELETE FROM crm_sync.outbox",
        "TRUNCATE crm_sync.outbox",
    ):
        with pytest.raises(psycopg.errors.RestrictViolation):
            writing.execute(change)


def test_h27_two_who_enqueue_for_one_field_at_once_leave_one_value_waiting(
    writing: House,
) -> None:
    lead = ids(writing)[0]
    with psycopg.connect(writing.database_url) as first:
        enqueue(first, [update(lead, Lead_Score__c=1)])
        rival = threading.Thread(target=wish, args=(writing, update(lead, Lead_Score__c=2)))
        rival.start()
        while rival.is_alive() and not _somebody_waits(writing):
            pass
        first.commit()
        rival.join()
    assert states(writing) == {"waiting": 1, "superseded": 1}
    drain(writing)
    assert held_by(writing, lead, "Lead_Score__c") == 2


def _somebody_waits(house: House) -> bool:
    return house.query("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'") != [
        (0,)
    ]


def test_h27_what_is_parked_can_be_queued_again_or_dismissed(writing: House) -> None:
    lead, other, *_ = ids(writing)
    wish(writing, update(lead, Email="no address"), update(other, Email="none either"))
    drain(writing)
    assert codes(writing) == {"INVALID_EMAIL_ADDRESS": 2}
    warehouse = Warehouse(writing.database_url)
    assert dismiss(warehouse, Chosen(write_ids=(1,))) == 1
    assert requeue(warehouse, Chosen(code="INVALID_EMAIL_ADDRESS", write_ids=(2,))) == (1, 0)
    assert states(writing) == {"parked": 1, "waiting": 1}
    assert_conserved(writing)


def test_h27_a_newer_value_that_was_written_makes_parked_ones_needless(writing: House) -> None:
    lead = ids(writing)[0]
    wish(writing, update(lead, Email="no address"))
    drain(writing)
    wish(writing, update(lead, Email="right@example.com"))
    drain(writing)
    assert states(writing) == {"applied": 1, "superseded": 1}
    assert requeue(Warehouse(writing.database_url), Chosen()) == (0, 0)


def test_h22_a_number_that_is_none_is_refused_where_it_is_asked_for(writing: House) -> None:
    lead = ids(writing)[0]
    for value in (float("nan"), float("inf"), Decimal("NaN"), Decimal("-Infinity")):
        with pytest.raises(UsageError, match="would get a number that is none"):
            update(lead, Lead_Score__c=value)


def test_h22_a_query_that_gives_nan_parks_that_row_and_no_other(writing: House) -> None:
    query = sql.SQL(
        "SELECT id AS idempotency_key, 3 AS lane, 'scores' AS origin, 'Lead' AS object_name,"
        " id AS record_id, 'Lead_Score__c' AS field,"
        " CASE WHEN lastname = 'l3' THEN 'NaN'::float8 ELSE 5 END AS value FROM salesforce.lead"
    )
    with psycopg.connect(writing.database_url) as connection:
        assert enqueue_from(connection, query) == Enqueued(waiting=9, parked=1)
    drain(writing)
    assert codes(writing) == {"NOT_A_VALUE": 1}
    assert states(writing) == {"applied": 9, "parked": 1}


def test_h14_a_value_that_the_record_holds_already_is_not_written(writing: House) -> None:
    lead = ids(writing)[0]
    wanted = update(lead, Lead_Score__c=7, before={"Lead_Score__c": Decimal("7.00")})
    assert wish(writing, wanted) == Enqueued(unneeded=1)


SCORES = sql.SQL(
    "SELECT 'score/' || id || '/' || clock_timestamp() AS idempotency_key, 3 AS lane,"
    " 'scores' AS origin, 'Lead' AS object_name, id AS record_id, 'Lead_Score__c' AS field,"
    " 42 AS value, lead_score__c AS before FROM salesforce.lead WHERE lastname = 'l0'"
)


def cycle(house: House) -> int:
    """Enqueue what differs, write it, read the org; returns how many were written."""
    with psycopg.connect(house.database_url) as connection:
        enqueue_from(connection, SCORES)
    applied = drain(house).applied
    house.org.clock.advance(3600)
    house.sync_once("Lead")
    return applied


def test_h14_one_change_is_one_write_and_the_echo_is_none(writing: House) -> None:
    assert [cycle(writing) for _ in range(3)] == [1, 0, 0]


def test_h23_a_value_that_the_crm_keeps_changing_back_is_written_three_times(
    writing: House,
) -> None:
    lead = ids(writing)[0]
    written = []
    for _ in range(5):
        written.append(cycle(writing))
        writing.org.update("Lead", lead, {"Lead_Score__c": 1})
        writing.org.clock.advance(3600)
        writing.sync_once("Lead")
    assert written == [1, 1, 1, 0, 0]
    assert set(codes(writing)) == {"CHANGED_BACK"}
    assert_conserved(writing)


def test_h27_the_retention_keeps_the_newest_value_of_a_field_and_what_waits_for_a_person(
    writing: House,
) -> None:
    lead, other, *_ = ids(writing)
    for score in (1, 2):
        wish(writing, update(lead, Lead_Score__c=score))
        drain(writing)
    wish(writing, update(other, Email="no address"))
    drain(writing)
    assert prune_outbox(Warehouse(writing.database_url), days=0) == 1
    assert writing.query("SELECT state, value FROM crm_sync.outbox ORDER BY write_id") == [
        ("applied", 2),
        ("parked", "no address"),
    ]


def test_s17_h27_a_forgotten_person_leaves_no_write_back_but_an_opt_out_that_is_on_its_way(
    writing: House,
) -> None:
    lead, other, *_ = ids(writing)
    wish(writing, update(lead, Company="Hers"), update(other, Company="Another's"))
    drain(writing)
    wish(writing, update(lead, Lane.CONSENT, HasOptedOutOfEmail=True))
    settings = Installation.from_environment().settings
    person = Person(address="l0@example.com")
    found = forget_person(Warehouse(writing.database_url), settings, person)
    assert ("outbox", 1) in [(trace.table, trace.rows) for trace in found.traces]
    left = writing.query("SELECT record_id, field FROM crm_sync.outbox ORDER BY write_id")
    assert left == [(other, "Company"), (lead, "HasOptedOutOfEmail")]


def test_analysts_see_what_became_of_write_backs_and_no_value(writing: House) -> None:
    wish(writing, update(ids(writing)[0], Email="no address"))
    drain(writing)
    columns = {
        name
        for (name,) in writing.query(
            "SELECT attname FROM pg_attribute WHERE attrelid = 'crm_sync.write_back_log'::regclass"
        )
    }
    assert not {"value", "fields", "before", "idempotency_key", "external_id"} & columns
    assert "no address" not in str(writing.query("SELECT * FROM crm_sync.write_back_log"))


def test_h27_parked_and_held_write_backs_are_alerts_until_they_are_dismissed(
    writing: House,
) -> None:
    first, second = ids(writing)[:2]
    wish(writing, update(first, Nowhere__c="x"), replace(update(second, Company="y"), is_held=True))
    drain(writing)
    installation = Installation.from_environment()
    warehouse, settings = installation.warehouse(), installation.settings
    told = [
        (alert.object_name, alert.kind, alert.size) for alert in read_alerts(warehouse, settings)
    ]
    assert told == [("Lead", AlertKind.PARKED, 1), ("Lead", AlertKind.UNAPPROVED, 1)]
    assert dismiss(warehouse, Chosen(object_name="Lead")) == 1
    assert [alert.kind for alert in read_alerts(warehouse, settings)] == [AlertKind.UNAPPROVED]
