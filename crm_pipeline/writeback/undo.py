"""Taking a batch back: fields get what they held before, where they still hold what we wrote.

The records are read live, so a value that somebody has changed since stays as it is. What is taken
back is not asked for again by itself until it is another value.

Belongs here: the guard, and what cannot be undone. Does not belong here: statements
(warehouse/undoing.py), sending (drain.py).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from uuid import uuid4

from crm_pipeline.crm.port import CrmConnector
from crm_pipeline.errors import UsageError
from crm_pipeline.warehouse import undoing
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.undoing import WrittenValue

RECORDS_AT_ONCE = 2_000


@dataclass(frozen=True, slots=True)
class Undone:
    """What became of an undo.

    Attributes:
        batch: of the write-backs that take the other ones back; None when there are none.
        reversed: enqueued, in fields.
        changed_since: fields that hold something else by now, or whose record is gone.
        unknown_before: fields of which nobody knows what they held.
        asked_before: fields that an earlier undo of the batch has taken back already.
        pending: rows of the batch that were not sent yet; reject or let them go.
        created: records that the batch made, each with its object; they stay.
    """

    batch: str | None
    reversed: int
    changed_since: int
    unknown_before: int
    asked_before: int
    pending: int
    created: tuple[str, ...]


def undo(
    warehouse: Warehouse,
    connector: CrmConnector,
    batch: str,
    *,
    require_enabled: Callable[[], None],
) -> Undone:
    """Enqueue what takes a batch back; `drain` sends it.

    Raises:
        UsageError: nobody knows the batch, or it ticked boxes of consent.
        SyncsDisabled: nothing moves now.
        ObjectUnavailable: the CRM hides the object by now.
        TransientError: the CRM does not answer; nothing was enqueued.
    """
    require_enabled()
    facts = undoing.batch_facts(warehouse, batch)
    if not facts.writes:
        raise UsageError(f"No write-back has the batch {batch}.")
    if facts.has_consent:
        raise UsageError(
            f"{batch} ticks boxes of people who refuse mail, and consent is never loosened by a"
            " batch. If somebody opted in: crm-pipeline consent opt-in ADDRESS --because TEXT"
        )
    written = undoing.written_values(warehouse, batch)
    untouched = list(_untouched(connector, written))
    own, waiting, known = f"{batch}-undo-{uuid4().hex[:6]}", 0, 0
    if untouched:
        with warehouse.connect() as connection:
            enqueued = undoing.enqueue_reversed(connection, batch, untouched, own)
        waiting, known = enqueued.waiting, enqueued.known
    return Undone(
        batch=own if waiting else None,
        reversed=waiting,
        changed_since=len(written) - len(untouched),
        unknown_before=facts.unknown_before,
        asked_before=known,
        pending=facts.pending,
        created=facts.created,
    )


def _untouched(connector: CrmConnector, written: Sequence[WrittenValue]) -> Iterator[int]:
    """The changes whose record still holds what was written."""
    for object_name, of_object in groupby(written, key=lambda one: one.object_name):
        crm_object = connector.describe(object_name)
        listed = list(of_object)
        for start in range(0, len(listed), RECORDS_AT_ONCE):
            chunk = listed[start : start + RECORDS_AT_ONCE]
            fields = sorted({one.field for one in chunk if crm_object.find(one.field)})
            ids = sorted({one.record_id for one in chunk})
            held = connector.retrieve(crm_object, ids, fields) if fields else {}
            for one in chunk:
                now = held.get(one.record_id)
                if (
                    now is not None
                    and one.field in now
                    and connector.same_value(crm_object, one.field, one.value, now[one.field])
                ):
                    yield one.write_id
