"""What SOQL means: which records a condition finds, in which order, and what is refused."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from crm_pipeline.sandbox.salesforce.clock import OrgClock
from crm_pipeline.sandbox.salesforce.failures import OrgError
from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.schema import FieldDefinition

LEADS = (
    {"LastName": "Alpha", "Company": "Acme", "AnnualRevenue": 9, "NumberOfEmployees": 100,
     "Email": "a@acme.example", "Rating": "Hot", "Colours__c": "red;blue",
     "Exact__c": "99999999999999.99", "Birthday__c": "2026-03-01"},
    {"LastName": "beta", "Company": "ACME", "AnnualRevenue": 10, "NumberOfEmployees": 20,
     "Rating": "Cold", "Colours__c": "blue", "Exact__c": "99999999999999.98",
     "Birthday__c": "2026-03-02"},
    {"LastName": "Ümlaut", "Company": "O'Neil \\ Sons", "AnnualRevenue": 1000,
     "Email": "100%_sure@x.example", "Exact__c": "-5", "Birthday__c": "2025-12-31"},
    {"LastName": "delta", "Company": "100% Real_Co", "HasOptedOutOfEmail": True},
)  # fmt: skip


@pytest.fixture(scope="module")
def org() -> Iterator[SandboxOrg]:
    clock = OrgClock(datetime(2026, 3, 2, 12, tzinfo=UTC))
    sandbox = SandboxOrg(clock=clock)
    sandbox.add_field("Lead", FieldDefinition("Colours__c", "Colours", "multipicklist", length=99))
    sandbox.add_field(
        "Lead", FieldDefinition("Exact__c", "Exact", "currency", precision=18, scale=2)
    )
    sandbox.add_field("Lead", FieldDefinition("Birthday__c", "Birthday", "date"))
    for lead in LEADS:
        sandbox.create("Lead", lead)
        clock.advance(seconds=3600)
    account = sandbox.create("Account", {"Name": "Parent Inc"})
    child = sandbox.create("Account", {"Name": "Child Inc", "ParentId": account})
    sandbox.create("Contact", {"LastName": "Linked", "AccountId": child})
    sandbox.create("Contact", {"LastName": "Alone"})
    gone = sandbox.create("Contact", {"LastName": "Gone"})
    sandbox.delete("Contact", gone)
    clock.set(datetime(2026, 3, 2, 12, tzinfo=UTC))
    yield sandbox
    sandbox.close()


CONDITIONS = (
    ("LastName = 'ALPHA'", "A"),
    ("LastName = 'ümlaut'", "Ü"),
    ("LastName IN ('alpha', 'ÜMLAUT')", "AÜ"),
    ("Company = 'acme'", "Ab"),
    ("Company != 'acme'", "Üd"),
    ("Company = 'O\\'Neil \\\\ Sons'", "Ü"),
    ("Company LIKE '%eil \\\\ s%'", "Ü"),
    ("Company LIKE '100\\% Real\\_Co'", "d"),
    ("Email LIKE '100_\\_%'", "Ü"),
    ("Email = null", "bd"),
    ("Email = ''", "bd"),
    ("Email != null", "AÜ"),
    ("Email != 'a@acme.example'", "bÜd"),
    ("NOT Email = 'a@acme.example'", "bÜd"),
    ("NOT (Email LIKE '%acme%' OR Rating = 'Cold')", "Üd"),
    ("AnnualRevenue > 9", "bÜ"),
    ("AnnualRevenue >= 9.0 AND AnnualRevenue < 1e3", "Ab"),
    ("Exact__c = 99999999999999.99", "A"),
    ("Exact__c != 99999999999999.99", "bÜd"),
    ("Exact__c < 0", "Ü"),
    ("NumberOfEmployees IN (20, 100)", "Ab"),
    ("NumberOfEmployees NOT IN (20)", "AÜd"),
    ("HasOptedOutOfEmail = TRUE", "d"),
    ("HasOptedOutOfEmail = false", "AbÜ"),
    ("Colours__c INCLUDES ('red;blue')", "A"),
    ("Colours__c INCLUDES ('red', 'blue')", "Ab"),
    ("Colours__c EXCLUDES ('red')", "bÜd"),
    ("CreatedDate > 2026-03-02T12:00:00Z", "bÜd"),
    ("CreatedDate >= 2026-03-02T14:00:00+01:00", "bÜd"),
    ("CreatedDate < 2026-03-02T09:00:00.000-0400", "A"),
    ("CreatedDate = TODAY", "AbÜd"),
    ("CreatedDate = LAST_N_DAYS:3", "AbÜd"),
    ("Birthday__c = YESTERDAY", "A"),
    ("Birthday__c = 2026-03-02", "b"),
    ("Birthday__c = LAST_YEAR", "Ü"),
    ("Birthday__c >= THIS_YEAR", "Ab"),
    ("Birthday__c = LAST_N_DAYS:2", "Ab"),
    ("Owner.Username LIKE 'integration@%'", "AbÜd"),
    ("Rating = 'Hot' OR (Rating = 'Cold' AND Company = 'Acme')", "Ab"),
    ("LastName = '\\u0041lpha'", "A"),
    ("Name = 'beta'", "b"),
)


@pytest.mark.parametrize(("condition", "initials"), CONDITIONS)
def test_a_condition_finds_what_it_finds_in_salesforce(
    org: SandboxOrg, condition: str, initials: str
) -> None:
    found = org.query(f"SELECT LastName FROM Lead WHERE {condition} ORDER BY CreatedDate")
    assert "".join(row["LastName"][0] for row in found) == initials


ORDERS = (
    ("LastName", "AbdÜ"),
    ("AnnualRevenue", "dAbÜ"),
    ("AnnualRevenue DESC NULLS LAST", "ÜbAd"),
    ("NumberOfEmployees DESC, LastName", "dÜAb"),
    ("Exact__c ASC NULLS LAST LIMIT 1", "Ü"),
    ("LastName LIMIT 2 OFFSET 1", "bd"),
)


@pytest.mark.parametrize(("order", "initials"), ORDERS)
def test_records_come_in_the_order_asked_for(org: SandboxOrg, order: str, initials: str) -> None:
    found = org.query(f"select lastname from lead order by {order}")
    assert "".join(row["LastName"][0] for row in found) == initials


REFUSALS = (
    ("SELECT Nope FROM Lead", "INVALID_FIELD", "No such column 'Nope' on entity 'Lead'"),
    ("SELECT Nope FROM Lead", "INVALID_FIELD", "ERROR at Row:1:Column:8"),
    ("SELECT Id\nFROM Lead WHERE Nope = 1", "INVALID_FIELD", "ERROR at Row:2:Column:17"),
    ("SELECT Boss.Name FROM Lead", "INVALID_FIELD", "Didn't understand relationship 'Boss'"),
    ("SELECT Owner.Nope FROM Lead", "INVALID_FIELD", "No such column 'Nope' on entity"),
    ("SELECT Id FROM Nope", "INVALID_TYPE", "sObject type 'Nope' is not supported"),
    ("SELECT Id, id FROM Lead", "MALFORMED_QUERY", "duplicate field selected: Id"),
    ("SELECT FROM Lead", "MALFORMED_QUERY", "unexpected token"),
    ("SELECT Id FROM Lead WHERE", "MALFORMED_QUERY", "unexpected token: <EOF>"),
    ("SELECT Id FROM Lead; DROP TABLE Lead", "MALFORMED_QUERY", "unexpected token: ';'"),
    ("SELECT Id FROM Lead WHERE LastName = 'x", "MALFORMED_QUERY", "unexpected token"),
    ("SELECT Id FROM Lead WHERE Rating = 'a' AND Rating = 'b' OR Rating = 'c'",
     "MALFORMED_QUERY", "unexpected token: 'OR'"),
    ("SELECT Id FROM Lead WHERE CreatedDate > '2026-01-01'", "INVALID_FIELD",
     "must be of type dateTime and should not be enclosed in quotes"),
    ("SELECT Id FROM Lead WHERE CreatedDate > 2026-01-01", "INVALID_FIELD", "dateTime"),
    ("SELECT Id FROM Lead WHERE LastName = 5", "INVALID_FIELD", "should be enclosed in quotes"),
    ("SELECT Id FROM Lead WHERE Id = 'abc'", "INVALID_QUERY_FILTER_OPERATOR", "invalid ID field"),
    ("SELECT Id FROM Lead WHERE Description = 'x'", "INVALID_FIELD", "can not be filtered"),
    ("SELECT FIELDS(ALL) FROM Lead", "MALFORMED_QUERY", "LIMIT of at most 200"),
)  # fmt: skip


@pytest.mark.parametrize(("soql", "code", "message"), REFUSALS)
def test_a_wrong_query_is_refused_in_salesforces_words(
    org: SandboxOrg, soql: str, code: str, message: str
) -> None:
    with pytest.raises(OrgError) as refused:
        org.query(soql)
    assert refused.value.code == code
    assert message in refused.value.message


def test_a_query_reaches_parents_of_parents_and_says_null_where_there_is_none(
    org: SandboxOrg,
) -> None:
    found = org.query(
        "SELECT LastName, Account.Name, Account.Parent.Owner.Name FROM Contact ORDER BY LastName"
    )
    assert found == [
        {"LastName": "Alone", "Account": None},
        {
            "LastName": "Linked",
            "Account": {
                "Name": "Child Inc",
                "Parent": {"Owner": {"Name": "Integration User"}},
            },
        },
    ]


def test_a_semi_join_finds_the_records_that_others_point_to(org: SandboxOrg) -> None:
    inner = "SELECT AccountId FROM Contact WHERE LastName = 'Linked'"
    found = org.query(f"SELECT Name FROM Account WHERE Id IN ({inner})")
    assert [row["Name"] for row in found] == ["Child Inc"]
    others = org.query(f"SELECT Name FROM Account WHERE Id NOT IN ({inner})")
    assert [row["Name"] for row in others] == ["Parent Inc"]


def test_ids_compare_in_both_their_lengths(org: SandboxOrg) -> None:
    [row] = org.query("SELECT Id FROM Lead WHERE LastName = 'Alpha'")
    for given in (row["Id"], row["Id"][:15]):
        assert len(org.query(f"SELECT Id FROM Lead WHERE Id = '{given}'")) == 1


def test_deleted_records_are_found_only_where_they_are_asked_for(org: SandboxOrg) -> None:
    soql = "SELECT Id FROM Contact WHERE LastName = 'Gone'"
    assert org.query(soql) == []
    assert len(org.query(soql, include_deleted=True)) == 1
    assert len(org.query(soql + " ALL ROWS")) == 1


def test_records_are_counted_and_grouped(org: SandboxOrg) -> None:
    found = org.query(
        "SELECT Company, COUNT(Id) many, SUM(AnnualRevenue), MAX(NumberOfEmployees) "
        "FROM Lead WHERE Company = 'Acme' GROUP BY Company"
    )
    assert [(row["many"], int(row["expr0"]), row["expr1"]) for row in found] == [(2, 19, 100)]


def test_fields_standard_leaves_out_custom_fields_and_fields_all_does_not(org: SandboxOrg) -> None:
    [standard] = org.query("SELECT FIELDS(STANDARD) FROM Lead LIMIT 1")
    [everything] = org.query("SELECT FIELDS(ALL) FROM Lead LIMIT 1")
    assert "Exact__c" not in standard
    assert "Exact__c" in everything
    assert set(standard) < set(everything)


def test_a_formula_is_computed_when_it_is_read(org: SandboxOrg) -> None:
    org.add_field(
        "Account",
        FieldDefinition(
            "Shout__c", "Shout", "string", length=99, calculated=True,
            formula=lambda record, _org: str(record["Name"]).upper(),
        ),
    )  # fmt: skip
    found = org.query("SELECT Shout__c FROM Account WHERE Shout__c LIKE 'PARENT%'")
    assert found == [{"Shout__c": "PARENT INC"}]
