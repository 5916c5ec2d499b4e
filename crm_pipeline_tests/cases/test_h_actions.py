"""H28, and the other ways in which an action must find its record, make it once, or be refused."""

from typing import Any

import psycopg
import pytest

from crm_pipeline.config.load import load_settings
from crm_pipeline.errors import LeaseBusy, WrongOrganization
from crm_pipeline.model.sync import SyncMode
from crm_pipeline.sandbox.salesforce.faults import Fault
from crm_pipeline.sync.alerts import AlertKind, read_alerts
from crm_pipeline.sync.forget import find_person, forget_person
from crm_pipeline.warehouse import actions as desk
from crm_pipeline.warehouse.actions import ACTIONS_LEASE, prune_actions
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.erasure import Person
from crm_pipeline.warehouse.lease import held_lease
from crm_pipeline_tests.cases.acting import act, acting, ask, decide, records, told
from crm_pipeline_tests.cases.writing import assert_conserved, drain, ids, states
from crm_pipeline_tests.house import House

__all__ = ["acting"]

NEW = {"LastName": "Doe", "Company": "Acme", "Email": "new@example.com"}


def test_h28_a_lead_that_is_asked_for_is_made_once_however_often_it_is_asked_for(
    acting: House,
) -> None:
    for _ in range(2):
        action = ask(acting, action_id="form 1", fields=NEW)
        act(acting)
    found = records(acting, "SELECT Id, LastName FROM Lead WHERE Email = 'new@example.com'")
    assert [row["LastName"] for row in found] == ["Doe"]
    line = told(acting, action)
    assert (line["state"], line["record_id"], line["is_created"]) == (
        "applied",
        found[0]["Id"],
        True,
    )
    assert_conserved(acting)


def test_h28_a_lead_that_somebody_made_since_our_last_read_is_updated_and_not_doubled(
    acting: House,
) -> None:
    made = acting.org.create("Lead", {**NEW, "LastName": "Old", "Email": "NEW@example.com"})
    action = ask(acting, fields=NEW)
    act(acting)
    assert acting.table("Lead").get(made) is None, "the warehouse does not know it"
    found = records(acting, "SELECT Id, LastName FROM Lead WHERE Email = 'new@example.com'")
    assert [(row["Id"], row["LastName"]) for row in found] == [(made, "Doe")]
    assert told(acting, action)["reason"] == "A lead has the address."


def test_h28_a_record_that_is_there_can_be_left_as_it_is(acting: House) -> None:
    made = acting.org.create("Lead", {**NEW, "LastName": "Old"})
    action = ask(acting, fields=NEW, options={"if_found": "leave"})
    act(acting)
    line = told(acting, action)
    assert (line["state"], line["code"], line["record_id"]) == ("unneeded", "ALREADY_THERE", made)
    assert acting.org.get("Lead", made)["LastName"] == "Old"  # type: ignore[index]


def test_h28_a_field_may_be_filled_only_where_it_is_empty(acting: House) -> None:
    def lead(email: str, **values: str) -> str:
        return acting.org.create("Lead", {**NEW, "Email": email, **values})

    empty, full = lead("empty@example.com"), lead("full@example.com", Title="Theirs")
    options = {"only_empty": ["title", "City", "Company"]}
    form = {**NEW, "LastName": "Ours", "Company": "Ours", "Title": "Ours"}
    for email in ("empty@example.com", "full@example.com", "third@example.com"):
        ask(acting, fields={**form, "Email": email}, options=options)
    ask(acting, fields={**form, "Email": "empty@example.com", "Title": "Late"}, options=options)
    ask(acting, "update", record_id=full, fields={"Title": "X", "City": "Paris"}, options=options)
    spared = ask(acting, "update", record_id=full, fields={"Title": "Y"}, options=options)
    act(acting)
    found = records(acting, "SELECT Id, LastName, Company, Title, City FROM Lead"
                    " WHERE Email IN ('empty@example.com', 'full@example.com', 'third@example.com')"
                    " ORDER BY Email")  # fmt: skip
    assert [row.pop("Id") for row in found][:2] == [empty, full]
    assert [tuple(row.values()) for row in found] == [
        ("Ours", "Acme", "Late", None),
        ("Ours", "Acme", "Theirs", "Paris"),
        ("Ours", "Ours", "Ours", None),
    ]
    line = told(acting, spared)
    assert (line["state"], line["code"]) == ("superseded", "CHANGED_IN_CRM")


def test_h28_an_upsert_that_spares_what_is_there_looks_first(acting: House) -> None:
    key = {"external_id_field": "External_Key__c", "external_id": "K1"}
    form = {"LastName": "Up", "Company": "Co", "Title": "First", "City": "Paris"}
    options = {"only_new": ["LastName"], "only_empty": ["Title"]}
    made = ask(acting, "upsert", fields=form, options=options, **key)
    act(acting)
    again = {"LastName": "Again", "Company": "New", "Title": "Second", "City": "Rome"}
    for chosen in (options, {"if_found": "leave"}):
        found = ask(acting, "upsert", fields=again, options=chosen, **key)
        act(acting)
        assert told(acting, found)["record_id"] == told(acting, made)["record_id"]
        again["Company"] = "Left"
    assert records(
        acting, "SELECT LastName, Company, Title, City FROM Lead WHERE External_Key__c = 'K1'"
    ) == [{"LastName": "Up", "Company": "New", "Title": "First", "City": "Rome"}]


def test_h28_looking_for_empty_fields_costs_one_call_for_many_actions(acting: House) -> None:
    def calls(field: str, *only_empty: str) -> int:
        for record_id in ids(acting):
            options = {"only_empty": only_empty}
            ask(acting, "update", record_id=record_id, fields={field: "x"}, options=options)
        return decide().api_calls + drain(acting).api_calls

    assert calls("Title") + 1 == calls("City", "City")


def test_h28_the_look_up_can_be_switched_off(acting: House) -> None:
    acting.org.create("Lead", NEW)
    ask(acting, fields=NEW, options={"match": "none"})
    act(acting)
    assert len(records(acting, "SELECT Id FROM Lead WHERE Email = 'new@example.com'")) == 2


def test_h28_a_contact_speaks_before_a_lead_and_gets_the_fields_that_it_has(acting: House) -> None:
    acting.org.create("Lead", {**NEW, "LastName": "Lead"})
    contact = acting.org.create("Contact", {"LastName": "Old", "Email": "new@example.com"})
    action = ask(acting, fields=NEW)
    act(acting)
    line = told(acting, action)
    assert (line["written_object"], line["record_id"]) == ("Contact", contact)
    assert line["reason"] == "A contact has the address. Contact has no `Company`."
    assert acting.org.get("Contact", contact)["LastName"] == "Doe"  # type: ignore[index]


def test_h28_a_converted_lead_is_its_contact(acting: House) -> None:
    lead = acting.org.create("Lead", {**NEW, "Email": "new@example.com"})
    acting.org.convert_lead(lead)
    acting.org.update("Contact", _converted(acting, lead), {"Email": "other@example.com"})
    action = ask(acting, fields=NEW)
    act(acting)
    assert told(acting, action)["record_id"] == _converted(acting, lead)
    acting.sync()
    again = ask(acting, fields={**NEW, "LastName": "Again"})
    act(acting)
    assert told(acting, again)["record_id"] == _converted(acting, lead)


def _converted(house: House, lead: str) -> str:
    found = house.org.get("Lead", lead)
    assert found is not None
    return str(found["ConvertedContactId"])


def test_h28_of_several_records_none_is_guessed_and_a_person_chooses(acting: House) -> None:
    twins = sorted(acting.org.create("Contact", {"LastName": n, "Email": NEW["Email"]})
                   for n in ("One", "Two"))  # fmt: skip
    action = ask(acting, fields=NEW)
    act(acting)
    line = told(acting, action)
    assert (line["state"], line["code"], sorted(line["matches"])) == ("held", "AMBIGUOUS", twins)
    assert states(acting) == {}
    warehouse = Warehouse(acting.database_url)
    assert desk.requeue(warehouse, action_ids=[action], record_id=twins[1]) == 1
    act(acting)
    assert told(acting, action)["state"] == "applied"
    assert acting.org.get("Contact", twins[1])["LastName"] == "Doe"  # type: ignore[index]


def test_h28_two_who_ask_for_one_new_person_make_one_lead(acting: House) -> None:
    first = ask(acting, fields=NEW)
    second = ask(acting, fields={**NEW, "LastName": "Later"})
    task = ask(acting, name="Task", match_email=NEW["Email"], fields={"Subject": "Call"})
    outcome = decide()
    assert (outcome.enqueued, outcome.waiting) == (1, 2)
    assert told(acting, second)["waits_for"] == first
    decide()
    assert told(acting, second)["state"] == "requested"
    drain(acting)
    act(acting)
    assert records(acting, "SELECT LastName FROM Lead WHERE Email = 'new@example.com'") == [
        {"LastName": "Later"}
    ]
    assert [told(acting, one)["state"] for one in (first, second, task)] == ["applied"] * 3


def test_h28_a_death_between_deciding_and_sending_loses_and_doubles_nothing(acting: House) -> None:
    actions = [ask(acting, fields={**NEW, "Email": f"n{n}@example.com"}) for n in range(5)]
    decide()
    decide("another process, after the first one died")
    lost = Fault("lost_answer", "*/composite/sobjects/*", "PATCH")
    acting.served.server.faults.script([lost])
    drain(acting)
    decide("yet another")
    drain(acting)
    assert {told(acting, one)["state"] for one in actions} == {"applied"}
    assert acting.org.count("Lead") == 15
    assert_conserved(acting)


def test_h28_values_of_an_address_never_become_a_query(acting: House) -> None:
    hostile = "x' OR Email != '@example.com"
    action = ask(acting, match_email=hostile, kind="update", fields={"LastName": "Hit"})
    act(acting)
    assert told(acting, action)["code"] == "NOT_FOUND"
    assert len(records(acting, "SELECT Id FROM Lead WHERE LastName = 'Hit'")) == 0


def test_h28_every_object_can_be_made_and_knows_its_person(acting: House) -> None:
    lead = ids(acting)[0]
    contact = acting.org.create("Contact", {"LastName": "C", "Email": "c@example.com"})
    person = {"match_email": "c@example.com"}
    made = {
        "Account": ask(acting, name="Account", fields={"Name": "Acme"}),
        "Contact": ask(acting, name="Contact", fields={"LastName": "N", "Email": "n@example.com"}),
        "Opportunity": ask(
            acting,
            name="Opportunity",
            fields={
                "Name": "Deal",
                "StageName": "Prospecting",
                "CloseDate": "2030-01-31",
                "Amount": 99.5,
            },
        ),
        "Task": ask(acting, name="Task", fields={"Subject": "Call"}, match_email="l0@example.com"),
        "Case": ask(
            acting,
            name="Case",
            fields={"Subject": "Help", "Priority": "High"},
            options={"owner": "support"},
            **person,
        ),
        "CampaignMember": ask(
            acting, name="CampaignMember", options={"campaign": "spring"}, **person
        ),
    }
    act(acting)
    lines = {name: told(acting, action) for name, action in made.items()}
    assert {name: line["state"] for name, line in lines.items()} == dict.fromkeys(made, "applied")

    def held(name: str, field: str) -> Any:
        record = acting.org.get(name, lines[name]["record_id"])
        assert record is not None
        return record[field]

    assert held("Task", "WhoId") == lead
    assert held("Case", "ContactId") == contact
    [queue] = acting.query("SELECT id FROM salesforce.queues WHERE name = 'Support'")
    assert held("Case", "OwnerId") == queue[0]
    assert held("CampaignMember", "ContactId") == contact
    assert float(held("Opportunity", "Amount")) == 99.5


def test_h28_a_member_of_a_campaign_gets_another_status_and_no_second_membership(
    acting: House,
) -> None:
    wish = {"name": "CampaignMember", "match_email": "l0@example.com"}
    first = ask(acting, options={"campaign": "Spring"}, **wish)
    act(acting)
    second = ask(acting, options={"campaign": "Spring"}, fields={"Status": "Responded"}, **wish)
    act(acting)
    assert told(acting, first)["record_id"] == told(acting, second)["record_id"]
    assert records(acting, "SELECT Status FROM CampaignMember") == [{"Status": "Responded"}]


def test_h1_h28_a_membership_whose_answer_was_lost_is_made_once_and_told_as_made(
    acting: House,
) -> None:
    """Its campaign cannot be written again: sent as it was, the CRM would refuse it."""
    action = ask(
        acting, name="CampaignMember", match_email="l0@example.com", options={"campaign": "Spring"}
    )
    decide()
    lost = Fault("lost_answer", "*/composite/sobjects/*", "PATCH")
    acting.served.server.faults.script([lost])
    drain(acting)
    drain(acting)
    [member] = records(acting, "SELECT Id FROM CampaignMember")
    line = told(acting, action)
    assert (line["state"], line["code"]) == ("applied", "READ_BACK")
    assert (line["record_id"], line["is_created"]) == (member["Id"], True)


def test_h28_an_external_id_makes_the_record_or_finds_it(acting: House) -> None:
    key = {"external_id_field": "External_Key__c", "external_id": "K/1 '%"}
    first = ask(acting, "upsert", fields={"LastName": "Up", "Company": "Co"}, **key)
    act(acting)
    second = ask(acting, "upsert", fields={"LastName": "Up again"}, **key)
    third = ask(acting, "update", fields={"Title": "Boss"}, **key)
    for _ in range(2):  # the update waits for the upsert before it
        act(acting)
    assert len({told(acting, one)["record_id"] for one in (first, second, third)}) == 1
    assert records(acting, "SELECT LastName, Title FROM Lead WHERE Title = 'Boss'") == [
        {"LastName": "Up again", "Title": "Boss"}
    ]


def test_h28_owner_and_assignment_are_of_new_records(acting: House) -> None:
    rule = str(acting.query("SELECT id FROM salesforce.assignment_rules"
                            " WHERE sobjecttype = 'Lead'")[0][0])  # fmt: skip
    user = str(acting.query("SELECT id FROM salesforce.users WHERE username LIKE 'ada%'")[0][0])
    former = acting.org.get("Lead", ids(acting)[0])
    assert former is not None
    new = ask(acting, fields=NEW, options={"owner": "ADA@co.example", "assignment": "none"})
    by_rule = ask(acting, fields={**NEW, "Email": "r@example.com"}, options={"assignment": rule})
    old = ask(
        acting,
        fields={"LastName": "l0", "Company": "Co", "Email": "l0@example.com"},
        options={"owner": user, "assignment": rule},
    )
    act(acting)
    assert {told(acting, one)["state"] for one in (new, by_rule, old)} == {"applied"}
    assert acting.org.get("Lead", told(acting, new)["record_id"])["OwnerId"] == user  # type: ignore[index]
    assert acting.org.get("Lead", ids(acting)[0])["OwnerId"] == former["OwnerId"]  # type: ignore[index]
    options = acting.query("SELECT options ->> 'assignment' FROM crm_sync.outbox ORDER BY 1")
    assert options == [(rule,), (None,), (None,), (None,), (None,)]


WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "an unknown object": (
        {"name": "Leed", "fields": NEW},
        "NO_OBJECT",
        "There is no object `Leed` for our user.",
    ),
    "an object that is not synced": (
        {"name": "Campaign", "fields": {"Name": "Fall"}},
        "NOT_AMONG_OBJECTS",
        "Campaign is not among the objects of the settings.",
    ),
    "an unknown field": (
        {"fields": {**NEW, "LastNam": "x"}},
        "INVALID_FIELD",
        "Lead has no field `LastNam` for our user. Did you mean `LastName`?",
    ),
    "a field that nobody may write": (
        {"fields": {**NEW, "CreatedDate": "2026-01-01T00:00:00Z"}},
        "READ_ONLY_FIELD",
        "Our user may not write Lead.CreatedDate.",
    ),
    "a field that is missing": (
        {"fields": {"Email": "new@example.com", "LastName": "Doe"}},
        "REQUIRED_FIELD_MISSING",
        "Lead cannot be without `Company`.",
    ),
    "a value of another type": (
        {"fields": {**NEW, "Lead_Score__c": "many"}},
        "UNFIT_VALUE",
        "Lead.Lead_Score__c: The value is not of the field's type.",
    ),
    "a list": ({"fields": {**NEW, "Title": ["x"]}}, "BAD_VALUE", "The value of `Title` is a list"),
    "an option that is none": (
        {"fields": NEW, "options": {"on_duplicat": "link"}},
        "BAD_OPTION",
        "There is no option `on_duplicat`; did you mean `on_duplicate`?",
    ),
    "a value of an option": (
        {"fields": NEW, "options": {"if_found": "replace"}},
        "BAD_OPTION",
        "The option `if_found` is one of `update` and `leave`, not `replace`.",
    ),
    "an owner whom nobody knows": (
        {"fields": NEW, "options": {"owner": "nobody"}},
        "BAD_OWNER",
        "There is no user and no queue `nobody`.",
    ),
    "an owner who left": (
        {"fields": NEW, "options": {"owner": "old@co.example"}},
        "BAD_OWNER",
        "The user `old@co.example` is not active.",
    ),
    "a queue of another object": (
        {"fields": NEW, "options": {"owner": "Support"}},
        "BAD_OWNER",
        "The queue `Support` may not own records of Lead.",
    ),
    "a rule that is none": (
        {"fields": NEW, "options": {"assignment": "01Q000000000000AAA"}},
        "BAD_ASSIGNMENT_RULE",
        "`01Q000000000000AAA` is no assignment rule of Lead.",
    ),
    "an update of somebody unknown": (
        {"kind": "update", "match_email": "nobody@example.com", "fields": NEW},
        "NOT_FOUND",
        "No lead or contact has the address.",
    ),
    "an update that names nobody": (
        {"kind": "update", "fields": NEW},
        "NOT_NAMED",
        "The update does not say which record it means.",
    ),
    "an id that is none": (
        {"kind": "update", "record_id": "00Q", "fields": NEW},
        "BAD_ID",
        "A record id must have 15 or 18 letters and digits.",
    ),
    "a key that is not unique": (
        {"kind": "upsert", "external_id_field": "Title", "external_id": "x", "fields": NEW},
        "NO_KEY_FIELD",
        "The key field does not exist for our user, or is not a unique external id.",
    ),
    "an address that is none": ({"match_email": "nobody", "fields": NEW}, "BAD_KEY", "is none."),
    "an account by address": (
        {"name": "Account", "match_email": "a@example.com", "fields": {"Name": "x"}},
        "NO_ADDRESS",
        "A record of Account is not found by an address.",
    ),
    "nothing to write": ({"fields": {}}, "NO_FIELDS", "The action names no field."),
    "a priority that is none": (
        {"name": "Case", "fields": {"Subject": "x", "Priority": "Urgent"}},
        "NO_SUCH_OPTION",
        "Case.Priority is one of `High`, `Low` and `Medium`, not `Urgent`.",
    ),
    "a task for a stranger": (
        {"name": "Task", "match_email": "nobody@example.com", "fields": {"Subject": "x"}},
        "NO_PERSON",
        "No lead or contact has the address.",
    ),
    "a campaign that is none": (
        {
            "name": "CampaignMember",
            "match_email": "l0@example.com",
            "options": {"campaign": "Fall"},
        },
        "BAD_CAMPAIGN",
        "There is no campaign of that name.",
    ),
    "a member of nothing": (
        {"name": "CampaignMember", "match_email": "l0@example.com"},
        "REQUIRED_FIELD_MISSING",
        "A campaign member needs a campaign and a person.",
    ),
    "an opt-out taken back": (
        {
            "kind": "update",
            "match_email": "l0@example.com",
            "fields": {"HasOptedOutOfEmail": False},
        },
        "CONSENT_NOT_LOOSENED",
        "HasOptedOutOfEmail would be taken back.",
    ),
}


def test_h11_wrong_actions_are_refused_one_by_one_with_a_sentence_and_others_go_on(
    acting: House,
) -> None:
    asked = {what: ask(acting, **facts) for what, (facts, _, _) in WRONG.items()}
    right = ask(acting, fields=NEW)
    act(acting)
    alerts = read_alerts(Warehouse(acting.database_url), load_settings(acting.settings_file))
    counted = {one.object_name: one.size for one in alerts if one.kind is AlertKind.ACTIONS}
    assert sum(counted.values()) == len(WRONG)
    for what, (_, code, sentence) in WRONG.items():
        line = told(acting, asked[what])
        assert (line["state"], line["code"]) == ("refused", code), (what, line)
        assert sentence in line["reason"], (what, line)
        assert line["remedy"], what
    assert told(acting, right)["state"] == "applied"
    assert states(acting) == {"applied": 1}


def test_h28_what_is_refused_is_decided_again_after_it_was_mended(acting: House) -> None:
    action = ask(acting, "update", match_email="late@example.com", fields={"Title": "Boss"})
    act(acting)
    assert told(acting, action)["code"] == "NOT_FOUND"
    acting.org.create("Lead", {**NEW, "Email": "late@example.com"})
    assert desk.requeue(Warehouse(acting.database_url), code="NOT_FOUND") == 1
    act(acting)
    assert told(acting, action)["state"] == "applied"


def test_h28_a_thousand_actions_cost_few_calls(acting: House) -> None:
    with psycopg.connect(acting.database_url) as connection:
        connection.execute(
            "INSERT INTO crm_sync.action (action_id, kind, object_name, fields)"
            " SELECT 'a' || n, 'create', 'Lead', jsonb_build_object('LastName', 'n' || n,"
            " 'Company', 'Co', 'Email', 'many' || n || '@example.com')"
            " FROM generate_series(1, 1000) n"
        )
    outcome = decide()
    assert outcome.enqueued == 1_000
    assert outcome.api_calls <= 16
    drain(acting)
    assert acting.org.count("Lead") == 1_010
    assert decide().api_calls == 0


def rule(**facts: Any) -> dict[str, Any]:
    return {"rules": {"follow": facts}}


def test_h28_a_field_that_becomes_a_value_in_the_crm_asks_for_what_its_rule_says(
    acting: House,
) -> None:
    lead, other, *_ = ids(acting)
    objects = acting.settings["objects"]
    objects["Lead"]["fields"] = [*objects["Lead"]["fields"], {"Status": "stage"}]
    acting.configure(objects=objects)
    acting.full()
    acting.configure(
        actions={
            "rules": {
                "working": {
                    "when": {"record": "Lead", "field": "Status", "becomes": "working - contacted"},
                    "do": {"create": "Task", "match": "none"},
                    "fields": {
                        "WhoId": {"from": "record_id"},
                        "Subject": {"from": "LastName"},
                        "Description": {"from": "former_value"},
                    },
                },
                "mark": {
                    "when": {"record": "Lead", "field": "Status", "becomes": "Working - Contacted"},
                    "do": {"update": "Lead"},
                    "fields": {"Title": {"from": "value"}},
                },
            }
        }
    )
    decide()
    acting.org.update("Lead", lead, {"Status": "Working - Contacted"})
    acting.org.update("Lead", other, {"Status": "Closed - Not Converted"})
    acting.sync()
    # Nobody looks before the next change comes: what each version became is told by the next one.
    acting.org.update("Lead", lead, {"Status": "Closed - Not Converted"})
    acting.sync()
    assert act(acting).asked_by_rules == 2
    assert records(acting, "SELECT WhoId, Subject, Description FROM Task") == [
        {"WhoId": lead, "Subject": "l0", "Description": "Open - Not Contacted"}
    ]
    assert acting.org.get("Lead", lead)["Title"] == "Working - Contacted"  # type: ignore[index]
    acting.sync()
    assert act(acting).asked_by_rules == 0


def test_h28_what_stands_in_is_not_written_over_what_somebody_knows(acting: House) -> None:
    acting.configure(
        actions=rule(
            when={"event": "form_submitted"},
            do={"create": "Lead"},
            fields={
                "LastName": {"from": "properties.name", "otherwise": "Unknown"},
                "Company": {"from": "properties.company", "otherwise": "Unknown"},
                "Email": {"from": "email"},
                "Title": {"from": "properties.title"},
            },
        )
    )
    decide()
    for number, email in enumerate(("l0@example.com", "new@example.com")):
        acting.execute(
            "INSERT INTO events.marketing_events (event_id, occurred_at, kind, email, properties)"
            f""" VALUES ('{number}', now(), 'form_submitted', '{email}', '{{"title": "Boss"}}')"""
        )
    act(acting)
    found = records(acting, "SELECT LastName, Title FROM Lead WHERE Title = 'Boss' ORDER BY Email")
    assert found == [
        {"LastName": "l0", "Title": "Boss"},
        {"LastName": "Unknown", "Title": "Boss"},
    ]


def test_s17_h28_a_forgotten_person_leaves_no_action(acting: House) -> None:
    ask(acting, fields=NEW)
    ask(acting, kind="update", match_email=NEW["Email"], fields={"Title": "Boss"})
    ask(acting, action_id="form of new@example.com", fields={"LastName": "x"})
    kept = ask(acting, fields={**NEW, "Email": "other@example.com"})
    act(acting)
    warehouse, settings = Warehouse(acting.database_url), load_settings(acting.settings_file)
    found = find_person(warehouse, settings, Person(address="new@example.com"))
    assert [trace.rows for trace in found.traces if trace.table == "action"] == [3]
    forget_person(warehouse, settings, Person(address="new@example.com"))
    assert acting.query("SELECT action_id FROM crm_sync.action") == [(kept,)]


def test_h28_an_action_that_is_forgotten_while_it_is_decided_is_not_sent(acting: House) -> None:
    action = ask(acting, fields=NEW)

    def forget(_: object) -> None:
        acting.execute(f"DELETE FROM crm_sync.action WHERE action_id = '{action}'")

    acting.served.server.faults.script([Fault("call", "*/query*", callback=forget, times=1)])
    assert decide().enqueued == 0
    assert states(acting) == {}


def test_h28_ended_actions_are_pruned_and_those_that_wait_for_a_person_stay(
    acting: House,
) -> None:
    done = ask(acting, fields=NEW)
    wrong = ask(acting, name="Leed", fields=NEW)
    act(acting)
    acting.execute("UPDATE crm_sync.action SET resolved_at = resolved_at - interval '8 days'")
    assert prune_actions(Warehouse(acting.database_url), days=30) == 0
    assert prune_actions(Warehouse(acting.database_url), days=1) == 1
    assert acting.query("SELECT action_id FROM crm_sync.action") == [(wrong,)]
    assert done != wrong


def test_h28_two_processes_decide_one_after_the_other(acting: House) -> None:
    ask(acting, fields=NEW)
    with (
        held_lease(
            Warehouse(acting.database_url), ACTIONS_LEASE, owner="x", mode=SyncMode.WRITE_BACK
        ),
        pytest.raises(LeaseBusy),
    ):
        decide()
    assert decide().enqueued == 1


def test_h28_actions_are_not_decided_in_another_organisation(acting: House) -> None:
    ask(acting, fields=NEW)
    acting.execute("UPDATE crm_sync.organization SET organization_id = '00D000000000000AAA'")
    with pytest.raises(WrongOrganization):
        decide()
    assert states(acting) == {}
