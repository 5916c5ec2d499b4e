"""One object on the bench: its org, its warehouse, and each way over it with a stopwatch.

Belongs here: timing limit, floor and engine under the same conditions. Does not belong here: which
of them are taken and what the figures mean (scenarios.py).

Before a clock starts, PostgreSQL has nothing left to do (VACUUM, CHECKPOINT), and the org has its
results ready, for limit, floor and engine alike.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import bare
import psycopg
from engine_process import EngineRun, configure, run_engine
from org_process import OrgProcess, serving
from subjects import Subject

from crm_pipeline.crm.port import ReadRequest
from crm_pipeline.crm.salesforce.soql import resource, select
from crm_pipeline.model.sync import SyncMode
from crm_pipeline.sync.assembly import Installation
from crm_pipeline.sync.selection import select_object
from crm_pipeline.warehouse.schema import table_shape

_NARROW = (SyncMode.RECONCILE, SyncMode.REFRESH)


@dataclass
class Workbench:
    """A subject with all that is needed to measure it.

    Attributes:
        turns: how often each thing is measured; the median counts.
        runs: every run of the engine so far.
    """

    folder: Path
    database: str
    org: OrgProcess
    turns: int
    runs: list[EngineRun] = field(default_factory=list)

    @property
    def subject(self) -> Subject:
        """What is measured."""
        return self.org.subject

    @property
    def records(self) -> int:
        """How many of it there are."""
        return self.org.records

    def question(self, mode: SyncMode, since: str | None = None) -> bare.Question:
        """What the engine asks for in a mode."""
        installation = Installation.from_environment()
        connector = installation.connector(installation.settings)
        try:
            selection, _ = select_object(installation.settings, connector, self.subject.name)
        finally:
            connector.close()
        described = selection.crm_object
        shape = table_shape(selection, "salesforce")
        if mode in _NARROW:
            fields = {f.name for f in described.fields.values() if f.is_calculated}
            shape = shape.narrowed(fields if mode is SyncMode.REFRESH else ())
        request = ReadRequest(
            described,
            shape.read_fields,
            changed_since=datetime.fromisoformat(since) if since else None,
            include_deleted=mode is not SyncMode.REFRESH,
        )
        return bare.Question(select(request), resource(request), shape.staged)

    def prepare(self, question: bare.Question) -> None:
        """Let the org make the result that will be asked for."""
        bare.BareClient(self.org.url).pages(question)

    def files(self, question: bare.Question) -> list[Path]:
        """The bytes of the limit; only those of one question are kept at a time."""
        self.drop_files()
        return bare.download(bare.BareClient(self.org.url), question, self.folder / "pages")

    def drop_files(self) -> None:
        """Give back the space; of ten million leads they are 5 GB."""
        shutil.rmtree(self.folder / "pages", ignore_errors=True)

    def limit(self, question: bare.Question, files: list[Path]) -> float:
        """Seconds of COPY and key."""
        return self._timed(lambda: bare.copy_files(self.database, question, files))

    def floor(self, question: bare.Question) -> float:
        """Seconds of the bare script that reads everything."""
        return self._timed(lambda: bare.stream_everything(self.database, self.org.url, question))

    def floor_of_changes(self, question: bare.Question, transport: str) -> float:
        """Seconds of the bare script that reads what changed."""
        return self._timed(
            lambda: bare.upsert_changes(self.database, self.org.url, question, transport)
        )

    def engine(self, mode: SyncMode, *, profile: bool = False) -> EngineRun:
        """One sync by the engine."""
        self._quiet()
        run = run_engine(self.subject.name, mode, profile=profile)
        self.runs.append(run)
        return run

    def repeated(self, work: Callable[[], float]) -> float:
        """The median of some turns."""
        return median([work() for _ in range(self.turns)])

    @property
    def peaks(self) -> dict[str, int]:
        """Bytes of the hungriest sync by each transport."""
        return {
            transport: max(run.peak_bytes for run in self.runs if run.transport == transport)
            for transport in sorted({run.transport for run in self.runs})
        }

    def begin_anew(self) -> None:
        """No typed tables, nothing remembered; the control schema is there, as `init` leaves it."""
        with psycopg.connect(self.database) as connection:
            for schema in ("salesforce", "crm_sync", "crm_staging", "events", "history"):
                connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE".encode())
        Installation.from_environment().warehouse()

    def _timed(self, work: Callable[[], None]) -> float:
        self._quiet()
        started = time.monotonic()
        work()
        return time.monotonic() - started

    def _quiet(self) -> None:
        """What PostgreSQL does by itself in the hour between two syncs."""
        with psycopg.connect(self.database, autocommit=True) as connection:
            # A sample of 3,000 rows tells enough; of 300 columns, the usual one takes a minute.
            connection.execute("SET default_statistics_target = 10")
            tables = connection.execute(
                "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
                " WHERE schemaname IN ('salesforce', 'public')"
            ).fetchall()
            for (table,) in tables:
                connection.execute(f"VACUUM (ANALYZE) {table}".encode())
            connection.execute("CHECKPOINT")


@contextmanager
def workbench(
    folder: Path, orgs: Path, database: str, *, subject: Subject, records: int, turns: int
) -> Iterator[Workbench]:
    """A bench with a filled org and an empty warehouse."""
    with serving(orgs, subject, records) as org:
        configure(subject.name, subject.fields, folder=folder, database=database, url=org.url)
        bench = Workbench(folder, database, org, turns)
        bench.begin_anew()
        yield bench


def median(values: list[float]) -> float:
    """The middle one."""
    return sorted(values)[len(values) // 2]
