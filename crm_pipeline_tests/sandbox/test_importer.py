"""Importing what real tools export: trees with plans, CSV exports, and what they get wrong."""

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from crm_pipeline.sandbox.salesforce.identifiers import make_id
from crm_pipeline.sandbox.salesforce.importer import (
    Importer,
    ImportRefused,
    import_csv,
    import_tree,
)
from crm_pipeline.sandbox.salesforce.org import SandboxOrg


@pytest.fixture
def org() -> Iterator[SandboxOrg]:
    sandbox = SandboxOrg()
    yield sandbox
    sandbox.close()


def tree(kind: str, reference: str, **values: Any) -> dict[str, Any]:
    return {"attributes": {"type": kind, "referenceId": reference}, **values}


def written(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return path


def exported(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


ACCOUNTS = {"records": [tree("Account", "AccountRef1", Name="Northwind")]}
CONTACTS = {
    "records": [
        tree("Contact", "ContactRef1", LastName="Hall", AccountId="@AccountRef1"),
        tree("Contact", "ContactRef2", LastName="Ng", AccountId="@AccountRef1"),
    ]
}
PLAN = [
    {"sobject": "Account", "saveRefs": True, "resolveRefs": False, "files": ["Account.json"]},
    {"sobject": "Contact", "saveRefs": False, "resolveRefs": True, "files": ["Contact.json"]},
]


def parents(org: SandboxOrg) -> set[tuple[str, str]]:
    rows = org.query("SELECT LastName, Account.Name FROM Contact")
    return {(one["LastName"], one["Account"]["Name"]) for one in rows}


def test_a_plan_brings_its_files_with_their_references(org: SandboxOrg, tmp_path: Path) -> None:
    written(tmp_path / "Account.json", ACCOUNTS)
    written(tmp_path / "Contact.json", CONTACTS)
    plan = written(tmp_path / "Account-Contact-plan.json", PLAN)
    assert import_tree(org, [plan]) == {"Account": 1, "Contact": 2}
    assert parents(org) == {("Hall", "Northwind"), ("Ng", "Northwind")}


def test_the_order_of_files_does_not_matter(org: SandboxOrg, tmp_path: Path) -> None:
    contacts = written(tmp_path / "Contact.json", CONTACTS)
    accounts = written(tmp_path / "Account.json", ACCOUNTS)
    assert import_tree(org, [contacts, accounts]) == {"Account": 1, "Contact": 2}
    assert parents(org) == {("Hall", "Northwind"), ("Ng", "Northwind")}


def test_a_directory_with_a_plan_counts_no_file_twice(org: SandboxOrg, tmp_path: Path) -> None:
    written(tmp_path / "Account.json", ACCOUNTS)
    written(tmp_path / "Contact.json", CONTACTS)
    written(tmp_path / "plan.json", PLAN)
    assert import_tree(org, [tmp_path]) == {"Account": 1, "Contact": 2}


def test_children_nested_in_their_parent_find_it(org: SandboxOrg, tmp_path: Path) -> None:
    account = tree("Account", "AccountRef1", Name="Northwind")
    account["Contacts"] = {
        "records": [
            tree("Contact", "ContactRef1", LastName="Hall"),
            tree("Contact", "ContactRef2", LastName="Ng"),
        ]
    }
    deal = tree("Opportunity", "OppRef1", Name="Deal", StageName="Prospecting")
    account["Opportunities"] = {"records": [deal | {"CloseDate": "2030-01-01"}]}
    file = written(tmp_path / "tree.json", {"records": [account]})
    assert import_tree(org, [file]) == {"Account": 1, "Contact": 2, "Opportunity": 1}
    assert parents(org) == {("Hall", "Northwind"), ("Ng", "Northwind")}


def test_records_that_refer_to_each_other_in_a_circle_arrive(
    org: SandboxOrg, tmp_path: Path
) -> None:
    records = [
        tree("Contact", "One", LastName="One", ReportsToId="@Two"),
        tree("Contact", "Two", LastName="Two", ReportsToId="@One"),
        tree("Contact", "Self", LastName="Self", ReportsToId="@Self"),
    ]
    assert import_tree(org, [written(tmp_path / "c.json", {"records": records})]) == {"Contact": 3}
    rows = org.query("SELECT LastName, ReportsTo.LastName FROM Contact")
    assert {(one["LastName"], one["ReportsTo"]["LastName"]) for one in rows} == {
        ("One", "Two"),
        ("Two", "One"),
        ("Self", "Self"),
    }


def test_a_reference_to_a_record_in_no_file_is_refused(org: SandboxOrg, tmp_path: Path) -> None:
    contacts = written(tmp_path / "Contact.json", CONTACTS)
    with pytest.raises(ImportRefused, match=r"Contact.json, record 1: AccountId.*@AccountRef1"):
        import_tree(org, [contacts])
    assert org.count("Contact") == 0


def test_amounts_in_json_keep_all_their_digits(org: SandboxOrg, tmp_path: Path) -> None:
    file = tmp_path / "o.json"
    file.write_text(
        '{"records": [{"attributes": {"type": "Opportunity", "referenceId": "r"}, "Name": "Deal",'
        ' "StageName": "Prospecting", "CloseDate": "4000-12-31", "Amount": 99999999999999.99}]}'
    )
    import_tree(org, [file])
    assert org.query("SELECT Amount FROM Opportunity") == [{"Amount": Decimal("99999999999999.99")}]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("not json", "is not JSON"),
        ('{"rows": []}', 'a list called "records"'),
        ('{"records": [{"Name": "x"}]}', "record 1: a record needs attributes"),
        ('[{"sobject": "Lead"}]', "every step of a plan"),
    ],
)
def test_a_file_of_another_form_is_refused_in_words(
    org: SandboxOrg, tmp_path: Path, content: str, complaint: str
) -> None:
    file = tmp_path / "odd.json"
    file.write_text(content)
    with pytest.raises(ImportRefused, match=complaint):
        import_tree(org, [file])


def test_a_missing_file_is_refused_by_name(org: SandboxOrg, tmp_path: Path) -> None:
    with pytest.raises(ImportRefused, match=r"gone.json: cannot be read"):
        import_tree(org, [tmp_path / "gone.json"])


def test_a_csv_export_keeps_newlines_quotes_and_spaces(org: SandboxOrg, tmp_path: Path) -> None:
    text = (
        '\ufeff"LASTNAME","COMPANY","DESCRIPTION","POSTALCODE","ISUNREADBYOWNER"\r\n'
        '"Null","N/A","one\r\ntwo ""three"", \u2028four","00123","true"\r\n'
        '"  spaces  ","\\N","","NA","false"\r\n'
    )
    assert import_csv(org, "Lead", exported(tmp_path / "Lead.csv", text)) == 2
    rows = org.query(
        "SELECT LastName, Company, Description, PostalCode, IsUnreadByOwner FROM Lead ORDER BY Id"
    )
    assert [tuple(one.values()) for one in rows] == [
        ("Null", "N/A", 'one\r\ntwo "three", \u2028four', "00123", True),
        ("  spaces  ", "\\N", None, "NA", False),
    ]


def test_values_are_converted_by_the_fields_type(org: SandboxOrg, tmp_path: Path) -> None:
    text = (
        "Name,StageName,CloseDate,Amount,Probability,IsWon,CreatedDate\n"
        "Deal,Closed Won,2020-02-29T00:00:00.000Z,1234567890123456.78,100,false,"
        "2019-01-02T03:04:05.000+0000\n"
    )
    import_csv(org, "opportunity", exported(tmp_path / "o.csv", text))
    [deal] = org.query("SELECT CloseDate, Amount, Probability, IsWon, CreatedDate FROM Opportunity")
    assert str(deal["CloseDate"]) == "2020-02-29"
    assert deal["Amount"] == Decimal("1234567890123456.78")
    assert deal["IsWon"] is True  # the org computes it from the stage, whatever the file says
    assert str(deal["CreatedDate"]).startswith("2019-01-02")


def test_unknown_columns_become_fields_of_the_type_their_values_have(
    org: SandboxOrg, tmp_path: Path
) -> None:
    text = (
        "LastName,Company,Score__c,Code__c,When__c,Day__c,Yes__c,Long__c,Empty__c,Big__c\n"
        f"A,X,1.50,00123,2020-01-01T10:00:00.000Z,2020-01-01,TRUE,{'x' * 300},,1e5\n"
        "B,Y,-2,7,2021-01-01T10:00:00Z,2021-01-01,false,y,,12\n"
    )
    import_csv(org, "Lead", exported(tmp_path / "Lead.csv", text))
    lead = org.catalogue.object("Lead")
    kinds = {
        name: getattr(lead.field(f"{name}__c"), "type", None)
        for name in ("Score", "Code", "When", "Day", "Yes", "Long", "Empty", "Big")
    }
    assert kinds == {
        "Score": "double",
        "Code": "string",
        "When": "datetime",
        "Day": "date",
        "Yes": "boolean",
        "Long": "textarea",
        "Empty": "string",
        "Big": "string",
    }
    [first, _] = org.query("SELECT Score__c, Code__c, Big__c FROM Lead ORDER BY LastName")
    assert first == {"Score__c": Decimal("1.50"), "Code__c": "00123", "Big__c": "1e5"}


def test_an_unknown_object_is_added_with_its_lookups(org: SandboxOrg, tmp_path: Path) -> None:
    records = [
        tree("Account", "A1", Name="Northwind"),
        tree("Site_Visit__c", "V1", Name="First visit", Visited__c="@A1", Remark__c="calm"),
    ]
    file = written(tmp_path / "tree.json", {"records": records})
    assert import_tree(org, [file]) == {"Account": 1, "Site_Visit__c": 1}
    [visit] = org.query("SELECT Name, Visited__r.Name, Remark__c FROM Site_Visit__c")
    assert visit["Visited__r"]["Name"] == "Northwind"
    assert org.catalogue.object("Site_Visit__c").key_prefix not in {"a00", "001"}


def test_unknown_fields_and_objects_can_be_refused(org: SandboxOrg, tmp_path: Path) -> None:
    leads = exported(tmp_path / "Lead.csv", "LastName,Company,Score__c\nA,X,1\n")
    with pytest.raises(ImportRefused, match=r"Lead.csv, row 2: Lead has no field Score__c"):
        import_csv(org, "Lead", leads, on_unknown="error")
    with pytest.raises(ImportRefused, match="the org has no object Visit__c"):
        import_csv(org, "Visit__c", leads, on_unknown="error")
    assert org.count("Lead") == 0


def test_free_ids_are_kept_and_taken_ones_are_mapped(org: SandboxOrg, tmp_path: Path) -> None:
    mine = org.create("Account", {"Name": "Here first"})
    free = make_id("001", 77)
    accounts = exported(
        tmp_path / "Account.csv", f"Id,Name,ParentId\n{mine},Clashing,\n{free[:15]},Free,{mine}\n"
    )
    contacts = exported(
        tmp_path / "Contact.csv", f"Id,LastName,AccountId\n,Hall,{mine}\n,Ng,{free}\n"
    )
    importer = Importer(org)
    assert importer.csv("Account", accounts) == 2
    assert importer.csv("Contact", contacts) == 2
    assert (org.get("Account", mine) or {})["Name"] == "Here first"
    assert (org.get("Account", free) or {})["Name"] == "Free"
    assert parents(org) == {("Hall", "Clashing"), ("Ng", "Free")}
    [child] = org.query("SELECT Parent.Name FROM Account WHERE Name = 'Free'")
    assert child["Parent"]["Name"] == "Clashing"


def test_references_to_records_outside_the_export_are_left_out_and_counted(
    org: SandboxOrg, tmp_path: Path
) -> None:
    stranger = make_id("005", 4_711)
    file = exported(tmp_path / "Lead.csv", f"LastName,Company,OwnerId\nA,X,{stranger}\n")
    importer = Importer(org)
    importer.csv("Lead", file)
    assert importer.left_out == {"Lead.OwnerId": 1}
    assert org.query("SELECT OwnerId FROM Lead") == [{"OwnerId": org.user_id}]


def test_a_refused_record_is_named_and_nothing_stays(org: SandboxOrg, tmp_path: Path) -> None:
    file = exported(tmp_path / "Lead.csv", "LastName,Company\nA,X\nB,\nC,Z\n")
    with pytest.raises(ImportRefused, match=r"Lead.csv, row 3: REQUIRED_FIELD_MISSING"):
        import_csv(org, "Lead", file)
    assert org.count("Lead") == 0


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "name each column once"),
        ("Name,name\na,b\n", "name each column once"),
        ("LastName,Company\nA\n", "row 2: 1 cells under 2 columns"),
        ('LastName,Company\n"A,X\n', "not a CSV file"),
    ],
)
def test_a_broken_csv_is_refused_in_words(
    org: SandboxOrg, tmp_path: Path, text: str, complaint: str
) -> None:
    with pytest.raises(ImportRefused, match=complaint):
        import_csv(org, "Lead", exported(tmp_path / "Lead.csv", text))


def test_a_csv_in_another_encoding_is_refused(org: SandboxOrg, tmp_path: Path) -> None:
    file = tmp_path / "Lead.csv"
    file.write_bytes("LastName,Company\nMüller,X\n".encode("latin-1"))
    with pytest.raises(ImportRefused, match="UTF-8"):
        import_csv(org, "Lead", file)
