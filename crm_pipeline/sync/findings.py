"""What preflight has to say: one finding for each thing that it looked at.

Belongs here: the value and its shorthands. Does not belong here: looking (preflight.py,
preflight_writing.py), and how findings are shown (cli/).
"""

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """Whether a finding stops syncs."""

    FINE = "fine"
    NOTICE = "notice"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that preflight looked at.

    Attributes:
        subject: what was looked at: CRM, warehouse, an object, the API budget.
        sentence: what was found.
        remedy: what to do about it; empty when nothing need be done.
    """

    severity: Severity
    subject: str
    sentence: str
    remedy: str = ""


def fine(subject: str, sentence: str) -> Finding:
    """Nothing need be done."""
    return Finding(Severity.FINE, subject, sentence)


def problem(subject: str, sentence: str, remedy: str = "") -> Finding:
    """It must be mended first."""
    return Finding(Severity.PROBLEM, subject, sentence, remedy)


def notice(subject: str, sentence: str, remedy: str) -> Finding:
    """It stops nothing, and a person should know."""
    return Finding(Severity.NOTICE, subject, sentence, remedy)
