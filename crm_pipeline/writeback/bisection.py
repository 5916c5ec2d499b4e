"""Finding the records over which the CRM fails, so that the others get through.

A call that fails as a whole, because code in the CRM broke or would not even read it, may be the
fault of one record out of 200; so may one that refuses every record with the same broken code. It
is sent again in halves, and the failing half in halves again:
199 records get through with sixteen calls more. Sending twice is safe: every write is idempotent.

Belongs here: the search. Does not belong here: what a failure of the CRM as a whole means
(sending.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from crm_pipeline.errors import (
    CrmPipelineError,
    FailedMidway,
    ObjectUnavailable,
    PermanentError,
)
from crm_pipeline.model.writeback import Outcome, Verdict, WriteRow

MOST_POISONED = 4
"""So many records of a batch are looked for; if more fail, it is the CRM and not the records."""

Send = Callable[[tuple[WriteRow, ...]], tuple[Outcome, ...]]


@dataclass(slots=True)
class Sifted:
    """What a batch came to.

    Attributes:
        answered: rows with their outcomes.
        unanswered: rows of which nobody knows; the CRM fails over everything.
        problem: the last failure, if there are any of those.
    """

    answered: list[tuple[WriteRow, Outcome]] = field(default_factory=list)
    unanswered: list[WriteRow] = field(default_factory=list)
    problem: CrmPipelineError | None = None


def sift(rows: Sequence[WriteRow], send: Send) -> Sifted:
    """Send rows, and where a call fails as a whole, find the ones that are to blame.

    Raises:
        TransientError: no answer came, which is nobody's fault.
        NotAccepted: nothing can be sent now.
        ObjectUnavailable: no record of the object can be written.
    """
    found = Sifted()
    depth = max(1, (len(rows) - 1).bit_length())
    calls, calls_in_vain, got_through = 0, 0, False
    ahead = [tuple(rows)]
    while ahead:
        batch = ahead.pop()
        if calls > 2 * MOST_POISONED * depth or (calls_in_vain > 2 * depth and not got_through):
            found.unanswered.extend(batch)
            continue
        calls += 1
        try:
            outcomes = send(batch)
        except ObjectUnavailable:
            raise
        except (FailedMidway, PermanentError) as error:
            found.problem = error
            outcomes = tuple(_blamed(error) for _ in batch)
        is_whole = all(outcome.is_contagious for outcome in outcomes)
        calls_in_vain += is_whole
        got_through = got_through or not is_whole
        if is_whole and len(batch) > 1:
            middle = len(batch) // 2
            ahead += [batch[middle:], batch[:middle]]
        else:
            found.answered.extend(zip(batch, outcomes, strict=True))
        last = outcomes[0]
    if got_through or len(rows) == 1:
        return found
    if isinstance(found.problem, FailedMidway):
        return Sifted([], list(rows), found.problem)
    # Every record alike is refused: that passes when somebody mends what is wrong with them all.
    waiting = replace(last, verdict=Verdict.WAIT)
    return Sifted([(row, waiting) for row in rows])


def _blamed(error: CrmPipelineError) -> Outcome:
    if isinstance(error, FailedMidway):
        return Outcome(
            Verdict.RETRY,
            is_contagious=True,
            code="FAILED_MIDWAY",
            reason="The CRM fails whenever this record is written.",
            remedy="Ask the administrator for the error of the trigger or flow, then requeue.",
        )
    return Outcome(
        Verdict.PARK,
        is_contagious=True,
        code="REFUSED_WHOLE",
        reason=str(error),
        remedy="Mend what the reason names, then requeue.",
    )
