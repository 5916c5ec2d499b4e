"""What Salesforce computes by itself on standard objects: names from their parts, open or won.

Belongs here: formulas of standard fields and the stage and status tables they read.
Does not belong here: the fields that carry them (standard_objects_*.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crm_pipeline.sandbox.salesforce.org import SandboxOrg


@dataclass(frozen=True, slots=True)
class Stage:
    """One opportunity stage: how likely it is and where it stands in the forecast."""

    name: str
    probability: int
    forecast: str
    closed: bool = False
    won: bool = False


STAGES = (
    Stage("Prospecting", 10, "Pipeline"),
    Stage("Qualification", 10, "Pipeline"),
    Stage("Needs Analysis", 20, "Pipeline"),
    Stage("Value Proposition", 50, "Pipeline"),
    Stage("Id. Decision Makers", 60, "Pipeline"),
    Stage("Perception Analysis", 70, "Pipeline"),
    Stage("Proposal/Price Quote", 75, "Best Case"),
    Stage("Negotiation/Review", 90, "Commit"),
    Stage("Closed Won", 100, "Closed", closed=True, won=True),
    Stage("Closed Lost", 0, "Omitted", closed=True),
)
"""The stages a new org is born with, in selling order."""

STAGE_BY_NAME = {one.name: one for one in STAGES}
CASE_STATUSES = ("New", "Working", "Escalated", "Closed")
TASK_STATUSES = (
    "Not Started",
    "In Progress",
    "Completed",
    "Waiting on someone else",
    "Deferred",
)


def person_name(record: Mapping[str, Any], _org: "SandboxOrg") -> str | None:
    """First and last name in one, as Lead.Name, Contact.Name and User.Name show it."""
    parts = (record.get("FirstName"), record.get("LastName"))
    return " ".join(one for one in parts if one) or None


def stage_is_closed(record: Mapping[str, Any], _org: "SandboxOrg") -> bool:
    """Whether the opportunity's stage ends it; an unknown stage does not."""
    stage = STAGE_BY_NAME.get(record.get("StageName") or "")
    return stage is not None and stage.closed


def stage_is_won(record: Mapping[str, Any], _org: "SandboxOrg") -> bool:
    """Whether the opportunity's stage is a victory."""
    stage = STAGE_BY_NAME.get(record.get("StageName") or "")
    return stage is not None and stage.won


def forecast_category(record: Mapping[str, Any], _org: "SandboxOrg") -> str:
    """Where the opportunity stands in the forecast."""
    stage = STAGE_BY_NAME.get(record.get("StageName") or "")
    return "Pipeline" if stage is None else stage.forecast


def expected_revenue(record: Mapping[str, Any], _org: "SandboxOrg") -> Decimal | None:
    """Amount times probability, to the cent; nothing while there is no amount."""
    amount = record.get("Amount")
    if amount is None:
        return None
    share = Decimal(str(record.get("Probability") or 0)) / 100
    return (Decimal(str(amount)) * share).quantize(Decimal("0.01"), ROUND_HALF_UP)


def fiscal_year(record: Mapping[str, Any], _org: "SandboxOrg") -> int | None:
    """The year of the close date; this org's fiscal year is the calendar's."""
    close = record.get("CloseDate")
    return int(str(close)[:4]) if close else None


def fiscal_quarter(record: Mapping[str, Any], _org: "SandboxOrg") -> int | None:
    """The quarter of the close date."""
    close = record.get("CloseDate")
    return (int(str(close)[5:7]) + 2) // 3 if close else None


def case_is_closed(record: Mapping[str, Any], _org: "SandboxOrg") -> bool:
    """Whether the case's status ends it."""
    return record.get("Status") == "Closed"


def task_is_closed(record: Mapping[str, Any], _org: "SandboxOrg") -> bool:
    """Whether the task is done."""
    return record.get("Status") == "Completed"


def member_has_responded(record: Mapping[str, Any], _org: "SandboxOrg") -> bool:
    """Whether the campaign member's status counts as a response."""
    return record.get("Status") == "Responded"
