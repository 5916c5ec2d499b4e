"""H13 and H28: creates and upserts that waited, and what people did in the CRM meanwhile."""

from dataclasses import replace
from typing import Any

import pytest

from crm_pipeline.errors import LeaseLost, TransientError
from crm_pipeline.model.writeback import Intent, Lane, Operation, WriteOptions
from crm_pipeline.sandbox.salesforce.faults import Fault, RowFault
from crm_pipeline.warehouse import outbox_desk
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.outbox_desk import Chosen
from crm_pipeline_tests.cases.acting import act, acting, ask, decide, records, told
from crm_pipeline_tests.cases.writing import (
    QUICK,
    SLOW_RETRIES,
    assert_conserved,
    codes,
    create,
    drain,
    ids,
    states,
    wish,
)
from crm_pipeline_tests.house import House

__all__ = ["acting"]

NEW: dict[str, Any] = {"LastName": "Doe", "Company": "Acme", "Email": "new@example.com"}
KEY = {"external_id_field": "External_Key__c", "external_id": "K1"}
UP: dict[str, Any] = {"LastName": "Up", "Company": "Co", "Title": "Ours", "City": "Paris"}
CREATES = "*/composite/sobjects/Lead/*"


def let_time_pass(house: House) -> None:
    """Whatever waits has waited for an hour, and is due."""
    house.execute(
        "UPDATE crm_sync.outbox SET enqueued_at = enqueued_at - interval '1 hour',"
        " not_before = '-infinity' WHERE state IN ('waiting', 'held')"
    )


def who_has(house: House, email: str = "new@example.com") -> list[tuple[str, str]]:
    """Leads and contacts with the address, by object and last name."""
    return [
        (name, str(row["LastName"]))
        for name in ("Contact", "Lead")
        for row in records(house, f"SELECT LastName FROM {name} WHERE Email = '{email}'")
    ]


def upsert(key: str = "wish", *, options: WriteOptions | None = None, **fields: str) -> Intent:
    """A wish of a library's, which comes of no action."""
    return Intent(
        key=key,
        operation=Operation.UPSERT,
        object_name="Lead",
        fields=fields,
        lane=Lane.ACTION,
        origin="a test",
        external_id_field="External_Key__c",
        external_id="K1",
        options=options or WriteOptions(),
    )


# Creates that waited


@pytest.mark.parametrize("name", ["Lead", "Contact"])
def test_h28_who_was_made_by_hand_while_a_create_waited_is_not_doubled(
    acting: House, name: str
) -> None:
    action = ask(acting, fields=NEW)
    decide()
    fields = {**NEW, "LastName": "By hand", "Email": "New@Example.com"}
    made = acting.org.create(
        name, {key: v for key, v in fields.items() if name == "Lead" or key != "Company"}
    )
    let_time_pass(acting)
    drain(acting)
    assert who_has(acting) == [(name, "By hand")]
    assert (told(acting, action)["state"], told(acting, action)["code"]) == (
        "requested",
        "FOUND_MEANWHILE",
    )
    act(acting)
    assert who_has(acting) == [(name, "Doe")]
    line = told(acting, action)
    assert (line["state"], line["record_id"], line["written_object"]) == ("applied", made, name)
    assert (line["is_created"], line["code"]) == (False, None)
    assert line["reason"].startswith(f"A {name.lower()} has the address.")
    assert_conserved(acting)


def test_h28_a_create_that_waited_behind_an_outage_is_looked_up_once_more(acting: House) -> None:
    action = ask(acting, fields=NEW, options={"if_found": "leave"})
    acting.served.server.faults.script([Fault("reset", CREATES, "PATCH")])
    decide()
    drain(acting, manners=SLOW_RETRIES)
    assert states(acting) == {"waiting": 1}
    made = acting.org.create("Lead", {**NEW, "LastName": "By hand"})
    let_time_pass(acting)
    drain(acting)
    act(acting)
    assert who_has(acting) == [("Lead", "By hand")]
    line = told(acting, action)
    assert (line["state"], line["code"], line["record_id"]) == ("unneeded", "ALREADY_THERE", made)


def test_h28_a_create_that_was_parked_and_queued_again_is_looked_up_once_more(
    acting: House,
) -> None:
    acting.served.server.faults.script(
        [RowFault("FIELD_CUSTOM_VALIDATION_EXCEPTION", object_name="Lead")]
    )
    action = ask(acting, fields=NEW)
    act(acting)
    assert told(acting, action)["state"] == "parked"
    acting.org.create("Lead", {**NEW, "LastName": "By hand"})
    outbox_desk.requeue(Warehouse(acting.database_url), Chosen())
    drain(acting)
    act(acting)
    assert who_has(acting) == [("Lead", "Doe")]
    assert told(acting, action)["state"] == "applied"


def test_h1_h28_our_own_record_is_not_taken_for_somebody_elses(acting: House) -> None:
    action = ask(acting, fields=NEW)
    acting.served.server.faults.script([Fault("lost_answer", CREATES, "PATCH")])
    decide()
    drain(acting, manners=SLOW_RETRIES)
    let_time_pass(acting)
    drain(acting)
    assert who_has(acting) == [("Lead", "Doe")]
    line = told(acting, action)
    assert (line["state"], line["code"], line["is_created"]) == ("applied", "READ_BACK", True)


def test_h28_what_was_found_and_is_gone_again_is_made_after_all(acting: House) -> None:
    action = ask(acting, fields=NEW)
    decide()
    for name in ("First", "Second"):
        made = acting.org.create("Lead", {**NEW, "LastName": name})
        let_time_pass(acting)
        drain(acting)
        assert told(acting, action)["state"] == "requested"
        acting.org.delete("Lead", made)
        decide()
    drain(acting)
    assert who_has(acting) == [("Lead", "Doe")]
    line = told(acting, action)
    assert (line["state"], line["is_created"]) == ("applied", True)
    assert states(acting) == {"superseded": 2, "applied": 1}


def test_h28_who_waits_for_a_record_that_somebody_else_made_gets_it(acting: House) -> None:
    ask(acting, fields=NEW)
    task = ask(acting, name="Task", match_email=NEW["Email"], fields={"Subject": "Call"})
    decide()
    assert told(acting, task)["waits_for"]
    made = acting.org.create("Lead", {**NEW, "LastName": "By hand"})
    let_time_pass(acting)
    drain(acting)
    for _ in range(2):
        act(acting)
    assert records(acting, "SELECT WhoId FROM Task") == [{"WhoId": made}]
    assert told(acting, task)["state"] == "applied"


def test_h28_who_is_to_be_made_without_a_look_is_made_however_long_it_waited(
    acting: House,
) -> None:
    ask(acting, fields=NEW, options={"match": "none"})
    decide()
    wish(acting, create(**NEW | {"LastName": "Wished"}))
    acting.org.create("Lead", {**NEW, "LastName": "By hand"})
    let_time_pass(acting)
    drain(acting)
    assert len(who_has(acting)) == 3


def test_h28_a_membership_that_was_made_meanwhile_gets_the_status(acting: House) -> None:
    [campaign] = [row["Id"] for row in records(acting, "SELECT Id FROM Campaign")]
    person = ids(acting)[0]
    action = ask(
        acting,
        name="CampaignMember",
        match_email="l0@example.com",
        options={"campaign": "Spring"},
        fields={"Status": "Responded"},
    )
    decide()
    acting.org.create(
        "CampaignMember", {"CampaignId": campaign, "LeadId": person, "Status": "Sent"}
    )
    let_time_pass(acting)
    drain(acting)
    act(acting)
    assert records(acting, "SELECT Status FROM CampaignMember") == [{"Status": "Responded"}]
    assert told(acting, action)["state"] == "applied"


# Upserts that waited


def test_h13_an_upsert_that_waited_leaves_what_a_newer_action_wrote(acting: House) -> None:
    made = acting.org.create("Lead", {"LastName": "Old", "Company": "Co", "External_Key__c": "K1"})
    older = ask(acting, "upsert", fields=UP, **KEY)
    acting.served.server.faults.script([Fault("reset", CREATES, "PATCH")])
    decide()
    drain(acting, manners=SLOW_RETRIES)
    newer = ask(acting, "update", record_id=made, fields={"Title": "Newer"})
    act(acting)
    assert told(acting, newer)["state"] == "applied"
    let_time_pass(acting)
    drain(acting)
    [found] = records(acting, "SELECT LastName, Title, City FROM Lead WHERE External_Key__c = 'K1'")
    assert found == {"LastName": "Up", "Title": "Newer", "City": "Paris"}
    line = told(acting, older)
    assert (line["state"], line["record_id"], line["is_created"]) == ("applied", made, False)
    assert codes(acting, "superseded") == {"FOUND_MEANWHILE": 1, "NEWER_VALUE": 1}
    assert_conserved(acting)


def test_h13_an_upsert_that_comes_of_no_action_does_so_too(acting: House) -> None:
    made = acting.org.create("Lead", {"LastName": "Old", "Company": "Co", "External_Key__c": "k1"})
    wish(acting, replace(upsert(**UP), is_held=True, batch="b"))
    ask(acting, "update", record_id=made, fields={"Title": "Newer"})
    act(acting)
    let_time_pass(acting)
    with Warehouse(acting.database_url).connect() as connection:
        assert outbox_desk.approve(connection, "b") == 1
    drain(acting)
    [found] = records(acting, "SELECT LastName, Title, City FROM Lead WHERE External_Key__c = 'K1'")
    assert found == {"LastName": "Up", "Title": "Newer", "City": "Paris"}


def test_h13_an_upsert_that_waited_still_makes_a_record_that_is_not_there(acting: House) -> None:
    action = ask(acting, "upsert", fields=UP, **KEY)
    decide()
    let_time_pass(acting)
    drain(acting)
    line = told(acting, action)
    assert (line["state"], line["is_created"]) == ("applied", True)


@pytest.mark.parametrize(
    ("options", "title"),
    [
        ({"only_new": ["Title"]}, "Theirs"),
        ({"only_empty": ["Title"]}, "Theirs"),
        ({"owner": "ada@co.example"}, "Ours"),
        ({"if_found": "leave"}, "Theirs"),
    ],
    ids=["only_new", "only_empty", "owner", "leave"],
)
def test_h28_an_upsert_that_found_nothing_spares_a_record_that_was_made_since(
    acting: House, options: dict[str, Any], title: str
) -> None:
    action = ask(acting, "upsert", fields={**UP, "LastName": "By hand"}, options=options, **KEY)
    decide()
    made = acting.org.create(
        "Lead",
        {"LastName": "By hand", "Company": "Co", "Title": "Theirs", "External_Key__c": "K1"},
    )
    before = acting.org.get("Lead", made)
    assert before is not None
    let_time_pass(acting)
    drain(acting)
    act(acting)
    after = acting.org.get("Lead", made)
    assert after is not None
    assert (after["Title"], after["OwnerId"]) == (title, before["OwnerId"])
    assert told(acting, action)["record_id"] == made
    assert_conserved(acting)


def test_h28_an_upsert_leaves_the_owner_of_a_record_that_is_there(acting: House) -> None:
    made = acting.org.create("Lead", {"LastName": "Old", "Company": "Co", "External_Key__c": "K1"})
    before = acting.org.get("Lead", made)
    for options in ({"owner": "ada@co.example"}, {"assignment": "default"}):
        ask(acting, "upsert", fields=UP, options=options, **KEY)
        act(acting)
    after = acting.org.get("Lead", made)
    assert before is not None
    assert after is not None
    assert (after["OwnerId"], after["Title"]) == (before["OwnerId"], "Ours")


# What comes of no action


@pytest.mark.parametrize("makes", [create, upsert], ids=["create", "upsert"])
def test_h28_a_wish_for_a_new_record_alone_is_parked_where_one_is_there(
    acting: House, makes: Any
) -> None:
    acting.org.create("Lead", {**NEW, "LastName": "By hand", "External_Key__c": "K1"})
    wish(acting, makes(**NEW, options=WriteOptions(if_absent=True)))
    let_time_pass(acting)
    drain(acting)
    assert codes(acting) == {"FOUND_MEANWHILE": 1}
    assert who_has(acting) == [("Lead", "By hand")]
    assert_conserved(acting)


def test_h28_a_person_who_queues_it_again_has_looked(acting: House) -> None:
    acting.org.create("Lead", {**NEW, "LastName": "By hand"})
    wish(acting, create(**NEW, options=WriteOptions(if_absent=True)))
    let_time_pass(acting)
    drain(acting)
    outbox_desk.requeue(Warehouse(acting.database_url), Chosen())
    drain(acting)
    assert sorted(who_has(acting)) == [("Lead", "By hand"), ("Lead", "Doe")]


# What it costs, and what may go wrong


def test_h28_what_was_just_decided_is_not_looked_up_again_and_a_late_claim_costs_few_calls(
    acting: House,
) -> None:
    def calls(kind: str, *, is_late: bool) -> int:
        for number in range(30):
            key = f"{kind}-{is_late}-{number}"
            named = {**KEY, "external_id": key} if kind == "upsert" else {}
            ask(acting, kind, fields={**NEW, "Email": f"{key}@example.com"}, **named)
        decide()
        if is_late:
            let_time_pass(acting)
        return drain(acting).api_calls

    # Contacts are described and asked, and leads are asked; a key is asked.
    assert calls("create", is_late=True) - calls("create", is_late=False) == 3
    assert calls("upsert", is_late=True) - calls("upsert", is_late=False) == 1


def test_h28_while_nobody_can_be_looked_up_everything_waits(acting: House) -> None:
    actions = [ask(acting, fields=NEW), ask(acting, "upsert", fields=UP, **KEY)]
    decide()
    let_time_pass(acting)
    acting.served.server.faults.script([Fault("status", "*/query*", "GET", status=503, times=50)])
    with pytest.raises(TransientError):
        drain(acting)
    assert states(acting) == {"waiting": 2}
    assert who_has(acting) == []
    acting.served.server.faults.clear()
    drain(acting)
    assert {told(acting, one)["state"] for one in actions} == {"applied"}


def test_h2_h28_a_drainer_that_lost_its_lease_hands_nothing_back(acting: House) -> None:
    action = ask(acting, fields=NEW)
    decide()
    acting.org.create("Lead", {**NEW, "LastName": "By hand"})
    let_time_pass(acting)

    def usurp(step: str) -> None:
        assert step == "claimed"
        acting.execute("UPDATE crm_sync.lease SET epoch = epoch + 1, owner = 'another'")

    with pytest.raises(LeaseLost):
        drain(acting, report=usurp)
    assert states(acting) == {"sending": 1}
    assert told(acting, action)["state"] == "waiting"
    acting.execute("UPDATE crm_sync.lease SET expires_at = now() - interval '1 second'")
    drain(acting)
    act(acting)
    assert told(acting, action)["state"] == "applied"
    assert who_has(acting) == [("Lead", "Doe")]


def test_h28_late_ones_go_by_calls_however_many_they_are(acting: House) -> None:
    for number in range(6):
        ask(acting, fields={**NEW, "Email": f"n{number}@example.com"})
    decide()
    acting.org.create("Lead", {**NEW, "LastName": "By hand", "Email": "n3@example.com"})
    let_time_pass(acting)
    drain(acting, manners=replace(QUICK, most_by_calls=2))
    assert acting.query("SELECT DISTINCT transport FROM crm_sync.outbox_claim") == [("rest",)]
    assert who_has(acting, "n3@example.com") == [("Lead", "By hand")]
    assert states(acting) == {"applied": 5, "superseded": 1}


def test_h28_how_long_a_decision_is_good_can_be_chosen(acting: House) -> None:
    ask(acting, fields=NEW)
    decide()
    acting.org.create("Lead", {**NEW, "LastName": "By hand"})
    drain(acting, manners=replace(QUICK, look_again_seconds=0.0))
    assert who_has(acting) == [("Lead", "By hand")]
