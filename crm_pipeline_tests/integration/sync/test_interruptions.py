"""Whatever stops a sync, nothing is lost, nothing is half, and the next one goes on."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from crm_pipeline.errors import CrmPipelineError, SyncsDisabled, TransientError, WrongOrganization
from crm_pipeline.model.sync import Progress, SyncMode
from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.running import running
from crm_pipeline.sync.assembly import Installation
from crm_pipeline_tests.house import House

LEADS = {"Lead": {"transport": "bulk", "fields": ["LastName", "Company", "Email"]}}

DIE_AFTER_PAGES = textwrap.dedent("""
    import os, signal, sys
    from crm_pipeline.model.sync import SyncMode
    from crm_pipeline.sync.assembly import Installation

    pages = 0

    def die_in_the_middle(progress):
        global pages
        pages += 1
        if pages == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)

    with Installation.from_environment().engine() as engine:
        engine.sync_object(
            "Lead", mode=SyncMode.FULL, run_id="victim", report=die_in_the_middle
        )
""")


def kill_in_the_middle(pages: int) -> None:
    """A full sync in a process of its own, which dies by SIGKILL after so many pages."""
    done = subprocess.run([sys.executable, "-c", DIE_AFTER_PAGES, str(pages)], check=False)
    assert done.returncode == -signal.SIGKILL


def free_the_lease(house: House) -> None:
    """Let the time pass that a dead holder's lease lives on."""
    house.execute("UPDATE crm_sync.lease SET expires_at = now() - interval '1 second'")


def downloads(house: House) -> list[str]:
    """Result pages that the org has handed out."""
    return [r.path for r in house.served.server.ledger.entries() if "/results" in r.path]


@pytest.fixture
def many_pages(house: House) -> House:
    """270 leads and more in pages of 40."""
    house.served.server.settings.bulk_page_records = 40
    house.configure(objects=LEADS)
    return house


@pytest.mark.parametrize("transport", ["bulk", "rest"])
def test_f1_a_full_sync_killed_in_the_middle_goes_on_from_its_checkpoints(
    many_pages: House, transport: str
) -> None:
    house = many_pages
    house.org.create_many("Lead", ({"LastName": f"n{n}", "Company": "c"} for n in range(4_500)))
    if transport == "bulk":
        house.served.server.settings.bulk_page_records = 600
    house.configure(objects={"Lead": {**LEADS["Lead"], "transport": transport}})
    kill_in_the_middle(2)
    landed = house.query("SELECT count(*) FROM crm_sync.checkpoint")[0][0]
    assert landed >= 2
    assert house.query("SELECT to_regclass('salesforce.lead')") == [(None,)]
    free_the_lease(house)
    before = len(downloads(house))
    outcome = house.full()["Lead"]
    house.assert_in_step()
    assert outcome.inserted == house.org.count("Lead")
    assert house.query("SELECT count(*) FROM crm_sync.sync_run") == [(1,)]
    if transport == "bulk":
        pages = -(-house.org.count("Lead", include_deleted=True) // 600)
        assert len(downloads(house)) - before == pages - landed
    assert house.query(
        "SELECT count(*) FROM pg_class WHERE relnamespace = 'crm_staging'::regnamespace"
    ) == [(0,)]


def test_restart_reads_from_the_beginning(many_pages: House) -> None:
    house = many_pages
    kill_in_the_middle(3)
    free_the_lease(house)
    house.full(restart=True)
    house.assert_in_step()
    assert house.query("SELECT status, has_staging FROM crm_sync.sync_run ORDER BY 1") == [
        ("committed", False),
        ("interrupted", False),
    ]


def test_f6_a_bulk_job_that_is_gone_is_read_anew(many_pages: House) -> None:
    house = many_pages
    kill_in_the_middle(3)
    free_the_lease(house)
    house.org.clock.advance(seconds=8 * 86_400)
    house.full()
    house.assert_in_step()


def test_f2_unlogged_staging_emptied_by_a_crash_is_noticed_and_read_anew(
    many_pages: House,
) -> None:
    house = many_pages
    house.full()
    kill_in_the_middle(3)
    free_the_lease(house)
    ((table,),) = house.query("SELECT relname FROM pg_class WHERE relname ~ '^sync_[0-9]+$'")
    house.execute(f"TRUNCATE crm_staging.{table}")
    house.org.update("Lead", next(iter(house.truth("Lead"))), {"Company": "Changed"})
    house.full(restart=False)
    house.sync_once("Lead")
    house.assert_in_step()


def test_changes_during_an_interrupted_full_sync_come_with_the_next_differential(
    many_pages: House,
) -> None:
    house = many_pages
    kill_in_the_middle(3)
    free_the_lease(house)
    first, second, *_ = house.truth("Lead")
    house.org.update("Lead", first, {"Company": "Changed meanwhile"})
    house.org.delete("Lead", second)
    house.org.create("Lead", {"LastName": "Late", "Company": "c"})
    house.full()
    house.sync_once("Lead")
    house.assert_in_step()


def test_g10_the_off_switch_stops_a_running_sync_and_the_next_one_goes_on(
    many_pages: House,
) -> None:
    house = many_pages

    def switch_off(_: Progress) -> None:
        house.configure(syncs_enabled=False)

    with house.engine() as engine, pytest.raises(SyncsDisabled, match="Syncs are disabled"):
        engine.sync_object("Lead", mode=SyncMode.FULL, run_id="a", report=switch_off)
    assert house.query("SELECT status FROM crm_sync.sync_run") == [("interrupted",)]
    asked = len(house.served.server.ledger.entries())
    with house.engine() as engine, pytest.raises(SyncsDisabled):
        engine.sync_object("Lead", mode=SyncMode.FULL, run_id="b")
    assert len(house.served.server.ledger.entries()) == asked
    house.configure(syncs_enabled=True)
    house.full()
    house.assert_in_step()


@pytest.mark.parametrize("kind", ["cut", "reset", "html", "expire_session"])
def test_a_page_that_breaks_off_is_read_again(many_pages: House, kind: str) -> None:
    house = many_pages
    house.served.server.faults.script(
        [{"kind": kind, "path": "*/results*", "nth": 2, "times": 1, "after_bytes": 700}]
    )
    house.full()
    house.assert_in_step()


def test_e7_an_org_that_stays_down_leaves_the_table_as_it_was(many_pages: House) -> None:
    house = many_pages
    house.full()
    before = house.table("Lead")
    house.served.server.faults.script(
        [{"kind": "status", "status": 503, "path": "*/query*", "times": 0}]
    )
    with pytest.raises(TransientError):
        house.sync_once("Lead")
    assert house.table("Lead") == before
    assert house.query("SELECT status FROM crm_sync.sync_run ORDER BY sync_run_id") == [
        ("committed",),
        ("failed",),
    ]
    house.served.server.faults.clear()


def test_c13_a_forbidden_object_is_named_and_the_others_go_on(house: House) -> None:
    house.full("Lead", "Contact")
    house.org.forbid_object("Contact")
    with pytest.raises(Exception, match="Contact"):
        house.sync_once("Contact")
    house.org.create("Lead", {"LastName": "On", "Company": "c"})
    house.sync_once("Lead")
    house.assert_in_step("Lead")


def test_another_organisation_is_refused_before_the_first_row(house: House) -> None:
    house.full("Lead")
    other = SandboxOrg(organization_id="00D000000000002EAA", name="Other")
    with running(other) as served:
        house.monkeypatch.setenv("SALESFORCE_LOGIN_URL", served.url)
        with pytest.raises(WrongOrganization, match="Use another database"):
            house.sync_once("Lead")
    other.close()


def rival(number: int, environment: dict[str, str]) -> str:
    """One of eight processes that start a sync at once."""
    os.environ |= environment
    with Installation.from_environment().engine() as engine:
        mode = SyncMode.FULL if number % 2 else SyncMode.DIFFERENTIAL
        try:
            engine.sync_object("Lead", mode=mode, run_id=f"rival {number}")
        except CrmPipelineError as error:
            return type(error).__name__
    return "committed"


def test_g4_of_eight_processes_never_two_sync_one_object(house: House) -> None:
    house.full("Lead")
    names = [n for n in os.environ if n.startswith(("CRM_PIPELINE", "SALESFORCE"))]
    environment = {n: os.environ[n] for n in names}
    with multiprocessing.get_context("spawn").Pool(8) as pool:
        ends = pool.starmap(rival, [(n, environment) for n in range(8)])
    assert set(ends) <= {"committed", "LeaseBusy"}
    assert ends[1::2] == ["committed"] * 4, "full syncs wait for their turn"
    overlaps = house.query(
        "SELECT count(*) FROM crm_sync.sync_run a JOIN crm_sync.sync_run b"
        " ON a.sync_run_id < b.sync_run_id AND a.object_name = b.object_name"
        " AND tstzrange(a.started_at, a.finished_at) && tstzrange(b.started_at, b.finished_at)"
    )
    assert overlaps == [(0,)]
    house.assert_in_step("Lead")
