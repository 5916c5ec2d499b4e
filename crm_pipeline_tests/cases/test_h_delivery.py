"""H3 to H12, H19, H24, H26: each record's own outcome, and what follows from it."""

import json
from dataclasses import replace
from itertools import combinations

import pytest

from crm_pipeline.crm.salesforce.write_failures import MEANINGS
from crm_pipeline.model.writeback import Intent, Lane, OnDuplicate, Operation, WriteOptions
from crm_pipeline.sandbox.salesforce.faults import Fault, RowFault
from crm_pipeline.sandbox.salesforce.rule_kinds import InactiveOwner, Validation
from crm_pipeline_tests.cases.writing import (
    KEY_FIELD,
    QUICK,
    SLOW_RETRIES,
    assert_conserved,
    codes,
    create,
    drain,
    held_by,
    ids,
    states,
    update,
    wish,
    writes,
    writing,
)
from crm_pipeline_tests.house import House

__all__ = ["writing"]


def upsert(object_name: str, field: str, external_id: str, **fields: str) -> Intent:
    return Intent(
        key=f"upsert {external_id}",
        operation=Operation.UPSERT,
        object_name=object_name,
        fields=fields,
        lane=Lane.ACTION,
        origin="a test",
        external_id_field=field,
        external_id=external_id,
    )


def test_h3_two_upserts_whose_keys_differ_in_case_alone_make_one_record(writing: House) -> None:
    for key in ("ab", "AB"):
        wish(writing, upsert("Lead", "External_Key__c", key, LastName=key, Company="Co"))
    drain(writing)
    drain(writing)
    assert states(writing) == {"applied": 2}
    found = writing.org.query("SELECT LastName FROM Lead WHERE External_Key__c = 'ab'")
    assert [row["LastName"] for row in found] == ["AB"]


def test_h6_an_arrow_in_a_key_is_no_hop_to_another_record(writing: House) -> None:
    loser, winner, *_ = ids(writing)
    writing.org.merge("Lead", winner, [loser])
    wish(writing, update(loser, key="a=>b=>c=>d=>e=>f=>g", Title="Ours"))
    drain(writing)
    drain(writing)
    assert held_by(writing, winner, "Title") == "Ours"


def test_h3_a_key_that_is_not_unique_is_refused_before_anything_is_sent(writing: House) -> None:
    writing.org.retype_field("Lead", KEY_FIELD, unique=False)
    wish(writing, create(LastName="New", Company="Co"))
    drain(writing)
    assert codes(writing) == {"NO_KEY_FIELD": 1}
    assert writing.org.count("Lead") == 10


def test_h3_several_records_with_one_external_id_are_none_that_is_written(writing: House) -> None:
    writing.served.server.faults.script(
        [RowFault("DUPLICATE_EXTERNAL_ID", object_name="Lead", times=1)]
    )
    wish(writing, upsert("Lead", "External_Key__c", "X1", LastName="New", Company="Co"))
    drain(writing)
    assert codes(writing) == {"DUPLICATE_EXTERNAL_ID": 1}


def test_h4_a_deleted_record_is_parked_and_never_revived(writing: House) -> None:
    gone, purged, alive, *_ = ids(writing)
    writing.org.delete("Lead", gone)
    writing.org.hard_delete("Lead", purged)
    wish(writing, *(update(one, Lead_Score__c=5) for one in (gone, purged, alive)))
    drain(writing)
    assert states(writing) == {"applied": 1, "parked": 2}
    assert set(codes(writing)) <= {"ENTITY_IS_DELETED", "NOT_FOUND"}
    assert writing.org.count("Lead") == 8
    assert_conserved(writing)


@pytest.mark.parametrize("is_purged", [False, True])
def test_h5_a_write_for_a_merged_record_goes_to_the_winner(
    writing: House,
    is_purged: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    loser, winner, *_ = ids(writing)
    writing.org.merge("Lead", winner, [loser])
    if is_purged:
        writing.org.clock.advance(3600)
        writing.sync_once("Lead")
        writing.org.empty_bin("Lead")
    wish(writing, update(loser, Lead_Score__c=5))
    drain(writing)
    assert held_by(writing, winner, "Lead_Score__c") == 5
    assert states(writing) == {"applied": 1, "superseded": 1}
    assert codes(writing, "superseded") == {"MERGED": 1}
    assert_conserved(writing)


def test_h5_the_winners_own_newer_value_stays(writing: House) -> None:
    loser, winner, *_ = ids(writing)
    wish(writing, update(loser, Lead_Score__c=5))
    wish(writing, update(winner, Lead_Score__c=9))
    writing.org.merge("Lead", winner, [loser])
    drain(writing)
    assert held_by(writing, winner, "Lead_Score__c") == 9
    assert_conserved(writing)


def test_h6_a_write_for_a_converted_lead_goes_to_its_contact(writing: House) -> None:
    lead = ids(writing)[0]
    contact = writing.org.convert_lead(lead)["contact_id"]
    wish(writing, update(lead, Lead_Score__c=5), update(lead, Company="Other"))
    drain(writing)
    # A contact has no company of its own.
    assert codes(writing) == {"CANNOT_UPDATE_CONVERTED_LEAD": 1}
    assert codes(writing, "superseded") == {"CONVERTED": 1}
    assert held_by(writing, contact, "Lead_Score__c", "Contact") == 5


@pytest.mark.parametrize("size", [0, 1, 3, 5])
def test_h7_of_five_records_any_may_fail_and_the_others_are_written(
    writing: House, size: int
) -> None:
    leads = ids(writing)[:5]
    for round_, failing in enumerate(combinations(leads, size)):
        wish(
            writing,
            *(
                update(one, Email=f"bad{round_}" if one in failing else f"r{round_}@example.com")
                for one in leads
            ),
        )
        drain(writing)
        for one in leads:
            is_written = held_by(writing, one, "Email") == f"r{round_}@example.com"
            assert is_written == (one not in failing)
    assert_conserved(writing)


def test_h8_records_that_were_taken_back_because_of_another_are_written(writing: House) -> None:
    leads = ids(writing)
    rolled_back = [
        RowFault("ALL_OR_NONE_OPERATION_ROLLED_BACK", object_name="Lead", record_id=one)
        for one in leads[1:5]
    ]
    culprit = RowFault(
        "FIELD_CUSTOM_VALIDATION_EXCEPTION", object_name="Lead", record_id=leads[0], times=0
    )
    writing.served.server.faults.script([culprit, *rolled_back])
    wish(writing, *(update(one, Lead_Score__c=5) for one in leads))
    drain(writing)
    assert states(writing) == {"applied": 9, "parked": 1}
    assert codes(writing) == {"FIELD_CUSTOM_VALIDATION_EXCEPTION": 1}


def test_h9_locked_rows_are_tried_again_until_they_are_free(writing: House) -> None:
    leads = ids(writing)
    writing.served.server.faults.script(
        [
            RowFault("UNABLE_TO_LOCK_ROW", object_name="Lead", record_id=one, times=3)
            for one in leads[::3]
        ]
    )
    wish(writing, *(update(one, Lead_Score__c=5) for one in leads))
    assert drain(writing).applied == 10
    assert_conserved(writing)


def test_h9_a_row_that_is_locked_for_ever_is_parked_in_the_end(writing: House) -> None:
    lead = ids(writing)[0]
    writing.served.server.faults.script(
        [RowFault("UNABLE_TO_LOCK_ROW", object_name="Lead", record_id=lead, times=0)]
    )
    wish(writing, update(lead, Lead_Score__c=5))
    assert drain(writing).parked == 1
    assert codes(writing) == {"UNABLE_TO_LOCK_ROW": 1}


def test_h9_a_refusal_that_should_pass_is_not_tried_again_at_once(writing: House) -> None:
    lead = ids(writing)[0]
    writing.served.server.faults.script(
        [RowFault("UNABLE_TO_LOCK_ROW", object_name="Lead", record_id=lead)]
    )
    wish(writing, update(lead, Lead_Score__c=5))
    outcome = drain(writing, manners=SLOW_RETRIES)
    assert (outcome.applied, outcome.waiting) == (0, 1)
    assert writes(writing) == 1


def test_h24_a_record_that_is_locked_by_an_approval_waits_longer(writing: House) -> None:
    lead, other, *_ = ids(writing)
    writing.served.server.faults.script(
        [RowFault("ENTITY_IS_LOCKED", object_name="Lead", record_id=lead, times=2)]
    )
    wish(writing, update(lead, Lead_Score__c=5), update(other, Lead_Score__c=5))
    outcome = drain(writing, manners=SLOW_RETRIES)
    assert (outcome.applied, outcome.waiting) == (1, 1)
    # An hour is the least of two hours' pause, a half of it at random.
    assert writing.query(
        "SELECT not_before > now() + interval '59 minutes' FROM crm_sync.outbox"
        " WHERE state = 'waiting'"
    ) == [(True,)]


def inactive_user(house: House) -> str:
    """A user who has left."""
    facts = {"LastName": "Left", "Username": "left@example.com", "Email": "left@example.com"}
    return house.org.create("User", {**facts, "Alias": "left", "IsActive": False})


def queue(house: House, *objects: str) -> str:
    """A queue that may own records of these objects."""
    facts = {"Name": "Leads", "DeveloperName": "Leads", "Type": "Queue"}
    made = house.org.create("Group", facts)
    for name in objects:
        house.org.create("QueueSobject", {"QueueId": made, "SobjectType": name})
    return made


def test_h24_without_a_default_owner_an_inactive_one_is_parked_with_its_remedy(
    writing: House,
) -> None:
    lead = ids(writing)[0]
    wish(writing, update(lead, OwnerId=inactive_user(writing)))
    drain(writing)
    assert codes(writing) == {"INACTIVE_OWNER_OR_USER": 1}
    [(remedy,)] = writing.query("SELECT remedy FROM crm_sync.write_back_log")
    assert "write_backs.default_owner" in remedy


@pytest.mark.parametrize("gone", ["inactive", "deleted", "wrong queue"])
def test_h24_a_record_for_an_owner_who_is_gone_goes_to_the_default_owner(
    writing: House, gone: str
) -> None:
    default = queue(writing, "Lead")
    writing.configure(write_backs={"default_owner": default})
    former = inactive_user(writing) if gone == "inactive" else queue(writing, "Case")
    if gone == "deleted":
        writing.org.delete("Group", former)
    lead, other, *_ = ids(writing)
    before = held_by(writing, other, "OwnerId")
    wish(writing, update(lead, OwnerId=former), update(other, OwnerId=before, Company="New"))
    wish(writing, create(LastName="New", Company="Co", OwnerId=former))
    drain(writing)
    assert set(states(writing)) == {"applied"}
    assert codes(writing, "applied")["DEFAULT_OWNER"] == 2
    owners = writing.org.query("SELECT OwnerId FROM Lead WHERE LastName = 'New'")
    assert [row["OwnerId"] for row in owners] == [default]
    assert held_by(writing, lead, "OwnerId") == default
    assert held_by(writing, other, "OwnerId") == before
    assert_conserved(writing)


@pytest.mark.parametrize("most_by_calls", [2_000, 1])
def test_h24_a_score_of_a_record_whose_owner_left_lands_by_calls_and_by_a_job(
    writing: House, most_by_calls: int
) -> None:
    default, left = queue(writing, "Lead"), inactive_user(writing)
    writing.configure(write_backs={"default_owner": default})
    lead, other, *_ = ids(writing)
    writing.org.update("Lead", lead, {"OwnerId": left})
    writing.org.rules.add(InactiveOwner("Lead"), 0)
    wish(writing, update(lead, Lead_Score__c=5), update(other, Lead_Score__c=5))
    drain(writing, manners=replace(QUICK, most_by_calls=most_by_calls))
    assert states(writing) == {"applied": 2}
    assert held_by(writing, lead, "Lead_Score__c") == 5
    assert held_by(writing, lead, "OwnerId") == default
    assert held_by(writing, other, "OwnerId") != default
    assert_conserved(writing)


def test_h24_a_default_owner_who_cannot_own_the_record_parks_it_once(writing: House) -> None:
    writing.configure(write_backs={"default_owner": queue(writing, "Case")})
    lead = ids(writing)[0]
    wish(writing, update(lead, OwnerId=inactive_user(writing)))
    drain(writing)
    assert codes(writing) == {"OP_WITH_INVALID_USER_TYPE_EXCEPTION": 1}
    assert writes(writing) == 2


def duplicate_rule(house: House, *matches: str) -> None:
    """Let the org refuse the next create as its duplicate rules do, naming records."""
    records = [{"record": {"Id": one, "attributes": {"type": "Lead"}}} for one in matches]
    error = {
        "statusCode": "DUPLICATES_DETECTED",
        "message": "Use one of these records?",
        "fields": [],
        "duplicateResult": {"matchResults": [{"matchRecords": records}]},
    }
    body = json.dumps([{"success": False, "errors": [error]}])
    path = "*/composite/sobjects/Lead/*"
    house.served.server.faults.script([Fault("status", path, "PATCH", status=200, body=body)])


def test_h10_a_duplicate_is_parked_unless_somebody_decided_otherwise(writing: House) -> None:
    lead = ids(writing)[0]
    duplicate_rule(writing, lead)
    wish(writing, create(LastName="Again", Company="Co"))
    drain(writing)
    assert codes(writing) == {"DUPLICATES_DETECTED": 1}


def test_h10_exactly_one_duplicate_may_be_linked(writing: House) -> None:
    lead, other, *_ = ids(writing)
    options = WriteOptions(on_duplicate=OnDuplicate.LINK)
    duplicate_rule(writing, lead)
    wish(writing, create(LastName="Again", Company="Co", options=options))
    drain(writing)
    assert writing.query("SELECT state, code, written_id FROM crm_sync.outbox") == [
        ("applied", "LINKED", lead)
    ]
    duplicate_rule(writing, lead, other)
    wish(writing, create(LastName="Thrice", Company="Co", options=options))
    drain(writing)
    assert codes(writing) == {"DUPLICATES_DETECTED": 1}
    assert writing.org.count("Lead") == 10


def test_h10_duplicates_are_allowed_by_a_header_of_that_write_alone(writing: House) -> None:
    allowed = WriteOptions(on_duplicate=OnDuplicate.ALLOW)
    wish(writing, create(LastName="A", Company="Co", options=allowed))
    wish(writing, create(LastName="B", Company="Co"))
    drain(writing)
    sent = [request.headers for request in writing.served.server.writes.requests()]
    assert [one.get("sforce-duplicate-rule-header") for one in sent] == ["allowSave=true", None]
    # Left out, the active assignment rule would choose another owner.
    assert [one.get("sforce-auto-assign") for one in sent] == ["FALSE", "FALSE"]


@pytest.mark.parametrize(
    "code",
    [
        "FIELD_CUSTOM_VALIDATION_EXCEPTION",
        "REQUIRED_FIELD_MISSING",
        "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
        "STRING_TOO_LONG",
        "NUMBER_OUTSIDE_VALID_RANGE",
    ],
)
def test_h11_a_refusal_for_good_is_sent_once_and_says_what_to_do(writing: House, code: str) -> None:
    lead, other, *_ = ids(writing)
    writing.served.server.faults.script(
        [RowFault(code, object_name="Lead", record_id=lead, times=1)]
    )
    wish(writing, update(lead, Lead_Score__c=5), update(other, Lead_Score__c=5))
    drain(writing)
    drain(writing)
    assert writes(writing) == 1
    assert writing.query(
        "SELECT code, reason, remedy FROM crm_sync.write_back_log WHERE state = 'parked'"
    ) == [(code, MEANINGS[code].reason, MEANINGS[code].remedy)]
    # Another value is another try.
    wish(writing, update(lead, Lead_Score__c=6))
    drain(writing)
    assert held_by(writing, lead, "Lead_Score__c") == 6


def test_h11_one_wrong_field_does_not_hold_back_the_others_of_its_record(writing: House) -> None:
    lead = ids(writing)[0]
    wish(writing, update(lead, Lead_Score__c=5, Email="no address", Company="New"))
    drain(writing)
    assert held_by(writing, lead, "Company") == "New"
    assert held_by(writing, lead, "Lead_Score__c") == 5
    assert codes(writing) == {"INVALID_EMAIL_ADDRESS": 1}


def test_h11_a_rule_that_names_no_field_is_found_out_field_by_field(writing: House) -> None:
    lead = ids(writing)[0]
    writing.served.server.faults.script(
        [
            RowFault(
                "FIELD_CUSTOM_VALIDATION_EXCEPTION",
                object_name="Lead",
                match={"Company": "Forbidden"},
                times=0,
            )
        ]
    )
    wish(writing, update(lead, Lead_Score__c=5, Company="Forbidden"))
    drain(writing)
    assert held_by(writing, lead, "Lead_Score__c") == 5
    assert codes(writing) == {"FIELD_CUSTOM_VALIDATION_EXCEPTION": 1}


def test_h11_a_rule_that_names_a_field_of_which_nothing_was_sent_ends_all_the_same(
    writing: House,
) -> None:
    lead = ids(writing)[0]
    writing.org.rules.add(Validation("Lead", "Company = 'Forbidden'", fields=("Phone",)), 0)
    wish(writing, update(lead, Lead_Score__c=5, Company="Forbidden"))
    drain(writing, manners=replace(QUICK, patience_seconds=10.0))
    assert held_by(writing, lead, "Lead_Score__c") == 5
    assert codes(writing) == {"FIELD_CUSTOM_VALIDATION_EXCEPTION": 1}


def test_h19_a_field_that_we_may_not_write_is_left_out_and_named(writing: House) -> None:
    lead = ids(writing)[0]
    writing.org.catalogue.set_access("Lead", "Company", "read_only")
    wish(writing, update(lead, Lead_Score__c=5, Company="New", Nowhere__c="x"))
    drain(writing)
    assert held_by(writing, lead, "Lead_Score__c") == 5
    assert codes(writing) == {"INVALID_FIELD_FOR_INSERT_UPDATE": 1, "INVALID_FIELD": 1}
    assert writes(writing) == 1


def test_h26_keys_of_any_characters_find_their_own_record_and_no_other(writing: House) -> None:
    keys = [f"k{n}.inc/{n}?a=b#c%2e..;{n} ä'\"" for n in range(40)]
    for round_ in ("first", "second"):
        intents = [
            upsert("Lead", "External_Key__c", key, LastName=key[:40], Company=round_)
            for key in keys
        ]
        wish(
            writing,
            *(
                Intent(
                    key=f"{round_} {one.key}",
                    operation=one.operation,
                    object_name=one.object_name,
                    fields=one.fields,
                    lane=one.lane,
                    origin=one.origin,
                    external_id_field=one.external_id_field,
                    external_id=one.external_id,
                )
                for one in intents
            ),
        )
        drain(writing)
    found = writing.org.query("SELECT External_Key__c, Company FROM Lead WHERE Company = 'second'")
    assert sorted(row["External_Key__c"] for row in found) == sorted(keys)
    assert writing.org.count("Lead") == 10 + len(keys)


def test_h13_two_upserts_of_one_key_go_in_their_order_and_hold_up_nobody(writing: House) -> None:
    writing.served.server.faults.script(
        [RowFault("UNABLE_TO_LOCK_ROW", object_name="Lead", match={"Company": "first"})]
    )
    first = upsert("Lead", "External_Key__c", "X1", LastName="New", Company="first")
    second = replace(first, key="later", fields={"LastName": "New", "Company": "second"})
    wish(writing, first, second, update(ids(writing)[0], Lead_Score__c=5))
    outcome = drain(writing, manners=SLOW_RETRIES)
    assert (outcome.applied, outcome.waiting) == (1, 2)
    writing.execute("UPDATE crm_sync.outbox SET not_before = now() WHERE state = 'waiting'")
    assert drain(writing).applied == 2
    found = writing.org.query("SELECT Company FROM Lead WHERE External_Key__c = 'X1'")
    assert [row["Company"] for row in found] == ["second"]
