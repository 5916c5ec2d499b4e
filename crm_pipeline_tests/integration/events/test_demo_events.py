"""The demo's own events: the same ones from the same people, and all of them right."""

from datetime import UTC, datetime
from pathlib import Path

from crm_pipeline.cli.demo_events import Reader, readers, write_history, write_round
from crm_pipeline_tests.integration.events.conftest import Tray

UNTIL = datetime(2026, 3, 2, 12, tzinfo=UTC)
PEOPLE = tuple(Reader(f"00Q5g0000{n:06}EAB", f"person{n}@example.com") for n in range(60))


def test_the_same_people_have_the_same_past(tmp_path: Path) -> None:
    first, second = (write_history(tmp_path / name, PEOPLE, UNTIL) for name in "ab")
    assert [file.name for file in first] == [file.name for file in second]
    assert [file.read_text() for file in first] == [file.read_text() for file in second]
    assert write_history(tmp_path / "a", PEOPLE, UNTIL) == ()


def test_every_event_of_the_demo_keeps_the_contract(tray: Tray) -> None:
    assert readers(tray.warehouse) == ()
    write_history(tray.folder, PEOPLE, UNTIL)
    for number in range(1, 7):
        write_round(tray.folder, PEOPLE, UNTIL, number)
    found = tray.take_in()
    assert (found.rejected, found.refused, found.known) == (0, (), 0)
    assert found.loaded > 400
    assert tray.query("SELECT count(*) > 0 FROM events.consent_ledger") == [(True,)]
