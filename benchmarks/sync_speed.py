"""How near the sync comes to COPY, measured as ratios within one run.

    python benchmarks/sync_speed.py --records 1000000

The limit is COPY of the very bytes that the CRM hands over into a typed table, then its primary
key. The floor is a bare script that streams the pages into COPY with two connections, with no
retries, no checkpoints and no state. The engine is our own command without Dagster, in a process of
its own, so that its peak memory is its own. The org's work of preparing results is done before the
clock starts, for limit, floor and engine alike.
"""

import argparse
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import psycopg
import requests
from rich.console import Console
from rich.table import Table

from crm_pipeline.crm.port import ReadRequest
from crm_pipeline.crm.salesforce.soql import select
from crm_pipeline.model.sync import SyncMode
from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.people import lead_rows
from crm_pipeline.sandbox.salesforce.running import running
from crm_pipeline.sync.assembly import Installation
from crm_pipeline.sync.selection import select_object
from crm_pipeline.warehouse.embedded import EmbeddedPostgres
from crm_pipeline.warehouse.schema import table_shape

HERE = Path(__file__).resolve()
CLI = (sys.executable, "-m", "crm_pipeline.cli.main")
FIELDS = tuple(next(iter(lead_rows(1))))
TYPES = {
    "AnnualRevenue": "numeric",
    "NumberOfEmployees": "integer",
    "HasOptedOutOfEmail": "boolean",
    "DoNotCall": "boolean",
    "Is_Target__c": "boolean",
    "Lead_Score__c": "numeric",
    "EmailBouncedDate": "timestamptz",
    "Preferred_Call_Time__c": "time",
}
API = "/services/data/v62.0"


def main() -> None:
    """Measure everything and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--org", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.org:
        serve_org(given.org, given.records)
    elif given.engine:
        run_engine(given.engine)
    else:
        measure(given.records)


def measure(records: int) -> None:
    """One run: limit, floor and engine over the same bytes."""
    console = Console()
    work = Path(tempfile.mkdtemp(prefix="sync-speed-"))
    work.chmod(0o755)
    postgres = EmbeddedPostgres(work / "home")
    try:
        database = postgres.ensure_running()
        console.print(f"Inventing {records:,} leads of {len(FIELDS)} fields …")
        with org_process(work, records) as url:
            results = [*first_full_sync(work, url, database, records, console)]
            show(console, records, results)
    finally:
        postgres.stop()
        shutil.rmtree(work, ignore_errors=True)


def first_full_sync(
    work: Path, url: str, database: str, records: int, console: Console
) -> Iterator[tuple[str, str, str]]:
    """Limit, floor, engine, then differentials; yields rows of the table."""
    configure(work, url, database)
    console.print("Preparing the org's results and downloading them once …")
    org = BareClient(url)
    soql = bulk_soql()
    pages = org.pages(org.job(soql))
    content = work / "pages"
    content.mkdir()
    files = [org.download(page, content / str(n)) for n, page in enumerate(pages)]
    size = sum(f.stat().st_size for f in files)
    limits, floors, engines, memory, outcome = [], [], [], 0, {}
    for turn in range(3):
        console.print(f"Turn {turn + 1} of 3 …")
        limits.append(timed(lambda: copy_files(database, files)))
        floors.append(timed(lambda: stream_pages(database, org, org.pages(org.job(soql)))))
        drop_all(database)
        outcome = engine(work, "full")
        engines.append(outcome["seconds"])
        memory = max(memory, outcome["peak_bytes"])
    limit, floor, ours = median(limits), median(floors), median(engines)
    yield "bytes from the CRM", f"{size / 1e6:,.0f} MB", f"{size / records:,.0f} B a record"
    yield "COPY of the same bytes, then key", f"{limit:.2f} s", f"{records / limit:,.0f} rows/s"
    yield "floor: two bare streams", f"{floor:.2f} s", f"{limit / floor:.2f} x COPY"
    yield "engine: first full sync", f"{ours:.2f} s", f"[bold]{limit / ours:.2f} x COPY[/bold]"
    yield "  rows a second", f"{records / ours:,.0f}", f"{outcome['api_calls']} API calls"
    yield "  peak memory of its process", f"{memory / 1e6:,.0f} MB", ""
    yield from repeated_and_differential(work, url, records)


def repeated_and_differential(work: Path, url: str, records: int) -> Iterator[tuple[str, str, str]]:
    """What comes after the first full sync."""
    empty = median([engine(work, "differential")["seconds"] for _ in range(3)])
    yield "engine: empty differential", f"{empty:.2f} s", "describe + 1 query"
    changed = max(1, records // 100)
    touch(url, changed)
    outcome = engine(work, "differential")
    yield (
        f"engine: differential of 1 % ({changed:,})",
        f"{outcome['seconds']:.2f} s",
        f"{outcome['transport']}, {outcome['updated']:,} updated, {outcome['api_calls']} calls",
    )
    outcome = engine(work, "full")
    yield (
        "engine: full sync repeated, nothing changed",
        f"{outcome['seconds']:.2f} s",
        f"{outcome['updated']} rows written",
    )
    yield from through_dagster(work)


def through_dagster(work: Path) -> Iterator[tuple[str, str, str]]:
    """What Dagster adds: a process that loads it, and the way through its queue."""
    seconds = timed(lambda: command("sync", "full", "--restart", "--json"))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    yield "crm-pipeline sync full, over a live table", f"{seconds:.2f} s", "the whole process"
    yield "  peak memory with Dagster loaded", f"{peak / 1e6:,.0f} MB", "largest child so far"
    with services(work) as address:
        ticks = [queued_differential(address) for _ in range(4)][1:]
    whole, run = (median([tick[n] for tick in ticks]) for n in (0, 1))
    yield "empty differential, request to green", f"{whole:.1f} s", f"the run alone {run:.1f} s"


def command(*words: str) -> None:
    """Our command, in a process of its own."""
    subprocess.run([*CLI, *words], check=True, capture_output=True)


@contextmanager
def services(work: Path) -> Iterator[str]:
    """The UI, the daemon and the code server, as `crm-pipeline up` starts them."""
    process = subprocess.Popen(
        [*CLI, "up", "--port", "3900"], stderr=subprocess.PIPE, text=True, cwd=work
    )
    assert process.stderr is not None
    try:
        yield next(
            found[1]
            for line in process.stderr
            if (found := re.search(r"UI is at (http://\S+)", line))
        )
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


def queued_differential(address: str) -> tuple[float, float]:
    """Seconds from request to end, and of the run alone."""
    ask = partial(requests.post, f"{address}/graphql", timeout=30)
    selector = {
        "repositoryLocationName": "crm_pipeline",
        "repositoryName": "__repository__",
        "pipelineName": "differential_sync",
    }
    tags = [{"key": "dagster/partition", "value": datetime.now(UTC).strftime("%Y-%m-%d-%H:00")}]
    facts = {
        "selector": selector,
        "mode": "default",
        "runConfigData": "{}",
        "executionMetadata": {"tags": tags},
    }
    started = time.monotonic()
    launched = ask(json={"query": _LAUNCH, "variables": {"facts": facts}}).json()
    run_id = launched["data"]["launchPipelineExecution"]["run"]["runId"]
    while True:
        run = ask(json={"query": _LOOK, "variables": {"run": run_id}}).json()["data"]["runOrError"]
        if run["status"] in ("SUCCESS", "FAILURE"):
            return time.monotonic() - started, run["endTime"] - run["startTime"]
        time.sleep(0.05)


_LAUNCH = """mutation($facts: ExecutionParams!) { launchPipelineExecution(executionParams: $facts)
{ ... on LaunchRunSuccess { run { runId } } } }"""
_LOOK = (
    """query($run: ID!) { runOrError(runId: $run) { ... on Run { status startTime endTime } } }"""
)


def configure(work: Path, url: str, database: str) -> None:
    """The settings and the environment of the engine."""
    (work / "crm_sync.yaml").write_text(
        json.dumps(
            {
                "version": 1,
                "reference_data": False,
                "marketing": {"enabled": False},
                "objects": {"Lead": {"fields": list(FIELDS)}},
            }
        )
    )
    os.environ |= {
        "CRM_PIPELINE_CONFIG": str(work / "crm_sync.yaml"),
        "CRM_PIPELINE_HOME": str(work / "home"),
        "CRM_PIPELINE_DATABASE_URL": database,
        "SALESFORCE_LOGIN_URL": url,
        "SALESFORCE_CLIENT_ID": "sandbox-client",
        "SALESFORCE_CLIENT_SECRET": "sandbox-secret",
    }


def bulk_soql() -> str:
    """The query that the engine sends, so that the org has its result prepared."""
    installation = Installation.from_environment()
    connector = installation.connector(installation.settings)
    selection, _ = select_object(installation.settings, connector, "Lead")
    shape = table_shape(selection, "salesforce")
    return select(ReadRequest(selection.crm_object, shape.read_fields))


class BareClient:
    """The least that reads Bulk results: for the floor and for the bytes of the limit."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = requests.Session()
        answer = self.session.post(
            f"{url}/services/oauth2/token",
            data={
                "grant_type": "client_credentials",
                "client_id": "sandbox-client",
                "client_secret": "sandbox-secret",
            },
            timeout=30,
        )
        self.session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        self.session.headers["Accept-Encoding"] = "identity"

    def job(self, soql: str) -> str:
        """A query job that is done."""
        jobs = f"{self.url}{API}/jobs/query"
        made = self.session.post(jobs, json={"operation": "queryAll", "query": soql}, timeout=30)
        made.raise_for_status()
        job = f"{jobs}/{made.json()['id']}"
        while self.session.get(job, timeout=30).json()["state"] != "JobComplete":
            time.sleep(0.05)
        return job

    def pages(self, job: str) -> list[str]:
        """Addresses of its result pages."""
        links: list[str] = []
        following: str | None = f"{job}/resultPages"
        while following:
            answer = self.session.get(self._absolute(following), timeout=30).json()
            links += [self._absolute(page["resultUrl"]) for page in answer["resultPages"]]
            following = None if answer["done"] else answer["nextRecordsUrl"]
        return links

    def _absolute(self, link: str) -> str:
        return link if link.startswith("http") else self.url + link

    def chunks(self, page: str) -> Iterator[bytes]:
        """Bytes of a page, header line included."""
        with self.session.get(page, stream=True, timeout=60) as answer:
            yield from answer.raw.stream(1 << 18)

    def download(self, page: str, file: Path) -> Path:
        """Keep a page as a file."""
        with file.open("wb") as target:
            for chunk in self.chunks(page):
                target.write(chunk)
        return file


def create_table(connection: psycopg.Connection, first_line: bytes) -> bytes:
    """A typed table for the columns of a header line, and the COPY that fills it."""
    names = [name.strip('"') for name in first_line.decode().strip().split(",")]
    kinds = {"IsDeleted": "boolean", "SystemModstamp": "timestamptz", **TYPES}
    columns = ", ".join(
        f'"{n.lower()}" {kinds.get(n, "text")}' + (' COLLATE "C"' if n == "Id" else "")
        for n in names
    )
    connection.execute(b"DROP TABLE IF EXISTS public.bench")
    connection.execute(f"CREATE TABLE public.bench ({columns})".encode())
    listed = ", ".join(f'"{n.lower()}"' for n in names)
    return (
        f"COPY public.bench ({listed}) FROM STDIN"
        f" WITH (FORMAT csv, HEADER true, FORCE_NULL ({listed}))"
    ).encode()


def copy_files(database: str, files: list[Path]) -> None:
    """The limit: one COPY of all bytes from memory-warm files, then the key."""
    with psycopg.connect(database) as connection:
        with files[0].open("rb") as source:
            statement = create_table(connection, source.readline())
        connection.commit()
        for file in files:
            with connection.cursor().copy(statement) as copy, file.open("rb") as source:
                while chunk := source.read(1 << 18):
                    copy.write(chunk)
        connection.execute("ALTER TABLE public.bench ADD PRIMARY KEY (id)")


def stream_pages(database: str, org: BareClient, pages: list[str]) -> None:
    """The floor: two connections, pages from the wire into COPY, then the key."""
    with psycopg.connect(database) as connection:
        statement = create_table(connection, next(org.chunks(pages[0])).partition(b"\n")[0])
    left: SimpleQueue[str] = SimpleQueue()
    for page in pages:
        left.put(page)

    def drain() -> None:
        with psycopg.connect(database) as connection:
            while True:
                try:
                    page = left.get_nowait()
                except Empty:
                    return
                with connection.cursor().copy(statement) as copy:
                    for chunk in org.chunks(page):
                        copy.write(chunk)
                connection.commit()

    threads = [threading.Thread(target=drain) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with psycopg.connect(database) as connection:
        connection.execute("ALTER TABLE public.bench ADD PRIMARY KEY (id)")


def drop_all(database: str) -> None:
    """Begin again: no typed tables, nothing remembered."""
    with psycopg.connect(database) as connection:
        for schema in ("salesforce", "crm_sync", "crm_staging"):
            connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE".encode())
        connection.execute("DROP TABLE IF EXISTS public.bench")


def engine(work: Path, mode: str) -> dict[str, Any]:
    """Run the engine in a process of its own."""
    done = subprocess.run(
        [sys.executable, str(HERE), "--engine", mode], check=True, capture_output=True, cwd=work
    )
    return dict(json.loads(done.stdout))


def run_engine(mode: str) -> None:
    """The engine's own process: seconds from a ready engine to the commit, and peak memory."""
    with Installation.from_environment().engine() as made:
        started = time.monotonic()
        outcome = made.sync_object("Lead", mode=SyncMode(mode), run_id=f"bench {time.time()}")
        seconds = time.monotonic() - started
    print(
        json.dumps(
            {
                "seconds": seconds,
                "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                "updated": outcome.updated,
                "api_calls": outcome.api_calls,
                "transport": outcome.transport,
            }
        )
    )


@contextmanager
def org_process(work: Path, records: int) -> Iterator[str]:
    """The sandbox org in a process of its own."""
    address = work / "org.url"
    process = subprocess.Popen(
        [sys.executable, str(HERE), "--org", str(address), "--records", str(records)],
        stdin=subprocess.PIPE,
    )
    try:
        while not address.exists():
            if process.poll() is not None:
                raise SystemExit("the org's process ended")
            time.sleep(0.1)
        yield address.read_text()
    finally:
        process.terminate()
        process.wait()


def serve_org(address: Path, records: int) -> None:
    """An org of leads, until it is told to stop."""
    org = SandboxOrg()
    org.clock.advance(seconds=-86_400)
    org.create_many("Lead", lead_rows(records))
    org.clock.advance(seconds=86_400)
    with running(org, bulk_page_records=100_000) as served:
        address.with_suffix(".part").write_text(served.url)
        address.with_suffix(".part").rename(address)
        threading.Event().wait()


def touch(url: str, count: int) -> None:
    """Change records in the org."""
    requests.post(
        f"{url}/sandbox/live",
        json={"updates": count, "object_names": ["Lead"], "seed": 1},
        timeout=300,
    ).raise_for_status()


def timed(work: Callable[[], None]) -> float:
    """Seconds of a call."""
    started = time.monotonic()
    work()
    return time.monotonic() - started


def median(values: list[float]) -> float:
    """The middle one."""
    return sorted(values)[len(values) // 2]


def show(console: Console, records: int, rows: list[tuple[str, str, str]]) -> None:
    """The table."""
    table = Table(title=f"{records:,} leads x {len(FIELDS)} fields, {os.cpu_count()} cores")
    for heading in ("what", "measured", "ratio or detail"):
        table.add_column(heading)
    for row in rows:
        table.add_row(*row)
    console.print(table)


if __name__ == "__main__":
    main()
