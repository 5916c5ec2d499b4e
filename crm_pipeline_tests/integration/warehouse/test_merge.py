"""The one way into a table: newest wins, unchanged rows stay untouched, the gone are kept."""

import pytest

from crm_pipeline.errors import IncompleteRead
from crm_pipeline.warehouse.fitting import fit_table
from crm_pipeline.warehouse.merge import Merged
from crm_pipeline.warehouse.scope import create_scope, note_not_found
from crm_pipeline_tests.integration.warehouse.conftest import Bench, at


def test_the_first_full_sync_is_renamed_into_place_with_key_comments_and_bookkeeping(
    bench: Bench,
) -> None:
    assert bench.merge(bench.row("a"), bench.row("b")) == Merged(2, 0, 0)
    columns = [
        str(r[0])
        for r in bench.query(
            "SELECT column_name FROM information_schema.columns"
            " WHERE table_schema = 'salesforce' AND table_name = 'lead' ORDER BY ordinal_position"
        )
    ]
    assert columns == [
        *("id", "name", "employees", "revenue", "bornon", "istarget", "callat", "_modstamp"),
        *("_synced_at", "_deleted_at", "_vanished", "_merged_into", "_restored_at"),
    ]
    assert bench.query(
        "SELECT conname, col_description('salesforce.lead'::regclass, 1),"
        " obj_description('salesforce.lead'::regclass) FROM pg_constraint"
        " WHERE conrelid = 'salesforce.lead'::regclass AND contype = 'p'"
    ) == [("lead_pkey", "Id (Id, identifier)", "Lead (Lead)")]
    assert bench.query("SELECT has_table_privilege('analyst', 'salesforce.lead', 'SELECT')") == [
        (True,)
    ]


def test_records_in_the_bin_do_not_enter_a_new_table(bench: Bench) -> None:
    bench.merge(bench.row("a"), bench.row("gone", IsDeleted="true"))
    assert bench.query("SELECT id FROM salesforce.lead") == [("a",)]


def test_a16_an_unchanged_row_is_not_written(bench: Bench) -> None:
    bench.merge(bench.row("a"), bench.row("b"))
    before = bench.query("SELECT id, xmin::text, ctid::text FROM salesforce.lead ORDER BY id")
    for _ in range(3):
        assert bench.merge(bench.row("a"), bench.row("b")) == Merged(0, 0, 0)
    after = bench.query("SELECT id, xmin::text, ctid::text FROM salesforce.lead ORDER BY id")
    assert after == before


def test_a17_an_older_version_never_replaces_a_newer_one(bench: Bench) -> None:
    bench.merge(bench.row("a", "new", SystemModstamp=at(9)))
    assert bench.merge(bench.row("a", "old", SystemModstamp=at(8))) == Merged(0, 0, 0)
    assert bench.query("SELECT name FROM salesforce.lead") == [("new",)]


def test_changes_and_news_are_told_apart(bench: Bench) -> None:
    bench.merge(bench.row("a"))
    merged = bench.merge(bench.row("a", "Grace", SystemModstamp=at(1)), bench.row("b"))
    assert merged == Merged(inserted=1, updated=1, deleted=0)


def test_b1_a_deleted_record_becomes_a_tombstone_with_its_last_values(bench: Bench) -> None:
    bench.merge(bench.row("a"), bench.row("b"))
    gone = bench.row("a", None, IsDeleted="true", SystemModstamp=at(5))
    assert bench.merge(gone) == Merged(0, 0, 1)
    assert bench.merge(gone) == Merged(0, 0, 0)
    assert bench.query(
        "SELECT id, name, _vanished, _deleted_at::text FROM salesforce.lead"
        " WHERE _deleted_at IS NOT NULL"
    ) == [("a", "Ada", "deleted", "2026-03-02 12:05:00+00")]


def test_b6_the_loser_of_a_merge_points_to_the_winner(bench: Bench) -> None:
    bench.merge(bench.row("a"), bench.row("b"))
    bench.merge(bench.row("a", IsDeleted="true", MasterRecordId="b", SystemModstamp=at(5)))
    assert bench.query("SELECT _vanished, _merged_into FROM salesforce.lead WHERE id = 'a'") == [
        ("merged", "b")
    ]


@pytest.mark.parametrize("minute", [5, 6], ids=["with the same stamp", "with a new stamp"])
def test_b5_an_undeleted_record_lives_again(bench: Bench, minute: int) -> None:
    bench.merge(bench.row("a"))
    bench.merge(bench.row("a", IsDeleted="true", SystemModstamp=at(5)))
    assert bench.merge(bench.row("a", SystemModstamp=at(minute))).updated == 1
    assert bench.query("SELECT _deleted_at, _vanished, _merged_into FROM salesforce.lead") == [
        (None, None, None)
    ]


def test_a_stale_page_does_not_revive_a_deleted_record(bench: Bench) -> None:
    bench.merge(bench.row("a"))
    bench.merge(bench.row("a", IsDeleted="true", SystemModstamp=at(5)))
    assert bench.merge(bench.row("a", SystemModstamp=at(4))) == Merged(0, 0, 0)


def test_what_a_full_read_does_not_hand_over_is_no_longer_visible(bench: Bench) -> None:
    bench.merge(bench.row("a"), bench.row("b"))
    assert bench.merge(bench.row("a"), is_all=True) == Merged(0, 0, 1)
    assert bench.query("SELECT id, _vanished FROM salesforce.lead ORDER BY id") == [
        ("a", None),
        ("b", "not_visible"),
    ]


def test_b9_a_record_that_left_the_filter_is_marked_and_stale_pages_do_not_bring_it_back(
    bench: Bench,
) -> None:
    bench.merge(bench.row("in"), bench.row("out"), bench.row("lost"))
    with bench.warehouse.connect() as connection:
        create_scope(connection, bench.shape.narrowed(), "scope")
        connection.execute(
            "INSERT INTO crm_staging.scope (id, _modstamp)"
            " VALUES ('out', %(new)s), ('in', %(new)s)",
            {"new": at(7)},
        )
        note_not_found(connection, bench.shape, "scope", ["in", "lost"])
    assert bench.merge(bench.row("in", SystemModstamp=at(7)), scope_table="scope").deleted == 2
    assert bench.merge(bench.row("out", SystemModstamp=at(6))) == Merged(0, 0, 0)
    assert bench.query("SELECT id, _vanished FROM salesforce.lead ORDER BY id") == [
        ("in", None),
        ("lost", "not_visible"),
        ("out", "left_filter"),
    ]
    assert bench.merge(bench.row("out", SystemModstamp=at(8))).updated == 1


def test_a15_a_record_that_came_twice_may_stand_in_the_place_of_another(bench: Bench) -> None:
    bench.merge(bench.row("a", "old"))
    with pytest.raises(IncompleteRead, match="twice"):
        bench.merge(bench.row("a", "new", SystemModstamp=at(1)), bench.row("a", "new"))
    assert bench.query("SELECT name FROM salesforce.lead") == [("old",)]


def test_c1_a_newly_mapped_column_is_added_and_named(bench: Bench) -> None:
    bench.merge(bench.row("a"))
    with bench.warehouse.connect() as connection:
        connection.execute("ALTER TABLE salesforce.lead DROP COLUMN revenue")
        assert fit_table(connection, bench.shape).unfilled == ("Revenue",)
    bench.merge(bench.row("a", Revenue="1", SystemModstamp=at(1)))
    assert bench.query("SELECT revenue FROM salesforce.lead") == [(1,)]


def test_c4_a_column_is_widened_and_never_narrowed(bench: Bench) -> None:
    bench.merge(bench.row("a", Employees="7"))
    with bench.warehouse.connect() as connection:
        connection.execute("ALTER TABLE salesforce.lead ALTER revenue TYPE integer")
        connection.execute("ALTER TABLE salesforce.lead ALTER employees TYPE text")
        connection.execute("ALTER TABLE salesforce.lead ALTER istarget TYPE date USING NULL")
        fitted = fit_table(connection, bench.shape)
    types = {c.name: c.column_type for c in fitted.shape.mapped}
    assert (types["revenue"], types["employees"]) == ("numeric", "text")
    assert types["istarget"] == "boolean"
    assert fitted.unfilled == ("Revenue", "IsTarget")
    assert fitted.misfits == ()
    kept = bench.query("SELECT istarget__date, istarget FROM salesforce.lead")
    assert kept == [(None, None)]


def test_grants_and_views_of_analysts_survive_merges(bench: Bench) -> None:
    bench.merge(bench.row("a"))
    with bench.warehouse.connect() as connection:
        connection.execute("CREATE VIEW public.mine AS SELECT name FROM salesforce.lead")
    bench.merge(bench.row("a", "Grace", SystemModstamp=at(1)))
    assert bench.query("SELECT name FROM public.mine") == [("Grace",)]
