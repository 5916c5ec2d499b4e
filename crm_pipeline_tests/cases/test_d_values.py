"""D: a value in the warehouse is the value in the org, whichever way it came."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from crm_pipeline.errors import UsageError
from crm_pipeline.sandbox.salesforce import identifiers
from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.people import seed_org
from crm_pipeline.sandbox.salesforce.running import running
from crm_pipeline.sandbox.salesforce.schema import FieldDefinition
from crm_pipeline_tests.cases import fuzz
from crm_pipeline_tests.cases.things import (
    field,
    fill,
    house_of_things,
    map_things,
    pass_time,
    put,
    stored,
    text_of,
    things,
)
from crm_pipeline_tests.house import EVERY_OBJECT, House, all_objects
from crm_pipeline_tests.integration.sync.conftest import house as people

__all__ = ["people"]

TRANSPORTS = pytest.mark.parametrize("transport", ["rest", "bulk"])


@pytest.fixture
def make_house(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., House]]:
    """A house of things with the fields that the test gives."""
    with ExitStack() as stack:

        def make(*fields: FieldDefinition, transport: str = "rest") -> House:
            opened = house_of_things(
                database_url, tmp_path, monkeypatch, *fields, transport=transport
            )
            return stack.enter_context(opened)

        yield make


@TRANSPORTS
def test_d1_d3_five_hundred_hostile_strings_round_trip_unchanged(
    make_house: Any, transport: str
) -> None:
    chance = random.Random(1)
    texts = [*fuzz.PIECES]
    texts += ["".join(chance.choices(fuzz.PIECES, k=chance.randint(2, 9))) for _ in range(500)]
    house = make_house(field("F__c", "textarea", length=131_072), transport=transport)
    fill(house, texts)
    house.full()
    assert stored(house) == texts
    pass_time(house)
    assert not house.sync_once("Thing__c").has_changes


@TRANSPORTS
def test_d2_empty_is_null_and_white_space_is_a_value(make_house: Any, transport: str) -> None:
    values = [None, "", " ", "\t", "\n", "\r\n", "\u00a0", "\u2003", " a ", "null"]
    house = make_house(field("F__c", "textarea", length=255), transport=transport)
    fill(house, values)
    house.full()
    assert stored(house) == [None, None, *values[2:]]


@TRANSPORTS
def test_d3_a_lead_named_null_in_the_state_na_keeps_its_name_and_its_zip(
    people: House, transport: str
) -> None:
    people.configure(objects={"Lead": all_objects(transport)["Lead"]})
    words = ["NA", "N/A", "null", "None", "NaN", "inf", "TRUE", "1e5", "00123", "0", "1.0"]
    columns = ("lastname", "company", "state", "postalcode")
    made = people.org.create_many(
        "Lead",
        ({"LastName": w, "Company": w, "State": w, "PostalCode": w} for w in words),
    )
    people.full()
    people.assert_in_step()
    rows = people.table("Lead")
    assert [[rows[one][c] for c in columns] for one in made] == [[word] * 4 for word in words]


@TRANSPORTS
def test_d4_integers_stay_integers_beside_nulls_and_written_as_decimals(
    make_house: Any, transport: str
) -> None:
    # Stored as text first, so that the org hands out what it was given.
    house = make_house(field("F__c", "double"), transport=transport)
    fill(house, ["0", "0.0", "5.0", "-1.0E3", None, "2147483647", "-2147483648", "1.5"])
    house.org.add_field("Thing__c", field("F__c", "int"))
    outcome = house.full()["Thing__c"]
    assert (outcome.inserted, outcome.rejected) == (7, 1)
    rows = things(house)
    assert [rows[f"n{n}"]["f__c"] for n in range(7)] == [0, 0, 5, -1000, None, 2**31 - 1, -(2**31)]
    assert house.query("SELECT pg_typeof(f__c)::text FROM salesforce.thing__c LIMIT 1") == [
        ("integer",)
    ]
    assert house.query("SELECT column_name, value, reason FROM crm_sync.quarantine") == [
        ("f__c", "1.5", "not a valid integer")
    ]


@TRANSPORTS
def test_d5_decimals_keep_all_eighteen_digits(make_house: Any, transport: str) -> None:
    chance = random.Random(5)
    values = ["99999999999999.99", "0.1", "-0.000000000000000001", "1.0E7", "999999999999999999"]
    for _ in range(500):
        digits = chance.randint(1, 10**18 - 1)
        values.append(f"{Decimal(digits).scaleb(-chance.randint(0, 18)):f}")
    house = make_house(field("F__c", "currency"), transport=transport)
    fill(house, values)
    house.full()
    assert stored(house) == [Decimal(value) for value in values]


@TRANSPORTS
def test_d6_dates_from_1700_to_4000_keep_their_day(make_house: Any, transport: str) -> None:
    days = ["1700-01-01", "1752-09-03", "1883-11-18", "1969-12-31", "2262-04-12", "4000-12-31"]
    instants = [f"{day}T{hour}Z" for day in days for hour in ("00:00:00.000", "23:59:59.999")]
    house = make_house(field("Day__c", "date"), field("F__c", "datetime"), transport=transport)
    fill(house, instants)
    for row, instant in zip(list(things_by_name(house)), instants, strict=True):
        put(house, row, Day__c=instant[:10])
    house.full()
    assert days_and_instants(house) == [
        (date.fromisoformat(one[:10]), datetime.fromisoformat(one)) for one in instants
    ]


def days_and_instants(house: House) -> list[tuple[date, datetime]]:
    """Day__c and F__c of every thing; instants in UTC, for in its night of doubled hours a zone's
    own form of an instant equals no other.
    """
    rows = things(house)
    ordered = (rows[f"n{n}"] for n in range(len(rows)))
    return [(row["day__c"], row["f__c"].astimezone(UTC)) for row in ordered]


def things_by_name(house: House) -> list[str]:
    """Ids of the org's things, in the order in which they were filled."""
    rows = house.org.query("SELECT Id, Name FROM Thing__c")
    return [str(row["Id"]) for row in sorted(rows, key=lambda row: int(str(row["Name"])[1:]))]


@pytest.fixture
def in_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[House, str], None]]:
    """Puts this process and every new session of the database into a time zone."""

    def enter(house: House, zone: str) -> None:
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        ((name,),) = house.query("SELECT current_database()")
        house.execute(f"ALTER DATABASE {name} SET TimeZone = '{zone}'")

    yield enter
    monkeypatch.undo()
    time.tzset()


@TRANSPORTS
@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "America/St_Johns"])
def test_d7_time_zones_of_worker_and_server_move_neither_day_nor_instant(
    make_house: Any, in_zone: Any, zone: str, transport: str
) -> None:
    house = make_house(field("Day__c", "date"), field("F__c", "datetime"), transport=transport)
    in_zone(house, zone)
    # The nights in which St. John's springs forward and falls back, every ten minutes.
    nights = (datetime(2026, 3, 8, 3, tzinfo=UTC), datetime(2026, 11, 1, 3, tzinfo=UTC))
    moments = [night + timedelta(minutes=10 * n) for night in nights for n in range(24)]
    fill(house, [f"{moment:%Y-%m-%dT%H:%M:%S}.000Z" for moment in moments])
    for record_id, moment in zip(things_by_name(house), moments, strict=True):
        put(house, record_id, Day__c=moment.date().isoformat())
    house.full()
    days = [moment.date() for moment in moments]
    assert days_and_instants(house) == list(zip(days, moments, strict=True))
    pass_time(house, 60)
    put(house, things_by_name(house)[0], Day__c="2026-03-09")
    assert house.sync_once("Thing__c").updated == 1
    days[0] = date(2026, 3, 9)
    assert days_and_instants(house) == list(zip(days, moments, strict=True))


def test_d10_ids_that_differ_only_in_case_are_two_records_and_both_forms_lead_to_them(
    make_house: Any,
) -> None:
    house = make_house(field("F__c", "string", length=80))
    # In base 62, 10 is "A" and 36 is "a": the first 15 characters differ in case alone.
    ids = [identifiers.make_id("a0T", number) for number in (10, 36)]
    assert ids[0][:15].lower() == ids[1][:15].lower()
    assert ids[0][:15] != ids[1][:15]
    for record_id in ids:
        house.org.create("Thing__c", {"Id": record_id, "Name": record_id, "F__c": "before"})
    house.full()
    house.assert_in_step()
    pass_time(house)
    for number, record_id in enumerate(ids):
        put(house, record_id, F__c=f"after {number}")
        with house.engine() as engine:
            given = record_id[:15] if number else record_id
            assert engine.sync_record("Thing__c", given, run_id="hand").updated == 1
    house.assert_in_step()
    house.configure(
        objects={"Thing__c": {"fields": ["Name", "F__c"], "filter": f"Id = '{ids[1][:15]}'"}}
    )
    house.full("Thing__c")
    assert list(house.table("Thing__c")) == [ids[1]]


@pytest.mark.parametrize(
    "given",
    ["a0T00000000000", "a0T00000000000AAAB", "a0T00000000000-AAA", "a0T00000000000'", "", "x" * 18],
)
def test_d10_an_id_that_is_none_is_refused(make_house: Any, given: str) -> None:
    house = make_house(field("F__c", "string", length=80))
    house.full()
    with house.engine() as engine, pytest.raises(UsageError):
        engine.sync_record("Thing__c", given, run_id="hand")


@TRANSPORTS
def test_d11_several_choices_tick_boxes_and_times_of_day_keep_their_form(
    make_house: Any, transport: str
) -> None:
    kinds = (
        field("F__c", "multipicklist"),
        field("Flag__c", "boolean"),
        field("At__c", "time"),
    )
    house = make_house(*kinds, transport=transport)
    fill(house, ["a;b", "a", None, "x y;z, w"])
    ids = things_by_name(house)
    put(house, ids[0], Flag__c="true", At__c="10:00:00.000Z")
    put(house, ids[1], Flag__c="false", At__c="23:59:59.999Z")
    house.full()
    house.assert_in_step()
    rows = things(house)
    assert [rows[f"n{n}"]["f__c"] for n in range(4)] == ["a;b", "a", None, "x y;z, w"]
    assert [(rows[f"n{n}"]["flag__c"], str(rows[f"n{n}"]["at__c"])) for n in range(2)] == [
        (True, "10:00:00"),
        (False, "23:59:59.999000"),
    ]


@TRANSPORTS
@pytest.mark.parametrize("road", ["fast", "slow"])
def test_d12_a_row_of_a_megabyte_lands_by_either_road(
    make_house: Any, transport: str, road: str
) -> None:
    names = [f"L{n}__c" for n in range(8)]
    kinds = [field(name, "textarea", length=131_072) for name in names]
    house = make_house(field("F__c", "double"), *kinds, transport=transport)
    fill(house, ["1", "2", "3"])
    ids = things_by_name(house)
    put(house, ids[0], **dict.fromkeys(names, 'ä,"\n' * 32768))
    put(house, ids[1], **{name: chr(97 + n) * 131_072 for n, name in enumerate(names)})
    if road == "slow":
        house.org.add_field("Thing__c", field("F__c", "int"))
        put(house, ids[2], F__c="2.5")
    outcome = house.full()["Thing__c"]
    assert outcome.rejected == (road == "slow")
    kept = {i: row for i, row in house.truth("Thing__c").items() if road == "fast" or i != ids[2]}
    table = house.table("Thing__c")
    assert {i: {n: row[n] for n in row if n != "f__c"} for i, row in table.items()} == {
        i: {n: row[n] for n in row if n != "f__c"} for i, row in kept.items()
    }


@pytest.mark.parametrize(
    "records", [500, pytest.param(10_000, marks=pytest.mark.long)], ids=["500", "10,000"]
)
def test_d13_values_of_every_type_are_equal_bytes_by_rest_and_bulk(
    make_house: Any, records: int
) -> None:
    house = make_house(*fuzz.FIELDS)
    house.org.create_many("Thing__c", fuzz.made_up(records, records))
    texts = {}
    for transport in ("rest", "bulk"):
        map_things(house, *(f.name for f in fuzz.FIELDS), transport=transport)
        house.execute("DROP TABLE IF EXISTS salesforce.thing__c")
        outcome = house.full(restart=True)["Thing__c"]
        assert (outcome.rejected, outcome.transport) == (0, transport)
        house.assert_in_step()
        columns = ", ".join(["id", "name", "_modstamp", *(f.name for f in fuzz.FIELDS)])
        texts[transport] = text_of(house, "thing__c", columns)
    assert texts["rest"] == texts["bulk"]
    assert texts["rest"].count(b"\n") == records


@pytest.mark.parametrize("seed", [2, 3])
def test_d13_random_orgs_fill_equal_tables_by_rest_and_bulk(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    org = SandboxOrg()
    seed_org(org, records=500, seed=seed)
    texts: dict[str, list[bytes]] = {}
    with running(org) as served:
        house = House(org, served, tmp_path, database_url, monkeypatch)
        for transport in ("rest", "bulk"):
            house.configure(version=1, objects=all_objects(transport))
            for name in EVERY_OBJECT:
                house.execute(f"DROP TABLE IF EXISTS salesforce.{name.lower()}")
            house.full(restart=True)
            texts[transport] = [
                text_of(house, name.lower(), f"id, _modstamp, {', '.join(fields)}")
                for name, fields in EVERY_OBJECT.items()
            ]
    org.close()
    assert texts["rest"] == texts["bulk"]
    assert all(texts["rest"])


def test_o1_an_object_with_records_in_the_quarantine_is_not_called_in_step(
    make_house: Any,
) -> None:
    house = make_house(field("F__c", "double"))
    fill(house, ["1", "1.5"])
    house.org.add_field("Thing__c", field("F__c", "int"))
    assert house.full()["Thing__c"].rejected == 1
    status = "SELECT status, quarantined FROM crm_sync.sync_status"
    assert house.query(status) == [("records in quarantine", 1)]
    put(house, things_by_name(house)[1], F__c="2.0")
    assert house.sync_once("Thing__c").rejected == 0
    assert house.query(status) == [("in step", 0)]
    assert stored(house) == [1, 2]
