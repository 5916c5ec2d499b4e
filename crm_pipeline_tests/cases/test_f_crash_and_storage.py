"""Part F of the cases: crashes, full disks, memory, upgrades, and what they may leave behind.

docs/reference/cases.md says what we owe in each case, and which mechanism keeps it. The matrix of
kills at named points is elsewhere; here stand the kinds of trouble.
"""

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from importlib.resources import files
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import stamina
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from crm_pipeline.errors import ConfigurationError, CrmPipelineError, TransientError
from crm_pipeline.model.sync import SyncMode
from crm_pipeline.sandbox.salesforce import rest as org_rest
from crm_pipeline.sandbox.salesforce.bulk_files import Produced
from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.people import seed_org
from crm_pipeline.sandbox.salesforce.running import running
from crm_pipeline.sync.merge_path import MergePath
from crm_pipeline.warehouse import ledger, merge
from crm_pipeline.warehouse import upgrade as migrating
from crm_pipeline.warehouse.embedded import EmbeddedPostgres
from crm_pipeline.warehouse.migrate import migrate
from crm_pipeline.warehouse.upgrade import sqlalchemy_url
from crm_pipeline_tests.cases.conftest import only_leads
from crm_pipeline_tests.cases.test_a_reading_forward import (
    OVERLAP,
    after_each_page,
    new_leads,
    watermark,
)
from crm_pipeline_tests.cases.victims import (
    Death,
    die_in,
    in_own_process,
    peak_kilobytes_of_sync,
    sync_whose_main_thread_sleeps_on,
    sync_without_files,
)
from crm_pipeline_tests.house import House
from crm_pipeline_tests.integration.sync.test_interruptions import downloads, free_the_lease
from crm_pipeline_tests.integration.sync.test_rare_interleavings import (
    during_the_merge,
    in_background,
    pass_time,
    wait_for_a_lock,
)

DAY = 86_400
SMALL_SERVER = {"fsync": "off", "shared_buffers": "16MB"}


class OwnServer:
    """A PostgreSQL for these tests alone, which may be treated badly."""

    def __init__(self, home: Path) -> None:
        self.data = home / "postgres" / "data"
        self._server = EmbeddedPostgres(home, settings=SMALL_SERVER)
        self._server.ensure_running()

    def url(self, database: str) -> str:
        """The address of a database."""
        return self._server.url(database)

    def execute(self, statement: str) -> None:
        """Do something as its administrator."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())

    def crash(self) -> None:
        """Stop at once and start again: recovery empties what is unlogged."""
        pid = int((self.data / "postmaster.pid").read_text().partition("\n")[0])
        os.kill(pid, signal.SIGQUIT)
        self._server.ensure_running()

    def cut(self) -> None:
        """Let every connection of ours end."""
        self.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE application_name = 'crm_pipeline'"
        )

    def stop(self) -> None:
        """End it."""
        self._server.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    made = OwnServer(tmp_path_factory.mktemp("server"))
    yield made
    made.stop()


@pytest.fixture
def own_database(server: OwnServer) -> Iterator[str]:
    """A database of that server."""
    name = f"own_{uuid4().hex}"
    server.execute(f"CREATE DATABASE {name}")
    yield name
    server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture
def alone(
    server: OwnServer, own_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[House]:
    """Leads by Bulk in pages of 40, on a server that nobody else uses."""
    org = SandboxOrg()
    seed_org(org, records=600)
    with running(org, bulk_page_records=40) as served:
        house = House(org, served, tmp_path, server.url(own_database), monkeypatch)
        house.configure(version=1)
        only_leads(house, "bulk")
        org.clock.advance(0)
        house.full()
        pass_time(house)
        yield house
    org.close()


# The database goes away

PHASES = ("beginning", "landing", "between pages", "staged", "merging", "committing")


def at_phase(monkeypatch: pytest.MonkeyPatch, phase: str, event: Callable[[], None]) -> None:
    """Let something happen once, when the next sync has come so far."""
    where: dict[str, tuple[Any, str]] = {
        "beginning": (MergePath, "stage"),
        "landing": (Produced, "blocks"),
        "staged": (MergePath, "commit"),
        "merging": (merge, "merge"),
        "committing": (ledger, "commit_attempt"),
    }
    if phase not in where:
        return
    owner, name = where[phase]
    original = getattr(owner, name)
    has_happened = threading.Event()

    def once() -> None:
        if not has_happened.is_set():
            has_happened.set()
            event()

    def before(*args: Any, **facts: Any) -> Any:
        once()
        return original(*args, **facts)

    def after(*args: Any, **facts: Any) -> Any:
        done = original(*args, **facts)
        once()
        return done

    is_inside = phase in {"merging", "committing"}
    monkeypatch.setattr(owner, name, after if is_inside else before)


@pytest.mark.parametrize("mode", [SyncMode.FULL, SyncMode.DIFFERENTIAL])
@pytest.mark.parametrize("trouble", ["cut", "crash"])
@pytest.mark.parametrize("phase", PHASES)
def test_f2_a_database_that_goes_away_in_any_phase_leaves_nothing_half(
    alone: House, server: OwnServer, phase: str, trouble: str, mode: SyncMode
) -> None:
    house, before, table = alone, watermark(alone), alone.table("Lead")
    new_leads(house, 150)
    house.org.update("Lead", next(iter(table)), {"Company": "Changed"})
    has_happened: list[str] = []

    def happen() -> None:
        if not has_happened:
            has_happened.append(phase)
            (server.cut if trouble == "cut" else server.crash)()

    at_phase(house.monkeypatch, phase, happen)
    is_over = False
    with contextlib.suppress(CrmPipelineError, psycopg.OperationalError):
        if phase == "between pages":
            after_each_page(house, mode, happen)
        else:
            house.sync(mode, "Lead")
        is_over = True
    assert has_happened == [phase]
    if is_over:
        house.assert_in_step()
    else:
        assert phase in {"staged", "merging", "committing"}, "what is only read is read again"
        assert (watermark(house), house.table("Lead")) == (before, table)
    free_the_lease(house)
    pass_time(house)
    house.sync(mode, "Lead")
    house.assert_in_step()


# Disks and memory


@pytest.fixture
def small_disk(server: OwnServer, own_database: str, tmp_path: Path) -> Iterator[Path]:
    """64 MB on which the warehouse's tables lie."""
    disk = tmp_path / "disk"
    tables = disk / "tables"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m,mode=755", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only who may mount a file system can fill one without harm")
    try:
        tables.mkdir()
        owner = server.data.stat()
        os.chown(tables, owner.st_uid, owner.st_gid)
        server.execute(f"CREATE TABLESPACE small LOCATION '{tables}'")
        server.execute(f"ALTER DATABASE {own_database} SET default_tablespace = small")
        yield disk
        server.execute(f"DROP DATABASE {own_database} WITH (FORCE)")
        server.execute("DROP TABLESPACE small")
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(filler: Path) -> None:
    """Fill a disk but for a few pages."""
    free = os.statvfs(filler.parent)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - 65_536)


@pytest.mark.parametrize("phase", ["staging", "merging"])
def test_f3_a_full_disk_is_a_clean_failure_and_the_old_table_is_served_until_there_is_room(
    small_disk: Path, alone: House, phase: str
) -> None:
    house, before, table = alone, watermark(alone), alone.table("Lead")
    house.org.update_many("Lead", list(table), lambda _: {"Company": "c" * 250})
    new_leads(house, 2_000, Company="d" * 250)
    filler = small_disk / "filler"
    if phase == "staging":
        fill(filler)
    else:
        at_phase(house.monkeypatch, "staged", lambda: fill(filler))
    with stamina.set_testing(True, attempts=2), pytest.raises(TransientError) as refused:
        house.sync(SyncMode.DIFFERENTIAL, "Lead")
    assert "disk is full" in str(refused.value)
    assert (watermark(house), house.table("Lead")) == (before, table)
    assert house.query("SELECT status, error FROM crm_sync.sync_run WHERE status = 'failed'") == [
        ("failed", str(refused.value))
    ]
    filler.unlink()
    house.sync_once("Lead")
    house.assert_in_step()


@pytest.mark.parametrize("transport", ["rest", "bulk"])
@pytest.mark.parametrize("mode", [SyncMode.FULL, SyncMode.DIFFERENTIAL])
def test_f3_f8_a_sync_writes_no_file_of_its_own_that_could_fill_a_disk_or_lie_about(
    leads: House, transport: str, mode: SyncMode
) -> None:
    only_leads(leads, transport)
    new_leads(leads, 3_000)
    code, records = in_own_process(sync_without_files, "Lead", mode)
    assert code == 0
    assert records >= 3_000
    leads.assert_in_step()


@pytest.mark.parametrize("transport", ["rest", "bulk"])
@pytest.mark.parametrize(
    ("few", "many"), [(2_000, 20_000), pytest.param(20_000, 200_000, marks=pytest.mark.long)]
)
def test_f5_memory_does_not_grow_with_the_table(
    leads: House, transport: str, few: int, many: int
) -> None:
    only_leads(leads, transport)
    peaks = []
    for count in (few, many - few):
        new_leads(leads, count, Email="somebody@example.com")
        code, peak = in_own_process(peak_kilobytes_of_sync, "Lead", SyncMode.FULL, 512)
        assert code == 0
        peaks.append(peak)
    assert peaks[1] < 1.15 * peaks[0], f"{peaks} kB"
    assert len(leads.query("SELECT FROM salesforce.lead")) >= many


# Full syncs of days


def test_f6_a_full_sync_by_rest_that_stood_still_for_eight_days_reads_only_what_is_missing(
    paged: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = paged
    only_leads(house, "rest")
    monkeypatch.setattr(org_rest, "_BATCH_SIZE", 40)
    new_leads(house, 130)
    total = house.org.count("Lead", include_deleted=True)
    begun = house.org.clock.now()
    die_in("Lead", SyncMode.FULL, Death(after_pages=3))
    free_the_lease(house)
    ((landed,),) = house.query("SELECT sum(records) FROM crm_sync.checkpoint")
    assert landed >= 0.3 * total
    pass_time(house, 8 * DAY)
    pages: list[int] = []
    with house.engine() as engine:
        outcome = engine.sync_object(
            "Lead",
            mode=SyncMode.FULL,
            run_id="days later",
            report=lambda progress: pages.append(progress.records_read),
        )
    assert (pages[0], pages[-1]) == (landed + 40, total), "it goes on where it stood"
    assert outcome.watermark_after == begun.replace(microsecond=0) - OVERLAP
    house.assert_in_step()


def test_f6_e13_a_bulk_job_that_was_forgotten_meanwhile_is_begun_anew_once(paged: House) -> None:
    house = paged
    new_leads(house, 130)
    die_in("Lead", SyncMode.FULL, Death(after_pages=3))
    free_the_lease(house)
    pass_time(house, 8 * DAY)
    late = house.org.clock.now()
    before = len(downloads(house))
    outcome = house.full()["Lead"]
    pages = -(-house.org.count("Lead", include_deleted=True) // 40)
    assert len(downloads(house)) - before == pages
    assert outcome.watermark_after == late.replace(microsecond=0) - OVERLAP
    house.assert_in_step()


def test_f7_edits_of_every_kind_during_a_full_sync_of_three_days_come_with_the_next_differential(
    paged: House,
) -> None:
    house = paged
    begun = house.org.clock.now()
    lives = iter(list(house.truth("Lead")))
    binned = [next(lives) for _ in range(12)]
    for one in binned:
        house.org.delete("Lead", one)
    new_leads(house, 40)
    rounds = iter(range(1_000))

    def a_working_day() -> None:
        number = next(rounds)
        pass_time(house, DAY / 2)
        if number >= 6:
            return
        for _ in range(3):
            house.org.update("Lead", next(lives), {"Company": f"day {number}"})
        house.org.delete("Lead", next(lives))
        house.org.undelete("Lead", binned[number])
        house.org.merge("Lead", next(lives), [next(lives)])
        house.org.convert_lead(next(lives))
        new_leads(house, 2)
        house.org.delete("Lead", new_leads(house, 1)[0])
        house.org.hard_delete("Lead", next(lives))

    outcome = after_each_page(house, SyncMode.FULL, a_working_day)
    assert house.org.clock.now() - begun >= timedelta(days=3)
    assert outcome.watermark_after == begun.replace(microsecond=0) - OVERLAP
    house.sync_once("Lead")
    house.sync(SyncMode.RECONCILE, "Lead")  # for what was removed for good
    house.assert_in_step()


# What is left behind


@pytest.mark.parametrize(
    ("deaths", "page"), [(12, 20), pytest.param(50, 5, marks=pytest.mark.long)]
)
def test_f8_after_many_kills_one_good_sync_leaves_nothing_over(
    paged: House, deaths: int, page: int
) -> None:
    house = paged
    house.served.server.settings.bulk_page_records = page
    new_leads(house, 5 * deaths * page)
    signals = cycle((signal.SIGKILL, signal.SIGINT, signal.SIGTERM))
    modes = cycle((SyncMode.FULL, SyncMode.DIFFERENTIAL))
    ways = zip(modes, cycle((1, 2, 3, 4, 5)), signals, strict=False)
    for mode, pages, by in islice(ways, deaths):
        die_in("Lead", mode, Death(pages, by))
        free_the_lease(house)
    assert left_over(house) != (0, 0, 0, 0, 0)
    house.full()
    house.sync_once("Lead")
    assert left_over(house) == (0, 0, 0, 0, 0)
    house.assert_in_step()


def test_f8_an_interrupt_stops_a_sync_even_if_it_wakes_nobody(paged: House) -> None:
    """Otherwise the sync of days that somebody wants to stop goes on to its last page."""
    house = paged
    house.served.server.settings.bulk_page_records = 5
    new_leads(house, 5 * 200)
    code, _ = in_own_process(sync_whose_main_thread_sleeps_on, "Lead", SyncMode.FULL, 2)
    assert code == 1
    [(landed,)] = house.query("SELECT count(*) FROM crm_sync.checkpoint")
    assert 2 <= landed < 100


def left_over(house: House) -> tuple[int, ...]:
    """Staging tables, checkpoints, unfinished attempts, living leases, and jobs in the CRM."""
    ((tables, checkpoints, attempts, leases),) = house.query(
        "SELECT (SELECT count(*) FROM pg_class WHERE relkind = 'r'"
        "        AND relnamespace = 'crm_staging'::regnamespace),"
        " (SELECT count(*) FROM crm_sync.checkpoint),"
        " (SELECT count(*) FROM crm_sync.sync_run"
        "  WHERE has_staging OR status IN ('reading', 'staged')),"
        " (SELECT count(*) FROM crm_sync.lease WHERE owner IS NOT NULL AND expires_at > now())"
    )
    return tables, checkpoints, attempts, leases, len(house.served.server.jobs.all())


@pytest.mark.parametrize(
    ("readers", "rounds"), [(8, 4), pytest.param(32, 20, marks=pytest.mark.long)]
)
def test_f9_who_reads_during_full_syncs_sees_the_old_rows_or_the_new_ones_and_never_waits(
    leads: House, readers: int, rounds: int
) -> None:
    house = leads
    seen: set[tuple[int, str, str]] = set()
    is_over = threading.Event()

    def read() -> None:
        patience = "-c statement_timeout=2000"
        with psycopg.connect(house.database_url, autocommit=True, options=patience) as connection:
            while not is_over.is_set():
                seen.update(
                    connection.execute(
                        "SELECT count(*), min(company), max(company) FROM salesforce.lead"
                        " WHERE _deleted_at IS NULL"
                    ).fetchall()
                )

    everyone(house, "round 0")
    house.full()
    states = {(house.org.count("Lead"), "round 0", "round 0")}
    threads = [in_background(read) for _ in range(readers)]
    for number in range(1, rounds + 1):
        company = f"round {number}"
        house.org.delete("Lead", next(iter(house.truth("Lead"))))
        new_leads(house, 7)
        everyone(house, company)
        states.add((house.org.count("Lead"), company, company))
        house.full()
    is_over.set()
    for thread, errors in threads:
        thread.join(10)
        assert errors == []
    assert seen <= states
    assert len(seen) > 1


def everyone(house: House, company: str) -> None:
    """Let all leads work for one company."""
    house.org.update_many("Lead", list(house.truth("Lead")), lambda _: {"Company": company})


# Several at once, and upgrades


def test_f10_a_merge_that_is_the_victim_of_a_deadlock_is_tried_again(leads: House) -> None:
    one = next(iter(leads.truth("Lead")))
    leads.org.update("Lead", one, {"Company": "Changed"})
    with psycopg.connect(leads.database_url) as rival:
        rival.execute("SELECT FROM salesforce.lead WHERE id = %s FOR UPDATE", [one])
        thread, errors = in_background(lambda: leads.sync_once("Lead"))
        wait_for_a_lock(leads)
        rival.execute("UPDATE crm_sync.object_state SET table_name = table_name")
    thread.join(30)
    assert errors == []
    leads.assert_in_step()


def test_f10_a_merge_that_cannot_be_serialised_is_tried_again(
    leads: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = leads.database_url.rpartition("/")[2]
    leads.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'")
    one = next(iter(leads.truth("Lead")))
    leads.org.update("Lead", one, {"Company": "Changed"})
    has_happened: list[str] = []

    def touch() -> None:
        if not has_happened:
            has_happened.append(one)
            leads.execute(f"UPDATE salesforce.lead SET email = email WHERE id = '{one}'")

    during_the_merge(monkeypatch, touch)
    leads.sync_once("Lead")
    leads.assert_in_step()


def migrate_and_die(url: str) -> None:
    """Upgrade, and die before it is committed."""

    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    vars(migrating)["_let_analysts_in"] = die
    migrate(url)


def test_f12_an_upgrade_that_is_killed_has_not_happened(empty_database_url: str) -> None:
    assert in_own_process(migrate_and_die, empty_database_url) == (-signal.SIGKILL, None)
    with psycopg.connect(empty_database_url) as connection:
        found = connection.execute("SELECT to_regnamespace('crm_sync')").fetchone()
    assert found == (None,)
    migrate(empty_database_url)


def revisions() -> list[str]:
    """Every version of the control schema, oldest first."""
    found = ScriptDirectory.from_config(alembic_config()).walk_revisions()
    return [script.revision for script in found][::-1]


def alembic_config() -> Config:
    """Where the migrations lie."""
    config = Config()
    config.set_main_option("script_location", str(files("crm_pipeline.warehouse") / "migrations"))
    return config


@pytest.mark.parametrize("revision", revisions())
def test_f12_every_older_schema_is_upgraded_and_synced_into(
    house: House, empty_database_url: str, revision: str
) -> None:
    engine = create_engine(sqlalchemy_url(empty_database_url), poolclass=NullPool)
    with engine.begin() as connection:
        for schema in ("crm_sync", "crm_staging", "events", "history"):
            connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    house.database_url = empty_database_url
    only_leads(house)
    house.full()
    house.sync_once("Lead")
    house.assert_in_step()
    assert house.query("SELECT version_num FROM crm_sync.alembic_version") == [(revisions()[-1],)]


def test_f12_an_older_program_refuses_a_newer_schema_in_a_sentence_and_asks_the_crm_nothing(
    leads: House,
) -> None:
    leads.execute("UPDATE crm_sync.alembic_version SET version_num = '9999'")
    leads.served.server.ledger.clear()
    with pytest.raises(ConfigurationError, match=r"newer version.*Upgrade CRM Pipeline"):
        leads.sync_once("Lead")
    assert leads.served.server.ledger.entries() == []
