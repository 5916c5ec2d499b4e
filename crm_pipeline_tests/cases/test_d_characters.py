"""D8, D9: what PostgreSQL cannot hold is replaced and counted, and everything else is exact."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from crm_pipeline.sandbox.salesforce.schema import FieldDefinition, PicklistValue
from crm_pipeline.sync.reference import sync_reference_dataset
from crm_pipeline_tests.cases.garbling import HALF, NUL, garble
from crm_pipeline_tests.cases.things import (
    field,
    fill,
    house_of_things,
    map_things,
    pass_time,
    stored,
    text_of,
)
from crm_pipeline_tests.house import House

TRANSPORTS = pytest.mark.parametrize("transport", ["rest", "bulk"])
TEXT = field("F__c", "textarea", length=255)
EXACT = ["👩‍👩‍👧", "e\u0301", "é", "العربية", "\u202eback", "\ufffd", "\U0010ffff", "\u2028"]


@pytest.fixture
def make_house(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., House]]:
    """A house of things behind a wire that garbles."""
    garble(monkeypatch)
    with ExitStack() as stack:

        def make(*fields: FieldDefinition, transport: str = "rest") -> House:
            opened = house_of_things(
                database_url, tmp_path, monkeypatch, *fields, transport=transport
            )
            return stack.enter_context(opened)

        yield make


def counted(house: House) -> list[tuple[Any, ...]]:
    """What the ledger says about replaced characters, run by run."""
    return house.query("SELECT replaced_characters FROM crm_sync.sync_run ORDER BY sync_run_id")


@TRANSPORTS
def test_d8_nul_is_replaced_and_counted_and_the_rest_is_exact(
    make_house: Any, transport: str
) -> None:
    nul = "\0" if transport == "rest" else NUL
    house = make_house(TEXT, transport=transport)
    fill(house, [f"a{nul}b", nul * 2, *EXACT])
    outcome = house.full()["Thing__c"]
    assert stored(house) == ["a\ufffdb", "\ufffd\ufffd", *EXACT]
    assert (outcome.replaced_characters, outcome.rejected) == (3, 0)
    assert counted(house) == [(3,)]
    pass_time(house)
    assert house.sync_once("Thing__c").has_changes is False


@TRANSPORTS
def test_d9_half_a_surrogate_pair_is_replaced_and_counted_and_the_rest_is_exact(
    make_house: Any, transport: str
) -> None:
    house = make_house(TEXT, transport=transport)
    fill(house, [f"a{HALF}b", HALF * 2, *EXACT])
    outcome = house.full()["Thing__c"]
    assert stored(house) == ["a\ufffdb", "\ufffd\ufffd", *EXACT]
    assert (outcome.replaced_characters, outcome.rejected) == (3, 0)
    assert counted(house) == [(3,)]


def test_d8_d9_d13_garbled_text_is_equal_bytes_by_rest_and_bulk(make_house: Any) -> None:
    house = make_house(TEXT)
    fill(house, [f"{HALF}a", f"a{HALF}{HALF}", f'"{HALF}",\n', "plain", *EXACT])
    texts = []
    for transport in ("rest", "bulk"):
        map_things(house, "F__c", transport=transport)
        house.execute("DROP TABLE IF EXISTS salesforce.thing__c")
        house.full(restart=True)
        texts.append(text_of(house, "thing__c", "id, name, f__c"))
    assert texts[0] == texts[1]
    assert counted(house) == [(4,), (4,)]


def test_d8_a_page_that_broke_off_and_was_read_again_is_counted_once(make_house: Any) -> None:
    house = make_house(field("F__c", "textarea", length=131_072), transport="bulk")
    fill(house, [f"a{NUL}b" * 40_000] * 8)  # more than the first piece that is handed on
    house.served.server.faults.script(
        [{"kind": "cut", "path": "*/results*", "nth": 2, "times": 1, "after_bytes": 600_000}]
    )
    assert house.full()["Thing__c"].replaced_characters == 320_000
    assert counted(house) == [(320_000,)]


def test_d8_a_run_without_such_characters_counts_none(make_house: Any) -> None:
    house = make_house(TEXT, transport="bulk")
    fill(house, EXACT)
    assert house.full()["Thing__c"].replaced_characters == 0
    assert counted(house) == [(0,)]


def test_d8_d9_labels_and_options_with_such_characters_stop_nothing(make_house: Any) -> None:
    options = (PicklistValue(f"v{HALF}", f"label \0 {HALF}"),)
    pick = field("F__c", "picklist", label=f"La\0bel {HALF}", picklist_values=options)
    house = make_house(pick)
    fill(house, ["v"])
    house.full()
    assert stored(house) == ["v"]
    # A JSON parser makes one or three of a broken character; none of them may reach PostgreSQL.
    assert house.query(
        "SELECT regexp_replace(col_description(attrelid, attnum), '\ufffd+', '?', 'g')"
        " FROM pg_attribute"
        " WHERE attrelid = 'salesforce.thing__c'::regclass AND attname = 'f__c'"
    ) == [("La?bel ? (F__c, picklist)",)]
    with house.engine() as engine:
        sync_reference_dataset(engine, "picklist_values", run_id="r")
    assert house.query(
        "SELECT regexp_replace(value || label, '\ufffd+', '?', 'g')"
        " FROM salesforce.picklist_values WHERE object_name = 'Thing__c'"
    ) == [("v?label ? ?",)]
