"""Many rows of one call, each with an outcome of its own, or all of them or none.

Belongs here: partial success, all-or-none, keys named twice in a call. Does not belong here:
one row (writer.py), the form of an answer (composites.py, ingest.py).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crm_pipeline.sandbox.salesforce.failures import BatchFails, OrgError, RequestFails
from crm_pipeline.sandbox.salesforce.write_ledger import WriteRequest

if TYPE_CHECKING:
    from crm_pipeline.sandbox.salesforce.org import SandboxOrg

Row = dict[str, Any]
Work = Callable[[Row], tuple[str, bool]]
"""Writes one row; returns the record's Id and whether it is new."""
_ROLLED_BACK = OrgError(
    "ALL_OR_NONE_OPERATION_ROLLED_BACK",
    "Record rolled back because not all records were valid and the request was using "
    "AllOrNone header",
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one row."""

    id: str = ""
    created: bool = False
    error: OrgError | None = None


class _RolledBack(Exception):
    def __init__(self, outcomes: list[Outcome]) -> None:
        super().__init__()
        self.outcomes = outcomes


def each(
    org: "SandboxOrg",
    request: WriteRequest,
    given: Sequence[Row],
    work: Work,
    *,
    all_or_none: bool = False,
) -> list[Outcome]:
    """Do each row; with all-or-none one refusal takes the others back."""
    first = len(request.rows)
    try:
        with org.transaction():
            outcomes = [_outcome(org, one, work) for one in given]
            if all_or_none and any(one.error for one in outcomes):
                raise _RolledBack(outcomes)
            return outcomes
    except _RolledBack as rolled_back:
        request.roll_back(first)
        return [one if one.error else Outcome(error=_ROLLED_BACK) for one in rolled_back.outcomes]
    except BatchFails as failure:
        for row in request.rows[first:]:
            row.outcome, row.changed = failure.code, []
        return [Outcome(error=failure)] * len(given)


def _outcome(org: "SandboxOrg", row: Row, work: Work) -> Outcome:
    try:
        with org.transaction():
            identifier, created = work(row)
            return Outcome(identifier, created)
    except (BatchFails, RequestFails):
        raise
    except OrgError as error:
        return Outcome(error=error)


def named_twice(keys: Iterable[Any]) -> set[str]:
    """The external ids that one call names more than once; Salesforce refuses all such rows."""
    counts = Counter(str(one).casefold() for one in keys if one is not None)
    return {key for key, count in counts.items() if count > 1}


def check_named_once(key: str, value: Any, twice: set[str]) -> None:
    """Refuse a row whose external id another row of the call has too."""
    if str(value).casefold() in twice:
        raise OrgError(
            "DUPLICATE_VALUE", f"Duplicate external id specified: {value}", fields=(key,)
        )
