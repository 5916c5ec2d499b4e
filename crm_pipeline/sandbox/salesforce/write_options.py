"""What the headers of a write ask for: duplicates allowed, an assignment rule, a client's name.

Belongs here: reading these headers. Does not belong here: what they change (rules.py,
owners.py, duplicates.py), conditions on a record's age (conditional.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass

DUPLICATES = "sforce-duplicate-rule-header"
ASSIGNMENT = "sforce-auto-assign"
CALL_OPTIONS = "sforce-call-options"


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """How a write is to be carried out.

    `assignment` is TRUE (the active rules decide on the owner), FALSE, or the Id of one rule.
    """

    allow_save: bool = False
    record_details: bool = False
    assignment: str = "TRUE"
    client: str = ""


def options_of(headers: Mapping[str, str]) -> WriteOptions:
    """The options that a request's headers name; without any, REST runs the active rules."""
    duplicates = _pairs(headers.get(DUPLICATES, ""))
    assignment = headers.get(ASSIGNMENT, "TRUE").strip()
    if assignment.upper() in {"TRUE", "FALSE"}:
        assignment = assignment.upper()
    return WriteOptions(
        allow_save=duplicates.get("allowsave") == "true",
        record_details=duplicates.get("includerecorddetails") == "true",
        assignment=assignment,
        client=_pairs(headers.get(CALL_OPTIONS, "")).get("client", ""),
    )


def _pairs(text: str) -> dict[str, str]:
    """`allowSave=true; runAsCurrentUser=true`, parted by commas or semicolons."""
    parts = (one.partition("=") for one in text.replace(";", ",").split(","))
    return {name.strip().lower(): value.strip().lower() for name, _, value in parts if name.strip()}
