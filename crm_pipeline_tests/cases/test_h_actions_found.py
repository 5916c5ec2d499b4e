"""H28: which record an action means while others change records, and what it spares."""

from typing import Any

import psycopg
import pytest

from crm_pipeline.sandbox.salesforce.faults import Fault
from crm_pipeline.warehouse import actions as desk
from crm_pipeline.warehouse import outbox_desk
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.outbox_desk import Chosen
from crm_pipeline_tests.cases.acting import act, acting, ask, decide, records, told
from crm_pipeline_tests.cases.writing import SLOW_RETRIES, assert_conserved, drain, ids
from crm_pipeline_tests.house import House

__all__ = ["acting"]

NEW = {"LastName": "Doe", "Company": "Acme", "Email": "new@example.com"}
KEY = {"external_id_field": "External_Key__c", "external_id": "K1"}
OWN_KEY = {"external_id_field": "Crm_Pipeline_Key__c", "external_id": "K1"}
TITLE: dict[str, Any] = {"fields": {"Title": "Ours"}, "options": {"only_empty": ["Title"]}}


def lead(house: House, record_id: str) -> dict[str, Any]:
    found = house.org.get("Lead", record_id)
    assert found is not None
    return dict(found)


# Who has the address now


def test_h28_who_has_another_address_by_now_is_not_meant(acting: House) -> None:
    made = ids(acting)[0]
    acting.org.update("Lead", made, {"Email": "corrected@example.com"})
    ask(acting, fields={"LastName": "Other", "Company": "Co", "Email": "l0@example.com"})
    act(acting)
    assert (lead(acting, made)["Email"], lead(acting, made)["LastName"]) == (
        "corrected@example.com",
        "l0",
    )


def test_h28_a_contact_that_was_made_since_our_last_read_speaks_before_a_lead(
    acting: House,
) -> None:
    contact = acting.org.create("Contact", {"LastName": "C", "Email": "l0@example.com"})
    action = ask(acting, "update", match_email="l0@example.com", fields={"Title": "Boss"})
    act(acting)
    assert told(acting, action)["record_id"] == contact


def test_h28_who_was_deleted_since_our_last_read_is_made_anew_and_gets_no_task(
    acting: House,
) -> None:
    acting.org.delete("Lead", ids(acting)[0])
    task = ask(acting, name="Task", match_email="l0@example.com", fields={"Subject": "Call"})
    act(acting)
    assert told(acting, task)["code"] == "NO_PERSON"
    form = ask(acting, fields={**NEW, "Email": "l0@example.com"})
    act(acting)
    assert told(acting, form)["is_created"]


@pytest.mark.parametrize("record_id", ["a contact's", "zzzzzzzzzzzzzzz"])
def test_h28_an_id_of_no_such_record_is_refused_and_stops_nobody(
    acting: House, record_id: str
) -> None:
    if record_id == "a contact's":
        record_id = acting.org.create("Contact", {"LastName": "x"})
    wrong = ask(acting, "update", record_id=record_id, **TITLE)
    right = ask(acting, fields=NEW)
    act(acting)
    assert told(acting, wrong)["code"] == "BAD_ID"
    assert told(acting, right)["state"] == "applied"


# Records in the making


@pytest.mark.parametrize(
    "options",
    [{"only_empty": ["Title"], "only_new": ["LastName"]}, {"if_found": "leave"}],
)
def test_h28_of_two_upserts_that_spare_the_second_waits_for_the_first(
    acting: House, options: dict[str, Any]
) -> None:
    for name in ("First", "Second"):
        fields = {"LastName": name, "Company": "Co", "Title": name}
        ask(acting, "upsert", fields=fields, options=options, **KEY)
    for _ in range(2):
        act(acting)
    found = records(acting, "SELECT LastName, Title FROM Lead WHERE External_Key__c = 'K1'")
    assert found == [{"LastName": "First", "Title": "First"}]


def test_h28_an_update_by_a_key_waits_for_the_upsert_that_makes_the_record(acting: House) -> None:
    ask(acting, "upsert", fields={"LastName": "Up", "Company": "Co"}, **KEY)
    update = ask(acting, "update", fields={"Title": "Boss"}, **KEY)
    for _ in range(2):
        act(acting)
    assert told(acting, update)["state"] == "applied"


@pytest.mark.parametrize(
    "first", [{"kind": "upsert", **KEY}, {"options": {"match": "none"}}], ids=["by key", "unasked"]
)
def test_h28_who_is_made_without_a_look_is_found_by_a_create(
    acting: House, first: dict[str, Any]
) -> None:
    ask(acting, fields=NEW, **first)
    ask(acting, fields=NEW)
    for _ in range(2):
        act(acting)
    assert len(records(acting, "SELECT Id FROM Lead WHERE Email = 'new@example.com'")) == 1


def test_h28_two_who_ask_for_one_membership_make_one(acting: House) -> None:
    both = [
        ask(
            acting,
            name="CampaignMember",
            match_email="l0@example.com",
            options={"campaign": "Spring"},
            fields={"Status": status},
        )
        for status in ("Sent", "Responded")
    ]
    for _ in range(2):
        act(acting)
    assert [told(acting, one)["state"] for one in both] == ["applied"] * 2
    assert records(acting, "SELECT Status FROM CampaignMember") == [{"Status": "Responded"}]


def test_h28_a_member_by_another_key_is_the_same_member(acting: House) -> None:
    for status, key in (("Sent", "K1"), ("Responded", "K2")):
        facts = {"options": {"campaign": "Spring"}, "fields": {"Status": status}}
        ask(acting, "upsert", name="CampaignMember", match_email="l0@example.com",
            **OWN_KEY | {"external_id": key}, **facts)  # fmt: skip
    for _ in range(2):
        act(acting)
    found = records(acting, "SELECT Status, Crm_Pipeline_Key__c FROM CampaignMember")
    assert found == [{"Status": "Responded", "Crm_Pipeline_Key__c": "K1"}]


@pytest.mark.parametrize("field", ["LeadId", "ContactId", "CampaignId"])
@pytest.mark.parametrize("value", ["zzzzzzzzzzzzzzz", "an account's", 5])
def test_h28_a_member_by_an_id_of_no_such_record_is_refused_and_stops_nobody(
    acting: House, field: str, value: Any
) -> None:
    if value == "an account's":
        value = acting.org.create("Account", {"Name": "x"})
    [campaign] = [row["Id"] for row in records(acting, "SELECT Id FROM Campaign")]
    first, second, *_ = ids(acting)
    fields = {"CampaignId": campaign, "LeadId": first, field: value}
    wrong = ask(acting, name="CampaignMember", fields=fields)
    right = ask(acting, name="CampaignMember", fields={"CampaignId": campaign, "LeadId": second})
    act(acting)
    assert told(acting, wrong)["code"] == "BAD_ID"
    assert told(acting, right)["state"] == "applied"


def test_h28_two_spellings_of_an_id_are_one_membership(acting: House) -> None:
    [campaign] = [row["Id"] for row in records(acting, "SELECT Id FROM Campaign")]
    person = ids(acting)[0]
    for length, status in ((15, "Sent"), (18, "Responded")):
        fields = {"CampaignId": campaign[:length], "LeadId": person[:length], "Status": status}
        ask(acting, name="CampaignMember", fields=fields)
    for _ in range(2):
        act(acting)
    assert records(acting, "SELECT Status FROM CampaignMember") == [{"Status": "Responded"}]


def test_h28_a_membership_is_found_whatever_the_case_of_the_fields(acting: House) -> None:
    [campaign] = [row["Id"] for row in records(acting, "SELECT Id FROM Campaign")]
    for status in ("Sent", "Responded"):
        fields = {"campaignid": campaign, "leadid": ids(acting)[0], "Status": status}
        ask(acting, name="CampaignMember", fields=fields)
        act(acting)
    assert records(acting, "SELECT Status FROM CampaignMember") == [{"Status": "Responded"}]


# What a person chose


def choose(house: House, action: str, record_id: str) -> None:
    desk.requeue(Warehouse(house.database_url), action_ids=[action], record_id=record_id)
    act(house)


def test_h28_of_two_contacts_the_chosen_one_gets_the_task_and_stays_as_it_is(
    acting: House,
) -> None:
    twins = sorted(
        acting.org.create(
            "Contact", {"LastName": name, "Email": NEW["Email"], "Description": "Theirs"}
        )
        for name in ("One", "Two")
    )
    fields = {"Subject": "Call", "Description": "About it"}
    action = ask(acting, name="Task", match_email=NEW["Email"], fields=fields)
    act(acting)
    assert told(acting, action)["code"] == "AMBIGUOUS"
    choose(acting, action, twins[1])
    assert {row["Description"] for row in records(acting, "SELECT Description FROM Contact")} == {
        "Theirs"
    }
    assert records(acting, "SELECT WhoId, Description FROM Task") == [
        {"WhoId": twins[1], "Description": "About it"}
    ]


@pytest.mark.parametrize("name", ["Task", "Case", "CampaignMember"])
def test_h28_an_upsert_by_key_gets_the_chosen_person_and_keeps_its_key(
    acting: House, name: str
) -> None:
    twins = [acting.org.create("Contact", {"LastName": n, "Email": NEW["Email"]}) for n in "ab"]
    facts: dict[str, Any] = {"fields": {"Subject": "Call"}}
    if name == "CampaignMember":
        facts = {"fields": {"Status": "Sent"}, "options": {"campaign": "Spring"}}
    action = ask(acting, "upsert", name=name, match_email=NEW["Email"], **OWN_KEY, **facts)
    act(acting)
    assert told(acting, action)["code"] == "AMBIGUOUS"
    choose(acting, action, twins[1])
    link = "WhoId" if name == "Task" else "ContactId"
    found = records(acting, f"SELECT {link}, Crm_Pipeline_Key__c FROM {name}")
    assert found == [{link: twins[1], "Crm_Pipeline_Key__c": "K1"}]


@pytest.mark.parametrize("length", [15, 18])
def test_h28_of_many_contacts_any_can_be_chosen_by_either_form_of_its_id(
    acting: House, length: int
) -> None:
    found = sorted(
        acting.org.create("Contact", {"LastName": str(number), "Email": NEW["Email"]})
        for number in range(25)
    )
    action = ask(acting, fields=NEW)
    act(acting)
    choose(acting, action, found[-1][:length])
    assert told(acting, action)["state"] == "applied"
    assert told(acting, action)["record_id"] == found[-1]


def test_h28_what_is_to_be_left_is_left_when_a_person_chose_it(acting: House) -> None:
    twins = [acting.org.create("Lead", {**NEW, "LastName": name}) for name in ("One", "Two")]
    action = ask(acting, fields=NEW, options={"if_found": "leave"})
    act(acting)
    choose(acting, action, twins[0])
    assert lead(acting, twins[0])["LastName"] == "One"
    assert told(acting, action)["state"] == "unneeded"


# What nobody may loosen, and what must not be lost


@pytest.mark.parametrize(
    ("field", "held", "wanted"),
    [
        ("HasOptedOutOfEmail", True, False),
        ("EmailBouncedDate", "2026-01-01T00:00:00.000Z", None),
    ],
)
def test_h17_an_action_takes_back_no_opt_out_and_no_bounce_whichever_boxes_we_write(
    acting: House, field: str, held: Any, wanted: Any
) -> None:
    other = {"Lead": "DoNotCall", "Contact": "DoNotCall"}
    acting.configure(write_backs={"consent": {"direction": "both", "unsubscribed": other}})
    made = ids(acting)[0]
    acting.org.update("Lead", made, {field: held})
    before = lead(acting, made)[field]
    action = ask(acting, "update", record_id=made, fields={field: wanted})
    act(acting)
    assert told(acting, action)["code"] == "CONSENT_NOT_LOOSENED"
    assert lead(acting, made)[field] == before


def test_h15_an_opt_out_that_a_form_may_only_fill_in_arrives(acting: House) -> None:
    fields = {**NEW, "Email": "l0@example.com", "HasOptedOutOfEmail": True}
    ask(acting, fields=fields, options={"only_empty": ["HasOptedOutOfEmail"]})
    act(acting)
    assert lead(acting, ids(acting)[0])["HasOptedOutOfEmail"] is True


# What gives way to people


def test_h28_a_field_that_gives_way_spares_the_winner_of_a_merge(acting: House) -> None:
    loser, winner, *_ = ids(acting)
    acting.org.update("Lead", winner, {"Title": "Theirs"})
    acting.org.merge("Lead", winner, [loser])
    ask(acting, "update", record_id=loser, **TITLE)
    ask(acting, match_email="l0@example.com", **TITLE)
    act(acting)
    drain(acting)
    assert lead(acting, winner)["Title"] == "Theirs"


def test_h28_a_field_that_gives_way_spares_the_contact_of_a_converted_lead(acting: House) -> None:
    made = ids(acting)[0]
    acting.org.convert_lead(made)
    contact = str(lead(acting, made)["ConvertedContactId"])
    acting.org.update("Contact", contact, {"Title": "Theirs"})
    ask(acting, match_email="l0@example.com", **TITLE)
    act(acting)
    drain(acting)
    assert records(acting, "SELECT Title FROM Contact") == [{"Title": "Theirs"}]


def test_h28_a_field_that_gives_way_does_so_to_what_waits_already(acting: House) -> None:
    made = ids(acting)[0]
    ask(acting, "update", record_id=made, fields={"Title": "Explicit"})
    decide()
    filler = ask(acting, "update", record_id=made, **TITLE)
    decide()
    drain(acting)
    assert lead(acting, made)["Title"] == "Explicit"
    assert told(acting, filler)["state"] == "superseded"
    assert_conserved(acting)


@pytest.mark.parametrize("is_answer_lost", [False, True])
def test_h28_a_field_that_people_fill_while_the_action_waits_stays_theirs(
    acting: House, *, is_answer_lost: bool
) -> None:
    made = ids(acting)[0]
    action = ask(acting, "update", record_id=made, **TITLE)
    decide()
    if is_answer_lost:
        acting.served.server.faults.script([Fault("lost_answer", "*/composite/sobjects*", "PATCH")])
        drain(acting, manners=SLOW_RETRIES)
    acting.org.update("Lead", made, {"Title": "Theirs"})
    with psycopg.connect(acting.database_url) as connection:
        connection.execute("UPDATE crm_sync.outbox SET not_before = now()")
    drain(acting)
    assert lead(acting, made)["Title"] == "Theirs"
    line = told(acting, action)
    assert (line["state"], line["code"]) == ("superseded", "CHANGED_IN_CRM")


def test_h28_a_field_that_gives_way_waits_while_the_record_cannot_be_read(acting: House) -> None:
    made = ids(acting)[0]
    action = ask(acting, "update", record_id=made, **TITLE)
    decide()
    acting.served.server.faults.script(
        [Fault("status", "*/composite/sobjects/Lead", "POST", status=503, times=50)]
    )
    outcome = drain(acting)
    assert outcome.waiting == 1
    acting.served.server.faults.clear()
    drain(acting)
    assert told(acting, action)["state"] == "applied"
    assert outbox_desk.requeue(Warehouse(acting.database_url), Chosen()) == (0, 0)
