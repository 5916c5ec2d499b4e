"""Dagster's runs in our process take no signal from us."""

import signal
from collections.abc import Iterator

import dagster as dg
import pytest

from crm_pipeline.cli.dagster_runs import signals_kept


@pytest.fixture
def _in_background() -> Iterator[None]:
    """As a shell starts a command in the background: Ctrl-C is not for it."""
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.mark.usefixtures("_in_background")
def test_what_runs_in_the_background_can_be_stopped_after_a_run_in_its_process() -> None:
    def stop(*_: object) -> None: ...

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        with signals_kept():
            assert dg.GraphDefinition("nothing").execute_in_process().success
            assert signal.getsignal(signal.SIGTERM) is not stop, "else there is nothing to keep"
        assert signal.getsignal(signal.SIGTERM) is stop
    finally:
        signal.signal(signal.SIGTERM, previous)
