"""The table of docs/reference/write-back-statuses.md, as the code has it.

`python -m crm_pipeline_tests.docs.write_back_statuses` writes it. Belongs here: writing that table.
Does not belong here: the sentences around it (the page itself).
"""

import re
from pathlib import Path

from crm_pipeline.crm.salesforce.write_failures import MEANINGS
from crm_pipeline.model.writeback import Verdict

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "write-back-statuses.md"
_HEAD = "| code | then | means | what to do |\n|---|---|---|---|\n"
_TABLE = re.compile(r"^\| code \|.*?\n\n", re.MULTILINE | re.DOTALL)
_THEN = {
    Verdict.RETRY: "tried again",
    Verdict.WAIT: "tried again, after a quarter of an hour and more",
    Verdict.PARK: "parked",
    Verdict.GONE: "followed if it was merged, else parked",
    Verdict.CONVERTED: "followed to the contact, else parked",
    Verdict.DUPLICATE: "parked, or linked",
}


def table() -> str:
    """Every status code that we know."""
    rows = (
        f"| `{code}` | {_THEN[one.verdict]} | {one.reason} | {one.remedy} |\n"
        for code, one in sorted(MEANINGS.items())
    )
    return _HEAD + "".join(rows) + "\n"


def with_table(page: str) -> str:
    """The page with its table as the code has it now."""
    return _TABLE.sub(lambda _: table(), page, count=1)


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
