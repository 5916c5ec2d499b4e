"""How long marketing events take to load, and the models to build, as ratios to COPY.

    make benchmark-marketing                        1,000,000 people, 10,000,000 events
    make benchmark-marketing PEOPLE=10000 EVENTS=100000
    make benchmark-marketing WRITE=1                into docs/performance.md

docs/performance.md says what the figures mean.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import marketing_world as world
import psycopg
from figures import Chapter, Figure, write
from rich.console import Console
from sync_speed import PAGE, machine

from crm_pipeline.config.load import load_settings
from crm_pipeline.defs.dbt_project import DbtProject, find_project
from crm_pipeline.defs.marketing_models import build_models
from crm_pipeline.events.files import event_folder
from crm_pipeline.events.intake import take_in
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.embedded import EmbeddedPostgres
from crm_pipeline.warehouse.migrate import migrate

EVENTS_PER_FILE = 1_000_000
_SETTINGS: dict[str, Any] = {
    "version": 1,
    "objects": {
        "Account": {"fields": ["Name", "Type", "Industry", "OwnerId", "CreatedDate"]},
        "Contact": {
            "fields": [
                *("AccountId", "FirstName", "LastName", "Name", "Email", "Phone", "Title"),
                *("LeadSource", "OwnerId", "HasOptedOutOfEmail", "CreatedDate", "SystemModstamp"),
            ]
        },
        "Lead": {
            "fields": [
                *("FirstName", "LastName", "Name", "Email", "Phone", "Company", "Title"),
                *("Industry", "Country", "Status", "LeadSource", "IsConverted"),
                *("ConvertedContactId", "OwnerId", "HasOptedOutOfEmail", "CreatedDate"),
                "SystemModstamp",
            ]
        },
        "Opportunity": {
            "fields": [
                *("AccountId", "Name", "StageName", "Amount", "IsClosed", "IsWon", "CloseDate"),
                *("OwnerId", "CreatedDate"),
            ]
        },
    },
    "marketing": {
        "audiences": {
            "hot_customers": {
                "description": "Customers with a high score.",
                "where": "is_customer = true AND total_score >= 50",
            }
        }
    },
}


@dataclass
class Benchmark:
    """One run of all measurements."""

    people: int
    events: int
    folder: Path
    database: str
    console: Console
    day: datetime = field(default_factory=lambda: datetime(2026, 11, 1, tzinfo=UTC))

    def chapters(self) -> Iterator[Chapter]:
        """Measure, a table after the other."""
        self.console.print("inventing people and events …")
        world.invent_people(self.database, self.people)
        files = self._event_files()
        limit_of_events, limit_of_people = self._limits(files)
        yield self._loading(files, limit_of_events)
        yield self._building(limit_of_events, limit_of_people)

    def _event_files(self) -> list[Path]:
        folder = self.folder / "events"
        folder.mkdir()
        files = []
        for first in range(1, self.events + 1, EVENTS_PER_FILE):
            file = folder / f"events-{first:09}.csv"
            last = min(first + EVENTS_PER_FILE - 1, self.events)
            world.invent_events(self.database, self.people, first=first, last=last, file=file)
            files.append(file)
        return files

    def _limits(self, files: list[Path]) -> tuple[float, float]:
        """Seconds to COPY the bytes of the events, and of the people, and to add the key."""
        with psycopg.connect(self.database) as connection:
            connection.execute(
                "CREATE TABLE public.bare_events (event_id text, occurred_at timestamptz,"
                " kind text, email text, crm_id text, campaign text, channel text, source text,"
                " url text)"
            )
        events = self._timed(lambda: self._copy(files, "public.bare_events", header=True))
        people = 0.0
        for table in ("lead", "contact"):
            file = self.folder / f"{table}.csv"
            world.export(self.database, table, file)
            with psycopg.connect(self.database) as connection:
                connection.execute(
                    f"CREATE TABLE public.bare_{table} (LIKE salesforce.{table})".encode()
                )
            people += self._timed(lambda f=file, t=table: self._copy([f], f"public.bare_{t}"))
            file.unlink()
        with psycopg.connect(self.database) as connection:
            connection.execute("DROP TABLE public.bare_events, bare_lead, bare_contact")
        return events, people

    def _copy(self, files: list[Path], table: str, *, header: bool = False) -> None:
        key = "event_id" if header else "id"
        facts = "FORMAT csv, HEADER" if header else "FORMAT csv"
        with psycopg.connect(self.database) as connection:
            for file in files:
                with (
                    file.open("rb") as source,
                    connection.cursor().copy(f"COPY {table} FROM STDIN ({facts})".encode()) as copy,
                ):
                    while block := source.read(1 << 18):
                        copy.write(block)
            connection.execute(f"ALTER TABLE {table} ADD PRIMARY KEY ({key})".encode())

    def _loading(self, files: list[Path], limit: float) -> Chapter:
        warehouse = Warehouse(self.database)
        folder = event_folder(str(files[0].parent))

        def load() -> None:
            intake = take_in(
                warehouse, folder, run_id="bench", require_enabled=lambda: None, most=len(files)
            )
            assert intake.loaded + intake.known == self.events, "events were lost"

        chapter = Chapter(f"{self.events:,} events are loaded, from CSV")
        chapter.figures.append(
            Figure(
                "limit: COPY, then the key", f"{limit:.1f} s", "1", detail=_rate(self.events, limit)
            )
        )
        first = self._timed(load)
        chapter.figures.append(
            Figure(
                "load of all files",
                f"{first:.1f} s",
                f"{limit / first:.2f} x COPY",
                detail=_rate(self.events, first),
            )
        )
        for file in files:
            file.rename(file.with_suffix(".again.csv"))
        again = self._timed(load)
        chapter.figures.append(
            Figure(
                "the same under other names",
                f"{again:.1f} s",
                f"{limit / again:.2f} x COPY",
                detail="no event is stored twice",
            )
        )
        return chapter

    def _building(self, limit_of_events: float, limit_of_people: float) -> Chapter:
        limit = limit_of_events + limit_of_people
        chapter = Chapter(f"{self.people:,} people and {self.events:,} events are built")
        chapter.figures.append(
            Figure(
                "limit: COPY of people and events, then the keys",
                f"{limit:.1f} s",
                "1",
                detail=f"events {limit_of_events:.1f} s, people {limit_of_people:.1f} s",
            )
        )
        steps: list[tuple[str, Any]] = [
            ("first build, nothing is there", lambda: None),
            ("build again, nothing changed", lambda: None),
            ("1,000 records changed", lambda: world.change_records(self.database, 1_000, 1)),
            ("1,000 records changed and 10,000 new events", self._change_and_add),
            ("the next day: every score is another", self._next_day),
        ]
        for what, change in steps:
            change()
            taken, slowest = self._build()
            chapter.figures.append(
                Figure(what, f"{taken:.1f} s", f"{limit / taken:.2f} x COPY", detail=slowest)
            )
        taken, slowest = self._build(tests=True)
        chapter.figures.append(
            Figure(
                "nothing changed, with every test",
                f"{taken:.1f} s",
                f"{limit / taken:.2f} x COPY",
                detail=slowest,
            )
        )
        return chapter

    def _change_and_add(self) -> None:
        world.change_records(self.database, 1_000, 2)
        file = self.folder / "events" / "late.csv"
        world.invent_events(
            self.database, self.people, first=self.events + 1, last=self.events + 10_000, file=file
        )
        take_in(
            Warehouse(self.database),
            event_folder(str(file.parent)),
            run_id="bench",
            require_enabled=lambda: None,
        )

    def _next_day(self) -> None:
        self.day += timedelta(days=1)

    def _build(self, *, tests: bool = False) -> tuple[float, str]:
        """Seconds of a build, and its slowest models."""
        project = self._project()
        project.manifest()
        results: list[Any] = []
        taken = self._timed(
            lambda: results.extend(
                build_models(project, self.database, ["dbt_marketing"], tests=tests)
            )
        )
        failed = [r for r in results if r["status"] not in ("success", "pass", "skipped")]
        assert not failed, failed
        slowest = sorted(results, key=lambda r: -r["execution_time"])[:3]
        told = ", ".join(
            f"{r['unique_id'].split('.')[2]} {r['execution_time']:.1f} s" for r in slowest
        )
        return taken, told

    def _project(self) -> DbtProject:
        file = self.folder / "crm_sync.yaml"
        file.write_text(repr(_SETTINGS))
        project = find_project(load_settings(file), self.folder)
        variables = {**project.variables, "as_of": self.day.isoformat()}
        return DbtProject(
            project.folder, variables, project.work / f"{self.day:%d}", project.schema
        )

    def _timed(self, work: Any) -> float:
        world.vacuum(self.database)
        started = time.monotonic()
        work()
        return time.monotonic() - started


def _rate(count: int, seconds: float) -> str:
    return f"{count / seconds:,.0f} a second"


def main() -> None:
    """Measure everything, print the tables, write them if asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--people", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--write", action="store_true", help="into docs/performance.md")
    given = parser.parse_args()
    console = Console(width=160)
    folder = Path(tempfile.mkdtemp(prefix="marketing-speed-"))
    folder.chmod(0o755)
    postgres = EmbeddedPostgres(folder / "home")
    try:
        database = postgres.ensure_running()
        migrate(Warehouse(database))
        chapters = []
        benchmark = Benchmark(given.people, given.events, folder, database, console)
        for chapter in benchmark.chapters():
            chapter.show(console)
            chapters.append(chapter)
        if given.write:
            write(chapters, PAGE, "marketing", machine(database))
    finally:
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
