"""Transactions that commit late, stamps that many records share, edits that move none."""

from collections.abc import Callable

import pytest

from crm_pipeline.sandbox.salesforce.failures import OrgError
from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline_tests.sandbox.client import Client

LEAD = {"LastName": "Doe", "Company": "Acme"}
BEGUN, LATER = "2026-03-02T12:00:00.000Z", "2026-03-02T12:09:30.000Z"
STAMPS = ("CreatedDate", "LastModifiedDate", "SystemModstamp")


def test_a_transaction_is_seen_by_nobody_before_it_commits_and_keeps_its_stamps(
    client: Client, noon_org: SandboxOrg
) -> None:
    changed, binned, gone = noon_org.create_many("Lead", [LEAD] * 3)
    late = noon_org.open_transaction()
    made = late.insert("Lead", LEAD)
    late.update("Lead", changed, {"City": "Bonn"})
    late.delete("Lead", binned)
    late.hard_delete("Lead", gone)
    noon_org.clock.advance(seconds=570)
    assert {row["Id"] for row in client.rows("SELECT Id FROM Lead", path="/queryAll")} == {
        changed, binned, gone,
    }  # fmt: skip
    assert client.rows("SELECT Id FROM Lead WHERE City = 'Bonn'") == []
    late.commit()
    assert [noon_org.get("Lead", made)[name] for name in STAMPS] == [BEGUN] * 3  # type: ignore[index]
    rows = client.rows("SELECT Id, City, IsDeleted, SystemModstamp FROM Lead", path="/queryAll")
    assert {row["Id"]: (row["City"], row["IsDeleted"]) for row in rows} == {
        changed: ("Bonn", False), binned: (None, True), made: (None, False),
    }  # fmt: skip
    assert {row["SystemModstamp"] for row in rows} == {"2026-03-02T12:00:00.000+0000"}


def test_several_transactions_are_open_at_once_while_others_write(noon_org: SandboxOrg) -> None:
    first, second = noon_org.open_transaction(), noon_org.open_transaction()
    early = first.insert("Lead", LEAD)
    noon_org.clock.advance(seconds=60)
    middle = second.insert("Lead", LEAD)
    noon_org.clock.advance(seconds=60)
    last = noon_org.create("Lead", LEAD)
    second.commit()
    assert [row["Id"] for row in noon_org.query("SELECT Id FROM Lead ORDER BY Id")] == [
        middle,
        last,
    ]
    first.rollback()
    assert noon_org.get("Lead", early) is None
    with pytest.raises(OrgError, match="no open transaction"):
        first.commit()


def test_a_record_in_an_open_transaction_is_locked(client: Client, noon_org: SandboxOrg) -> None:
    lead = noon_org.create("Lead", LEAD)
    late, other = noon_org.open_transaction(), noon_org.open_transaction()
    late.update("Lead", lead, {"City": "Bonn"})
    answer = client.call("PATCH", f"/sobjects/Lead/{lead}", {"City": "Ulm"})
    assert answer.json()[0]["errorCode"] == "UNABLE_TO_LOCK_ROW"
    refused: tuple[Callable[[], object], ...] = (
        lambda: other.delete("Lead", lead),
        lambda: noon_org.delete("Lead", lead),
        lambda: noon_org.update_all("Lead", {"City": "Ulm"}),
    )
    for write in refused:
        with pytest.raises(OrgError, match="UNABLE_TO_LOCK_ROW"):
            write()
    late.commit()
    assert client.call("PATCH", f"/sobjects/Lead/{lead}", {"City": "Ulm"}).status_code == 204


def test_records_do_not_move_to_another_parent_while_they_are_locked(noon_org: SandboxOrg) -> None:
    winner, loser = (noon_org.create("Account", {"Name": name}) for name in ("Bolts", "Bolts Ltd"))
    contact = noon_org.create("Contact", {"LastName": "Lovelace", "AccountId": loser})
    late = noon_org.open_transaction()
    late.update("Contact", contact, {"LastName": "King"})
    with pytest.raises(OrgError, match="UNABLE_TO_LOCK_ROW"):
        noon_org.merge("Account", winner, [loser])
    assert [row["Name"] for row in noon_org.query("SELECT Name FROM Account ORDER BY Name")] == [
        "Bolts",
        "Bolts Ltd",
    ]
    late.commit()
    noon_org.merge("Account", winner, [loser])
    moved = noon_org.get("Contact", contact)
    assert moved is not None
    assert (moved["LastName"], moved["AccountId"]) == ("King", winner)


def test_a_refused_change_undoes_the_whole_transaction(noon_org: SandboxOrg) -> None:
    late = noon_org.open_transaction()
    late.insert("Lead", LEAD)
    late.insert("Lead", {"City": "Bonn"})
    with pytest.raises(OrgError, match="REQUIRED_FIELD_MISSING"):
        late.commit()
    assert noon_org.count("Lead") == 0
    assert noon_org.transactions.earliest_begin() is None


def test_an_open_transaction_holds_back_latest_date_covered(
    client: Client, noon_org: SandboxOrg
) -> None:
    late = noon_org.open_transaction()
    noon_org.clock.advance(seconds=3600)
    window = {"start": "2026-03-02T11:00:00Z", "end": "2026-03-02T13:00:00Z"}
    for what in ("updated", "deleted"):
        answer = client.get(f"/sobjects/Lead/{what}", **window).json()
        assert answer["latestDateCovered"] == "2026-03-02T12:00:00.000+0000"
    late.commit()
    answer = client.get("/sobjects/Lead/updated", **window).json()
    assert answer["latestDateCovered"] == "2026-03-02T13:00:00.000+0000"


def test_transactions_are_driven_over_http(client: Client, noon_org: SandboxOrg) -> None:
    lead, binned = noon_org.create_many("Lead", [LEAD] * 2)
    noon_org.delete("Lead", binned)
    name = client.sandbox("begin")["transaction"]
    made = client.sandbox("create", object="Lead", records=[LEAD] * 3, transaction=name)["ids"]
    client.sandbox("delete", object="Lead", id=lead, transaction=name)
    client.sandbox("undelete", object="Lead", id=binned, transaction=name)
    assert [row["Id"] for row in client.rows("SELECT Id FROM Lead")] == [lead]
    client.sandbox("commit", transaction=name)
    assert {row["Id"] for row in client.rows("SELECT Id FROM Lead")} == {binned, *made}
    name = client.sandbox("begin")["transaction"]
    client.sandbox("update", object="Lead", id=binned, values={"City": "Ulm"}, transaction=name)
    client.sandbox("rollback", transaction=name)
    assert noon_org.query("SELECT Id FROM Lead WHERE City = 'Ulm'") == []


def test_many_records_are_put_on_one_stamp_at_once(client: Client, noon_org: SandboxOrg) -> None:
    noon_org.create_many("Lead", [{**LEAD, "City": "Bonn"}] * 12_000 + [LEAD] * 10)
    stamp = "2026-03-01T08:00:00.001Z"
    bonn = "WHERE City = 'Bonn'"
    assert noon_org.update_all("Lead", {"SystemModstamp": stamp}, bonn, stamps="none") == 12_000
    soql = f"SELECT COUNT() FROM Lead WHERE SystemModstamp = {stamp}"
    assert client.get("/query", q=soql).json()["totalSize"] == 12_000
    done = client.sandbox(
        "update",
        object="Lead",
        matching="ORDER BY Id LIMIT 7",
        values={"SystemModstamp": "2026-03-01T09:00:00Z"},
        stamps="none",
    )
    assert done == {"updated": 7}
    assert client.get("/query", q=soql).json()["totalSize"] == 11_993


@pytest.mark.parametrize(
    ("stamps", "moved"),
    [("all", STAMPS[1:]), ("system", STAMPS[2:]), ("none", ())],
)
def test_an_edit_moves_the_stamps_it_is_told_to(
    client: Client, noon_org: SandboxOrg, stamps: str, moved: tuple[str, ...]
) -> None:
    lead = noon_org.create("Lead", LEAD)
    noon_org.clock.advance(seconds=570)
    client.sandbox("update", object="Lead", id=lead, values={"City": "Bonn"}, stamps=stamps)
    record = noon_org.get("Lead", lead) or {}
    assert record["City"] == "Bonn"
    assert {name: record[name] for name in STAMPS} == {
        name: LATER if name in moved else BEGUN for name in STAMPS
    }


def test_an_import_may_date_last_modified_back_while_the_system_stamp_moves(
    noon_org: SandboxOrg,
) -> None:
    lead = noon_org.create("Lead", LEAD)
    noon_org.clock.advance(seconds=570)
    noon_org.update("Lead", lead, {"City": "Bonn", "LastModifiedDate": "1999-12-31T00:00:00Z"})
    record = noon_org.get("Lead", lead) or {}
    assert record["LastModifiedDate"] == "1999-12-31T00:00:00.000Z"
    assert record["SystemModstamp"] == LATER
