"""Fixtures of the marketing models: a warehouse that a test fills by hand, and dbt over it.

Belongs here: what several tests of the models share. Does not belong here: assertions.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from crm_pipeline_tests.conftest import new_database
from crm_pipeline_tests.marketing.golden.month import (
    AFTER,
    BEFORE,
    GoldenMonth,
    with_golden_rules,
)
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


@pytest.fixture(scope="session")
def golden_months(
    database_server: str,
    _migrated_template: str,
    parsed_projects: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, GoldenMonth]]:
    """The golden month as it was at each of its two builds; only to be read."""
    project = with_golden_rules(tmp_path_factory.mktemp("golden"))

    def month(template: str) -> GoldenMonth:
        url = stack.enter_context(new_database(database_server, template=template))
        return GoldenMonth(SyntheticWarehouse(url, parsed_projects), project)

    with ExitStack() as stack:
        before = month(_migrated_template)
        before.warehouse.create_tables()
        before.prepare()
        before.load("1")
        before.build(BEFORE)
        after = month(before.database)
        after.prepare()
        after.load("2")
        after.build(AFTER, tests=True)
        yield {"before": before, "after": after}


@pytest.fixture(scope="session")
def golden_before(golden_months: dict[str, GoldenMonth]) -> GoldenMonth:
    """The month after its first portion, built on 24 March; only to be read."""
    return golden_months["before"]


@pytest.fixture(scope="session")
def golden_month(golden_months: dict[str, GoldenMonth]) -> GoldenMonth:
    """The whole month, built on 24 March and again on 1 April; only to be read."""
    return golden_months["after"]
