"""One small org with its warehouse per test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.people import seed_org
from crm_pipeline.sandbox.salesforce.running import running
from crm_pipeline_tests.house import House, all_objects


@pytest.fixture
def house(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """A sandbox org with 600 records, and settings that map every object of it."""
    org = SandboxOrg()
    seed_org(org, records=600)
    with running(org) as served:
        made = House(org, served, tmp_path, database_url, monkeypatch)
        made.configure(version=1, objects=all_objects())
        yield made
    org.close()
