"""How long changed scores take to reach the CRM, as ratios to bare clients of the same run.

    make benchmark-write-back                       10,000 and 100,000 scores
    make benchmark-write-back RECORDS=2000          200 and 2,000
    make benchmark-write-back WRITE=1               into docs/performance.md

docs/performance.md says what the figures mean.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from bare_writes import BareWriter, Change
from engine_process import configure, run_engine
from figures import Chapter, Figure, write
from org_process import OrgProcess, serving
from psycopg import sql
from rich.console import Console
from subjects import LEADS
from sync_speed import PAGE, machine

from crm_pipeline.model.sync import SyncMode
from crm_pipeline.model.writeback import Lane
from crm_pipeline.sync.assembly import Installation
from crm_pipeline.warehouse.embedded import EmbeddedPostgres
from crm_pipeline.warehouse.outbox import enqueue_from
from crm_pipeline.writeback.context import WriteManners
from crm_pipeline.writeback.drain import Drain, DrainOutcome

LATENCY_SECONDS = 0.1
SCORE = "NumberOfEmployees"
"""Stands for a score: a plain number field that the sandbox org's leads have."""
_ONE_BY_ONE = 300
_ONE_BY_ONE_SLOWLY = 30


@dataclass
class Benchmark:
    """One run of all measurements.

    Attributes:
        scores: the larger number of changed scores; a tenth of it is the smaller one.
        round: makes every value a new one.
    """

    scores: int
    org: OrgProcess
    database: str
    console: Console
    ids: list[str] = field(default_factory=list)
    round: int = 0

    def chapters(self) -> Iterator[Chapter]:
        """Measure, a table after the other."""
        self.console.print("reading the org …")
        run_engine(LEADS.name, SyncMode.FULL)
        with psycopg.connect(self.database) as connection:
            rows = connection.execute("SELECT id FROM salesforce.lead ORDER BY id").fetchall()
        self.ids = [str(record_id) for (record_id,) in rows]
        for latency in (0.0, LATENCY_SECONDS):
            self.org.answer_after(latency)
            for count in (self.scores // 10, self.scores):
                yield self._chapter(count, latency)

    def _chapter(self, count: int, latency: float) -> Chapter:
        wire = f"each answer {latency:.1f} s late" if latency else "answers at once"
        chapter = Chapter(f"{count:,} changed scores, {wire}")
        at_once = self._calls_at_once()
        writer = self._writer()
        floor = writer.collections(self._changes(count), at_once=at_once)
        calls = -(-count // 200)
        chapter.figures.append(
            Figure(
                f"floor: bare collections, {at_once} side by side",
                _seconds(floor),
                "1",
                detail=f"{calls:,} calls, {_rate(count, floor)}",
            )
        )
        chapter.figures += self._ours("by collections", count, floor, most_by_calls=count)
        writer = self._writer()
        floor_of_jobs = writer.jobs(self._changes(count))
        chapter.figures.append(
            Figure(
                "floor: bare Bulk job",
                _seconds(floor_of_jobs),
                "1",
                detail=f"{writer.calls:,} calls, {_rate(count, floor_of_jobs)}",
            )
        )
        chapter.figures += self._ours("by Bulk", count, floor_of_jobs, most_by_calls=0)
        chapter.figures.append(self._one_by_one(count, floor, latency))
        return chapter

    def _ours(self, what: str, count: int, floor: float, *, most_by_calls: int) -> Iterator[Figure]:
        enqueuing = self._enqueue(count)
        outcome, taken = self._drain(most_by_calls)
        if outcome.applied != count:
            raise SystemExit(f"{outcome.applied} of {count} were applied: {outcome.problems}")
        yield Figure(
            what,
            _seconds(taken),
            f"{floor / taken:.2f} x floor",
            detail=(
                f"{outcome.api_calls:,} calls, {_rate(count, taken)}; enqueued before in"
                f" {_seconds(enqueuing)}"
            ),
        )

    def _one_by_one(self, count: int, floor: float, latency: float) -> Figure:
        sample = min(count, _ONE_BY_ONE_SLOWLY if latency else _ONE_BY_ONE)
        taken = self._writer().one_by_one(self._changes(sample)) * count / sample
        return Figure(
            "a call per record",
            _seconds(taken),
            f"{floor / taken:.3f} x bare collections",
            detail=f"{count:,} calls; {sample} measured, the rest extrapolated",
        )

    def _changes(self, count: int) -> list[Change]:
        self.round += 1
        return [(one, self._value(place)) for place, one in enumerate(self.ids[:count], start=1)]

    def _value(self, place: int) -> int:
        return self.round * 1_000_000 + place

    def _enqueue(self, count: int) -> float:
        self.round += 1
        query = sql.SQL(
            "SELECT 'score ' || {round} || ' ' || id AS idempotency_key, {lane} AS lane,"
            " 'benchmark' AS origin, 'Lead' AS object_name, id AS record_id, {field} AS field,"
            " {round} * 1000000 + row_number() OVER (ORDER BY id) AS value"
            " FROM (SELECT id FROM salesforce.lead ORDER BY id LIMIT {count}) l"
        ).format(
            round=sql.Literal(self.round),
            lane=sql.Literal(Lane.SCORE.value),
            field=sql.Literal(SCORE),
            count=sql.Literal(count),
        )
        started = time.monotonic()
        with psycopg.connect(self.database) as connection:
            enqueued = enqueue_from(connection, query)
        if enqueued.waiting != count:
            raise SystemExit(f"not all were enqueued: {enqueued}")
        return time.monotonic() - started

    def _drain(self, most_by_calls: int) -> tuple[DrainOutcome, float]:
        """What a ready drainer did, and its seconds, login and describe included."""
        installation = Installation.from_environment()
        settings = installation.settings
        warehouse = installation.warehouse()
        connector = installation.write_connector(settings)
        manners = WriteManners(most_by_calls=most_by_calls)
        drainer = Drain(settings, connector, warehouse, installation.switch.require, manners)
        self._quiet()
        started = time.monotonic()
        try:
            return drainer.run(f"benchmark {self.round}"), time.monotonic() - started
        finally:
            connector.close()

    def _calls_at_once(self) -> int:
        installation = Installation.from_environment()
        connector = installation.connector(installation.settings)
        try:
            return connector.write_capabilities().calls_at_once
        finally:
            connector.close()

    def _writer(self) -> BareWriter:
        return BareWriter(self.org.url, LEADS.name, SCORE)

    def _quiet(self) -> None:
        """What PostgreSQL does by itself between two drainers."""
        with psycopg.connect(self.database, autocommit=True) as connection:
            connection.execute("VACUUM (ANALYZE) crm_sync.outbox")
            connection.execute("CHECKPOINT")


def _seconds(taken: float) -> str:
    return f"{taken:,.1f} s" if taken >= 1 else f"{taken:.2f} s"


def _rate(count: int, seconds: float) -> str:
    return f"{count / seconds:,.0f} a second"


def main() -> None:
    """Measure everything, print the tables, write them if asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--records", type=int, default=100_000, help="changed scores")
    parser.add_argument("--write", action="store_true", help="into docs/performance.md")
    given = parser.parse_args()
    console = Console(width=160)
    folder = Path(tempfile.mkdtemp(prefix="write-back-speed-"))
    folder.chmod(0o755)
    postgres = EmbeddedPostgres(folder / "home")
    try:
        database = postgres.ensure_running()
        with serving(folder / "orgs", LEADS, given.records) as org:
            fields = ("LastName", SCORE)
            configure(LEADS.name, fields, folder=folder, database=database, url=org.url)
            chapters = []
            for chapter in Benchmark(given.records, org, database, console).chapters():
                chapter.show(console)
                chapters.append(chapter)
        if given.write:
            write(chapters, PAGE, "write-back", machine(database, Path(__file__)))
    finally:
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
