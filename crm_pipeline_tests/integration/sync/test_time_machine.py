"""The time machine: whatever a table held after a commit can be asked for afterwards."""

import random
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from crm_pipeline.errors import MassDisappearance
from crm_pipeline.model.sync import SyncMode
from crm_pipeline.sandbox.salesforce.living import apply_burst
from crm_pipeline.sync.reference import sync_reference_dataset
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.history import prune_history
from crm_pipeline_tests.cases.things import field, house_of_things, pass_time, put
from crm_pipeline_tests.house import House

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "time-machine.md"
TABLES = ("lead", "contact")
Rows = Mapping[str, Mapping[str, Any]]


def copied(house: House, table: str) -> dict[str, dict[str, Any]]:
    """Every row of a table, tombstones included, as JSON by id."""
    return dict(house.query(f"SELECT id, to_jsonb(t) FROM salesforce.{table} t"))


def as_of(house: House, table: str, instant: datetime) -> dict[str, dict[str, Any]]:
    """The same of an instant, from the time machine."""
    return dict(
        house.query(
            f"SELECT id, to_jsonb(t) FROM history.as_of(NULL::salesforce.{table}, '{instant}') t"
        )
    )


def now(house: House) -> datetime:
    found = house.query("SELECT clock_timestamp()")[0][0]
    assert isinstance(found, datetime)
    return found


def versions(house: House) -> int:
    return int(house.query("SELECT count(*) FROM history.version")[0][0])


def assert_same(found: Rows, expected: Rows) -> None:
    """Columns that were added since hold nothing."""
    assert found.keys() == expected.keys()
    for record_id, row in expected.items():
        assert {name: found[record_id][name] for name in row} == row, record_id
        added = found[record_id].keys() - row.keys()
        assert {found[record_id][name] for name in added} <= {None}


class Life:
    """Random things that happen to an org and its warehouse, and a copy after each of them."""

    def __init__(self, house: House, seed: int) -> None:
        self.house = house
        self.rng = random.Random(seed)
        self.hidden = {"Lead": ["Company", "AnnualRevenue"], "Contact": ["Email"]}
        self.copies: list[tuple[datetime, dict[str, Rows]]] = []

    def live(self, rounds: int) -> None:
        """So many rounds; what may happen in one, and how often."""
        whats = [self.differ] * 4 + [self.edit_nothing, self.delete_for_good, self.sync_one]
        whats += [self.meddle, self.remove_by_hand, self.map_another, self.read_whole]
        for what in self.rng.sample(whats * 2, rounds):
            what()
            self.copy()

    def copy(self) -> None:
        """Remember every table as it stands."""
        tables: dict[str, Rows] = {table: copied(self.house, table) for table in TABLES}
        self.copies.append((now(self.house), tables))

    def burst(self) -> None:
        """People work."""
        apply_burst(
            self.house.org,
            updates=self.rng.randrange(1, 30),
            inserts=self.rng.randrange(5),
            deletes=self.rng.randrange(4),
            seed=self.rng.randrange(10**6),
            object_names=("Lead", "Contact"),
        )

    def differ(self) -> None:
        """Records change, some go and some come back."""
        self.burst()
        gone = self.some("lead", 3, "_vanished = 'deleted'")
        for one in gone[: self.rng.randrange(2)]:
            self.house.org.undelete("Lead", one)
        self.house.sync()

    def edit_nothing(self) -> None:
        """Quiet hours."""
        self.house.sync()
        before = versions(self.house)
        self.house.sync()
        self.house.full()
        assert versions(self.house) == before

    def delete_for_good(self) -> None:
        """A record leaves no trace, and the reconciliation finds it."""
        for one in self.some("contact", 1):
            self.house.org.hard_delete("Contact", one)
        self.house.sync(SyncMode.RECONCILE)

    def sync_one(self) -> None:
        """A person syncs one record."""
        self.burst()
        with self.house.engine() as engine:
            for one in self.some("lead", 1):
                engine.sync_record("Lead", one, run_id="by hand")

    def meddle(self) -> None:
        """Somebody changes rows here, and is corrected."""
        ids = ", ".join(f"'{one}'" for one in self.some("lead", 3))
        self.house.execute(f"UPDATE salesforce.lead SET lastname = 'Meddled' WHERE id IN ({ids})")
        self.copy()
        self.house.sync(SyncMode.RECONCILE)

    def remove_by_hand(self) -> None:
        """Somebody removes rows here, and they come back."""
        ids = ", ".join(f"'{one}'" for one in self.some("contact", 2))
        self.house.execute(f"DELETE FROM salesforce.contact WHERE id IN ({ids})")
        self.copy()
        self.house.sync(SyncMode.RECONCILE)

    def map_another(self) -> None:
        """A field is mapped that was not, and filled by a refresh."""
        name = self.rng.choice(["Lead", "Contact"])
        if self.hidden[name]:
            objects = self.house.settings["objects"]
            objects[name]["fields"].append(self.hidden[name].pop())
            self.house.configure(objects=objects)
            self.house.sync()
            self.copy()
            self.house.sync(SyncMode.REFRESH)

    def read_whole(self) -> None:
        """A repeated full sync."""
        self.burst()
        self.house.full()

    def some(self, table: str, most: int, where: str = "_deleted_at IS NULL") -> list[str]:
        found = self.house.query(f"SELECT id FROM salesforce.{table} WHERE {where} ORDER BY id")
        ids = [str(row[0]) for row in found]
        return self.rng.sample(ids, min(most, len(ids)))


@pytest.fixture
def people(house: House) -> House:
    """A house that syncs leads and contacts; some fields are left for later."""
    objects = {
        "Lead": {"fields": ["FirstName", "LastName", "Email", "Status", "NumberOfEmployees"]},
        "Contact": {"fields": ["FirstName", "LastName", "AccountId"]},
    }
    house.configure(objects=objects, reference_data=False)
    return house


@pytest.mark.parametrize("seed", range(3))
def test_every_committed_state_can_be_asked_for_afterwards(people: House, seed: int) -> None:
    people.full()
    assert versions(people) == 0, "a first full sync replaces nothing"
    life = Life(people, seed)
    life.copy()
    life.live(12)
    assert versions(people) > 0
    for instant, tables in life.copies:
        for table, rows in tables.items():
            assert_same(as_of(people, table, instant), rows)


def test_one_record_of_an_instant_is_the_one_among_all(people: House) -> None:
    people.full()
    life = Life(people, seed=7)
    life.copy()
    for _ in range(4):
        life.differ()
        life.copy()
    instant, tables = life.copies[1]
    for one in tables["lead"]:
        assert people.query(
            f"SELECT to_jsonb(t) FROM history.as_of(NULL::salesforce.lead, '{instant}', '{one}') t"
        ) == [(tables["lead"][one],)]
    assert people.query(
        f"SELECT FROM history.as_of(NULL::salesforce.lead, '{instant}', 'nobody')"
    ) == []  # fmt: skip


@pytest.mark.parametrize(("only", "reads"), [("", 2), (", 'nobody'", 0)])
def test_a_table_is_read_a_few_times_and_not_once_per_version(
    people: House, only: str, reads: int
) -> None:
    people.full("Lead")
    people.execute("UPDATE salesforce.lead SET lastname = 'x', _synced_at = now()")
    before = people.query("SELECT min(valid_to) - interval '1 us' FROM history.version")[0][0]
    with psycopg.connect(people.database_url) as connection:
        connection.execute(f"SET enable_seqscan = {'off' if only else 'on'}".encode())
        connection.execute(
            f"SELECT FROM history.as_of(NULL::salesforce.lead, '{before}'{only})".encode()
        )
        found = connection.execute(
            "SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relname = 'lead'"
        ).fetchone()
    assert found == (reads,)


def test_the_timeline_of_a_record_tells_each_version_and_what_it_changed(people: House) -> None:
    one = people.org.create("Lead", {"LastName": "Doe", "Company": "Acme", "Status": "New"})
    people.full("Lead")
    for status in ("Working", "Qualified"):
        people.org.update("Lead", one, {"Status": status})
        people.sync_once("Lead")
    people.org.delete("Lead", one)
    people.sync_once("Lead")
    people.org.undelete("Lead", one)
    people.sync_once("Lead")
    told = people.query(
        "SELECT record ->> 'status', record ->> '_vanished', changed, valid_from, valid_to"
        f" FROM history.of_record('salesforce.lead', '{one}')"
    )
    assert [row[:2] for row in told] == [
        ("New", None),
        ("Working", None),
        ("Qualified", None),
        ("Qualified", "deleted"),
        ("Qualified", None),
    ]
    assert [set(row[2]) - {"_modstamp"} for row in told[:3]] == [set(), {"status"}, {"status"}]
    assert "_deleted_at" in told[3][2]
    assert "_restored_at" in told[4][2]
    assert [row[3] for row in told[1:]] == [row[4] for row in told[:-1]]
    assert told[-1][4] is None
    assert people.query("SELECT FROM history.of_record('salesforce.lead', 'nobody')") == []


def test_what_a_row_did_not_change_is_not_kept_twice(people: House) -> None:
    people.full("Lead")
    (one, *_) = people.truth("Lead")
    people.org.update("Lead", one, {"Status": "Qualified", "NumberOfEmployees": 4711})
    people.sync_once("Lead")
    kept = people.query("SELECT record_id, former FROM history.version")
    assert [row[0] for row in kept] == [one]
    assert kept[0][1].keys() == {"status", "numberofemployees", "_modstamp", "_synced_at"}


def test_a_rolled_back_commit_leaves_nothing(people: House) -> None:
    people.full("Lead")
    (one, *_) = people.truth("Lead")
    people.org.update("Lead", one, {"Status": "Qualified"})
    lead = {**people.settings["objects"]["Lead"], "filter": "LastName = 'Nobody'"}
    people.configure(objects={"Lead": lead})
    before = copied(people, "lead")
    with pytest.raises(MassDisappearance):
        people.full("Lead")
    assert copied(people, "lead") == before
    assert versions(people) == 0


def test_pruning_keeps_what_can_still_be_asked_for(people: House) -> None:
    people.full()
    life = Life(people, seed=3)
    for _ in range(5):
        life.differ()
        life.copy()
    for end in ("valid_from", "valid_to"):
        people.execute(
            f"UPDATE history.version SET {end} = {end} - interval '9 days'"
            f" WHERE {end} <= '{life.copies[2][0]}'"
        )
    kept_before = versions(people)
    deleted = prune_history(Warehouse(people.database_url), days=7)
    assert 0 < deleted < kept_before
    assert versions(people) == kept_before - deleted
    for instant, tables in life.copies[2:]:
        assert_same(as_of(people, "lead", instant), tables["lead"])
    people.execute("UPDATE history.kept_table SET begins_at = begins_at - interval '9 days'")
    prune_history(Warehouse(people.database_url), days=7)
    with pytest.raises(psycopg.errors.RaiseException, match="begins at"):
        people.query("SELECT FROM history.as_of(NULL::salesforce.lead, now() - interval '8 days')")


def test_zero_days_keep_nothing_and_a_later_number_begins_anew(people: House) -> None:
    people.full()
    life = Life(people, seed=4)
    life.differ()
    assert versions(people) > 0
    people.configure(retention={"history_days": 0})
    life.differ()
    assert versions(people) == 0
    assert people.query("SELECT count(*) FROM history.kept_table WHERE table_name ~ 'lead'") == [
        (0,)
    ]
    with pytest.raises(psycopg.errors.RaiseException, match="No history is kept"):
        as_of(people, "lead", now(people))
    people.configure(retention={"history_days": 30})
    gap = now(people)
    life.differ()
    life.copy()
    life.differ()
    (instant, tables) = life.copies[0]
    assert_same(as_of(people, "lead", instant), tables["lead"])
    with pytest.raises(psycopg.errors.RaiseException, match="begins at"):
        as_of(people, "lead", gap)


def test_housekeeping_ends_every_history_at_zero_days(people: House) -> None:
    people.full()
    Life(people, seed=4).differ()
    assert prune_history(Warehouse(people.database_url), days=0) > 0
    assert people.query("SELECT FROM history.kept_table") == []
    people.execute("UPDATE salesforce.lead SET lastname = 'x'")
    assert versions(people) == 0


def test_a_table_older_than_the_time_machine_gets_a_history_with_its_next_sync(
    people: House,
) -> None:
    people.full()
    for name in ("updated", "deleted", "truncated"):
        people.execute(f"DROP TRIGGER _keep_{name} ON salesforce.lead")
    people.execute("DELETE FROM history.kept_table")
    life = Life(people, seed=5)
    life.differ()
    life.copy()
    life.differ()
    (instant, tables) = life.copies[0]
    assert_same(as_of(people, "lead", instant), tables["lead"])


def test_what_is_emptied_by_hand_is_kept(people: House) -> None:
    people.full("Lead")
    instant, before = now(people), copied(people, "lead")
    people.execute("TRUNCATE salesforce.lead")
    assert as_of(people, "lead", now(people)) == {}
    people.full("Lead")
    assert_same(as_of(people, "lead", instant), before)


def test_a_column_that_is_gone_leaves_the_history_with_the_next_housekeeping(
    people: House,
) -> None:
    people.full("Lead")
    (one, *_) = people.truth("Lead")
    people.org.update("Lead", one, {"Email": "former@example.org"})
    people.sync_once("Lead")
    people.org.update("Lead", one, {"Email": "later@example.org", "LastName": "Later"})
    people.sync_once("Lead")
    people.configure(objects={"Lead": {"fields": ["FirstName", "LastName"]}})
    people.execute("ALTER TABLE salesforce.lead DROP COLUMN email")
    instant = people.query("SELECT min(valid_to) FROM history.version")[0][0]
    assert as_of(people, "lead", instant)[one]["lastname"] != "Later"
    prune_history(Warehouse(people.database_url), days=365)
    assert people.query("SELECT count(*) FROM history.version WHERE former ? 'email'") == [(0,)]
    assert as_of(people, "lead", instant)[one]["lastname"] != "Later"


def test_reference_tables_have_a_history_too(people: House) -> None:
    user = people.org.create(
        "User", {"LastName": "Former", "Username": "u@x.org", "Email": "u@x.org", "Alias": "u"}
    )
    with people.engine() as engine:
        sync_reference_dataset(engine, "users", run_id="users")
        instant = now(people)
        people.org.update("User", user, {"LastName": "Later"})
        sync_reference_dataset(engine, "users", run_id="users again")
    assert as_of(people, "users", instant)[user]["lastname"] == "Former"
    assert copied(people, "users")[user]["lastname"] == "Later"


def test_a_table_without_a_history_is_refused_in_a_sentence(people: House) -> None:
    people.execute("CREATE TABLE salesforce.own (id text)")
    with pytest.raises(
        psycopg.errors.RaiseException, match=r"No history is kept of salesforce.own"
    ):
        people.query("SELECT FROM history.as_of(NULL::salesforce.own, now())")


RETYPED: dict[tuple[str, str], tuple[Any, Any, str, Any]] = {
    ("boolean", "date"): ("true", "2026-03-02", "f__c__boolean", True),
    ("datetime", "string"): (
        *("2026-03-02T12:00:00.000Z", "noon", "f__c"),
        "2026-03-02 12:00:00+00",
    ),
    ("int", "double"): (7, "7.25", "f__c", 7),
    ("double", "string"): ("7.5", "about 7", "f__c", "7.5"),
}


@pytest.mark.parametrize("pair", RETYPED, ids=lambda pair: f"{pair[0]} to {pair[1]}")
def test_a_retyped_column_keeps_its_past(
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pair: Any,
) -> None:
    former, later, column, told = RETYPED[pair]
    with house_of_things(database_url, tmp_path, monkeypatch, field("F__c", pair[0])) as house:
        one = house.org.create("Thing__c", {"Name": "one"})
        put(house, one, F__c=former)
        pass_time(house)
        house.full()
        instant = now(house)
        pass_time(house)
        put(house, one, F__c=None)
        house.sync()
        house.org.add_field("Thing__c", field("F__c", pair[1], length=255))
        put(house, one, F__c=later)
        pass_time(house)
        house.full()
        row = as_of(house, "thing__c", instant)[one]
        assert row[column] == told
        assert column == "f__c" or row["f__c"] is None


def test_the_examples_of_the_page_run_as_they_stand(people: House) -> None:
    people.full()
    life = Life(people, seed=6)
    life.differ()
    life.differ()
    people.execute("UPDATE history.kept_table SET begins_at = '2026-01-01'")
    blocks = re.findall(r"^```sql\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 3
    with psycopg.connect(people.database_url, autocommit=True) as connection:
        connection.execute("SET ROLE analyst")
        for block in blocks:
            connection.execute(block.encode())
