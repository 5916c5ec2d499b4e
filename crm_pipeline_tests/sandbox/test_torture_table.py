"""Every row of the torture table in the how-to works, over HTTP and in Python."""

import re
from pathlib import Path

import pytest
import requests

from crm_pipeline.sandbox.salesforce.custom_objects import custom_object
from crm_pipeline.sandbox.salesforce.faults import OUTCOME_UNKNOWN, Fault, RowFault
from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.rule_kinds import (
    ApprovalLock,
    Automation,
    Duplicate,
    Poison,
    Validation,
)
from crm_pipeline.sandbox.salesforce.running import RunningOrg
from crm_pipeline.sandbox.salesforce.schema import FieldDefinition

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "sandbox-org.md"
TABLE = PAGE.read_text().partition("## The torture table")[2].partition("\n## ")[0]
ROWS = [line.strip("| ").split(" | ") for line in TABLE.splitlines() if line.startswith("| ")][1:]
POSTS = re.compile(r"`(/sandbox/\w+)`(?: `(\{[^`]*\})`)?")


@pytest.fixture
def lead(noon_org: SandboxOrg) -> str:
    return noon_org.create("Lead", {"LastName": "Doe", "Company": "Acme", "LeadSource": "Web"})


def test_the_table_has_a_row_for_every_trap() -> None:
    assert len(ROWS) > 60
    assert all(len(row) == 3 for row in ROWS)


def test_every_row_works_over_http(served: RunningOrg, lead: str) -> None:
    for trap, posts, _ in ROWS:
        for path, body in POSTS.findall(posts):
            sent = (body or "{}").replace('"LEAD"', f'"{lead}"')
            answer = requests.post(served.url + path, data=sent, timeout=10)
            assert answer.status_code == 200, (trap, answer.text)


def test_every_row_works_in_python(served: RunningOrg, lead: str) -> None:
    known = {
        "org": served.org,
        "served": served,
        "faults": served.server.faults,
        "lead": lead,
        "ApprovalLock": ApprovalLock,
        "Automation": Automation,
        "Duplicate": Duplicate,
        "Fault": Fault,
        "OUTCOME_UNKNOWN": OUTCOME_UNKNOWN,
        "Poison": Poison,
        "RowFault": RowFault,
        "Validation": Validation,
        "FieldDefinition": FieldDefinition,
        "custom_object": custom_object,
    }
    for trap, _, python in ROWS:
        try:
            exec(python.strip("`"), known)  # noqa: S102 - the documentation's own words
        except Exception as error:
            pytest.fail(f"{trap}: {error!r}")
