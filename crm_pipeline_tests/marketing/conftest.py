"""Fixtures of the marketing models: a warehouse that a test fills by hand, and dbt over it.

Belongs here: what several tests of the models share. Does not belong here: assertions.
"""

from pathlib import Path

import pytest

from crm_pipeline_tests.marketing.synthetic import SyntheticWarehouse


@pytest.fixture(scope="session")
def parsed_projects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where dbt writes: a project is parsed once per process, not once per test."""
    return tmp_path_factory.mktemp("dbt")


@pytest.fixture
def synthetic(database_url: str, parsed_projects: Path) -> SyntheticWarehouse:
    """A warehouse with empty typed tables of all objects, in which nothing has been built."""
    made = SyntheticWarehouse(database_url, parsed_projects)
    made.create_tables()
    return made
