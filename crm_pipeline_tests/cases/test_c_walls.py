"""C10: names, widths and numbers of columns that PostgreSQL does not take are told beforehand."""

from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from crm_pipeline.config.load import load_settings
from crm_pipeline.errors import ConfigurationError
from crm_pipeline.model.sync import SyncMode
from crm_pipeline_tests.cases.checking import findings, notices
from crm_pipeline_tests.cases.things import (
    an_object,
    field,
    first,
    map_things,
    pass_time,
    put,
    ten_things,
    things,
)
from crm_pipeline_tests.house import House


def incompressible(seed: str) -> str:
    """Forty characters that PostgreSQL can make no shorter."""
    return sha256(seed.encode()).hexdigest()[:40]


TRANSPORTS = pytest.mark.parametrize("transport", ["rest", "bulk"])


@pytest.fixture
def house(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """Ten things with a text field, F__c, fully synced an hour ago."""
    with ten_things(database_url, tmp_path, monkeypatch) as made:
        yield made


def test_c10_reserved_words_and_words_of_postgresql_are_columns_like_any_others(
    house: House,
) -> None:
    words = ["order", "user", "select", "table", "user__c", "primary", "name_", "end"]
    for word in words:
        house.org.add_field("Thing__c", field(f"{word}_f__c", "string", length=80))
    house.org.add_object(an_object("Order", field("Group__c", "string"), key_prefix="801"))
    house.org.create("Order", {"Name": "o", "Group__c": "g"})
    mapped: list[object] = [{f"{word}_f__c": word} for word in words]
    house.configure(
        objects={
            "Thing__c": {"fields": ["Name", *mapped]},
            "Order": {"fields": ["Name", {"Group__c": "group"}]},
        }
    )
    put(house, first(house), **{f"{word}_f__c": word for word in words})
    for _ in range(2):
        house.full()
        house.sync()
    row = things(house)["n0"]
    assert {word: row[word] for word in words} == {word: word for word in words}
    assert house.query('SELECT name, "group" FROM salesforce."order"') == [("o", "g")]


def test_c10_a_name_too_long_for_a_column_is_refused_with_line_and_setting(
    tmp_path: Path,
) -> None:
    path = f"{'A' * 30}__r.{'B' * 40}__c"
    file = tmp_path / "crm_sync.yaml"
    file.write_text(f"version: 1\nobjects:\n  Thing__c:\n    fields:\n      - {path}\n")
    with pytest.raises(ConfigurationError) as refusal:
        load_settings(file)
    said = str(refusal.value)
    assert ":5: `objects.Thing__c.fields[0]`" in said
    assert "is longer than 63 bytes" in said
    assert "column: shorter_name" in said


@TRANSPORTS
def test_c10_nine_hundred_fields_are_synced_and_the_width_of_a_row_is_told_before(
    house: House, transport: str
) -> None:
    names = [f"T{n}__c" for n in range(900)]
    definition = house.org.catalogue.object("Thing__c")
    house.org.catalogue._put(
        replace(
            definition,
            fields=(*definition.fields, *(field(name, "string", length=255) for name in names)),
        )
    )
    put(house, first(house), **dict.fromkeys(names[:300], "x" * 60))
    one = house.org.create("Thing__c", {"Name": "wide"})
    put(house, one, **{name: f"{n:->40}" for n, name in enumerate(names)})
    map_things(house, "F__c", *names, transport=transport)
    (notice,) = notices()
    assert "903 mapped fields is wider than a row of PostgreSQL" in notice.sentence
    assert "`objects.Thing__c.fields`" in notice.remedy
    outcome = house.full(restart=True)["Thing__c"]
    assert (outcome.records_read, outcome.rejected) == (11, 1)
    assert house.query(
        "SELECT record_id, column_name, reason ~ 'row is too big' FROM crm_sync.quarantine"
    ) == [(one, "(whole row)", True)]
    assert house.table("Thing__c") == {k: v for k, v in house.truth("Thing__c").items() if k != one}
    put(house, one, **dict.fromkeys(names[100:]))
    assert house.sync_once("Thing__c").inserted == 1
    house.assert_in_step()
    assert house.query("SELECT count(*) FROM crm_sync.quarantine") == [(0,)]


def test_c10_two_hundred_rounds_of_adding_and_dropping_a_field_use_up_one_column(
    house: House,
) -> None:
    with house.engine() as engine:
        for number in range(200):
            if number % 2:
                house.org.remove_field("Thing__c", "New__c")
            else:
                house.org.add_field("Thing__c", field("New__c", "string", length=80))
            if number < 20:  # the engine asks describe each time; twenty of its syncs show it
                map_things(house, "F__c", "New__c")
                engine.sync_object("Thing__c", mode=SyncMode.DIFFERENTIAL, run_id=f"r{number}")
    ((used,),) = house.query(
        "SELECT max(attnum) FROM pg_attribute WHERE attrelid = 'salesforce.thing__c'::regclass"
    )
    assert used <= 12


def test_c10_a_table_without_room_for_another_column_is_told_before_and_stops_only_that_field(
    house: House,
) -> None:
    house.execute(
        "DO $$ BEGIN FOR n IN (SELECT max(attnum) + 1 FROM pg_attribute"
        " WHERE attrelid = 'salesforce.thing__c'::regclass)..1600 LOOP"
        " ALTER TABLE salesforce.thing__c ADD COLUMN x integer;"
        " ALTER TABLE salesforce.thing__c DROP COLUMN x;"
        " END LOOP; END $$"
    )
    house.org.add_field("Thing__c", field("New__c", "string", length=80))
    map_things(house, "F__c", "New__c")
    (problem,) = [f for f in findings() if f.severity == "problem"]
    assert "has no room for `New__c`" in problem.sentence
    put(house, first(house), F__c="goes on")
    (broken,) = house.sync_once("Thing__c").broken_fields
    assert broken.startswith("New__c (salesforce.thing__c has used up the 1,600 columns")
    assert things(house)["n0"]["f__c"] == "goes on"
    house.execute("ALTER TABLE salesforce.thing__c RENAME TO thing_before")
    house.full()
    house.assert_in_step()


@pytest.mark.parametrize("mode", [SyncMode.FULL, SyncMode.DIFFERENTIAL, SyncMode.REFRESH])
def test_c10_a_row_too_wide_beside_columns_of_former_times_stops_only_itself(
    house: House, mode: SyncMode
) -> None:
    former = [f"Former{n}__c" for n in range(250)]
    later = [f"Later{n}__c" for n in range(250)]
    definition = house.org.catalogue.object("Thing__c")
    texts = (field(name, "string", length=255) for name in (*former, *later))
    house.org.catalogue._put(replace(definition, fields=(*definition.fields, *texts)))
    wide = first(house)
    put(house, wide, **{name: incompressible(name) for name in former})
    map_things(house, "F__c", *former)
    house.full(restart=True)
    house.assert_in_step()
    pass_time(house)
    changes = {name: incompressible(name) for name in later}
    for row in house.org.query("SELECT Id, Name FROM Thing__c"):
        if row["Name"] in {"n0", "n5"}:
            put(house, str(row["Id"]), F__c="changed", **changes)
    if mode is SyncMode.REFRESH:
        house.sync_once("Thing__c")
    map_things(house, "F__c", *later)
    outcome = house.sync(mode, "Thing__c")["Thing__c"]
    assert outcome.rejected == 1
    assert house.query("SELECT record_id, column_name FROM crm_sync.quarantine") == [
        (wide, "(whole row)")
    ]
    row = things(house)["n5"]
    assert (row["f__c"], row["later249__c"]) == ("changed", incompressible("Later249__c"))
    row = things(house)["n0"]
    assert (row["_deleted_at"], row["former0__c"]) == (None, incompressible("Former0__c"))
    assert house.query("SELECT rejected FROM crm_sync.sync_run ORDER BY 1 DESC LIMIT 1") == [(1,)]
