"""What makes a query too much for the org: its length, and the rows it would have to go through.

Belongs here: limits of one query. Does not belong here: those of a day (limits.py).
"""

from typing import TYPE_CHECKING

from crm_pipeline.sandbox.salesforce.failures import OrgError
from crm_pipeline.sandbox.salesforce.soql_compiler import Compiled
from crm_pipeline.sandbox.salesforce.soql_tokens import malformed

if TYPE_CHECKING:
    from crm_pipeline.sandbox.salesforce.org import SandboxOrg


def check_length(soql: str, most: int) -> None:
    """Refuse a query of more characters."""
    if len(soql) > most:
        raise malformed(soql[:100], 0, f"SOQL statements can't be longer than {most}")


def check_time(org: "SandboxOrg", compiled: Compiled, rows: int) -> None:
    """Time out on a query that finds more rows than this (0: never); LIMIT bounds its work."""
    if not rows:
        return
    found = org.store.reader().execute(
        f"SELECT count(*) FROM (SELECT 1 FROM {compiled.source}{compiled.clauses}"
        f"{compiled.window or ' LIMIT -1'})",
        compiled.parameters,
    )
    if int(found.fetchone()[0]) > rows:
        raise OrgError("QUERY_TIMEOUT", "Your query request was running for too long.")
