"""H28: actions with odd content are refused in words, or do what they can only mean."""

import random
import string
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from crm_pipeline.actions.asking import new_action, options_typed
from crm_pipeline.actions.refusing import REMEDIES
from crm_pipeline.errors import UsageError
from crm_pipeline.sandbox.salesforce.schema import FieldDefinition
from crm_pipeline.warehouse import actions as desk
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline_tests.cases.acting import act, acting, ask, decide, records, told
from crm_pipeline_tests.cases.writing import drain, ids, states, update, wish
from crm_pipeline_tests.house import House

__all__ = ["acting"]

NEW = {"LastName": "Doe", "Company": "Acme", "Email": "new@example.com"}
KEY = {"external_id_field": "External_Key__c", "external_id": "K1"}
ODD = "".join(random.Random(1).choices(string.ascii_letters, k=20_000))
"""So long that no index of PostgreSQL takes it, and no address of a call."""


def as_sent(house: House, fields: str) -> str:
    """An action whose fields are JSON as a tool wrote it, of any size."""
    with psycopg.connect(house.database_url) as connection:
        connection.execute(
            "INSERT INTO crm_sync.action (action_id, kind, object_name, record_id, fields)"
            f" VALUES ('odd', 'update', 'Lead', %s, {fields})".encode(),
            [ids(house)[1]],
        )
    return "odd"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ("'{\"Lead_Score__c\": 1e5000}'", "UNFIT_VALUE"),
        ('\'{"NumberOfEmployees": "1e5000"}\'', "UNFIT_VALUE"),
        ('\'{"Lead_Score__c": "1e99999999999999"}\'', "UNFIT_VALUE"),
        ("'{\"Description\": 1e40000}'", "UNFIT_VALUE"),
        ("('{\"Title\": ' || repeat('[', 3000) || repeat(']', 3000) || '}')::jsonb", "BAD_VALUE"),
    ],
)
def test_h28_values_without_end_are_refused_and_stop_nobody(
    acting: House, fields: str, code: str
) -> None:
    odd = as_sent(acting, fields)
    right = ask(acting, fields=NEW)
    act(acting)
    assert (told(acting, odd)["state"], told(acting, odd)["code"]) == ("refused", code)
    assert told(acting, right)["state"] == "applied"


def test_h28_a_number_of_thousands_of_digits_is_delivered_where_it_fits(acting: House) -> None:
    """A text holds it; the drainer must not stumble over what the decision let pass."""
    odd = as_sent(acting, "'{\"Description\": 1e5000}'")
    act(acting)
    assert told(acting, odd)["state"] == "applied"
    found = records(acting, f"SELECT Description FROM Lead WHERE Id = '{ids(acting)[1]}'")
    assert found == [{"Description": f"1{5000 * '0'}"}]


def test_h28_a_computed_number_without_end_is_parked_and_stops_nobody(acting: House) -> None:
    huge, tiny = ids(acting)[:2]
    wish(acting, update(huge, Lead_Score__c=Decimal("1e5000")),
         update(tiny, Lead_Score__c=Decimal("1e-60")))  # fmt: skip
    drain(acting)
    assert states(acting) == {"applied": 1, "parked": 1}


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        ({"kind": "upsert", "external_id_field": "External_Key__c", "external_id": ODD}, "BAD_KEY"),
        ({"kind": "upsert", "match_email": f"{ODD}@x.org", **KEY}, "BAD_KEY"),
        ({"kind": "update", "match_email": f"{ODD}@x.org", "record_id": "00Q"}, "BAD_KEY"),
        ({"name": "CampaignMember", "options": {"campaign": ODD}}, "BAD_OPTION"),
        ({"options": {"owner": ODD}}, "BAD_OPTION"),
    ],
    ids=["key", "address beside a key", "address beside an id", "campaign", "owner"],
)
def test_h28_names_without_end_are_refused_and_stop_nobody(
    acting: House, facts: dict[str, Any], code: str
) -> None:
    odd = ask(acting, fields=NEW, **facts)
    right = ask(acting, fields=NEW)
    act(acting)
    assert told(acting, odd)["code"] == code
    assert told(acting, right)["state"] == "applied"


def test_h28_an_object_whose_name_has_no_end_cannot_even_be_asked_for(acting: House) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        ask(acting, name=ODD, fields=NEW)
    with pytest.raises(UsageError, match="no object name"):
        new_action(requested_by="cli", object_name=ODD, fields=NEW, options={})


def test_h28_lists_of_fields_may_hold_blanks_and_no_field_that_is_none(acting: House) -> None:
    lead = ids(acting)[0]
    acting.org.update("Lead", lead, {"Title": "Theirs", "City": "Theirs"})
    fields = {"Title": "Ours", "City": "Ours"}
    spared = ask(acting, "update", record_id=lead, fields=fields,
                 options=options_typed(["only_empty=Title, City,"]))  # fmt: skip
    refused = ask(acting, "update", record_id=lead, fields=fields,
                  options={"only_empty": ["Titel"]})  # fmt: skip
    act(acting)
    assert told(acting, spared)["code"] == "CHANGED_IN_CRM"
    line = told(acting, refused)
    assert line["code"] == "BAD_OPTION"
    assert "Title" in line["reason"]
    assert records(acting, f"SELECT City FROM Lead WHERE Id = '{lead}'") == [{"City": "Theirs"}]


def test_h28_an_owner_alone_can_be_given(acting: House) -> None:
    owner = {"owner": "ada@co.example"}
    action = ask(acting, "update", record_id=ids(acting)[0], options=owner)
    empty = ask(acting, name="Task", options=owner)
    act(acting)
    assert told(acting, action)["state"] == "applied"
    assert told(acting, empty)["code"] == "NO_FIELDS", "nobody wants a task of nothing"


@pytest.mark.parametrize(
    ("field", "becomes", "value"),
    [
        *(("Lead_Score__c", becomes, 50) for becomes in (50, 50.0, "50", "50.0")),
        ("Company", "007", "007"),
        ("Company", "50", "50"),
    ],
)
def test_h28_a_rule_knows_a_number_however_it_is_written(
    acting: House, field: str, becomes: Any, value: Any
) -> None:
    rule = {
        "when": {"record": "Lead", "field": field, "becomes": becomes},
        "do": {"update": "Lead", "match": "record"},
        "fields": {"Title": "Hot"},
    }
    acting.configure(actions={"rules": {"hot": rule}})
    decide()
    lead = ids(acting)[0]
    acting.org.update("Lead", lead, {field: value})
    acting.sync()
    act(acting)
    assert records(acting, f"SELECT Title FROM Lead WHERE Id = '{lead}'") == [{"Title": "Hot"}]


def test_h28_a_case_keeps_the_address_of_a_lead_and_by_a_key_too_gets_its_contact(
    acting: House,
) -> None:
    contact = acting.org.create("Contact", {"LastName": "C", "Email": "c@example.com"})
    ask(acting, name="Case", match_email="l0@example.com", fields={"Subject": "Help"})
    keyed = {"external_id_field": "Crm_Pipeline_Key__c", "external_id": "case 1"}
    ask(acting, "upsert", name="Case", match_email="c@example.com", fields={"Subject": "Key"},
        **keyed)  # fmt: skip
    act(acting)
    found = records(acting, "SELECT Subject, SuppliedEmail, ContactId FROM Case ORDER BY Subject")
    assert found == [
        {"Subject": "Help", "SuppliedEmail": "l0@example.com", "ContactId": None},
        {"Subject": "Key", "SuppliedEmail": None, "ContactId": contact},
    ]


def test_h28_a_case_of_two_leads_is_held_for_nobody(acting: House) -> None:
    for name in ("One", "Two"):
        acting.org.create("Lead", {**NEW, "LastName": name})
    ask(acting, name="Case", match_email=NEW["Email"], fields={"Subject": "Help"})
    act(acting)
    assert records(acting, "SELECT SuppliedEmail FROM Case") == [{"SuppliedEmail": NEW["Email"]}]


def test_h28_an_update_by_a_key_needs_no_person_whatever_stands_beside_it(acting: House) -> None:
    case = acting.org.create("Case", {"Subject": "Old", "Crm_Pipeline_Key__c": "case 1"})
    keyed = {"external_id_field": "Crm_Pipeline_Key__c", "external_id": "case 1"}
    for beside in ("nobody", "stranger@example.com"):
        action = ask(acting, "update", name="Case", match_email=beside,
                     fields={"Subject": beside}, **keyed)  # fmt: skip
        act(acting)
        assert told(acting, action)["record_id"] == case
    assert records(acting, "SELECT Subject, SuppliedEmail FROM Case") == [
        {"Subject": "stranger@example.com", "SuppliedEmail": None}
    ]


def test_h28_a_member_by_a_key_is_made_once_and_then_only_its_status_is_written(
    acting: House,
) -> None:
    keyed = {"external_id_field": "Crm_Pipeline_Key__c", "external_id": "member 1"}
    for status in ("Sent", "Responded"):
        action = ask(acting, "upsert", name="CampaignMember", fields={"Status": status},
                     match_email="l0@example.com", options={"campaign": "Spring"},
                     **keyed)  # fmt: skip
        act(acting)
        assert told(acting, action)["state"] == "applied"
    assert records(acting, "SELECT Status FROM CampaignMember") == [{"Status": "Responded"}]


def test_h28_a_campaign_is_found_by_a_name_that_looks_like_an_id(acting: House) -> None:
    campaign = acting.org.create("Campaign", {"Name": "Webinar20260315"})
    for named in ("Webinar20260315", campaign, campaign[:15]):
        ask(acting, name="CampaignMember", match_email="l0@example.com",
            options={"campaign": named})  # fmt: skip
        act(acting)
    assert records(acting, "SELECT CampaignId FROM CampaignMember") == [{"CampaignId": campaign}]


def test_h28_what_cannot_be_looked_for_says_what_can_be_done_without_it(acting: House) -> None:
    number = FieldDefinition(
        "Shop_No__c", "Shop No", "double", precision=18, scale=0, unique=True, external_id=True
    )
    acting.org.add_field("Lead", number)
    key = {"external_id_field": "Shop_No__c", "external_id": "4711"}
    fields = {"LastName": "Up", "Company": "Co"}
    plain = ask(acting, "upsert", fields=fields, **key)
    spared = ask(acting, "upsert", fields=fields, options={"only_new": ["LastName"]}, **key)
    act(acting)
    assert told(acting, plain)["state"] == "applied"
    for _ in range(2):
        act(acting)
    line = told(acting, spared)
    assert line["code"] == "NO_KEY_FIELD"
    assert "without `only_new`" in line["remedy"]


def test_h28_every_remedy_says_whether_to_requeue_or_to_ask_anew() -> None:
    """What an action says does not change: who corrects it and requeues it would wait for ever."""
    ways = ("requeue", "another action id")
    without = [code for code, text in REMEDIES.items() if not any(way in text for way in ways)]
    assert without == ["CONSENT_NOT_LOOSENED"], "no action does that"


def test_h28_a_wrong_id_is_corrected_by_the_requeue_that_the_remedy_names(acting: House) -> None:
    action = ask(acting, "update", record_id="00Q", fields={"Title": "Boss"})
    act(acting)
    assert "requeue ID --record-id RECORD" in told(acting, action)["remedy"]
    lead = ids(acting)[0]
    desk.requeue(Warehouse(acting.database_url), action_ids=[action], record_id=lead)
    act(acting)
    line = told(acting, action)
    assert (line["state"], line["record_id"]) == ("applied", lead)


def test_h28_the_remedy_of_a_wrong_request_is_another_action(acting: House) -> None:
    action = ask(acting, fields=NEW, options={"if_found": "wrong"})
    act(acting)
    assert told(acting, action)["remedy"].endswith("ask again under another action id.")
