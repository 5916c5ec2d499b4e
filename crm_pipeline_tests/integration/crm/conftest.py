"""A sandbox org with enough leads for several pages, and a connector to it.

Belongs here: what the connector's tests share. Does not belong here: assertions.
"""

from collections.abc import Iterator

import pytest
import stamina

from crm_pipeline.crm.salesforce.connector import SalesforceConnector
from crm_pipeline.model.objects import CrmObject
from crm_pipeline.sandbox.salesforce.clock import OrgClock
from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.people import seed_org
from crm_pipeline.sandbox.salesforce.running import RunningOrg, running
from crm_pipeline_tests.integration.crm.asking import NOON, Connections


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    """Repetitions follow each other at once, as many as in earnest."""
    stamina.set_testing(True, attempts=6, cap=True)
    yield
    stamina.set_testing(False)


@pytest.fixture(scope="module")
def crowd() -> Iterator[SandboxOrg]:
    """An org that tests of a module share and do not change: 4,500 leads, all awkward ones."""
    org = SandboxOrg(clock=OrgClock(NOON))
    seed_org(org, records=600)
    rows = [
        {"LastName": f"Crowd {number}", "Company": "Crowd", "Email": f"c{number}@crowd.example"}
        for number in range(4500 - org.count("Lead", include_deleted=True))
    ]
    org.create_many("Lead", rows)
    deleted = org.query("SELECT Id FROM Lead WHERE Company = 'Crowd' LIMIT 3")
    for row in deleted:
        org.delete("Lead", row["Id"])
    yield org
    org.close()


@pytest.fixture
def served(crowd: SandboxOrg) -> Iterator[RunningOrg]:
    """The crowd over HTTP, with pages of a thousand records where Bulk chooses the size."""
    with running(crowd, bulk_page_records=1000) as running_org:
        yield running_org


@pytest.fixture
def small() -> Iterator[RunningOrg]:
    """An org that a test may change: few leads, all awkward ones."""
    org = SandboxOrg(clock=OrgClock(NOON))
    seed_org(org, records=20)
    with running(org) as running_org:
        yield running_org
    org.close()


@pytest.fixture
def connections() -> Iterator[Connections]:
    """Makes connectors and closes them."""
    made = Connections()
    yield made
    made.close()


@pytest.fixture
def connector(served: RunningOrg, connections: Connections) -> SalesforceConnector:
    """Connected to the crowd."""
    return connections.to(served)


@pytest.fixture
def lead(connector: SalesforceConnector) -> CrmObject:
    """Lead as described."""
    return connector.describe("Lead")
