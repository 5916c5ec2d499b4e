"""Records in Python: stamps, checks, exact values, the bin, and going on after a restart."""

from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import pytest

from crm_pipeline.sandbox.salesforce import identifiers
from crm_pipeline.sandbox.salesforce.failures import OrgError
from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.schema import FieldDefinition

LEAD = {"LastName": "Doe", "Company": "Acme"}
STAMPS = ("CreatedDate", "LastModifiedDate", "SystemModstamp")


def stamps(org: SandboxOrg, lead: str) -> tuple[str, ...]:
    record = org.get("Lead", lead)
    assert record is not None
    return tuple(record[name][11:19] for name in STAMPS)


def test_ids_are_sequential_checked_and_accepted_in_both_lengths(noon_org: SandboxOrg) -> None:
    first, second = noon_org.create_many("Lead", [LEAD, LEAD])
    assert identifiers.number_of(second) == identifiers.number_of(first) + 1
    assert len(first) == 18
    noon_org.update("Lead", first[:15], {"Company": "Short"})
    assert identifiers.normalise(first.lower()[:15] + first[15:]) == first
    assert identifiers.normalise("not an id") is None


def test_each_kind_of_change_moves_its_own_stamps(noon_org: SandboxOrg) -> None:
    lead = noon_org.create("Lead", LEAD)
    noon_org.clock.advance(seconds=60)
    noon_org.update("Lead", lead, {"Company": "New"})
    assert stamps(noon_org, lead) == ("12:00:00", "12:01:00", "12:01:00")
    noon_org.clock.advance(seconds=60)
    noon_org.delete("Lead", lead)
    assert stamps(noon_org, lead) == ("12:00:00", "12:01:00", "12:02:00")
    noon_org.clock.advance(seconds=60)
    noon_org.undelete("Lead", lead)
    assert stamps(noon_org, lead) == ("12:00:00", "12:01:00", "12:03:00")


def test_rows_may_carry_stamps_and_ids_of_their_own(noon_org: SandboxOrg) -> None:
    own = identifiers.make_id("00Q", 777)
    noon_org.create_many("Lead", [{**LEAD, "Id": own, "CreatedDate": "2020-01-01T00:00:00Z"}, LEAD])
    assert stamps(noon_org, own) == ("00:00:00", "00:00:00", "00:00:00")
    following = noon_org.create("Lead", LEAD)
    assert identifiers.number_of(following) > 777


def test_deleting_an_account_takes_its_contacts_along_and_back(noon_org: SandboxOrg) -> None:
    account = noon_org.create("Account", {"Name": "Acme"})
    early = noon_org.create("Contact", {"LastName": "Early", "AccountId": account})
    contact = noon_org.create("Contact", {"LastName": "Doe", "AccountId": account})
    noon_org.delete("Contact", early)
    noon_org.clock.advance(seconds=5)
    noon_org.delete("Account", account)
    assert noon_org.count("Contact") == 0
    noon_org.undelete("Account", account)
    alive = [row["Id"] for row in noon_org.query("SELECT Id FROM Contact")]
    assert alive == [contact]


def test_a_hard_deleted_record_is_gone_even_from_the_bin(noon_org: SandboxOrg) -> None:
    lead = noon_org.create("Lead", LEAD)
    noon_org.delete("Lead", lead)
    noon_org.hard_delete("Lead", lead)
    assert noon_org.get("Lead", lead) is None
    assert noon_org.count("Lead", include_deleted=True) == 0


REFUSALS = (
    ({"LastName": "Doe"}, "REQUIRED_FIELD_MISSING"),
    ({**LEAD, "Nope": 1}, "INVALID_FIELD"),
    ({**LEAD, "LastName": "x" * 81}, "STRING_TOO_LONG"),
    ({**LEAD, "Email": "no address"}, "INVALID_EMAIL_ADDRESS"),
    ({**LEAD, "NumberOfEmployees": "many"}, "INVALID_TYPE_ON_FIELD_IN_RECORD"),
    ({**LEAD, "NumberOfEmployees": 1 << 40}, "NUMBER_OUTSIDE_VALID_RANGE"),
    ({**LEAD, "AnnualRevenue": float("nan")}, "INVALID_TYPE_ON_FIELD_IN_RECORD"),
    ({**LEAD, "HasOptedOutOfEmail": "maybe"}, "INVALID_TYPE_ON_FIELD_IN_RECORD"),
    ({**LEAD, "OwnerId": "xyz"}, "MALFORMED_ID"),
    ({**LEAD, "OwnerId": identifiers.make_id("005", 999)}, "INVALID_CROSS_REFERENCE_KEY"),
    ({**LEAD, "OwnerId": identifiers.make_id("001", 1)}, "FIELD_INTEGRITY_EXCEPTION"),
    ({**LEAD, "Name": "Doe"}, "INVALID_FIELD_FOR_INSERT_UPDATE"),
)


@pytest.mark.parametrize(("values", "code"), REFUSALS)
def test_a_bad_row_is_refused_and_leaves_nothing_behind(
    noon_org: SandboxOrg, values: dict[str, object], code: str
) -> None:
    with pytest.raises(OrgError) as refused:
        noon_org.create_many("Lead", [LEAD, values])
    assert refused.value.code == code
    assert noon_org.count("Lead") == 0


def test_a_unique_value_is_taken_once_whatever_its_case(noon_org: SandboxOrg) -> None:
    first = noon_org.create("Lead", {**LEAD, "External_Key__c": "key-1"})
    for rows in ([{**LEAD, "External_Key__c": "KEY-1"}], [{**LEAD, "External_Key__c": "k"}] * 2):
        with pytest.raises(OrgError) as refused:
            noon_org.create_many("Lead", rows)
        assert refused.value.code == "DUPLICATE_VALUE"
    noon_org.update("Lead", first, {"External_Key__c": "Key-1"})


def test_a_deleted_record_takes_no_update(noon_org: SandboxOrg) -> None:
    lead = noon_org.create("Lead", LEAD)
    noon_org.delete("Lead", lead)
    with pytest.raises(OrgError) as refused:
        noon_org.update("Lead", lead, {"Company": "X"})
    assert refused.value.code == "ENTITY_IS_DELETED"


NUMBERS = ("99999999999999.99", "-0.01", "1234567890123456", "0", "10000000")


@pytest.mark.parametrize("text", NUMBERS)
def test_a_decimal_keeps_all_its_digits(noon_org: SandboxOrg, text: str) -> None:
    field = FieldDefinition("Exact__c", "Exact", "currency", precision=18, scale=2)
    noon_org.add_field("Lead", field)
    lead = noon_org.create("Lead", {**LEAD, "Exact__c": text})
    record = noon_org.get("Lead", lead)
    assert record is not None
    assert record["Exact__c"] == Decimal(text)
    assert len(noon_org.query(f"SELECT Id FROM Lead WHERE Exact__c = {text}")) == 1


def test_a_private_org_forgets_and_one_with_a_path_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "org.sqlite"
    org = SandboxOrg(path)
    org.add_field("Lead", FieldDefinition("Shoe__c", "Shoe", "double", precision=4, scale=1))
    lead = org.create("Lead", {**LEAD, "Shoe__c": "42.5"})
    identity = org.organization_id
    org.close()
    again = SandboxOrg(path)
    record = again.get("Lead", lead)
    assert record is not None
    assert record["Shoe__c"] == Decimal("42.5")
    assert again.organization_id == identity
    assert again.create("Lead", LEAD) != lead
    again.close()
    private = SandboxOrg()
    place = private.store.path
    private.close()
    assert not place.exists()


def test_a_transaction_takes_everything_back(noon_org: SandboxOrg) -> None:
    with suppress(RuntimeError), noon_org.transaction():
        noon_org.create("Lead", LEAD)
        raise RuntimeError
    assert noon_org.count("Lead") == 0


def test_many_records_change_by_a_function_of_what_they_are(noon_org: SandboxOrg) -> None:
    leads = noon_org.create_many("Lead", [{**LEAD, "NumberOfEmployees": n} for n in range(5)])
    noon_org.update_many(
        "Lead", leads, lambda record: {"NumberOfEmployees": record["NumberOfEmployees"] + 1}
    )
    found = noon_org.query("SELECT NumberOfEmployees FROM Lead ORDER BY NumberOfEmployees")
    assert [row["NumberOfEmployees"] for row in found] == [1, 2, 3, 4, 5]


def test_a_merged_record_names_its_winner_and_its_children_stay_there(
    noon_org: SandboxOrg,
) -> None:
    winner, loser = noon_org.create_many("Account", [{"Name": "A"}, {"Name": "B"}])
    contact = noon_org.create("Contact", {"LastName": "Doe", "AccountId": loser})
    noon_org.clock.advance(seconds=1)
    noon_org.merge("Account", winner, [loser])
    gone = noon_org.get("Account", loser)
    assert gone is not None
    assert (gone["IsDeleted"], gone["MasterRecordId"]) == (True, winner)
    noon_org.undelete("Account", loser)
    child = noon_org.get("Contact", contact)
    assert child is not None
    assert (child["AccountId"], child["SystemModstamp"][17:19]) == (winner, "01")


def test_a_converted_lead_says_what_it_became(noon_org: SandboxOrg) -> None:
    lead = noon_org.create("Lead", {**LEAD, "Email": "doe@acme.example"})
    became = noon_org.convert_lead(lead)
    record = noon_org.get("Lead", lead)
    contact = noon_org.get("Contact", became["contact_id"])
    assert record is not None
    assert contact is not None
    assert record["IsConverted"] is True
    assert record["ConvertedContactId"] == became["contact_id"]
    assert (contact["Email"], contact["AccountId"]) == ("doe@acme.example", became["account_id"])
    with pytest.raises(OrgError):
        noon_org.convert_lead(lead)
