"""Records whose owner is inactive or gone: they go once more, to the default owner.

Belongs here: that second try. Does not belong here: which refusals are about owners
(crm/<vendor>/), and who the default owner is (the settings).
"""

from dataclasses import replace

from crm_pipeline.model.writeback import Outcome, Verdict
from crm_pipeline.writeback.bisection import Send, Sifted, sift


def with_default_owner(sifted: Sifted, send: Send, *, field: str, owner: str | None) -> Sifted:
    """What a batch came to, after what was refused for its owner was given to another one.

    Args:
        sifted: what it came to first.
        send: sends rows.
        field: where a record names its owner.
        owner: the default one; None leaves everything as it is.

    Raises:
        TransientError: no answer came to the second try.
        NotAccepted: nothing can be sent now.
        ObjectUnavailable: no record of the object can be written.
    """
    refused = {row.writes: row for row, outcome in sifted.answered if outcome.needs_owner}
    if owner is None or not refused:
        return sifted
    again = sift(
        [replace(row, values={**row.values, field: owner}) for row in refused.values()], send
    )
    kept = [(row, outcome) for row, outcome in sifted.answered if row.writes not in refused]
    return Sifted(
        [*kept, *((refused[row.writes], _told(outcome)) for row, outcome in again.answered)],
        [*sifted.unanswered, *(refused[row.writes] for row in again.unanswered)],
        again.problem or sifted.problem,
    )


def _told(outcome: Outcome) -> Outcome:
    if outcome.verdict is not Verdict.APPLIED:
        return outcome
    return replace(
        outcome,
        code="DEFAULT_OWNER",
        reason="The owner was inactive or gone; the record was given to the default owner.",
    )
