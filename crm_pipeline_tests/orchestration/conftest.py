"""A small org, its warehouse, and the location that Dagster would load for them.

Belongs here: what several tests of the Dagster room share. Does not belong here: assertions.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from crm_pipeline.config.load import load_settings
from crm_pipeline.config.settings import Settings
from crm_pipeline.definitions import build_definitions
from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.people import seed_org
from crm_pipeline.sandbox.salesforce.running import running
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline_tests.house import House

OBJECTS: dict[str, Any] = {
    "Lead": {
        "fields": [
            *("FirstName", "LastName", "Email", "Company", "Status", "IsConverted"),
            *("ConvertedContactId", "OwnerId", "HasOptedOutOfEmail", "CreatedDate"),
        ]
    },
    "Contact": {"fields": ["FirstName", "LastName", "Email", "AccountId"]},
    "Account": {"fields": ["Name", "Type"]},
}


# Dagster's own habits; ours stay errors.
_OF_DAGSTER = (
    "ignore::DeprecationWarning:dagster_shared.dagster_model.pydantic_compat_layer",
    "ignore:Property `ScheduleDefinition.environment_vars` is deprecated:DeprecationWarning",
)
_FOLDER = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let pass what Dagster warns about in its own code."""
    for item in items:
        if _FOLDER in item.path.parents:
            for line in _OF_DAGSTER:
                item.add_marker(pytest.mark.filterwarnings(line))


@pytest.fixture
def house(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """A sandbox org with some 300 records, three objects of it synced, and no models."""
    org = SandboxOrg()
    seed_org(org, records=300)
    with running(org) as served:
        made = House(org, served, tmp_path, database_url, monkeypatch)
        made.configure(version=1, objects=OBJECTS, marketing={"enabled": False})
        yield made
    org.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of an installation that nobody runs: for everything that needs no data."""
    file = tmp_path / "crm_sync.yaml"
    file.write_text(
        "version: 1\n"
        "objects:\n"
        "  Lead: {fields: [Email]}\n"
        "  Account: {fields: [Name], table: companies}\n"
        "  Task: {fields: [Subject], enabled: false}\n"
        "marketing: {enabled: false}\n"
    )
    return load_settings(file)


@pytest.fixture
def quiet(
    settings: Settings, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Warehouse:
    """An installation with a warehouse and no CRM that answers: enough for ticks."""
    monkeypatch.setenv("CRM_PIPELINE_CONFIG", str(tmp_path / "crm_sync.yaml"))
    monkeypatch.setenv("CRM_PIPELINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CRM_PIPELINE_DATABASE_URL", database_url)
    return Warehouse(database_url, crm_schema=settings.crm.type)


@pytest.fixture(scope="session")
def _memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path_factory.mktemp("dagster"))) as persistent:
        yield persistent


@pytest.fixture
def instance(_memory: dg.DagsterInstance) -> dg.DagsterInstance:
    """Dagster's memory, emptied; in files, because ticks open it anew."""
    _memory.wipe()
    return _memory


class Dagster:
    """Runs jobs of a house's location in this process."""

    def __init__(self, house: House, instance: dg.DagsterInstance) -> None:
        self.house = house
        self.instance = instance
        self.home = house.folder / "home"
        self._by_settings: dict[str, dg.Definitions] = {}

    def location(self) -> dg.Definitions:
        """The location as it would be loaded now; once per state of the settings file."""
        text = self.house.settings_file.read_text()
        if text not in self._by_settings:
            settings = load_settings(self.house.settings_file)
            self._by_settings[text] = build_definitions(settings, home=self.home)
        return self._by_settings[text]

    def run(
        self, job: str, config: Any = None, partition: str | None = None
    ) -> dg.ExecuteInProcessResult:
        """Launch a job and wait for it; whether it succeeded is the test's business."""
        return (
            self.location()
            .resolve_job_def(job)
            .execute_in_process(
                run_config=config,
                partition_key=partition,
                instance=self.instance,
                raise_on_error=False,
            )
        )

    def window(self) -> str:
        """The newest window of changes."""
        windows = self.location().resolve_job_def("differential_sync").partitions_def
        assert windows is not None
        newest = windows.get_last_partition_key()
        assert newest is not None
        return newest


@pytest.fixture
def dagster(house: House, instance: dg.DagsterInstance) -> Dagster:
    """The house's Dagster."""
    return Dagster(house, instance)
