"""REST or Bulk, by what a read would cost, with the reason in a sentence for the ledger.

Belongs here: the thresholds. Does not belong here: how either transport works (rest.py, bulk.py).

REST reads up to 2,000 records with one call. A Bulk job needs about six calls whatever its size,
and some seconds until it begins; its pages then come as bytes that nobody has to parse.
"""

from collections.abc import Callable
from dataclasses import dataclass

from crm_pipeline.crm.port import ReadRequest
from crm_pipeline.crm.salesforce.bulk import CALLS_FOR_A_JOB
from crm_pipeline.crm.salesforce.failures import QueryTimedOut, QueryTooLong
from crm_pipeline.crm.salesforce.rest import PAGE_RECORDS, Answer, fits_into_an_address
from crm_pipeline.model.objects import Transport

MOST_CHANGES_BY_REST = 20_000  # ten calls; beyond, Bulk is cheaper and quicker
MOST_RECORDS_BY_REST = 2_000  # one call
_TOO_SLOW = "Bulk: Salesforce takes too long to count the records"
_TOO_LONG = "Bulk: the query is too long for REST"
_SHOWN = {Transport.REST: "REST", Transport.BULK: "Bulk"}


@dataclass(frozen=True, slots=True)
class Choice:
    """A transport with its reason, and the REST answer that was needed to choose."""

    transport: Transport
    reason: str
    first: Answer | None = None


def choose(
    request: ReadRequest, begin_rest: Callable[[], Answer], count: Callable[[], int]
) -> Choice:
    """The transport for a request; costs the one call whose answer decides, or none.

    Args:
        request: what is to be read.
        begin_rest: asks REST for the first page. With few changes that is the whole read already.
        count: asks how many records there are. Reading everything, a first page would mostly be
            thrown away.
    """
    if request.only_transport is not Transport.AUTO:
        shown = _SHOWN[request.only_transport]
        return Choice(request.only_transport, f"{shown}: the settings demand it")
    if not fits_into_an_address(request):
        return Choice(Transport.BULK, _TOO_LONG)
    if request.record_ids is not None:
        return Choice(Transport.REST, "REST: single records are asked for")
    try:
        if request.changed_since is None:
            return _for_all(count())
        return _for_changes(begin_rest())
    except (QueryTooLong, QueryTimedOut) as refused:
        is_slow = isinstance(refused, QueryTimedOut)
        return Choice(Transport.BULK, _TOO_SLOW if is_slow else _TOO_LONG)


def _for_changes(first: Answer) -> Choice:
    calls = _calls(first.total)
    if first.total <= MOST_CHANGES_BY_REST:
        return Choice(
            Transport.REST,
            f"REST: {first.total:,} changed {_plural(first.total, 'record')} in {calls} "
            f"{_plural(calls, 'call')}; Bulk needs about {CALLS_FOR_A_JOB}",
            first,
        )
    return Choice(
        Transport.BULK,
        f"Bulk: {first.total:,} changed records would take {calls} REST calls; Bulk needs about "
        f"{CALLS_FOR_A_JOB}",
    )


def _for_all(total: int) -> Choice:
    if total <= MOST_RECORDS_BY_REST:
        return Choice(
            Transport.REST,
            f"REST: all {total:,} {_plural(total, 'record')} in one call; Bulk needs about "
            f"{CALLS_FOR_A_JOB}",
        )
    return Choice(
        Transport.BULK,
        f"Bulk: all {total:,} records are more than the {MOST_RECORDS_BY_REST:,} of one REST call; "
        "Bulk streams them",
    )


def _calls(total: int) -> int:
    return max(1, -(-total // PAGE_RECORDS))


def _plural(count: int, word: str) -> str:
    return word if count == 1 else f"{word}s"
