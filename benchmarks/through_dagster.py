"""What Dagster adds: a process that loads it, and the way through its queue.

Belongs here: syncs that are asked for as people and schedules do it. Does not belong here: the
engine alone (scenarios.py).
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import requests
from figures import Figure
from scenarios import seconds
from workbench import median

CLI = (sys.executable, "-m", "crm_pipeline.cli.main")
_PORT = "3900"
_LAUNCH = """mutation($facts: ExecutionParams!) { launchPipelineExecution(executionParams: $facts)
{ ... on LaunchRunSuccess { run { runId } } } }"""
_LOOK = (
    """query($run: ID!) { runOrError(runId: $run) { ... on Run { status startTime endTime } } }"""
)


def through_dagster(folder: Path) -> Iterator[Figure]:
    """A full sync by the command line, and empty differentials through the queue."""
    started = time.monotonic()
    whole = (*CLI, "sync", "full", "--restart", "--json")
    process = subprocess.Popen(whole, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    taken = time.monotonic() - started
    if status:
        raise SystemExit("crm-pipeline sync full failed")
    what = "crm-pipeline sync full, nothing changed"
    yield Figure(what, seconds(taken), detail="with Dagster, and the org's own work")
    yield Figure("peak memory with Dagster loaded", f"{usage.ru_maxrss * 1024 / 1e6:,.0f} MB")
    with _services(folder) as address:
        ticks = [_queued_differential(address) for _ in range(4)][1:]
    request, run = (median([tick[n] for tick in ticks]) for n in (0, 1))
    yield Figure(
        "empty differential, request to green",
        seconds(request),
        detail=f"the run alone {seconds(run)}",
    )


@contextmanager
def _services(folder: Path) -> Iterator[str]:
    """The UI, the daemon and the code server, as `crm-pipeline up` starts them."""
    process = subprocess.Popen(
        [*CLI, "up", "--port", _PORT], stderr=subprocess.PIPE, text=True, cwd=folder
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


def _queued_differential(address: str) -> tuple[float, float]:
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
