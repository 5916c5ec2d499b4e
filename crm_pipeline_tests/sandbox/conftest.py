"""An org with a clock of its own, and the same served over HTTP.

Belongs here: what several of the sandbox org's tests share. Does not belong here: assertions.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from crm_pipeline.sandbox.salesforce.clock import OrgClock
from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.running import RunningOrg, running
from crm_pipeline_tests.sandbox.client import Client

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.fixture
def noon_org() -> Iterator[SandboxOrg]:
    sandbox = SandboxOrg(clock=OrgClock(NOON))
    yield sandbox
    sandbox.close()


@pytest.fixture
def served(noon_org: SandboxOrg) -> Iterator[RunningOrg]:
    with running(noon_org, bulk_page_records=7) as running_org:
        yield running_org


@pytest.fixture
def client(served: RunningOrg) -> Iterator[Client]:
    made = Client(served)
    yield made
    made.http.close()
