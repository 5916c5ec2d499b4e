"""S17: a person is forgotten everywhere here, and stays forgotten."""

import io
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from crm_pipeline.cli import main
from crm_pipeline.errors import CrmPipelineError, IncompleteRead, LeaseBusy
from crm_pipeline.model.sync import SyncMode
from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.people import seed_org
from crm_pipeline.sandbox.salesforce.running import running
from crm_pipeline.sync.assembly import Installation
from crm_pipeline.sync.forget import find_person, forget_person
from crm_pipeline.sync.reference import sync_reference_dataset
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.erasure import Person
from crm_pipeline.warehouse.lease import held_lease
from crm_pipeline_tests.canaries import PEOPLE_WORDS, PERSON, Canaries
from crm_pipeline_tests.house import House

ADDRESS = PERSON["Email"]
CONTACT = {name: PERSON[name] for name in ("FirstName", "LastName", "Email", "Phone")}
OBJECTS: dict[str, Any] = {
    "Lead": {"fields": [*PERSON, "NumberOfEmployees", "OwnerId"]},
    "Contact": {"fields": [*CONTACT, "AccountId", "OwnerId"]},
    "Task": {"fields": ["Subject", "WhoId"]},
}


@pytest.fixture
def house(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """An org with people, and two leads and a contact that are one and the same person."""
    org = SandboxOrg()
    seed_org(org, records=80)
    with running(org) as served:
        made = House(org, served, tmp_path, database_url, monkeypatch)
        made.configure(
            version=1, objects=OBJECTS, marketing={"enabled": False}, reference_data=False
        )
        yield made
    org.close()


def warehouse_of(house: House) -> Warehouse:
    return Warehouse(house.database_url)


def words_left(house: House) -> list[str]:
    """Where the person can still be read, anywhere in the database."""
    canaries = Canaries()
    canaries.plant(*PEOPLE_WORDS)
    canaries.search_database(house.database_url, leave_out=lambda name: False)
    return canaries.found


def forget(house: House, *arguments: str, answers: str = "") -> int:
    house.monkeypatch.setattr("sys.stdin", io.StringIO(answers))
    return main.run(["forget", *arguments])


def make_unstorable(house: House, lead: str) -> None:
    with house.org.transaction() as connection:
        connection.execute(
            "UPDATE Lead SET NumberOfEmployees = 3000000000, SystemModstamp = ? WHERE Id = ?",
            (house.org.clock.stamp(), lead),
        )


def test_s17_a_person_is_forgotten_by_address_in_tables_tombstones_and_quarantine(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    org = house.org
    kept, merged, odd = (org.create("Lead", PERSON) for _ in range(3))
    contact = org.create("Contact", {**CONTACT, "Email": ADDRESS.upper()})
    call = org.create("Task", {"Subject": "Call", "WhoId": contact})
    house.full()
    org.merge("Lead", kept, [merged])
    make_unstorable(house, odd)
    org.delete("Task", call)
    house.sync()
    assert house.query("SELECT count(*) FROM crm_sync.quarantine") == [(1,)]
    others = house.query("SELECT count(*) FROM salesforce.lead")[0][0] - 3

    assert forget(house, ADDRESS) == 0
    shown = capsys.readouterr()
    assert "salesforce.lead" in shown.out
    assert "crm_sync.quarantine" in shown.out
    assert "--yes" in shown.err
    assert "The CRM still holds" in shown.err
    assert len(words_left(house)) > 0, "nothing is removed before it is asked for"

    for one in (kept, odd):
        org.hard_delete("Lead", one)
    org.hard_delete("Contact", contact)
    assert forget(house, "-", "--yes", answers=f"{ADDRESS}\n") == 0
    told = capsys.readouterr()
    assert "The CRM still holds" not in told.err
    assert "Out of reach" in told.err
    assert ADDRESS not in told.out + told.err
    assert words_left(house) == []
    assert house.query(f"SELECT FROM salesforce.task WHERE id = '{call}'") == []
    assert house.query("SELECT count(*) FROM salesforce.lead") == [(others,)]

    house.full()
    house.sync()
    assert words_left(house) == [], "what is gone from the CRM does not come back"
    house.assert_in_step("Contact", "Task")


def test_s17_one_record_is_forgotten_by_its_id_and_the_crm_brings_back_what_it_holds(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    lead = house.org.create("Lead", PERSON)
    house.full()
    assert forget(house, "lead", lead[:15], "--yes") == 0
    assert "The CRM still holds records of this person (1 Lead)" in capsys.readouterr().err
    assert words_left(house) == []
    house.full()
    assert len(words_left(house)) > 0
    house.assert_in_step()


def test_s17_colleagues_keep_what_they_own(house: House) -> None:
    seller = house.org.create(
        "User", {"LastName": "Zwitscherling", "Username": ADDRESS, "Email": ADDRESS, "Alias": "z"}
    )
    lead = house.org.create("Lead", {"LastName": "Doe", "Company": "Acme", "OwnerId": seller})
    house.full()
    with house.engine() as engine:
        sync_reference_dataset(engine, "users", run_id="users")
    found = forget_person(
        warehouse_of(house), Installation.from_environment().settings, Person(address=ADDRESS)
    )
    assert {(t.table, t.is_removed) for t in found.traces} == {("users", True)}
    assert house.query(f"SELECT count(*) FROM salesforce.lead WHERE id = '{lead}'") == [(1,)]


def test_s17_what_points_at_the_person_and_lives_is_named_and_stays(house: House) -> None:
    contact = house.org.create("Contact", CONTACT)
    call = house.org.create("Task", {"Subject": "Call", "WhoId": contact})
    house.full()
    found = find_person(
        warehouse_of(house),
        Installation.from_environment().settings,
        Person(record_ids=frozenset({contact})),
    )
    assert {(t.table, t.rows, t.is_removed) for t in found.traces} == {
        ("contact", 1, True),
        ("task", 1, False),
    }
    assert house.query(f"SELECT count(*) FROM salesforce.task WHERE id = '{call}'") == [(1,)]


def test_s17_s18_a_half_read_sync_that_holds_the_person_begins_anew(house: House) -> None:
    house.org.create("Contact", CONTACT)
    for number in range(2_100):
        house.org.create("Contact", {"LastName": f"Doe {number}"})
    house.configure(objects={"Contact": {**OBJECTS["Contact"], "transport": "rest"}})
    house.served.server.faults.script(
        [{"kind": "status", "status": 403, "body": "[]", "path": "*/query/*"}]
    )
    with suppress(CrmPipelineError, IncompleteRead):
        house.full()
    house.served.server.faults.clear()
    assert any("crm_staging" in place for place in words_left(house))
    found = forget_person(
        warehouse_of(house), Installation.from_environment().settings, Person(address=ADDRESS)
    )
    assert len(found.half_read) == 1
    assert words_left(house) == []
    house.full()
    house.assert_in_step()


def test_s17_nobody_is_forgotten_while_a_sync_could_bring_the_person_back(house: House) -> None:
    house.org.create("Lead", PERSON)
    house.full()
    with (
        held_lease(warehouse_of(house), "Lead", owner="a sync", mode=SyncMode.FULL),
        pytest.raises(LeaseBusy),
    ):
        forget_person(
            warehouse_of(house), Installation.from_environment().settings, Person(address=ADDRESS)
        )
    assert len(words_left(house)) > 0


def test_s17_the_command_works_without_a_crm_and_says_what_it_could_not_ask(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    house.org.create("Lead", PERSON)
    house.full()
    house.monkeypatch.setenv("SALESFORCE_CLIENT_SECRET", "wrong")
    assert forget(house, ADDRESS, "--yes") == 0
    assert "The CRM was not asked" in capsys.readouterr().err
    assert words_left(house) == []
    assert forget(house, ADDRESS) == 0
    assert "Nothing here tells of this person." in capsys.readouterr().err
    assert forget(house, "no address") == 2


def test_s17_former_versions_forget_the_person_too(house: House) -> None:
    org = house.org
    lead = org.create("Lead", PERSON)
    renamed = org.create("Lead", PERSON)
    call = org.create("Task", {"Subject": "Call", "WhoId": lead})
    stranger = org.create("Lead", {"LastName": "Doe", "Company": "Acme"})
    by_hand = org.create("Lead", PERSON)
    house.full()
    org.update("Lead", lead, {"LastName": "Married", "Phone": "+49 555 1"})
    org.update("Lead", renamed, {name: "Somebody else" for name in PERSON if name != "Email"})
    org.update("Lead", renamed, {"Email": "somebody@else.example"})
    org.update("Task", call, {"WhoId": stranger})
    org.update("Lead", stranger, {"LastName": "Roe"})
    house.sync()
    house.execute(f"DELETE FROM salesforce.lead WHERE id = '{by_hand}'")
    org.hard_delete("Lead", by_hand)
    settings = Installation.from_environment().settings
    found = find_person(warehouse_of(house), settings, Person(address=ADDRESS))
    assert {t.table: t.rows for t in found.traces if t.is_removed} == {"lead": 1, "version": 4}
    org.hard_delete("Lead", lead)
    forget_person(warehouse_of(house), settings, Person(address=ADDRESS))
    assert words_left(house) == []
    kept = house.query("SELECT record_id FROM history.version")
    assert kept == [(stranger,)], "of others everything is kept"
    assert house.query(f"SELECT whoid FROM salesforce.task WHERE id = '{call}'") == [(stranger,)]
    house.sync(SyncMode.RECONCILE)
    assert words_left(house) == []


def test_s17_marts_forget_the_person_too(house: House) -> None:
    house.org.create("Lead", PERSON)
    house.full()
    with psycopg.connect(house.database_url) as connection:
        connection.execute("CREATE SCHEMA marketing")
        connection.execute(
            "CREATE TABLE marketing.dim_people AS SELECT ARRAY[id] AS lead_ids, lastname"
            " FROM salesforce.lead"
        )
    forget_person(
        warehouse_of(house), Installation.from_environment().settings, Person(address=ADDRESS)
    )
    assert words_left(house) == []
    assert house.query("SELECT count(*) > 10 FROM marketing.dim_people") == [(True,)]


def test_s17_events_consent_and_rejected_rows_of_files_forget_the_person(
    house: House, tmp_path: Path
) -> None:
    lead = house.org.create("Lead", PERSON)
    house.full()
    upper = ADDRESS.upper()
    rows = [
        {"event_id": "1", "kind": "email_unsubscribed", "email": upper, "crm_id": lead},
        {"event_id": "2", "kind": "page_visited", "crm_id": lead[:15], "url": PERSON["LastName"]},
        {"event_id": "3", "kind": "page_visited", "crm_id": "00Q000000000GONEAB", "email": ADDRESS},
        {"event_id": "4", "kind": "page_visited", "crm_id": "00Q000000000GONEAB"},
        {"event_id": "5", "kind": "wrong", "email": upper},
        {"event_id": "6", "kind": "wrong", "crm_id": lead[:15], "source": PERSON["LastName"]},
        {"event_id": "7", "kind": "page_visited", "email": f"not.{ADDRESS}"},
        {"event_id": "8", "kind": "wrong", "email": f"not.{ADDRESS}"},
    ]
    file = tmp_path / "events.jsonl"
    stamped = [{**row, "occurred_at": "2026-03-02T12:00:00Z"} for row in rows]
    file.write_text("".join(json.dumps(row) + "\n" for row in stamped))
    assert main.run(["events", "load", str(file)]) == 0
    house.execute(
        "INSERT INTO events.consent_ledger (email, status, side, evidence, occurred_at)"
        f" VALUES ('elsewhere@example.com', 'unsubscribed', 'crm', 'Lead {lead}', now())"
    )
    assert house.query("SELECT count(*) FROM events.consent_ledger") == [(2,)]
    assert house.query("SELECT count(*) FROM events.quarantine") == [(3,)]
    forget_person(
        warehouse_of(house), Installation.from_environment().settings, Person(address=ADDRESS)
    )
    assert house.query("SELECT event_id FROM events.marketing_events") == [("7",)]
    assert house.query("SELECT event_id FROM events.quarantine") == [("8",)]
    assert house.query("SELECT count(*) FROM events.consent_ledger") == [(0,)]
    house.execute("DELETE FROM events.marketing_events; DELETE FROM events.quarantine")
    assert words_left(house) == []
