"""What is measured: leads, a very wide object and a very narrow one, of any number.

Belongs here: objects, their rows, and how some of them are changed. Does not belong here: serving
them (org_process.py).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from crm_pipeline.sandbox.salesforce.custom_objects import custom_object, invented_rows
from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.people import lead_rows

Row = dict[str, Any]
CALCULATED = "Lead_Score__c"
_PATTERNS = 1_000  # different rows of a made-up object; drawing 300 values for each takes hours


@dataclass(frozen=True)
class Subject:
    """An object to measure.

    Attributes:
        numbered: a text field that ends in the row's number, so that a share can be picked evenly.
        changed: a text field that an edit changes.
    """

    name: str
    fields: tuple[str, ...]
    numbered: str
    changed: str
    found: Callable[[SandboxOrg], None]
    rows: Callable[[SandboxOrg, int], Iterator[Row]]

    def fill(self, org: SandboxOrg, records: int) -> None:
        """Put so many records into an org; in portions, for the org hands back their ids."""
        self.found(org)
        rows = self.rows(org, records)
        while portion := list(islice(rows, 20_000)):
            org.create_many(self.name, portion)

    def matching(self, percent: int) -> str:
        """A condition that picks so many of a hundred records, spread over the whole table."""
        endings = [f"{self.numbered} LIKE '%{(37 * n) % 100:02}'" for n in range(percent)]
        return f"WHERE ({' OR '.join(endings)})"


def _leads(org: SandboxOrg) -> None:
    # Stored, so that the org answers quickly, but described as a formula, so that it is refreshed.
    org.retype_field("Lead", CALCULATED, calculated=True)


def _made_up(name: str, fields: int) -> Subject:
    def found(org: SandboxOrg) -> None:
        org.add_object(custom_object(org, name, fields=fields - 1))

    def rows(org: SandboxOrg, count: int) -> Iterator[Row]:
        patterns = list(invented_rows(org.catalogue.object(name), _PATTERNS))
        for number in range(count):
            yield patterns[number % _PATTERNS] | {"Name": f"Row {number:08}"}

    names = ("Name", *(f"F{place:03}__c" for place in range(fields - 1)))
    return Subject(name, names, "Name", "F000__c", found, rows)


LEADS = Subject(
    "Lead",
    tuple(next(iter(lead_rows(1)))),
    "External_Key__c",
    "Title",
    _leads,
    lambda _org, count: lead_rows(count),
)
WIDE = _made_up("Wide__c", 300)
NARROW = _made_up("Narrow__c", 5)
SUBJECTS = {subject.name: subject for subject in (LEADS, WIDE, NARROW)}
