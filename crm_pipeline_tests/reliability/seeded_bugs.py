"""Bugs put in on purpose: each of them must make a named test fail, or the tests prove nothing.

Belongs here: the bugs, and running the tests on a copy of the tree that has one of them. Does not
belong here: the tests themselves.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).resolve().parents[2]
_SYNC = "integration/sync/test_full_and_differential.py"
_RARE = "integration/sync/test_rare_interleavings.py"
_STOPPED = "integration/sync/test_interruptions.py"
_MERGE = "integration/warehouse/test_merge.py"
_STAGING = "integration/warehouse/test_staging.py"
_LEASE = "integration/warehouse/test_lease.py"
_GONE = "cases/test_b_disappearance.py"
_HONEST = "cases/test_o_honesty.py"
_PAIRS = "reliability/test_metamorphic.py"
_CRASH = "reliability/test_crash_matrix.py"
_PAST = "integration/sync/test_time_machine.py"
_PATIENCE_SECONDS = 240
_TESTS_FAILED = 1


@dataclass(frozen=True)
class Bug:
    """One bug: what somebody might write, and the test that must notice.

    Attributes:
        file: below crm_pipeline.
        right: text that stands there exactly once.
        wrong: what takes its place.
        tests: a file below crm_pipeline_tests.
        named: part of the names of the tests to run.
    """

    name: str
    file: str
    right: str
    wrong: str
    tests: str
    named: str


BUGS: tuple[Bug, ...] = (
    Bug(
        "the overlap is dropped",
        "sync/completeness.py",
        "attempt.read_started_at - overlap",
        "attempt.read_started_at",
        "reliability/test_late_commits.py",
        "a1",
    ),
    Bug(
        "the watermark takes our own clock",
        "sync/reading.py",
        "read_started_at or self.source.server_time()",
        'read_started_at or __import__("datetime").datetime.now(__import__("datetime").UTC)',
        _PAIRS,
        "two_ways and small",
    ),
    Bug(
        "> for >= at the watermark",
        "crm/salesforce/soql.py",
        "} >= {moment}",
        "} > {moment}",
        "unit/crm/test_soql.py",
        "",
    ),
    Bug(
        "what lies beyond the filter is kept where a crash empties it",
        "warehouse/scope.py",
        "ALTER TABLE {} SET LOGGED, ADD",
        "ALTER TABLE {} ADD",
        _CRASH,
        "outlives",
    ),
    Bug(
        "the watermark moves before the data",
        "sync/merge_path.py",
        "                return ledger.note_staged(",
        "                connection.execute(\n"
        '                    "UPDATE crm_sync.object_state SET watermark = %s"\n'
        '                    " WHERE object_name = %s AND watermark IS NOT NULL",\n'
        "                    [attempt.started_at, plan.name],\n"
        "                )\n"
        "                return ledger.note_staged(",
        _CRASH,
        "killed_anywhere and without",
    ),
    Bug(
        "the lease is not proved",
        "warehouse/lease.py",
        "if connection.execute(_PROVE, [self.name, self.epoch]).fetchone() is None:",
        "if connection.closed:",
        _LEASE,
        "fenced_off",
    ),
    Bug(
        "a lease is taken from its owner",
        "warehouse/lease.py",
        "WHERE l.owner IS NULL OR l.expires_at < now() OR l.owner = excluded.owner",
        "WHERE true",
        _LEASE,
        "told_who_owns",
    ),
    Bug(
        "the heart does not beat",
        "warehouse/lease.py",
        "while not stopped.wait(seconds / 4):",
        "while not stopped.wait(seconds * 40):",
        _LEASE,
        "heartbeat",
    ),
    Bug(
        "a page's count is not checked",
        "warehouse/staging.py",
        "if page.record_count is not None and total != page.record_count:",
        "if page.record_count is None and total < 0:",
        _STAGING,
        "a15",
    ),
    Bug(
        "a page may land twice",
        "warehouse/staging.py",
        "(sync_run_id, page_key) VALUES (%s, %s)",
        "(sync_run_id, page_key) VALUES (%s, %s) ON CONFLICT DO NOTHING",
        _STAGING,
        "lands_only_once",
    ),
    Bug(
        "the checkpoint stands outside of the page's transaction",
        "warehouse/staging.py",
        "        with connection.transaction():\n            place.claim(page)\n            copied",
        "        place.claim(page)\n        with connection.transaction():\n            copied",
        _STOPPED,
        "breaks_off",
    ),
    Bug(
        "an empty cell stays empty text",
        "warehouse/staging.py",
        ", FORCE_NULL ({columns}))",
        ")",
        _SYNC,
        "cell_by_cell",
    ),
    Bug(
        "the stamp guard is gone",
        "warehouse/sides.py",
        "\"((t.{0} <= s.{0}) IS NOT FALSE OR t._synced_at = '-infinity')\"",
        '"(t.{0} IS NULL OR true)"',
        _MERGE,
        "a17",
    ),
    Bug(
        "tombstones are skipped",
        "warehouse/merge.py",
        "    return _kinds(connection, _bury(sides))",
        "    return _kinds(connection, None)",
        _MERGE,
        "b1",
    ),
    Bug(
        "the loser of a merge is called deleted",
        "warehouse/merge.py",
        "CASE WHEN {merged} IS NULL THEN 'deleted' ELSE 'merged' END",
        "'deleted'",
        _MERGE,
        "b6",
    ),
    Bug(
        "unchanged rows are written",
        "warehouse/merge.py",
        "ELSE ({old}) IS DISTINCT FROM ({new}) OR t._synced_at = '-infinity' END",
        "ELSE ({old}) IS DISTINCT FROM ({new}) OR true END",
        _MERGE,
        "a16",
    ),
    Bug(
        "of a record that came twice one is dropped in silence",
        "warehouse/merge.py",
        "        raise came_twice(shape) from error",
        "        connection.rollback()",
        _MERGE,
        "came_twice",
    ),
    Bug(
        "a record in the quarantine is called gone",
        "warehouse/merge.py",
        " WHERE q.sync_run_id = {run} AND q.record_id = t.{key})",
        " WHERE q.sync_run_id = -{run} AND q.record_id = t.{key})",
        _RARE,
        "in_quarantine",
    ),
    Bug(
        "consent to a disappearance is never used up",
        "warehouse/disappearance.py",
        " accepted_disappearance = NULL, held_disappearance = NULL, held_mode = NULL",
        " held_disappearance = NULL, held_mode = NULL",
        _GONE,
        "b10_consent",
    ),
    Bug(
        "nobody looks beyond the filter",
        "sync/plan.py",
        "return is_partial and self.selection.record_filter is not None",
        "return is_partial and self.selection is None",
        _SYNC,
        "leavers",
    ),
    Bug(
        "the recycle bin is not read",
        "sync/plan.py",
        "include_deleted=self.mode is not SyncMode.REFRESH",
        "include_deleted=False",
        _SYNC,
        "b1",
    ),
    Bug(
        "what the log of deletions knows is called invisible",
        "warehouse/merge.py",
        "WHEN o._is_gone OR {gone} THEN 'deleted'",
        "WHEN {gone} THEN 'deleted'",
        _GONE,
        "b2_a_record",
    ),
    Bug(
        "a long silence is like a short one",
        "sync/engine.py",
        "return self.connector.server_time() - known_through > DELETIONS_FORGOTTEN_AFTER",
        "return known_through is None",
        _GONE,
        "b3_after_a_pause",
    ),
    Bug(
        "a mass disappearance is believed",
        "warehouse/disappearance.py",
        "if not is_mass(vanishing, live):",
        "if live >= 0:",
        _GONE,
        "b10_a_mass",
    ),
    Bug(
        "staging is not counted before the merge",
        "sync/merge_path.py",
        "count is not None and staging.staged_count(connection, table) != count",
        "count is not None and staging.staged_count(connection, table) < 0",
        _RARE,
        "f2_staging",
    ),
    Bug(
        "a resumed read forgets when it began",
        "sync/reading.py",
        "read_started_at = attempt.read_started_at if resume else None",
        "read_started_at = None",
        _RARE,
        "f7_a_record_deleted",
    ),
    Bug(
        "jobs of failed syncs are left in the CRM",
        "sync/attempts.py",
        "        plan.source.forget(token)",
        "        str(token)",
        _RARE,
        "f8_bulk_jobs",
    ),
    Bug(
        "any organisation will do",
        "sync/engine.py",
        "if known is None or known[0] != found:",
        "if known is None:",
        _STOPPED,
        "another_organisation",
    ),
    Bug(
        "a stale row is no finding",
        "warehouse/census.py",
        " AND (t._deleted_at IS NOT NULL OR t.{stamp} IS DISTINCT FROM s.{stamp})))))",
        " AND t._deleted_at IS NOT NULL))))",
        _HONEST,
        "backup",
    ),
    Bug(
        "of former values the newest is told for the oldest",
        "warehouse/migrations/versions/0004_history.py",
        "history.overlay(v.former ORDER BY v.version_id DESC)",
        "history.overlay(v.former ORDER BY v.version_id)",
        _PAST,
        "every_committed",
    ),
    Bug(
        "what is removed by hand is not kept",
        "warehouse/history.py",
        '"AFTER DELETE ON {} REFERENCING OLD TABLE AS former_rows"',
        '"BEFORE DELETE ON {}"',
        _PAST,
        "every_committed",
    ),
    Bug(
        "a version is pruned by its beginning",
        "warehouse/history.py",
        "DELETE FROM history.version WHERE valid_to <",
        "DELETE FROM history.version WHERE valid_from <",
        _PAST,
        "pruning",
    ),
)


@dataclass(frozen=True)
class Hunt:
    """Whether a bug was caught; `said` is the end of what the tests printed if it was not."""

    bug: Bug
    is_caught: bool
    said: str = ""


def hunt(bugs: Sequence[Bug], *, workers: int = 2) -> Iterator[Hunt]:
    """Run the named tests of every bug on copies of the tree, in order, two at a time.

    Raises:
        AssertionError: a text is not there (any more), or a test fails without its bug.
    """
    for bug in bugs:
        found = (ROOT / "crm_pipeline" / bug.file).read_text().count(bug.right)
        assert found == 1, f"{bug.name}: its text stands {found} times in {bug.file}"
    copies: SimpleQueue[Path] = SimpleQueue()
    with _copies(workers, copies), ThreadPoolExecutor(workers) as pool:
        yield from pool.map(lambda bug: _hunted(bug, copies), bugs)


def healthy(bugs: Sequence[Bug]) -> str:
    """Run every named test on the tree as it is; empty when all pass."""
    wrong = [
        f"{tests} -k '{named}': {said}"
        for tests, named in sorted({(bug.tests, bug.named) for bug in bugs})
        for code, said in [_tested(ROOT, tests, named)]
        if code
    ]
    return "\n".join(wrong)


@contextmanager
def _copies(number: int, queue: "SimpleQueue[Path]") -> Iterator[None]:
    with tempfile.TemporaryDirectory(prefix="seeded-bugs-") as folder:
        for name in range(number):
            copy = Path(folder) / str(name)
            for part in ("crm_pipeline", "crm_pipeline_tests"):
                shutil.copytree(
                    ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__")
                )
            shutil.copy(ROOT / "pyproject.toml", copy)
            queue.put(copy)
        yield


def _hunted(bug: Bug, copies: "SimpleQueue[Path]") -> Hunt:
    copy = copies.get()
    file = copy / "crm_pipeline" / bug.file
    text = file.read_text()
    try:
        file.write_text(text.replace(bug.right, bug.wrong))
        code, said = _tested(copy, bug.tests, bug.named)
        return Hunt(bug, code == _TESTS_FAILED, "" if code == _TESTS_FAILED else said)
    finally:
        file.write_text(text)
        copies.put(copy)


def _tested(tree: Path, tests: str, named: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    command += [f"crm_pipeline_tests/{tests}", *(["-k", named] if named else [])]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command,
            cwd=tree,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_PATIENCE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return _TESTS_FAILED, "it hangs, which is a failure"
    return done.returncode, done.stdout[-600:] + done.stderr[-300:]
