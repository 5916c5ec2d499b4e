"""H14, H20, H25, H27: scores, visits and touches that are written by themselves."""

import random
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from crm_pipeline.cli.main import run
from crm_pipeline.errors import SyncsDisabled, UsageError
from crm_pipeline.model.writeback import Enqueued, Lane, Value
from crm_pipeline.sync.assembly import Installation
from crm_pipeline.warehouse import outbox_desk
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.writeback.automatic import Decision, enabled_write_backs
from crm_pipeline.writeback.undo import Undone, undo
from crm_pipeline_tests.cases.deciding import (
    FIRST_CHANNEL,
    FIRST_SOURCE,
    LAST_CHANNEL,
    LAST_SOURCE,
    OBJECTS,
    SCORE,
    VISIT,
    build,
    built,
    cycle,
    dbt_folder,
    decided,
    deciding,
    deciding_house,
    due,
    fact,
    held,
    person,
    rows_of_outbox,
    settle,
    write_backs,
)
from crm_pipeline_tests.cases.writing import (
    assert_conserved,
    codes,
    drain,
    ids,
    states,
    update,
    wish,
)
from crm_pipeline_tests.house import House

__all__ = ["dbt_folder", "deciding"]

MONDAY = datetime(2026, 3, 2, 12, tzinfo=UTC)
SCORES = {"lead_scores": {"enabled": True}}


def score(house: House, number: int, value: int) -> None:
    fact(house, "fct_lead_scores", number, total_score=value)


def test_h14_a_score_is_written_once_and_two_cycles_later_all_is_quiet(deciding: House) -> None:
    for number in range(4):
        score(deciding, number, 10 * number)
    assert [cycle(deciding) for _ in range(3)] == [3, 0, 0]
    assert held(deciding, SCORE) == [None, 10, 20, 30]
    score(deciding, 1, 11)
    score(deciding, 2, 0)
    assert [cycle(deciding) for _ in range(3)] == [2, 0, 0]
    assert held(deciding, SCORE) == [None, 11, 0, 30]
    assert rows_of_outbox(deciding) == 5


def test_h14_deciding_again_before_anything_was_sent_or_read_asks_for_nothing_more(
    deciding: House,
) -> None:
    score(deciding, 0, 7)
    assert decided(deciding, "lead_scores").records == 1
    again = decided(deciding, "lead_scores")
    assert (again.batch, again.records, again.enqueued) == (None, 0, Enqueued())
    drain(deciding)
    assert decided(deciding, "lead_scores").records == 0


def test_h14_a_copy_that_was_read_while_we_wrote_is_not_taken_for_news(deciding: House) -> None:
    score(deciding, 0, 7)
    settle(deciding)
    # A sync that had read the record before we wrote commits after it.
    deciding.execute("UPDATE salesforce.lead SET _synced_at = now() WHERE lastname = 'l0'")
    assert decided(deciding, "lead_scores").records == 0


def test_h23_a_score_that_the_crm_changes_back_is_written_three_times_and_then_parked(
    deciding: House,
) -> None:
    score(deciding, 0, 7)
    applied = []
    for _ in range(5):
        applied.append(cycle(deciding))
        deciding.org.update("Lead", ids(deciding)[0], {SCORE: 1})
    assert applied == [1, 1, 1, 0, 0]
    assert codes(deciding) == {"CHANGED_BACK": 1}
    assert_conserved(deciding)


@pytest.mark.parametrize(
    ("value", "is_written"), [(52, False), (48, False), (55, True), (45, True), (40, True)]
)
def test_scores_are_written_when_they_moved_far_enough_or_cross_a_threshold(
    deciding: House, *, value: int, is_written: bool
) -> None:
    write_backs(deciding, lead_scores={"enabled": True, "smallest_change": 5, "thresholds": [42]})
    score(deciding, 0, 50)
    cycle(deciding)
    score(deciding, 0, value)
    cycle(deciding)
    assert held(deciding, SCORE)[0] == (value if is_written else 50)


def test_a_score_that_crosses_a_threshold_is_written_however_small_the_step(
    deciding: House,
) -> None:
    write_backs(deciding, lead_scores={"enabled": True, "smallest_change": 100, "thresholds": [50]})
    # Nobody is given a score of less than anybody would look at.
    for value, expected in ((49, None), (50, 50), (51, 50), (49, 49), (48, 49)):
        score(deciding, 0, value)
        cycle(deciding)
        assert held(deciding, SCORE)[0] == expected


@pytest.mark.parametrize("policy", ["overwrite", "keep"])
def test_a_score_that_people_entered_is_written_over_or_kept_as_the_setting_says(
    deciding: House, policy: str
) -> None:
    write_backs(deciding, lead_scores={"enabled": True, "edited_in_crm": policy})
    edited, _, theirs, *_ = ids(deciding)
    deciding.org.update("Lead", theirs, {SCORE: 90})
    deciding.sync()
    for number in range(3):
        score(deciding, number, 5)
    assert cycle(deciding) == (3 if policy == "overwrite" else 2)
    deciding.org.update("Lead", edited, {SCORE: 77})
    for number in range(3):
        score(deciding, number, 6)
    cycle(deciding)
    assert held(deciding, SCORE)[:3] == ([6, 6, 6] if policy == "overwrite" else [77, 6, 90])
    for lead in (edited, theirs):
        deciding.org.update("Lead", lead, {SCORE: None})
    cycle(deciding)
    assert held(deciding, SCORE)[:3] == [6, 6, 6], "an empty field is ours again"
    assert cycle(deciding) == 0


@pytest.mark.parametrize("write_back", ["lead_scores", "touches"])
def test_h20_what_waited_for_approval_spares_what_people_entered_meanwhile(
    deciding: House, write_back: str
) -> None:
    write_backs(
        deciding,
        lead_scores={"enabled": True, "edited_in_crm": "keep"},
        touches={"enabled": True},
        approval={"most_records": 1},
    )
    for number in range(2):
        score(deciding, number, 5)
        at = {f"{which}_touch_at": MONDAY for which in ("first", "last")}
        words = {f"{which}_touch_channel": "ours" for which in ("first", "last")}
        fact(deciding, "fct_touches", number, **at, **words)
    built(deciding)
    name, ours, theirs = {
        "lead_scores": (SCORE, 5, 77),
        "touches": (FIRST_CHANNEL, "ours", "theirs"),
    }[write_back]
    batch = decided(deciding, write_back).batch
    assert batch is not None
    deciding.org.update("Lead", ids(deciding)[0], {name: theirs})
    with Warehouse(deciding.database_url).connect() as connection:
        outbox_desk.approve(connection, batch)
    drain(deciding)
    assert held(deciding, name)[:2] == [theirs, ours]
    assert codes(deciding, "superseded") == {"CHANGED_IN_CRM": 1}
    assert_conserved(deciding)
    assert cycle(deciding) == 0


def by_hand(house: House, name: str, value: Value) -> None:
    """An update that somebody asks for."""
    wish(house, replace(update(ids(house)[0], Lane.ACTION, x=1), fields={name: value}))


def test_a_score_that_an_action_or_an_undo_wrote_is_one_that_people_entered(
    deciding: House,
) -> None:
    lead = ids(deciding)[0]
    deciding.org.update("Lead", lead, {SCORE: 90})
    deciding.sync()
    score(deciding, 0, 5)
    built(deciding)
    batch = decided(deciding, "lead_scores").batch
    assert batch is not None
    drain(deciding)
    undone(deciding, batch)
    drain(deciding)
    write_backs(deciding, lead_scores={"enabled": True, "edited_in_crm": "keep"})
    score(deciding, 0, 20)
    cycle(deciding)
    assert held(deciding, SCORE)[0] == 90
    by_hand(deciding, SCORE, 77)
    drain(deciding)
    score(deciding, 0, 21)
    cycle(deciding)
    assert held(deciding, SCORE)[0] == 77


KEEPS = {
    "lead_scores": {"enabled": True, "edited_in_crm": "keep"},
    "touches": {"enabled": True, "edited_in_crm": "keep"},
}
_CONVERTED = {"Lead": {"fields": [*OBJECTS["Lead"]["fields"], "ConvertedContactId"]}}


def goes_on_with(house: House, name: str, record_id: str, **values: Any) -> int:
    """What became of a record has these values; a day later, people have other scores."""
    house.org.update(name, record_id, values)
    cycle(house)
    for number in range(4):
        score(house, number, 40)
        at = MONDAY + timedelta(days=1)
        fact(house, "fct_touches", number, last_touch_at=at, last_touch_channel="new")
    return cycle(house)


def have(house: House, number: int, value: int) -> None:
    """Somebody has a score, and a last touch of that name."""
    score(house, number, value)
    fact(house, "fct_touches", number, last_touch_at=MONDAY, last_touch_channel=f"channel {value}")


def test_a_score_or_a_touch_that_came_by_a_merge_is_not_one_that_people_entered(
    deciding: House,
) -> None:
    write_backs(deciding, **KEEPS)
    winner, loser, first_loser, other = ids(deciding)
    for number in range(4):
        have(deciding, number, 5 + number)
    assert cycle(deciding) == 8
    deciding.org.update("Lead", loser, {SCORE: 7})
    deciding.org.merge("Lead", loser, [first_loser])
    deciding.org.merge("Lead", winner, [loser])
    # What another record holds was entered here.
    deciding.org.update("Lead", other, {SCORE: 5})
    goes_on_with(deciding, "Lead", winner, **{SCORE: 7, LAST_CHANNEL: "channel 6"})
    assert held(deciding, SCORE) == [40, 5]
    assert held(deciding, LAST_CHANNEL) == ["new", "new"]


def test_a_score_that_people_entered_after_a_merge_is_kept(deciding: House) -> None:
    write_backs(deciding, **KEEPS)
    winner, loser, *_ = ids(deciding)
    for number in range(2):
        have(deciding, number, 5 + number)
    cycle(deciding)
    deciding.org.merge("Lead", winner, [loser])
    goes_on_with(deciding, "Lead", winner, **{SCORE: 77, LAST_CHANNEL: "Trade fair"})
    assert held(deciding, SCORE)[0] == 77
    assert held(deciding, LAST_CHANNEL)[0] == "Trade fair"


@pytest.mark.parametrize("objects", [{}, _CONVERTED])
def test_a_score_or_a_touch_that_came_by_a_conversion_is_not_one_that_people_entered(
    deciding: House, objects: dict[str, Any]
) -> None:
    deciding.configure(objects={**OBJECTS, **objects})
    deciding.full()
    write_backs(deciding, **KEEPS)
    lead, loser, *_ = ids(deciding)
    for number in range(2):
        have(deciding, number, 5 + number)
    cycle(deciding)
    deciding.org.merge("Lead", lead, [loser])
    contact = str(deciding.org.convert_lead(lead)["contact_id"])
    goes_on_with(deciding, "Contact", contact, **{SCORE: 6, LAST_CHANNEL: "channel 5"})
    assert held(deciding, SCORE, "Contact") == [40]
    assert held(deciding, LAST_CHANNEL, "Contact") == ["new"]


def test_a_contact_keeps_what_people_entered_though_another_field_of_the_lead_held_it(
    deciding: House,
) -> None:
    write_backs(deciding, **KEEPS)
    lead = ids(deciding)[0]
    at = {"last_touch_at": MONDAY, "last_touch_channel": "web", "last_touch_source": "ads"}
    fact(deciding, "fct_touches", 0, **at)
    cycle(deciding)
    contact = str(deciding.org.convert_lead(lead)["contact_id"])
    goes_on_with(deciding, "Contact", contact, **{LAST_CHANNEL: "ads"})
    assert held(deciding, LAST_CHANNEL, "Contact") == ["ads"]


@pytest.mark.parametrize("value", ["", "７７"])
def test_an_odd_score_or_visit_of_an_action_stops_no_decision(deciding: House, value: str) -> None:
    for number in range(2):
        score(deciding, number, 5)
        visit(deciding, number, MONDAY)
    for name in (SCORE, VISIT):
        by_hand(deciding, name, value)
    assert decided(deciding, "lead_scores").records == 2
    assert decided(deciding, "visits").records == 2


def test_h23_the_same_update_may_be_asked_for_as_often_as_one_likes(deciding: House) -> None:
    for _ in range(5):
        by_hand(deciding, "Title", "Boss")
        drain(deciding)
    assert set(states(deciding)) <= {"applied", "superseded"}


def test_h25_after_an_undo_touches_go_on(deciding: House) -> None:
    for day, word in enumerate(("one", "two", "three")):
        at = MONDAY + timedelta(days=day)
        touch(deciding, (MONDAY, "a", "b"), (at, word, word))
        built(deciding)
        batch = decided(deciding, "touches").batch
        drain(deciding)
        assert held(deciding, LAST_CHANNEL)[0] == word
        if word == "two":
            assert batch is not None
            undone(deciding, batch)
            drain(deciding)
            assert held(deciding, LAST_CHANNEL)[0] == "one"
        deciding.sync()


def test_a_score_whose_edits_cannot_be_seen_is_left_out_where_they_are_kept(
    deciding: House,
) -> None:
    lead = {"fields": [name for name in OBJECTS["Lead"]["fields"] if name != SCORE]}
    deciding.configure(
        objects={**OBJECTS, "Lead": lead},
        write_backs={"lead_scores": {"enabled": True, "edited_in_crm": "keep"}},
    )
    score(deciding, 0, 7)
    decision = decided(deciding, "lead_scores")
    assert decision.records == 0
    assert any("whether people filled it; add `Lead_Score__c`" in note for note in decision.notes)


def test_another_kind_of_score_can_be_written_to_fields_of_another_name(deciding: House) -> None:
    write_backs(
        deciding,
        lead_scores={"enabled": True, "score": "contact", "fields": {"Lead": "AnnualRevenue"}},
    )
    fact(deciding, "fct_lead_scores", 0, total_score=1, contact_score=33)
    assert cycle(deciding) == 1
    assert held(deciding, "AnnualRevenue")[0] == 33
    # The field is not mapped: what was applied is all that is known, and it is enough.
    assert cycle(deciding) == 0


def test_every_living_record_of_a_person_gets_the_score(deciding: House) -> None:
    org = deciding.org
    org.create_many("Contact", [person(0)])
    org.create_many("Lead", [{"Company": "Co", **person(0)}])
    gone, converted, *_ = org.create_many("Lead", [{"Company": "Co", **person(0)} for _ in "ab"])
    org.convert_lead(converted)
    org.delete("Lead", gone)
    score(deciding, 0, 5)
    cycle(deciding)
    found = deciding.query(
        "SELECT object_name, count(*) FROM crm_sync.outbox GROUP BY 1 ORDER BY 1"
    )
    assert found == [("Contact", 2), ("Lead", 2)]
    assert held(deciding, SCORE, "Contact") == [5, 5]


def test_a_record_that_was_merged_away_is_not_asked_for(deciding: House) -> None:
    winner, loser, *_ = ids(deciding)
    deciding.org.merge("Lead", winner, [loser])
    for number in range(2):
        score(deciding, number, 5)
    cycle(deciding)
    assert deciding.query("SELECT record_id FROM crm_sync.outbox") == [(winner,)]


def visit(house: House, number: int, at: datetime) -> None:
    fact(house, "fct_web_visits", number, ended_at=at)


def in_org(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S}.000Z"


def test_h25_the_last_visit_in_the_crm_never_gets_older(deciding: House) -> None:
    visit(deciding, 0, MONDAY + timedelta(microseconds=123_456))
    assert [cycle(deciding) for _ in range(2)] == [1, 0]
    assert held(deciding, VISIT)[0] == in_org(MONDAY)
    visit(deciding, 0, MONDAY - timedelta(days=1))
    assert cycle(deciding) == 0
    visit(deciding, 0, MONDAY + timedelta(days=1))
    assert cycle(deciding) == 1
    visit(deciding, 0, datetime.now(UTC) + timedelta(days=9))
    assert cycle(deciding) == 0
    assert held(deciding, VISIT)[0] == in_org(MONDAY + timedelta(days=1))


def touch(house: House, first: tuple[Any, ...], last: tuple[Any, ...]) -> None:
    names = ("at", "channel", "source")
    values = {f"first_touch_{name}": value for name, value in zip(names, first, strict=True)}
    values |= {f"last_touch_{name}": value for name, value in zip(names, last, strict=True)}
    fact(house, "fct_touches", 0, **values)


def test_h25_the_first_touch_never_changes_and_the_last_follows_the_newest(deciding: House) -> None:
    touch(deciding, (MONDAY, "email", None), (MONDAY, "email", None))
    cycle(deciding)
    tuesday = MONDAY + timedelta(days=1)
    # An older event came late: the first touch stands; a touch without a source says nothing of it.
    touch(deciding, (MONDAY - timedelta(days=9), "web", "ads"), (tuesday, " event ", "fair"))
    cycle(deciding)
    touch(deciding, (MONDAY, "web", "ads"), (MONDAY, "web", "search"))
    before = rows_of_outbox(deciding)
    assert cycle(deciding) == 0
    assert rows_of_outbox(deciding) == before, "older touches are not even asked for"
    found = [held(deciding, name)[0] for name in (FIRST_CHANNEL, FIRST_SOURCE, LAST_CHANNEL)]
    assert found == ["email", "ads", "event"]
    assert held(deciding, LAST_SOURCE)[0] == "fair"


def test_h25_a_first_touch_that_people_entered_or_emptied_stays_theirs(deciding: House) -> None:
    first, second, *_ = ids(deciding)
    deciding.org.update("Lead", first, {FIRST_CHANNEL: "Trade fair"})
    touch(deciding, (MONDAY, "email", "news"), (MONDAY, "email", "news"))
    cycle(deciding)
    assert held(deciding, FIRST_CHANNEL)[0] == "Trade fair"
    assert held(deciding, FIRST_SOURCE)[0] == "news"
    deciding.org.update("Lead", first, {FIRST_SOURCE: None})
    cycle(deciding)
    assert held(deciding, FIRST_SOURCE)[0] is None
    assert held(deciding, FIRST_CHANNEL, "Lead")[1] is None
    assert second


def test_h25_a_first_touch_whose_field_is_not_mapped_is_left_out_and_said(deciding: House) -> None:
    lead = {"fields": [name for name in OBJECTS["Lead"]["fields"] if name != FIRST_CHANNEL]}
    deciding.configure(objects={**OBJECTS, "Lead": lead})
    touch(deciding, (MONDAY, "email", "news"), (MONDAY, "email", "news"))
    decision = decided(deciding, "touches")
    assert [note for note in decision.notes if "First_Touch_Channel__c is left out" in note]
    drain(deciding)
    assert held(deciding, FIRST_CHANNEL)[0] is None
    assert held(deciding, FIRST_SOURCE)[0] == "news"


def test_h25_a_last_touch_that_people_entered_is_kept_where_the_setting_says_so(
    deciding: House,
) -> None:
    write_backs(deciding, touches={"enabled": True, "edited_in_crm": "keep"})
    touch(deciding, (MONDAY, "email", "news"), (MONDAY, "email", "news"))
    cycle(deciding)
    deciding.org.update("Lead", ids(deciding)[0], {LAST_CHANNEL: "Trade fair"})
    tuesday = MONDAY + timedelta(days=1)
    touch(deciding, (MONDAY, "email", "news"), (tuesday, "web", "search"))
    cycle(deciding)
    assert (held(deciding, LAST_CHANNEL)[0], held(deciding, LAST_SOURCE)[0]) == (
        "Trade fair",
        "search",
    )


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_h25_touches_and_visits_end_alike_in_whatever_order_they_become_known(
    deciding: House, order: tuple[int, ...]
) -> None:
    known: list[datetime] = []
    for number in order:
        known.append(MONDAY + timedelta(days=number))
        visit(deciding, 0, max(known))
        touch(deciding, (min(known), "c", "s"), (max(known), f"c{max(known):%d}", "s"))
        cycle(deciding)
    assert held(deciding, VISIT)[0] == in_org(MONDAY + timedelta(days=2))
    assert held(deciding, LAST_CHANNEL)[0] == "c04"
    assert_conserved(deciding)


def mass(house: House, records: int, value: int) -> None:
    house.execute("TRUNCATE marketing.fct_lead_scores")
    house.execute(
        "INSERT INTO marketing.fct_lead_scores SELECT md5('email:l' || n || '@x.org')::uuid,"
        f" {value} FROM generate_series(0, {records - 1}) n"
    )


def test_h20_a_change_of_too_many_records_waits_for_approval_until_it_is_given(
    deciding: House, capsys: pytest.CaptureFixture[str]
) -> None:
    write_backs(deciding, **SCORES, approval={"most_records": 3})
    mass(deciding, 3, 1)
    assert decided(deciding, "lead_scores").held_because is None
    drain(deciding)
    mass(deciding, 4, 2)
    decision = decided(deciding, "lead_scores")
    assert decision.held_because
    assert "4 records of Lead would change; more than 3 need approval" in decision.held_because
    assert decision.enqueued == Enqueued(held=4)
    assert drain(deciding).applied == 0
    # The same again is no new wish, and a newer value takes the held one's place.
    assert decided(deciding, "lead_scores").records == 0
    score(deciding, 0, 9)
    assert decided(deciding, "lead_scores").enqueued == Enqueued(waiting=1)
    assert run(["write-backs", "plan"]) == 0
    assert "1 changes wait to be sent, 3 for approval." in capsys.readouterr().out
    assert decision.batch
    assert run(["write-backs", "approve", decision.batch]) == 0
    assert run(["write-backs", "approve", decision.batch]) == 2
    assert drain(deciding).applied == 4
    assert held(deciding, SCORE) == [9, 2, 2, 2]
    seen = deciding.query(
        "SELECT records, enqueued_held, still_held, approved_at IS NOT NULL"
        f" FROM crm_sync.write_back_decisions WHERE batch = '{decision.batch}'"
    )
    assert seen == [(4, 4, 0, True)]


def test_h20_a_large_share_of_the_records_waits_for_approval_unless_they_are_few(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with deciding_house(database_url, tmp_path, monkeypatch, leads=410) as house:
        write_backs(house, **SCORES)
        mass(house, 200, 1)
        assert decided(house, "lead_scores").held_because is None
        drain(house)
        mass(house, 205, 2)
        assert decided(house, "lead_scores").held_because is None, "that is one half"
        mass(house, 206, 3)
        decision = decided(house, "lead_scores")
        assert decision.held_because
        assert "206 of 410 records of Lead would change" in decision.held_because
        assert decision.enqueued == Enqueued(held=206)
        assert states(house)["superseded"] == 205


def test_a_rejected_value_is_not_asked_for_again_until_it_changes(deciding: House) -> None:
    write_backs(deciding, **SCORES, approval={"most_records": 1})
    mass(deciding, 2, 5)
    batch = decided(deciding, "lead_scores").batch
    assert batch
    assert run(["write-backs", "reject", batch]) == 0
    assert states(deciding) == {"parked": 2}
    assert codes(deciding) == {"REJECTED": 2}
    assert cycle(deciding) == 0
    assert rows_of_outbox(deciding) == 2
    score(deciding, 0, 6)
    assert cycle(deciding) == 1
    assert held(deciding, SCORE)[:2] == [6, None]
    assert_conserved(deciding)


def undone(house: House, batch: str) -> Undone:
    installation = Installation.from_environment()
    connector = installation.write_connector(installation.settings)
    try:
        return undo(
            Warehouse(house.database_url),
            connector,
            batch,
            require_enabled=installation.switch.require,
        )
    finally:
        connector.close()


def test_undo_gives_back_what_was_there_where_nobody_has_changed_it_since(deciding: House) -> None:
    write_backs(deciding, **SCORES)
    mass(deciding, 3, 5)
    cycle(deciding)
    cycle(deciding)
    mass(deciding, 3, 6)
    deciding.sync()
    batch = decided(deciding, "lead_scores").batch
    assert batch
    drain(deciding)
    deciding.org.update("Lead", ids(deciding)[1], {SCORE: 99})
    deciding.org.delete("Lead", ids(deciding)[2])
    done = undone(deciding, batch)
    assert (done.reversed, done.changed_since, done.unknown_before) == (1, 2, 0)
    drain(deciding)
    assert held(deciding, SCORE)[:2] == [5, 99]
    again = undone(deciding, batch)
    assert (again.reversed, again.batch) == (0, None)
    # What was taken back is not written again by itself, until it is another score.
    mass(deciding, 1, 6)
    assert cycle(deciding) == 0
    mass(deciding, 1, 7)
    assert cycle(deciding) == 1
    assert held(deciding, SCORE)[0] == 7
    assert_conserved(deciding)


def test_undo_says_what_it_cannot_take_back(
    deciding: House, capsys: pytest.CaptureFixture[str]
) -> None:
    write_backs(deciding, lead_scores={"enabled": True, "fields": {"Lead": "AnnualRevenue"}})
    score(deciding, 0, 5)
    batch = decided(deciding, "lead_scores").batch
    assert batch
    drain(deciding)
    assert run(["write-backs", "undo", batch]) == 0
    assert "0 fields get back what they held; 0 were changed" in capsys.readouterr().out
    with pytest.raises(UsageError, match="No write-back has the batch unheard-of"):
        undone(deciding, "unheard-of")


def test_two_who_decide_at_once_ask_once(deciding: House) -> None:
    for number in range(4):
        score(deciding, number, 5)
    with Warehouse(deciding.database_url).connect() as connection:
        connection.execute("INSERT INTO crm_sync.write_back (name) VALUES ('lead_scores')")
        found: list[Decision] = []

        def one() -> None:
            found.append(decided(deciding, "lead_scores"))

        rivals = [threading.Thread(target=one) for _ in range(2)]
        for rival in rivals:
            rival.start()
        while deciding.query(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        ) != [(2,)]:
            pass
    for rival in rivals:
        rival.join()
    assert sorted(one.records for one in found) == [0, 4]
    assert states(deciding) == {"waiting": 4}


def test_a_write_back_is_due_when_its_marts_or_its_settings_changed_and_not_otherwise(
    deciding: House,
) -> None:
    write_backs(deciding, **SCORES)
    assert due(deciding, "lead_scores") == "It was never decided."
    assert due(deciding, "visits") is None, "it is off"
    decided(deciding, "lead_scores")
    assert due(deciding, "lead_scores") is None
    built(deciding)
    assert due(deciding, "lead_scores") == "The marts were built anew since it was last decided."
    decided(deciding, "lead_scores")
    write_backs(deciding, lead_scores={"enabled": True, "thresholds": [5]})
    assert due(deciding, "lead_scores") == "Its settings have changed."


def test_what_is_off_or_not_there_is_said_and_nothing_is_written(deciding: House) -> None:
    def notes() -> str:
        decision = decided(deciding, "lead_scores")
        assert decision.enqueued == Enqueued()
        return " ".join(decision.notes)

    score(deciding, 0, 5)
    write_backs(deciding)
    assert "set `write_backs.lead_scores.enabled: true`" in notes()
    write_backs(deciding, **SCORES, enabled=False)
    assert "set `write_backs.enabled: true`" in notes()
    assert enabled_write_backs(Installation.from_environment().settings) == ()
    write_backs(deciding, **SCORES)
    deciding.configure(marketing={"enabled": False})
    assert "`marketing.enabled` is false" in notes()
    deciding.configure(marketing={"target_schema": "elsewhere"})
    assert "elsewhere.fct_lead_scores, which was never built; launch a sync first" in notes()
    deciding.configure(marketing={}, syncs_enabled=False)
    with pytest.raises(SyncsDisabled):
        decided(deciding, "lead_scores")
    deciding.configure(syncs_enabled=True)
    with pytest.raises(UsageError, match="No write-back is called scores"):
        decided(deciding, "scores")
    assert rows_of_outbox(deciding) == 0


def test_an_object_that_takes_no_part_is_left_out_and_said(deciding: House) -> None:
    deciding.configure(objects={"Contact": OBJECTS["Contact"]})
    score(deciding, 0, 5)
    decision = decided(deciding, "lead_scores")
    assert decision.records == 0
    assert "Lead is left out: it is not among the objects" in decision.notes[0]


def test_the_command_decides_everything_that_is_on(
    deciding: House, capsys: pytest.CaptureFixture[str]
) -> None:
    score(deciding, 0, 5)
    visit(deciding, 1, MONDAY)
    assert run(["write-backs", "decide"]) == 0
    assert run(["write-backs", "decide", "visits", "--json"]) == 0
    assert run(["write-backs", "plan", "--origin", "visits"]) == 0
    assert "2026-03-02T12:00:00+00:00" in capsys.readouterr().out
    assert states(deciding) == {"waiting": 2}
    plan = outbox_desk.read_plan(
        Warehouse(deciding.database_url), object_name="Lead", origin="lead_scores", limit=5
    )
    assert [(row["field_names"], row["before"], row["after"]) for row in plan.rows] == [
        (SCORE, None, "5")
    ]
    write_backs(deciding)
    assert run(["write-backs", "decide"]) == 0
    assert "See" not in capsys.readouterr().err


@pytest.mark.timeout(900)
def test_scores_that_dbt_calculates_reach_the_crm(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dbt_folder: Path
) -> None:
    with deciding_house(database_url, tmp_path, monkeypatch, by_hand=False) as house:
        write_backs(house, lead_scores={"enabled": True}, visits={"enabled": True})
        at = datetime.now(UTC) - timedelta(hours=1)
        house.execute(
            "INSERT INTO events.marketing_events (event_id, occurred_at, kind, email, url)"
            f" SELECT 'e' || n, '{at}', 'page_visited', 'l' || n || '@x.org', 'https://x'"
            " FROM generate_series(0, 1) n"
        )
        build(house, dbt_folder, "+fct_lead_scores", "+fct_web_visits")
        scores = dict(
            house.query(
                "SELECT d.email, s.total_score FROM marketing.fct_lead_scores s"
                " JOIN marketing.dim_people d USING (person_id)"
            )
        )
        assert scores["l0@x.org"] > scores["l3@x.org"]
        settle(house)
        assert held(house, SCORE) == [scores[f"l{n}@x.org"] for n in range(4)]
        assert held(house, VISIT) == [in_org(at)] * 2 + [None] * 2
        assert settle(house) == 0


def test_h14_any_series_of_scores_ends_with_the_last_one_and_no_more_writes_than_changes(
    deciding: House,
) -> None:
    chance = random.Random(3)
    now = dict.fromkeys(range(4), 0)
    for number in now:
        score(deciding, number, 0)
    writes = cycle(deciding) - 4
    changes = 0
    for _ in range(8):
        for number in chance.sample(range(4), 2):
            value = chance.choice((0, 1, 50, 51))
            changes += value != now[number]
            now[number] = value
            score(deciding, number, value)
        writes += cycle(deciding) if chance.random() < 0.6 else settle(deciding)
    writes += cycle(deciding)
    assert held(deciding, SCORE) == list(now.values())
    assert writes <= changes
    assert [cycle(deciding) for _ in range(2)] == [0, 0]
