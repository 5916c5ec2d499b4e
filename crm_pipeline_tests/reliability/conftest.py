"""A server that may be crashed, and a warm server of victims, for each test process."""

from collections.abc import Iterator

import pytest
import stamina

from crm_pipeline_tests.reliability.lab import Lab, lab
from crm_pipeline_tests.reliability.server import ProofServer, proof_server
from crm_pipeline_tests.reliability.victims import ATTEMPTS, Victims, victims


@pytest.fixture(scope="session")
def crashable_server() -> Iterator[ProofServer]:
    """A PostgreSQL of the proofs' own."""
    with proof_server() as server:
        yield server


@pytest.fixture(scope="session")
def warm_victims() -> Iterator[Victims]:
    """Forks a process in milliseconds."""
    with victims() as server:
        yield server


@pytest.fixture(autouse=True)
def _no_pause_before_repeating() -> Iterator[None]:
    with stamina.set_testing(True, attempts=ATTEMPTS, cap=True):
        yield


@pytest.fixture
def small_lab(crashable_server: ProofServer) -> Iterator[Lab]:
    """A new org with its warehouse."""
    with lab(crashable_server) as made:
        yield made
