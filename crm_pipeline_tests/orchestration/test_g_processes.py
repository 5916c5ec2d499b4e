"""Cases G5 and F11 with real processes: what is killed, stopped or crashes frees what it held."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import psycopg
import pytest
import requests

from crm_pipeline.defs.resources import WORKER_TAG
from crm_pipeline_tests.house import House

COMMAND = [sys.executable, "-m", "crm_pipeline.cli.main"]
LEASE_MUST_BE_FREE = 60.0
"""Seconds after the death of its holder; promised by the contract."""
MUST_STOP_WITHIN = 30.0
_JOB = (
    'selector: {repositoryLocationName: "crm_pipeline", repositoryName: "__repository__", '
    'jobName: "full_sync"}, runConfigData: "{}"'
)
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def slow(house: House) -> Iterator[House]:
    """A house whose org answers the second page of leads after ten minutes."""
    house.served.server.settings.bulk_page_records = 40
    lead = {**house.settings["objects"]["Lead"], "transport": "bulk"}
    house.configure(objects={"Lead": lead}, reference_data=False, crm={"read_streams": 1})
    hang(house)
    yield house
    with psycopg.connect(house.database_url, autocommit=True) as connection:
        name = f"{connection.info.dbname}_dagster"
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())


def hang(house: House) -> None:
    """The second page that is asked for from now on does not come."""
    house.served.server.faults.clear()
    house.served.server.faults.script(
        [{"kind": "hang", "seconds": 600, "path": "*/results*", "nth": 2, "times": 1}]
    )


def wait_until(what: str, is_so: Callable[[], Any], seconds: float = 120) -> float:
    """Wait for a condition; how long it took."""
    begun = time.monotonic()
    while not is_so():
        if time.monotonic() - begun > seconds:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.1)
    return time.monotonic() - begun


class Ui:
    """What a person does in the UI."""

    def __init__(self, address: str) -> None:
        self.address = address

    def ask(self, query: str) -> dict[str, Any]:
        answer = requests.post(f"{self.address}/graphql", json={"query": query}, timeout=30)
        return dict(answer.json()["data"])

    def launch(self) -> str:
        found = self.ask(
            f"mutation {{launchRun(executionParams: {{{_JOB}}})"
            " {... on LaunchRunSuccess {run {runId}} ... on PythonError {message}}}"
        )
        return str(found["launchRun"]["run"]["runId"])

    def cancel(self, run_id: str) -> None:
        self.ask(f'mutation {{terminateRun(runId: "{run_id}") {{__typename}}}}')

    def run(self, run_id: str) -> dict[str, Any]:
        facts = "{... on Run {status tags {key value}}}"
        return dict(self.ask(f'{{runOrError(runId: "{run_id}") {facts}}}')["runOrError"])

    def status(self, run_id: str) -> str:
        return str(self.run(run_id)["status"])

    def worker(self, run_id: str) -> int | None:
        tags = {tag["key"]: tag["value"] for tag in self.run(run_id)["tags"]}
        return int(tags[WORKER_TAG].split(":")[2]) if WORKER_TAG in tags else None

    def succeeded_since(self, run_id: str) -> bool:
        """Whether the run's retry is done."""
        runs = self.ask(
            "{runsOrError(filter: {statuses: [SUCCESS]}) {... on Runs {results {rootRunId}}}}"
        )
        return run_id in {run["rootRunId"] for run in runs["runsOrError"]["results"]}


@contextmanager
def up(house: House) -> Iterator[tuple[Ui, subprocess.Popen[str]]]:
    """`crm-pipeline up`, ready."""
    services = subprocess.Popen(
        [*COMMAND, "up", "--port", "3800"], stderr=subprocess.PIPE, text=True, cwd=house.folder
    )
    assert services.stderr is not None
    told: list[str] = []
    try:
        for line in services.stderr:
            told.append(line)
            if found := re.search(r"UI is at (http://\S+)", line):
                yield Ui(found[1]), services
                break
        else:
            raise AssertionError("".join(told))
    finally:
        services.send_signal(signal.SIGINT)
        services.communicate(timeout=60)


def is_free(house: House) -> bool:
    """Whether nobody owns the leads."""
    held = "SELECT 1 FROM crm_sync.lease WHERE owner IS NOT NULL AND expires_at > now()"
    return not house.query(held)


def has_landed_a_page(house: House) -> bool:
    """Whether the sync is at its second page, which does not come."""
    return bool(house.query("SELECT 1 FROM crm_sync.checkpoint"))


def test_f11_g5_a_run_that_is_cancelled_or_whose_worker_is_killed_frees_its_lease_and_goes_on(
    slow: House,
) -> None:
    house = slow
    with up(house) as (ui, _):
        cancelled = ui.launch()
        wait_until("a page has landed", lambda: has_landed_a_page(house))
        ui.cancel(cancelled)
        wait_until(
            "the run has stopped", lambda: ui.status(cancelled) == "CANCELED", MUST_STOP_WITHIN
        )
        assert is_free(house)
        assert house.query("SELECT status FROM crm_sync.sync_run") == [("interrupted",)]

        hang(house)
        killed = ui.launch()
        wait_until("the run goes on", lambda: ui.worker(killed) and not is_free(house))
        wait_until(
            "more pages have landed", lambda: not is_free(house) and has_landed_a_page(house)
        )
        worker = ui.worker(killed)
        assert worker is not None
        house.served.server.faults.clear()
        os.kill(worker, signal.SIGKILL)
        wait_until("the run has ended", lambda: ui.status(killed) == "FAILURE", LEASE_MUST_BE_FREE)
        wait_until("its retry is done", lambda: ui.succeeded_since(killed))
    house.assert_in_step("Lead")
    assert house.query("SELECT count(*) FROM crm_sync.sync_run") == [(1,)], "it went on, twice"


@pytest.mark.long
def test_g5_after_a_crash_of_everything_the_ghost_run_is_ended_and_the_next_one_works(
    slow: House,
) -> None:
    house = slow
    with up(house) as (ui, services):
        ghost = ui.launch()
        wait_until("a page has landed", lambda: has_landed_a_page(house))
        family = psutil.Process(services.pid).children(recursive=True)
        services.kill()
        for one in family:
            one.kill()
    crashed = time.monotonic()
    house.served.server.faults.clear()
    wait_until("the lease is free", lambda: is_free(house), LEASE_MUST_BE_FREE)
    with up(house) as (ui, _):
        assert ui.status(ghost) in {"STARTED", "FAILURE"}
        wait_until("the reaper has ended it", lambda: ui.status(ghost) == "FAILURE")
        assert time.monotonic() - crashed < 180
        wait_until("its retry is done", lambda: ui.succeeded_since(ghost))
    house.assert_in_step("Lead")


def test_f11_a_command_that_is_terminated_stops_frees_its_lease_and_goes_on(slow: House) -> None:
    house = slow
    command = subprocess.Popen(
        [*COMMAND, "sync", "full"], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    wait_until("a page has landed", lambda: has_landed_a_page(house))
    command.send_signal(signal.SIGTERM)
    told, _ = command.communicate(timeout=MUST_STOP_WITHIN)
    assert command.returncode != 0
    assert "Traceback" not in told
    assert is_free(house)
    assert house.query("SELECT status FROM crm_sync.sync_run") == [("interrupted",)]
    house.served.server.faults.clear()
    again = subprocess.run([*COMMAND, "sync", "full"], capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    house.assert_in_step("Lead")
    assert house.query("SELECT count(*) FROM crm_sync.sync_run") == [(1,)]
