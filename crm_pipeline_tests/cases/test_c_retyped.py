"""C4: a field that changes its type never narrows its column, and views stand as they stood."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from crm_pipeline.sandbox.salesforce.schema import FieldType
from crm_pipeline_tests.cases.checking import findings
from crm_pipeline_tests.cases.things import (
    field,
    house_of_things,
    map_things,
    pass_time,
    put,
    things,
    typed_columns,
)
from crm_pipeline_tests.house import House
from crm_pipeline_tests.integration.sync.test_rare_interleavings import (
    in_background,
    wait_for_a_lock,
)

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)

# Former type and value, later type and value; what the column holds then, and where the former
# values are kept if it is a new one.
PAIRS: dict[tuple[FieldType, FieldType], tuple[Any, Any, Any, str | None]] = {
    # wider
    ("int", "double"): (7, "7.25", Decimal("7.25"), None),
    ("int", "string"): (7, "seven", "seven", None),
    ("double", "string"): ("7.5", "about 7", "about 7", None),
    ("boolean", "string"): ("true", "perhaps", "perhaps", None),
    ("date", "string"): ("2026-03-02", "in spring", "in spring", None),
    ("datetime", "string"): ("2026-03-02T12:00:00.000Z", "noon", "noon", None),
    ("time", "textarea"): ("10:00:00.000Z", "ten", "ten", None),
    # wide enough already
    ("string", "picklist"): ("Hot", "Cold", "Cold", None),
    ("string", "double"): ("about 7", "7.5", "7.5", None),
    ("string", "date"): ("in spring", "2026-03-02", "2026-03-02", None),
    ("double", "int"): ("7.5", 8, Decimal(8), None),
    # neither
    ("boolean", "date"): ("true", "2026-03-02", date(2026, 3, 2), "f__c__boolean"),
    ("date", "datetime"): ("2026-03-02", "2026-03-02T12:00:00.000Z", NOON, "f__c__date"),
    ("datetime", "date"): (
        *("2026-03-02T12:00:00.000Z", "2026-03-02"),
        *(date(2026, 3, 2), "f__c__timestamp"),
    ),
    ("int", "boolean"): (7, "true", True, "f__c__integer"),
    ("double", "time"): ("7.5", "10:00:00.000Z", time(10), "f__c__numeric"),
}


@pytest.fixture
def make_house(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A house of things with one field, F__c, of a type that the test names."""
    opened = []

    def make(kind: FieldType) -> House:
        opened.append(
            house_of_things(database_url, tmp_path, monkeypatch, field("F__c", kind, length=255))
        )
        return opened[-1].__enter__()

    yield make
    for one in opened:
        one.__exit__(None, None, None)


def retype(house: House, kind: FieldType) -> None:
    """The administrator gives F__c another type."""
    house.org.add_field("Thing__c", field("F__c", kind, length=255))


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair[0]} to {pair[1]}")
def test_c4_a_retyped_field_widens_or_gets_a_new_typed_column_and_loses_no_value(
    make_house: Any, pair: tuple[FieldType, FieldType]
) -> None:
    former_value, later_value, stored, aside = PAIRS[pair]
    house: House = make_house(pair[0])
    old = house.org.create("Thing__c", {"Name": "unchanged"})
    both = house.org.create("Thing__c", {"Name": "changed"})
    put(house, old, F__c=former_value)
    put(house, both, F__c=former_value)
    pass_time(house)
    house.full()
    former = things(house)["unchanged"]["f__c"]
    retype(house, pair[1])
    put(house, both, F__c=later_value)
    outcome = house.sync_once("Thing__c")
    assert outcome.broken_fields == ()
    assert things(house)["changed"]["f__c"] == stored
    unchanged = things(house)["unchanged"]
    if aside is None:
        assert unchanged["f__c"] is not None
    else:
        assert (unchanged[aside], unchanged["f__c"]) == (former, None)
        assert outcome.due_reason is not None
    put(house, old, F__c=later_value)
    assert house.full()["Thing__c"].due_reason is None
    assert things(house)["unchanged"]["f__c"] == stored


def test_c4_a_field_retyped_back_and_forth_keeps_every_former_value(make_house: Any) -> None:
    house: House = make_house("boolean")
    one = house.org.create("Thing__c", {"Name": "one"})
    values: list[tuple[FieldType, str]] = [
        ("boolean", "true"),
        ("date", "2026-03-02"),
        ("boolean", "false"),
        ("date", "2026-03-03"),
    ]
    for kind, value in values:
        retype(house, kind)
        put(house, one, F__c=value)
        house.full()
        pass_time(house)
    row = things(house)["one"]
    assert {name: row[name] for name in typed_columns(house) if name.startswith("f__c")} == {
        "f__c__boolean": True,
        "f__c__date": date(2026, 3, 2),
        "f__c__boolean_2": False,
        "f__c": date(2026, 3, 3),
    }


def test_c4_preflight_says_what_will_become_of_a_retyped_field(make_house: Any) -> None:
    house: House = make_house("boolean")
    house.full()
    retype(house, "date")
    (found,) = [f for f in findings() if "f__c" in f.sentence]
    assert found.severity == "notice"
    assert "`f__c__boolean`" in found.remedy
    retype(house, "string")
    (found,) = [f for f in findings() if "f__c" in f.sentence]
    assert (found.severity, "widens it to text" in found.remedy) == ("notice", True)


# Views


def roles(house: House) -> None:
    """Two roles that differ from ours, once per server."""
    for role in ("view_owner", "view_reader"):
        house.execute(
            f"DO $$ BEGIN IF to_regrole('{role}') IS NULL THEN CREATE ROLE {role}; END IF;"
            " EXCEPTION WHEN duplicate_object THEN NULL; END $$"
        )
    house.execute("CREATE SCHEMA marts; GRANT ALL ON SCHEMA marts TO view_owner")
    house.execute("GRANT USAGE ON SCHEMA salesforce TO view_owner")
    house.execute("GRANT SELECT ON salesforce.thing__c TO view_owner")


def catalogue_of(house: House) -> list[tuple[Any, ...]]:
    """Everything about the views of the schema marts, but their oids."""
    return house.query(
        "SELECT c.relname, pg_get_viewdef(c.oid), pg_get_userbyid(c.relowner), c.reloptions::text,"
        " obj_description(c.oid, 'pg_class'),"
        " (SELECT array_agg(a::text ORDER BY a::text) FROM aclexplode(coalesce(c.relacl,"
        "  acldefault('r', c.relowner))) a)::text,"
        " (SELECT array_agg((t.attname, t.attacl, col_description(c.oid, t.attnum))::text"
        "  ORDER BY t.attnum) FROM pg_attribute t WHERE t.attrelid = c.oid AND t.attnum > 0)::text"
        " FROM pg_class c WHERE c.relnamespace = 'marts'::regnamespace ORDER BY 1"
    )


VIEWS = """
CREATE VIEW marts.base WITH (security_barrier = true)
    AS SELECT id, f__c AS amount, name FROM salesforce.thing__c WHERE f__c IS NOT NULL;
CREATE VIEW marts."On Top" AS SELECT amount, b.name FROM marts.base b;
CREATE VIEW marts.diamond AS
    SELECT t.amount, b.id FROM marts.base b JOIN marts."On Top" t USING (name);
CREATE VIEW marts.elsewhere AS SELECT name FROM salesforce.thing__c;
COMMENT ON VIEW marts.base IS 'It''s the base';
COMMENT ON COLUMN marts.base.amount IS 'How much; 100 % {quoted}';
GRANT SELECT ON marts.base TO view_reader WITH GRANT OPTION;
GRANT SELECT (name) ON marts."On Top" TO view_reader;
GRANT SELECT ON marts.diamond TO PUBLIC;
ALTER VIEW marts.base OWNER TO view_owner;
ALTER DEFAULT PRIVILEGES IN SCHEMA marts GRANT ALL ON TABLES TO view_reader;
"""


@pytest.mark.parametrize("later", ["double", "string", "boolean"])
def test_c4_views_stand_as_they_stood_after_their_column_changed_its_type(
    make_house: Any, later: FieldType
) -> None:
    house: House = make_house("int")
    one = house.org.create("Thing__c", {"Name": "one", "F__c": 7})
    house.full()
    roles(house)
    house.execute(VIEWS)
    before = catalogue_of(house)
    pass_time(house)
    retype(house, later)
    put(house, one, F__c="true" if later == "boolean" else "7.25")
    outcome = house.sync_once("Thing__c")
    assert outcome.broken_fields == ()
    assert catalogue_of(house) == before
    expected = {"double": Decimal("7.25"), "string": "7.25", "boolean": True}[later]
    assert house.query("SELECT amount FROM marts.diamond") == [(expected,)]


UNMOVABLE = {
    "a union that needs the type": (
        "CREATE VIEW marts.held AS SELECT f__c FROM salesforce.thing__c UNION SELECT 1.5",
        "marts.held cannot follow",
    ),
    "arithmetic": (
        "CREATE VIEW marts.held AS SELECT f__c + 1 AS more FROM salesforce.thing__c",
        "marts.held cannot follow",
    ),
    "a materialised view": (
        "CREATE MATERIALIZED VIEW marts.held AS SELECT f__c FROM salesforce.thing__c",
        "marts.held is materialised",
    ),
    "a trigger": (
        """CREATE VIEW marts.held AS SELECT f__c FROM salesforce.thing__c;
        CREATE FUNCTION marts.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER t INSTEAD OF DELETE ON marts.held FOR EACH ROW EXECUTE FUNCTION marts.f()""",
        "marts.held is materialised or temporary, or has triggers",
    ),
    "a function on the view": (
        """CREATE VIEW marts.held AS SELECT f__c FROM salesforce.thing__c;
        CREATE FUNCTION marts.g() RETURNS SETOF marts.held LANGUAGE sql
            AS 'SELECT * FROM marts.held'""",
        "marts.held cannot follow",
    ),
}


@pytest.mark.parametrize("kind", UNMOVABLE)
def test_c4_a_view_that_cannot_follow_is_named_and_the_other_fields_go_on(
    make_house: Any, kind: str
) -> None:
    statement, said = UNMOVABLE[kind]
    house: House = make_house("double")
    house.org.add_field("Thing__c", field("Other__c", "string", length=80))
    map_things(house, "F__c", "Other__c")
    one = house.org.create("Thing__c", {"Name": "one", "F__c": "7.5"})
    house.full()
    house.execute("CREATE SCHEMA marts;" + statement)
    before = catalogue_of(house)
    pass_time(house)
    retype(house, "string")
    put(house, one, F__c="about 7", Other__c="goes on")
    (broken,) = house.sync_once("Thing__c").broken_fields
    assert broken.startswith("F__c (salesforce.thing__c.f__c holds numeric and cannot become text")
    assert said in broken
    row = things(house)["one"]
    assert (row["f__c"], row["other__c"]) == (Decimal("7.5"), "goes on")
    assert catalogue_of(house) == before
    house.execute("DROP SCHEMA marts CASCADE")
    assert house.sync_once("Thing__c").broken_fields == ()
    house.full()
    assert things(house)["one"]["f__c"] == "about 7"


def test_c4_a_slow_reader_of_a_view_is_waited_for_and_nobody_queues_behind_us(
    make_house: Any,
) -> None:
    house: House = make_house("int")
    house.org.create("Thing__c", {"Name": "one", "F__c": 7})
    house.full()
    house.execute("CREATE SCHEMA marts")
    house.execute("CREATE VIEW marts.v AS SELECT f__c FROM salesforce.thing__c")
    retype(house, "double")
    with psycopg.connect(house.database_url) as slow:
        slow.execute("SELECT * FROM marts.v")
        thread, errors = in_background(lambda: house.sync_once("Thing__c"))
        wait_for_a_lock(house)
        with psycopg.connect(house.database_url, options="-c statement_timeout=2000") as reader:
            assert reader.execute("SELECT f__c FROM marts.v").fetchall() == [(7,)]
    thread.join(30)
    assert errors == []
    assert typed_columns(house)["f__c"] == "numeric"
