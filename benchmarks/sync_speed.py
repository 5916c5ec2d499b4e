"""How near the sync comes to COPY, measured as ratios within one run.

    make benchmark                       1,000,000 leads, wide and narrow objects, Dagster
    make benchmark RECORDS=50000         smaller
    make benchmark LARGE=1               10,000,000 leads, a reduced set, each thing once
    make benchmark PROFILE=1 WRITE=1     where the time goes; into docs/performance.md

docs/performance.md says what the figures mean.
"""

import argparse
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import scenarios
from figures import Chapter, write
from rich.console import Console
from subjects import LEADS, NARROW, WIDE, Subject
from through_dagster import through_dagster
from workbench import Workbench, workbench

from crm_pipeline.model.sync import SyncMode
from crm_pipeline.warehouse.embedded import EmbeddedPostgres

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"


@dataclass
class Benchmark:
    """One run of all measurements on one machine."""

    records: int
    is_large: bool
    is_profiled: bool
    folder: Path
    orgs: Path
    database: str
    console: Console

    def chapters(self) -> Iterator[Chapter]:
        """Measure, a table after the other."""
        peaks: dict[int, dict[str, int]] = {}
        for part in (100, 10) if self.is_large else (10,):
            with self._bench(LEADS, self.records // part, turns=1) as bench:
                self._in_short(bench, Chapter(""))
                peaks[bench.records] = bench.peaks
        if not self.is_large:
            yield from self._other_shapes()
        with self._bench(LEADS, self.records, turns=1 if self.is_large else 3) as bench:
            yield from self._leads(bench, peaks)

    def _leads(self, bench: Workbench, peaks: dict[int, dict[str, int]]) -> Iterator[Chapter]:
        chapter = Chapter(f"{bench.records:,} leads")
        stick = scenarios.first_full(bench, chapter)
        percents = (1,) if self.is_large else (0, 1)
        for percent in percents:
            aim = scenarios.REPEATED_AIM if percent else None
            scenarios.repeated_full(bench, chapter, stick, percent, aim)
        one_percent = bench.records // 100
        counts = {one_percent} if self.is_large else {0, 1_000, 10_000, one_percent}
        for count in sorted(counts):
            aim = scenarios.FLOOR_AIM if count == one_percent else None
            scenarios.differential(bench, chapter, count, aim)
        if not self.is_large:
            scenarios.census(bench, chapter, SyncMode.RECONCILE)
            scenarios.census(bench, chapter, SyncMode.REFRESH)
            scenarios.repeated_full(bench, chapter, stick, 30, None)
        peaks[bench.records] = bench.peaks
        chapter.figures += [*scenarios.memory(peaks), scenarios.calls(bench)]
        yield chapter
        if self.is_profiled:
            yield from self._where_it_goes(bench, one_percent)
        if not self.is_large:
            yield Chapter("Through Dagster", list(through_dagster(self.folder)))

    def _other_shapes(self) -> Iterator[Chapter]:
        """A very wide object, a tenth of the records, and a very narrow one."""
        for subject, records in ((WIDE, self.records // 10), (NARROW, self.records)):
            with self._bench(subject, records, turns=3) as bench:
                chapter = Chapter(f"{records:,} records of {len(subject.fields)} fields")
                self._in_short(bench, chapter)
                chapter.figures += scenarios.memory({records: bench.peaks})
                yield chapter

    def _in_short(self, bench: Workbench, chapter: Chapter) -> None:
        stick = scenarios.first_full(bench, chapter)
        scenarios.repeated_full(bench, chapter, stick, 1, scenarios.REPEATED_AIM)
        scenarios.differential(bench, chapter, bench.records // 100, scenarios.FLOOR_AIM)

    def _where_it_goes(self, bench: Workbench, one_percent: int) -> Iterator[Chapter]:
        yield scenarios.where_it_goes(bench, SyncMode.FULL, "full sync again, 1 %", one_percent)
        changes = SyncMode.DIFFERENTIAL
        yield scenarios.where_it_goes(bench, changes, "differential of 1 %", one_percent)
        yield scenarios.where_it_goes(bench, SyncMode.RECONCILE, "reconciliation", 0)
        bench.begin_anew()
        yield scenarios.where_it_goes(bench, SyncMode.FULL, "first full sync", 0)

    @contextmanager
    def _bench(self, subject: Subject, records: int, turns: int) -> Iterator[Workbench]:
        self.console.print(f"{records:,} x {subject.name}: inventing, then measuring …")
        with workbench(
            self.folder, self.orgs, self.database, subject=subject, records=records, turns=turns
        ) as bench:
            yield bench
        if self.orgs.is_relative_to(self.folder):
            shutil.rmtree(self.orgs, ignore_errors=True)


def main() -> None:
    """Measure everything, print the tables, write them if asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--records", type=int, help="default 1,000,000; 10,000,000 with --large")
    parser.add_argument("--large", action="store_true", help="the reduced set, each thing once")
    parser.add_argument("--profile", action="store_true", help="where the engine's time goes")
    parser.add_argument("--write", action="store_true", help="into docs/performance.md")
    parser.add_argument("--orgs", type=Path, help="keep the invented orgs there for the next run")
    given = parser.parse_args()
    records = given.records or (10_000_000 if given.large else 1_000_000)
    console = Console(width=160)
    folder = Path(tempfile.mkdtemp(prefix="sync-speed-"))
    folder.chmod(0o755)
    postgres = EmbeddedPostgres(folder / "home")
    try:
        database = postgres.ensure_running()
        orgs = given.orgs or folder / "orgs"
        benchmark = Benchmark(records, given.large, given.profile, folder, orgs, database, console)
        chapters = []
        for chapter in benchmark.chapters():
            chapter.show(console)
            chapters.append(chapter)
        if given.write:
            write(
                chapters,
                PAGE,
                "large" if given.large else "speed",
                machine(database, Path(__file__)),
            )
    finally:
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


def machine(database: str, script: Path) -> str:
    """What the figures were measured on, in a sentence."""
    with psycopg.connect(database) as connection:
        version = connection.info.server_version // 10_000, connection.info.server_version % 10_000
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    command = " ".join((f"python benchmarks/{script.name}", *sys.argv[1:]))
    return (
        f"{os.cpu_count()} cores, {memory:.0f} GiB of memory, PostgreSQL {version[0]}.{version[1]}"
        f" (embedded, as shipped), Python {platform.python_version()},"
        f" {datetime.now(UTC):%Y-%m-%d}: `{command}`"
    )


if __name__ == "__main__":
    main()
