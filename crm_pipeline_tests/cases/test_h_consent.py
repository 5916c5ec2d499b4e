"""H14 to H17: opt-outs and bounces, both ways: nothing is lost or loosened, and all gets quiet."""

import os
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from crm_pipeline.cli.main import run
from crm_pipeline.defs.dbt_project import project_variables
from crm_pipeline.model.sync import SyncMode
from crm_pipeline.model.writeback import Enqueued, Operation, WriteOptions
from crm_pipeline.sandbox.salesforce.faults import Fault, RowFault
from crm_pipeline.sync.assembly import Installation
from crm_pipeline.warehouse import differences, outbox_desk, withdrawing
from crm_pipeline.warehouse.claims import Claim, Portion
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.handing_over import Move, follow
from crm_pipeline.warehouse.lease import WRITE_BACK_LEASE, held_lease
from crm_pipeline.warehouse.opting_in import note_opt_in
from crm_pipeline.warehouse.outbox_desk import Chosen
from crm_pipeline.warehouse.withdrawing import Withdrawn
from crm_pipeline_tests.cases.deciding import (
    BOUNCED,
    BOX,
    OBJECTS,
    build,
    cycle,
    dbt_folder,
    decided,
    deciding,
    deciding_house,
    held,
    person,
    rows_of_outbox,
    says,
    settle,
    write_backs,
)
from crm_pipeline_tests.cases.victims import in_own_process
from crm_pipeline_tests.cases.writing import (
    QUICK,
    SLOW_RETRIES,
    assert_conserved,
    codes,
    drain,
    drain_installation,
    ids,
    states,
)
from crm_pipeline_tests.house import House

__all__ = ["dbt_folder", "deciding"]

STATUS = "SELECT email, status FROM marketing.fct_consent ORDER BY email"
OF_THE_CRM = "SELECT email, status FROM events.consent_ledger WHERE side = 'crm' ORDER BY email"
CONSENT = ("int_people__records", "dim_people", "int_consent__own_ticks", "int_consent__refusals")


def test_h15_every_record_of_the_address_is_ticked_and_one_that_comes_later_too(
    deciding: House,
) -> None:
    org = deciding.org
    org.create_many("Lead", [{"Company": "Co", **person(0, Email="L0@X.org")}])
    org.create_many("Contact", [person(0), person(1)])
    says(deciding, "l0@x.org", "unsubscribed")
    assert cycle(deciding) == 3
    assert held(deciding, BOX) == [True, False, False, False, True]
    assert held(deciding, BOX, "Contact") == [True, False]
    org.create_many("Contact", [person(0)])
    assert [cycle(deciding) for _ in range(3)] == [1, 0, 0]
    assert held(deciding, BOX, "Contact") == [True, False, True]
    assert_conserved(deciding)


def test_h15_complaints_and_bounces_tick_their_boxes_and_one_address_may_need_both(
    deciding: House,
) -> None:
    says(deciding, "l0@x.org", "complained")
    says(deciding, "l0@x.org", "subscribed", "2026-02-01Z")
    says(deciding, "l1@x.org", "hard_bounced")
    for status in ("hard_bounced", "unsubscribed"):
        says(deciding, "l2@x.org", status)
    assert [cycle(deciding) for _ in range(2)] == [4, 0]
    assert held(deciding, BOX) == [True, False, True, False]
    assert held(deciding, BOUNCED) == [False, True, True, False]


def test_h15_an_opt_in_that_the_marts_have_not_seen_yet_stops_the_tick(deciding: House) -> None:
    # The mart is as it was built; the ledger knows more.
    says(deciding, "l0@x.org", "unsubscribed")
    deciding.execute(
        "ALTER VIEW marketing.fct_consent RENAME TO once;"
        " CREATE TABLE marketing.fct_consent AS SELECT * FROM marketing.once"
    )
    says(deciding, "l0@x.org", "subscribed", "2026-02-01Z")
    assert decided(deciding, "consent").records == 0


def test_h16_a_box_that_the_crm_un_ticks_is_ticked_again_until_it_is_a_war(
    deciding: House,
) -> None:
    says(deciding, "l0@x.org", "unsubscribed")
    applied = []
    for _ in range(5):
        applied.append(cycle(deciding))
        deciding.org.update("Lead", ids(deciding)[0], {BOX: False})
    assert applied == [1, 1, 1, 0, 0]
    assert codes(deciding) == {"CHANGED_BACK": 1}
    assert rows_of_outbox(deciding) == 4
    assert_conserved(deciding)


def test_h17_a_bounce_stays_with_the_address_and_no_box_is_ever_un_ticked(deciding: House) -> None:
    first, second, *_ = ids(deciding)
    says(deciding, "l0@x.org", "hard_bounced")
    deciding.org.update("Lead", first, {"Email": "new@x.org"})
    assert cycle(deciding) == 0
    # Whoever has the address is meant.
    deciding.org.update("Lead", second, {"Email": "l0@x.org"})
    assert cycle(deciding) == 1
    assert held(deciding, BOUNCED)[:2] == [False, True]
    deciding.org.update("Lead", second, {"Email": "other@x.org"})
    assert [cycle(deciding) for _ in range(2)] == [0, 0]
    assert held(deciding, BOUNCED)[:2] == [False, True]
    values = deciding.query("SELECT DISTINCT value FROM crm_sync.outbox")
    assert values == [(True,)], "only ever ticked"


def test_consent_is_never_held_however_many_records_it_is_about(deciding: House) -> None:
    write_backs(
        deciding,
        consent={"direction": "to_crm"},
        approval={"most_records": 1, "most_percent": 1},
    )
    for number in range(4):
        says(deciding, f"l{number}@x.org", "unsubscribed")
    decision = decided(deciding, "consent")
    assert (decision.enqueued, decision.held_because) == (Enqueued(waiting=4), None)
    lanes = deciding.query("SELECT DISTINCT lane, origin FROM crm_sync.outbox")
    assert lanes == [(0, "consent")]
    assert decision.batch
    assert run(["write-backs", "undo", decision.batch]) == 2


@pytest.mark.parametrize(
    ("direction", "is_written", "is_read"),
    [
        ("both", True, True),
        ("to_crm", True, False),
        ("from_crm", False, True),
        ("off", False, False),
    ],
)
def test_each_direction_of_consent_can_be_switched_off_alone(
    deciding: House, *, direction: str, is_written: bool, is_read: bool
) -> None:
    write_backs(deciding, consent={"direction": direction})
    says(deciding, "l0@x.org", "unsubscribed")
    decision = decided(deciding, "consent")
    assert decision.records == (1 if is_written else 0)
    assert bool(decision.notes) is not is_written
    settings = Installation.from_environment().settings
    assert project_variables(settings)["consent_is_read"] is is_read


def test_an_object_without_an_address_is_left_out_and_said(deciding: House) -> None:
    without = {"fields": [name for name in OBJECTS["Lead"]["fields"] if name != "Email"]}
    deciding.configure(objects={**OBJECTS, "Lead": without})
    says(deciding, "l0@x.org", "unsubscribed")
    decision = decided(deciding, "consent")
    assert decision.records == 0
    (note,) = decision.notes
    assert "add `Email` to `objects.Lead.fields`" in note


def test_h6_a_lead_that_was_converted_is_left_to_its_contact(deciding: House) -> None:
    lead = ids(deciding)[0]
    says(deciding, "l0@x.org", "unsubscribed")
    decided(deciding, "consent")
    deciding.org.convert_lead(lead)
    # What is on its way follows the conversion; the next decision sees that nothing is left.
    drain(deciding)
    assert held(deciding, BOX, "Contact") == [True]
    assert [cycle(deciding) for _ in range(2)] == [0, 0]
    assert_conserved(deciding)


def test_h15_an_opt_in_by_command_stops_what_waits_and_names_boxes_that_stay(
    deciding: House, capsys: pytest.CaptureFixture[str]
) -> None:
    contact = deciding.org.create_many("Contact", [person(0)])[0]
    deciding.org.update("Contact", contact, {BOX: True})
    deciding.sync()
    says(deciding, "l0@x.org", "unsubscribed")
    assert decided(deciding, "consent").records == 1
    assert run(["consent", "opt-in", "L0@x.org", "--because", "form of today"]) == 0
    told = capsys.readouterr()
    assert "The opt-in is noted." in told.out
    assert "1 ticks that waited for the CRM are not sent any more." in told.err
    assert f"still ticked in the CRM on Contact {contact}" in told.err
    assert states(deciding) == {"superseded": 1}
    assert [cycle(deciding) for _ in range(2)] == [0, 0]
    assert held(deciding, BOX)[0] is False
    assert held(deciding, BOX, "Contact") == [True], "nobody but a person un-ticks it"
    noted = deciding.query(
        "SELECT side, evidence FROM events.consent_ledger WHERE status LIKE 's%'"
    )
    assert [(side, "form of today (opted in" in evidence) for side, evidence in noted] == [
        ("marketing", True)
    ]
    assert_conserved(deciding)


def test_h15_an_opt_in_changes_nothing_for_an_address_that_complained_or_bounced(
    deciding: House, capsys: pytest.CaptureFixture[str]
) -> None:
    says(deciding, "l0@x.org", "complained")
    says(deciding, "l1@x.org", "hard_bounced")
    for address, why in (("l0@x.org", "marked our mail as spam"), ("l1@x.org", "came back")):
        assert run(["consent", "opt-in", address, "--because", "she said so"]) == 2
        assert why in capsys.readouterr().err
    assert run(["consent", "opt-in", "nobody", "--because", "x"]) == 2
    assert run(["consent", "opt-in", "l2@x.org", "--because", " "]) == 2
    assert deciding.query("SELECT count(*) FROM events.consent_ledger") == [(2,)]


def test_h15_the_same_person_may_opt_in_again_after_another_opt_out(deciding: House) -> None:
    settings = Installation.from_environment().settings
    for _ in range(2):
        note_opt_in(Warehouse(deciding.database_url), settings, "l0@x.org", "the form")
    assert deciding.query("SELECT count(*) FROM events.consent_ledger") == [(2,)]


@pytest.mark.timeout(900)
def test_h14_h15_h16_h17_both_sides_of_a_real_warehouse_come_to_one_opinion_and_rest(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dbt_folder: Path
) -> None:
    with deciding_house(database_url, tmp_path, monkeypatch, by_hand=False) as house:
        org = house.org
        org.create_many("Contact", [person(0)])
        zero, one, two, three = ids(house)
        org.update("Lead", three, {BOX: True})
        house.execute(
            "INSERT INTO events.marketing_events (event_id, occurred_at, kind, email) VALUES"
            " ('e0', '2026-01-01Z', 'email_unsubscribed', 'l0@x.org'),"
            " ('e1', '2026-01-01Z', 'email_unsubscribed', 'l1@x.org'),"
            " ('e2', '2026-01-01Z', 'email_hard_bounced', 'l2@x.org')"
        )
        house.full()
        build(house, dbt_folder, "+fct_consent")
        # What people had said in the CRM before we came is known from the first full sync on.
        assert house.query(OF_THE_CRM) == [("l3@x.org", "unsubscribed")]
        assert decided(house, "consent").records == 4
        # She opts in while the tick of her opt-out is on its way.
        says(house, "l1@x.org", "subscribed", "2026-01-02Z")
        assert drain(house).applied == 4

        def again() -> int:
            org.clock.advance(3600)
            house.sync()
            build(house, dbt_folder, *CONSENT, "fct_consent")
            return settle(house)

        assert again() == 0
        assert held(house, BOX) == [True, True, False, True]
        assert held(house, BOUNCED) == [False, False, True, False]
        opinion = [
            ("l0@x.org", "unsubscribed"),
            ("l1@x.org", "subscribed"),
            ("l2@x.org", "hard_bounced"),
            ("l3@x.org", "unsubscribed"),
        ]
        assert house.query(STATUS) == opinion
        assert house.query(OF_THE_CRM) == [("l3@x.org", "unsubscribed")], "our ticks are no news"

        # The CRM takes back what it may not, and what it may; the bounced address goes elsewhere.
        org.update("Lead", zero, {BOX: False})
        org.update("Lead", one, {BOX: False})
        org.update("Lead", two, {"Email": "new@x.org"})
        org.create_many("Lead", [{"Company": "Co", **person(2)}])
        assert again() == 2
        assert held(house, BOX) == [True, False, False, True, False]
        assert held(house, BOUNCED) == [False, False, True, False, True]
        assert house.query(STATUS) == opinion

        # Somebody in the CRM says no, in earnest.
        org.update("Lead", one, {BOX: True})
        assert again() == 0
        assert dict(house.query(STATUS))["l1@x.org"] == "unsubscribed"
        assert house.query(OF_THE_CRM) == [
            ("l1@x.org", "unsubscribed"),
            ("l3@x.org", "unsubscribed"),
        ]
        assert_conserved(house)


PARK = (
    "UPDATE crm_sync.outbox SET state = 'parked', ended_at = now(), code = 'INVALID_FIELD',"
    " reason = 'x', remedy = 'x'"
)


def test_h15_a_new_opt_out_is_ticked_though_an_older_tick_was_parked(deciding: House) -> None:
    says(deciding, "l0@x.org", "unsubscribed", "2026-01-01Z")
    decided(deciding, "consent")
    deciding.execute(PARK)
    says(deciding, "l0@x.org", "subscribed", "2026-02-01Z")
    cycle(deciding)
    assert codes(deciding, "superseded") == {"WITHDRAWN": 1}
    says(deciding, "l0@x.org", "unsubscribed", "2026-03-01Z")
    cycle(deciding)
    assert held(deciding, BOX)[0] is True


def test_h15_who_is_restored_from_the_bin_is_ticked(deciding: House) -> None:
    lead = ids(deciding)[0]
    says(deciding, "l0@x.org", "unsubscribed")
    decided(deciding, "consent")
    deciding.org.delete("Lead", lead)
    drain(deciding)
    assert codes(deciding) == {"ENTITY_IS_DELETED": 1}
    deciding.org.undelete("Lead", lead)
    cycle(deciding)
    assert held(deciding, BOX)[0] is True


def test_h15_an_opt_in_of_tomorrow_is_no_opt_in_yet(deciding: House) -> None:
    says(deciding, "l0@x.org", "subscribed", "2099-01-01Z")
    says(deciding, "l0@x.org", "unsubscribed")
    says(deciding, "l1@x.org", "unsubscribed")
    cycle(deciding)
    assert held(deciding, BOX)[:2] == [False, True]
    says(deciding, "l0@x.org", "unsubscribed", "2098-01-01Z")
    cycle(deciding)
    assert held(deciding, BOX)[0] is True


def test_h15_an_opt_in_takes_back_ticks_that_were_parked(deciding: House) -> None:
    warehouse = Warehouse(deciding.database_url)
    says(deciding, "l0@x.org", "unsubscribed")
    decided(deciding, "consent")
    deciding.execute(PARK)
    note_opt_in(warehouse, Installation.from_environment().settings, "l0@x.org", "form")
    outbox_desk.requeue(warehouse, Chosen(origin="consent"))
    drain(deciding)
    assert held(deciding, BOX)[0] is False


def test_h15_an_opt_in_that_a_tool_notes_takes_back_a_tick_that_waits(deciding: House) -> None:
    says(deciding, "l0@x.org", "unsubscribed")
    decided(deciding, "consent")
    says(deciding, "l0@x.org", "subscribed", "2026-02-01Z")
    cycle(deciding)
    assert held(deciding, BOX)[0] is False
    assert codes(deciding, "superseded") == {"WITHDRAWN": 1}


def opts_in_by_command(house: House) -> None:
    settings = Installation.from_environment().settings
    note_opt_in(Warehouse(house.database_url), settings, "l0@x.org", "form")


def opts_in_by_a_tool(house: House) -> None:
    says(house, "l0@x.org", "subscribed", "2026-02-01Z")
    decided(house, "consent")


def when(step: str, happens: Callable[[], None]) -> Callable[[str], None]:
    """A report of a drainer that lets something happen the first time it comes to a step."""
    left = [happens]

    def report(now: str) -> None:
        if now == step and left:
            left.pop()()

    return report


def later(house: House) -> None:
    """Another drainer, when everything that waits is due."""
    house.execute("UPDATE crm_sync.outbox SET not_before = now() WHERE state = 'waiting'")
    drain(house)


REFUSALS: Mapping[str, Fault | RowFault] = {
    "no answer": Fault("reset", "*/composite/sobjects*", "PATCH"),
    "passing": RowFault("UNABLE_TO_LOCK_ROW", object_name="Lead"),
    "lasting": RowFault("FIELD_CUSTOM_VALIDATION_EXCEPTION", object_name="Lead"),
}


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("opts_in", [opts_in_by_command, opts_in_by_a_tool])
def test_h15_a_tick_that_fails_after_an_opt_in_came_is_not_tried_again(
    deciding: House, opts_in: Callable[[House], None], refusal: str
) -> None:
    says(deciding, "l0@x.org", "unsubscribed")
    decided(deciding, "consent")
    deciding.served.server.faults.script([replace(REFUSALS[refusal])])
    drain(deciding, manners=SLOW_RETRIES, report=when("claimed", lambda: opts_in(deciding)))
    assert (states(deciding), codes(deciding, "superseded")) == (
        {"superseded": 1},
        {"WITHDRAWN": 1},
    )
    outbox_desk.requeue(Warehouse(deciding.database_url), Chosen(origin="consent"))
    later(deciding)
    assert held(deciding, BOX)[0] is False
    assert_conserved(deciding)


@pytest.mark.parametrize("opts_in", [opts_in_by_command, opts_in_by_a_tool])
def test_h15_a_tick_that_gets_through_though_an_opt_in_came_is_applied(
    deciding: House, opts_in: Callable[[House], None]
) -> None:
    says(deciding, "l0@x.org", "unsubscribed")
    decided(deciding, "consent")
    drain(deciding, report=when("claimed", lambda: opts_in(deciding)))
    assert states(deciding) == {"applied": 1}
    assert held(deciding, BOX)[0] is True, "nobody but a person un-ticks it"


def test_h15_another_opt_out_is_ticked_though_the_tick_before_it_was_taken_back_on_its_way(
    deciding: House,
) -> None:
    def changes_her_mind() -> None:
        opts_in_by_a_tool(deciding)
        says(deciding, "l0@x.org", "unsubscribed", "2026-03-01Z")
        assert decided(deciding, "consent").records == 1

    says(deciding, "l0@x.org", "unsubscribed")
    decided(deciding, "consent")
    deciding.served.server.faults.script([RowFault("UNABLE_TO_LOCK_ROW", object_name="Lead")])
    drain(deciding, report=when("claimed", changes_her_mind))
    assert held(deciding, BOX)[0] is True
    assert (states(deciding), codes(deciding, "superseded")) == (
        {"applied": 1, "superseded": 1},
        {"NEWER_VALUE": 1},
    )


@pytest.mark.parametrize("became", ["merged", "converted"])
@pytest.mark.parametrize("opts_in", [opts_in_by_command, opts_in_by_a_tool])
def test_h5_h6_h15_a_tick_that_was_taken_back_does_not_go_on_to_another_record(
    deciding: House, opts_in: Callable[[House], None], became: str
) -> None:
    lead, winner, *_ = ids(deciding)

    def goes() -> None:
        opts_in(deciding)
        if became == "merged":
            deciding.org.merge("Lead", winner, [lead])
        else:
            deciding.org.convert_lead(lead)

    says(deciding, "l0@x.org", "unsubscribed")
    decided(deciding, "consent")
    drain(deciding, report=when("claimed", goes))
    assert (states(deciding), codes(deciding, "superseded")) == (
        {"superseded": 1},
        {"WITHDRAWN": 1},
    )
    assert not any(held(deciding, BOX)[:1] + held(deciding, BOX, "Contact"))


@pytest.mark.parametrize("opts_in", [opts_in_by_command, opts_in_by_a_tool])
def test_h5_h15_a_tick_that_goes_on_to_a_winner_while_an_opt_in_is_noted_is_taken_back(
    deciding: House, monkeypatch: pytest.MonkeyPatch, opts_in: Callable[[House], None]
) -> None:
    loser, winner, *_ = ids(deciding)
    says(deciding, "l0@x.org", "unsubscribed")
    decided(deciding, "consent")
    deciding.execute(
        f"UPDATE crm_sync.outbox SET state = 'sending', claim_id = 1 WHERE record_id = '{loser}'"
    )
    found = withdrawing.end_unwanted

    def end_after_it_went_on(connection: psycopg.Connection, because: str) -> Withdrawn:
        move = Move(1, "Lead", winner, "MERGED", "It was merged.")
        warehouse = Warehouse(deciding.database_url)
        portion = Portion(
            lane=0,
            object_name="Lead",
            operation=Operation.UPDATE,
            external_id_field=None,
            options=WriteOptions(),
            is_uncertain=False,
            is_alone=False,
            due=1,
        )
        with held_lease(
            warehouse, WRITE_BACK_LEASE, owner="a drainer", mode=SyncMode.WRITE_BACK
        ) as lease:
            follow(warehouse, lease, Claim(1, portion, "rest", 1), [move])
        return found(connection, because)

    monkeypatch.setattr(withdrawing, "end_unwanted", end_after_it_went_on)
    opts_in(deciding)
    assert codes(deciding, "superseded") == {"MERGED": 1, "WITHDRAWN": 1}
    assert_conserved(deciding)


def test_h15_a_drainer_that_settles_while_a_tick_is_taken_back_waits_for_the_last_word(
    deciding: House,
) -> None:
    says(deciding, "l0@x.org", "unsubscribed")
    decided(deciding, "consent")
    deciding.served.server.faults.script([RowFault("UNABLE_TO_LOCK_ROW", object_name="Lead")])
    with psycopg.connect(deciding.database_url) as withdraws:

        def take_back_for_a_while() -> None:
            withdrawing.collect_unwanted(withdraws)
            withdraws.execute("INSERT INTO pg_temp.write_back_unwanted VALUES (1)")
            assert withdrawing.end_unwanted(withdraws, "x.") == Withdrawn(0, 1)
            threading.Timer(0.5, withdraws.commit).start()

        drain(deciding, manners=SLOW_RETRIES, report=when("sent", take_back_for_a_while))
    assert codes(deciding, "superseded") == {"WITHDRAWN": 1}


def test_h2_h15_a_tick_of_a_dead_drainer_is_not_sent_after_an_opt_in(deciding: House) -> None:
    says(deciding, "l0@x.org", "unsubscribed")
    decided(deciding, "consent")
    in_own_process(die_when_claimed)
    assert states(deciding) == {"sending": 1}
    opts_in_by_command(deciding)
    deciding.execute("UPDATE crm_sync.lease SET expires_at = now() - interval '1 second'")
    drain(deciding)
    assert codes(deciding, "superseded") == {"WITHDRAWN": 1}
    assert held(deciding, BOX)[0] is False


def die_when_claimed() -> None:
    """A drainer that dies before it sends anything."""

    def report(now: str) -> None:
        if now == "claimed":
            os.kill(os.getpid(), signal.SIGKILL)

    drain_installation(report=report, run_id=f"victim {os.getpid()}")


def test_h15_h20_a_tick_that_a_job_did_not_bring_through_is_not_sent_after_an_opt_in(
    deciding: House,
) -> None:
    for number in range(4):
        says(deciding, f"l{number}@x.org", "unsubscribed")
    decided(deciding, "consent")
    lead = ids(deciding)[0]
    deciding.served.server.faults.script([RowFault("UNABLE_TO_LOCK_ROW", record_id=lead)])
    by_job = replace(QUICK, most_by_calls=2)
    report = when("uploaded", lambda: opts_in_by_command(deciding))
    drain(deciding, manners=by_job, report=report)
    assert held(deciding, BOX) == [False, True, True, True]
    assert codes(deciding, "superseded") == {"WITHDRAWN": 1}


def test_h15_a_decision_looks_for_ticks_to_take_back_only_where_some_are_pending(
    deciding: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(differences, "_UNWANTED", "whoever looks, fails")
    says(deciding, "l0@x.org", "unsubscribed")
    assert decided(deciding, "consent").records == 1
    with pytest.raises(psycopg.errors.SyntaxError):
        decided(deciding, "consent")
    drain(deciding)
    assert decided(deciding, "consent").records == 0
