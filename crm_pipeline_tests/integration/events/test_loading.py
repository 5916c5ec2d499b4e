"""No event is lost and none is stored twice, whatever the files are like and whenever they come."""

import json
import os
import random
import signal
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crm_pipeline.errors import SyncsDisabled
from crm_pipeline.events import intake, loading
from crm_pipeline.events.files import LocalFolder
from crm_pipeline.events.quarantine import drop_rejected, read_again, refused_files, rejected_rows
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline_tests.integration.events.conftest import Tray, event, lines

EVENTS = [event(n) for n in range(1, 41)]


def test_the_same_file_under_another_name_brings_no_event_twice(tray: Tray) -> None:
    tray.put("a.jsonl", lines(*EVENTS))
    assert tray.take_in().loaded == 40
    before = tray.events()
    tray.put("b.jsonl", lines(*EVENTS))
    again = tray.take_in()
    assert (again.loaded, again.known, again.rejected) == (0, 40, 0)
    assert tray.events() == before
    assert tray.take_in().files == ()


def test_a_file_that_has_grown_is_read_again(tray: Tray) -> None:
    tray.put("a.jsonl", lines(*EVENTS[:10]))
    tray.take_in()
    tray.put("a.jsonl", lines(*EVENTS))
    grown = tray.take_in()
    assert (grown.loaded, grown.known) == (30, 10)


def test_the_first_event_with_an_id_stays_and_another_one_is_told(tray: Tray) -> None:
    tray.put("a.jsonl", lines(event(1), event(1, campaign="named later")))
    tray.put("b.csv", "event_id,occurred_at,kind\ne1,2026-03-02T12:01:00Z,email_opened\n")
    first, second = tray.take_in().files
    assert (first.loaded, first.known, first.rejected) == (1, 1, 0)
    assert (second.loaded, second.known, second.rejected) == (0, 0, 1)
    assert [row[2] for row in tray.events()] == ["page_visited"]
    assert [row[:3] for row in tray.rejected()] == [("b.csv", 2, "event_id")]


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(
    parts=st.lists(
        st.tuples(
            st.sampled_from(["csv", "jsonl", "json"]),
            st.lists(st.integers(1, 40), max_size=25),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_events_that_are_shuffled_split_and_doubled_give_the_same_table(
    tray: Tray, parts: list[tuple[str, list[int]]]
) -> None:
    """The table is told by the set of events alone."""
    tray.query("DELETE FROM events.marketing_events")
    tray.query("DELETE FROM events.event_file")
    for number, (form, chosen) in enumerate(parts):
        rows = [EVENTS[n - 1] for n in chosen]
        random.Random(number).shuffle(rows)
        if form == "csv":
            content = "event_id,occurred_at,kind,email\n" + "".join(
                ",".join(row.values()) + "\n" for row in rows
            )
        else:
            content = lines(*rows) if form == "jsonl" else json.dumps(rows)
        tray.put(f"{number}.{form}", content)
    found = tray.take_in()
    wanted = {n for _, chosen in parts for n in chosen}
    assert found.rejected == 0
    assert found.loaded == len(wanted)
    assert found.rows == sum(len(chosen) for _, chosen in parts)
    assert {row[0] for row in tray.events()} == {f"e{n}" for n in wanted}
    for file in tray.folder.iterdir():
        file.unlink()


def _die_after(url: str, folder: str, step: str) -> None:
    """Load the folder, and die at a step of the load."""

    def die(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if step == "note":
        vars(loading)["_note"] = die
    else:
        setattr(loading._Load, step, die)
    intake.take_in(
        Warehouse(url), LocalFolder(Path(folder)), run_id="dies", require_enabled=lambda: None
    )


@pytest.mark.parametrize("step", ["store", "supersede", "drop_staging", "note"])
def test_a_load_that_is_killed_leaves_nothing_and_the_next_one_loads_all(
    tray: Tray, step: str
) -> None:
    rows = [*EVENTS, event(41, kind="email_unsubscribed")]
    tray.put("a.jsonl", lines(*rows, event(42, kind="nonsense")))
    process = get_context("fork").Process(
        target=_die_after, args=(tray.warehouse.url, str(tray.folder), step)
    )
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    for table in ("marketing_events", "event_file", "quarantine", "consent_ledger"):
        assert tray.query(f"SELECT count(*) FROM events.{table}") == [(0,)]
    assert tray.leftovers() == []
    found = tray.take_in()
    assert (found.loaded, found.rejected) == (41, 1)
    assert tray.query("SELECT email, evidence FROM events.consent_ledger") == [
        ("person41@example.com", "e41")
    ]


def test_the_off_switch_is_asked_before_every_file(tray: Tray) -> None:
    for number in range(3):
        tray.put(f"{number}.jsonl", lines(EVENTS[number]))
    asked = []

    def require() -> None:
        asked.append(1)
        if len(asked) == 3:
            raise SyncsDisabled("off")

    with pytest.raises(SyncsDisabled):
        intake.take_in(
            tray.warehouse, LocalFolder(tray.folder), run_id="r", require_enabled=require
        )
    assert len(tray.events()) == 2
    assert tray.take_in().loaded == 1


def test_an_intake_is_bounded_and_the_next_one_goes_on(tray: Tray) -> None:
    for number in range(5):
        tray.put(f"{number}.jsonl", lines(EVENTS[number]))
    folder = LocalFolder(tray.folder)
    first = intake.take_in(tray.warehouse, folder, run_id="r", require_enabled=lambda: None, most=2)
    assert (len(first.files), first.waiting) == (2, 3)
    assert tray.take_in().loaded == 3


def test_rejected_rows_are_named_by_file_row_and_column(tray: Tray) -> None:
    tray.put(
        "list.csv",
        "event_id,occurred_at,kind,email\n"
        "e1,2026-03-02T12:00:00Z,page_visited,ann@example.com\n"
        "e2,yesterday,page_visited,bo@example.com\n"
        "too,few\n"
        "\n"
        "e3,2026-03-02T12:00:00Z,page_visited,nobody\n"
        "e4,2026-03-02T12:00:00Z,page_visited,di@example.com,too,many\n"
        'e5,2026-03-02T12:00:00Z,page_visited,"ed@example.com\n'
        "e6,2026-03-02T12:00:00Z,page_visited,flo@example.com\n",
    )
    found = tray.take_in()
    assert (found.rows, found.loaded, found.rejected) == (6, 1, 5)
    assert [row[1:3] for row in tray.rejected()] == [
        (3, "occurred_at"),
        (4, "(whole row)"),
        (6, "email"),
        (7, "(whole row)"),
        (8, "email"),
    ]
    shown = rejected_rows(tray.warehouse, file="list.csv")[0]
    assert (shown.row_number, "yesterday" in shown.row) == (3, True)
    assert "write it as 2026-03-02T12:00:00Z" in shown.reason


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"event_id": None}, "event_id"),
    ({"event_id": "  "}, "event_id"),
    ({"event_id": "x" * 201}, "event_id"),
    ({"event_id": ["e"]}, "event_id"),
    ({"occurred_at": None}, "occurred_at"),
    ({"occurred_at": "now"}, "occurred_at"),
    ({"occurred_at": "infinity"}, "occurred_at"),
    ({"occurred_at": "2026-02-30T12:00:00Z"}, "occurred_at"),
    ({"occurred_at": "02/03/2026 12:00"}, "occurred_at"),
    ({"occurred_at": 1772452800}, "occurred_at"),
    ({"occurred_at": "2999-01-01T00:00:00Z"}, "occurred_at"),
    ({"occurred_at": "0001-01-01T00:00:00Z"}, "occurred_at"),
    ({"kind": None}, "kind"),
    ({"kind": "Email_Opened"}, "kind"),
    ({"kind": "custom_"}, "kind"),
    ({"kind": "custom_" + "x" * 51}, "kind"),
    ({"kind": "page_visited\n"}, "kind"),
    ({"email": "Ann <ann@example.com>"}, "email"),
    ({"email": "a@" + "b" * 400}, "email"),
    ({"email": {"is": "no text"}}, "email"),
    ({"email": None, "kind": "email_unsubscribed"}, "email"),
    ({"crm_id": "42"}, "crm_id"),
    ({"crm_id": "'; DROP TABLE events.quarantine; --"}, "crm_id"),
    ({"properties": [1]}, "properties"),
    ({"properties": "text"}, "properties"),
    ({"kind": "score_adjusted"}, "properties"),
    ({"kind": "score_adjusted", "properties": {"points": "5"}}, "properties"),
    ({"emial": "ann@example.com"}, "emial"),
]


def test_every_rule_of_the_contract_names_its_column(tray: Tray) -> None:
    rows = [{**event(n), **wrong} for n, (wrong, _) in enumerate(WRONG)]
    tray.put("wrong.jsonl", lines(*rows, event(99)))
    found = tray.take_in()
    assert (found.loaded, found.rejected) == (1, len(WRONG))
    assert [row[2] for row in tray.rejected()] == [column for _, column in WRONG]


HOSTILE = [
    "{",
    "null",
    "[]",
    '"text"',
    "not json at all",
    "\\.",
    "\\N",
    '{"event_id": "e1"} {"event_id": "e2"}',
    '{"event_id": "\\ud800"}',
    '{"event_id": "a\\u0000b"}',
    '{"event_id": "a\0b"}',
    "[" * 200_000,
    '{"a":' * 50_000,
    "\x01\x02\x1f\x7f",
]


def test_hostile_lines_are_rejected_one_by_one_and_their_neighbours_are_loaded(tray: Tray) -> None:
    good = lines(*EVENTS).splitlines()
    mixed = [line for n, bad in enumerate(HOSTILE) for line in (good[n], bad)]
    tray.put("hostile.jsonl", "\n".join(mixed).encode() + b"\n\xff\xfe\xfa\n" + good[39].encode())
    found = tray.take_in()
    assert (found.loaded, found.rejected) == (len(HOSTILE) + 1, len(HOSTILE) + 1)
    assert [row[1] for row in tray.rejected()] == [2 * (n + 1) for n in range(len(HOSTILE))] + [29]
    assert [row for row in tray.rejected() if row[2] != "(whole row)"] == []


def test_nul_and_broken_utf_8_in_a_csv_are_replaced_and_nothing_else_is_lost(tray: Tray) -> None:
    head = b"event_id,occurred_at,kind,campaign,properties\n"
    tray.put(
        "a.csv",
        head
        + b"e1,2026-03-02T12:00:00Z,page_visited,a\0b,\n"
        + b"e2,2026-03-02T12:00:00Z,page_visited,caf\xe9,{}\n"
        + b'e3,2026-03-02T12:00:00Z,page_visited,=cmd(),"{""a"": '
        + b"[" * 50_000
        + b'"\n'
        + b'e4,2026-03-02T12:00:00Z,page_visited,"\\N","{""a"": ""\\u0000""}"\n',
    )
    assert tray.take_in().loaded == 2
    assert [row[5] for row in tray.events()] == ["a\ufffdb", "caf\ufffd"]
    assert [row[1:3] for row in tray.rejected()] == [(4, "properties"), (5, "properties")]


def test_a_row_that_was_mended_in_its_file_leaves_the_quarantine(tray: Tray) -> None:
    wrong = event(2, kind="pages_visited")
    tray.put("a.jsonl", lines(event(1), wrong, event(3, email="nobody"), event(4, kind="x")))
    tray.take_in()
    assert len(tray.rejected()) == 3
    tray.put("a.jsonl", lines(event(1), event(2), event(3, email="nobody")))
    tray.take_in()
    # The second is loaded, the third is there as it was, and the fourth is nowhere else.
    assert [row[1:3] for row in tray.rejected()] == [(3, "email"), (4, "kind")]
    assert {row[0] for row in tray.events()} == {"e1", "e2"}


def test_a_line_that_was_still_being_written_is_loaded_when_it_is_whole(tray: Tray) -> None:
    text = lines(event(1), event(2))
    tray.put("a.jsonl", text[:-20])
    assert tray.take_in().rejected == 1
    tray.put("a.jsonl", text)
    assert tray.take_in().loaded == 1
    assert tray.rejected() == []


def test_files_with_rejected_rows_are_read_again_on_request_and_dropped_on_request(
    tray: Tray,
) -> None:
    tray.put("bad.jsonl", lines(event(1, kind="x"), event(2)))
    tray.put("broken.json", "{")
    tray.put("good.jsonl", lines(event(3)))
    tray.take_in()
    assert list(refused_files(tray.warehouse)) == [str((tray.folder / "broken.json").resolve())]
    assert read_again(tray.warehouse, file="bad.jsonl") == 1
    assert read_again(tray.warehouse) == 1
    again = tray.take_in()
    assert [one.file for one in again.files] == ["bad.jsonl", "broken.json"]
    assert (again.loaded, again.rejected, len(tray.rejected())) == (0, 1, 1)
    assert drop_rejected(tray.warehouse) == 1
    assert tray.rejected() == []
    assert refused_files(tray.warehouse) == {}
    assert tray.take_in().files == ()


def test_links_out_of_the_folder_and_hidden_files_are_left_aside(
    tray: Tray, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.jsonl"
    secret.write_text(lines(event(1)))
    (tray.folder / "link.jsonl").symlink_to(secret)
    (tray.folder / "linked").symlink_to(tmp_path)
    tray.put(".hidden.jsonl", lines(event(2)))
    tray.put("_part.jsonl", lines(event(3)))
    tray.put("README.txt", "hello")
    tray.put("good.jsonl", lines(event(4)))
    (tray.folder / "inner.jsonl").symlink_to(tray.folder / "good.jsonl")
    found = tray.take_in()
    assert [row[0] for row in tray.events()] == ["e4"]
    assert sorted(found.left_aside) == ["README.txt", "link.jsonl"]


def test_an_object_store_is_read_like_a_folder(tray: Tray) -> None:
    import fsspec  # noqa: PLC0415

    from crm_pipeline.events.files import event_folder  # noqa: PLC0415

    store = fsspec.filesystem("memory")
    store.pipe("/bucket/day=1/a.jsonl", lines(event(1)).encode())
    store.pipe("/bucket/day=2/b.csv", b"event_id,occurred_at,kind\ne2,2026-03-02T12:00Z,x\n")
    store.pipe("/elsewhere/c.jsonl", lines(event(3)).encode())
    folder = event_folder("memory://bucket")

    def take() -> intake.Intake:
        return intake.take_in(tray.warehouse, folder, run_id="r", require_enabled=lambda: None)

    first = take()
    assert [one.file for one in first.files] == ["day=1/a.jsonl", "day=2/b.csv"]
    assert (first.loaded, first.rejected) == (1, 1)
    assert take().files == ()
    store.pipe("/bucket/day=1/a.jsonl", lines(event(1), event(4)).encode())
    assert take().loaded == 1
    store.rm("/bucket", recursive=True)
    store.rm("/elsewhere", recursive=True)


def test_plain_inserts_are_tidied_and_noted_and_refused_by_the_same_contract(tray: Tray) -> None:
    tray.query(
        "INSERT INTO events.marketing_events (event_id, occurred_at, kind, email, crm_id) VALUES"
        " ('s1', '2026-03-02', 'email_hard_bounced', ' Ann@Example.com ', '00Q5g00000AbCdE'),"
        " ('s2', '2026-03-02', 'email_complained', 'bo@example.com', NULL),"
        " ('s3', '2026-03-02', 'email_soft_bounced', 'bo@example.com', ''),"
        " ('s4', '2026-03-02', 'email_unsubscribed', '', NULL)"
    )
    assert [row[3:5] for row in tray.events()] == [
        ("ann@example.com", "00Q5g00000AbCdEEAV"),
        ("bo@example.com", None),
        ("bo@example.com", None),
        (None, None),
    ]
    assert tray.query(
        "SELECT email, status, side, evidence FROM events.consent_ledger ORDER BY evidence"
    ) == [
        ("ann@example.com", "hard_bounced", "marketing", "s1"),
        ("bo@example.com", "complained", "marketing", "s2"),
    ]
    for wrong in (
        "('s5', '2026-03-02', 'nonsense', NULL, NULL)",
        "('s5', 'infinity', 'page_visited', NULL, NULL)",
        "('s5', '2026-03-02', 'page_visited', NULL, 'short')",
        "('s5', '2026-03-02', 'score_adjusted', NULL, NULL)",
        "('', '2026-03-02', 'page_visited', NULL, NULL)",
    ):
        with pytest.raises(psycopg.errors.CheckViolation):
            tray.query(
                "INSERT INTO events.marketing_events (event_id, occurred_at, kind, email, crm_id)"
                f" VALUES {wrong}"
            )


def test_events_and_consent_are_append_only(tray: Tray) -> None:
    tray.put("a.jsonl", lines(event(1, kind="email_unsubscribed")))
    tray.take_in()
    for statement in (
        "UPDATE events.marketing_events SET kind = 'page_visited'",
        "UPDATE events.consent_ledger SET status = 'subscribed'",
        "DELETE FROM events.consent_ledger",
        "TRUNCATE events.consent_ledger",
    ):
        with pytest.raises(psycopg.errors.RestrictViolation, match="append-only"):
            tray.query(statement)
    assert tray.query("SELECT status FROM events.consent_ledger") == [("unsubscribed",)]
