"""How a portion travels: single calls or a bulk job, and which records share a call.

Belongs here: pure decisions. Does not belong here: sending (drain.py, jobs.py).
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from crm_pipeline.crm.port import WriteCapabilities
from crm_pipeline.model.objects import Transport
from crm_pipeline.model.writeback import OnDuplicate, WriteRow
from crm_pipeline.warehouse.claims import Portion


@dataclass(frozen=True, slots=True)
class Choice:
    """A transport, with the reason in a sentence for the log."""

    transport: Transport
    reason: str


def choose(portion: Portion, able: WriteCapabilities, *, most_by_calls: int) -> Choice:
    """The transport for a portion, by what it costs and what it must be able to say.

    Args:
        portion: what goes next.
        able: how much the CRM takes at once.
        most_by_calls: so many go by single calls; beyond, a job is cheaper and quicker.
    """
    calls = max(1, -(-portion.due // able.rows_per_call))
    plural = "call" if calls == 1 else "calls"
    few = f"REST: {portion.due:,} write-backs in about {calls} {plural}"
    if not able.job_rows:
        return Choice(Transport.REST, few)
    why_no_job = _why_no_job(portion)
    if why_no_job is not None:
        return Choice(Transport.REST, f"REST: {why_no_job}")
    if portion.due <= most_by_calls:
        return Choice(Transport.REST, f"{few}; a job takes about {able.calls_per_job}")
    return Choice(
        Transport.BULK,
        f"Bulk: more than {most_by_calls:,} write-backs; a job takes about"
        f" {able.calls_per_job} calls whatever its size",
    )


def _why_no_job(portion: Portion) -> str | None:
    if portion.is_uncertain:
        return "they are read back before they are sent again"
    if portion.is_late:
        return "they are looked for before they are sent"
    if portion.is_alone:
        return "each is looked at by itself"
    options = portion.options
    if options.on_duplicate is not OnDuplicate.PARK or options.assignment == "default":
        return "a job cannot be told how to treat duplicates or owners"
    return None


def pack(rows: Iterable[WriteRow], size: int) -> list[list[tuple[WriteRow, ...]]]:
    """Batches, in sequences: sequences may go side by side, the batches of one may not.

    Children of one parent share a batch, for the CRM locks their parent with them and two calls
    would wait for each other. A parent with more children than fit in a batch gets a sequence.
    """
    by_parent: dict[str, list[WriteRow]] = defaultdict(list)
    loose: list[WriteRow] = []
    for row in rows:
        if row.parent_id is None:
            loose.append(row)
        else:
            by_parent[row.parent_id].append(row)
    sequences: list[list[tuple[WriteRow, ...]]] = []
    batch: list[WriteRow] = []
    families = sorted(by_parent.values(), key=len, reverse=True)
    for family in (*families, *([one] for one in loose)):
        if len(family) > size:
            sequences.append(_cut(family, size))
            continue
        if len(batch) + len(family) > size:
            sequences.append([tuple(batch)])
            batch = []
        batch.extend(family)
    if batch:
        sequences.append([tuple(batch)])
    return sequences


def _cut(rows: Sequence[WriteRow], size: int) -> list[tuple[WriteRow, ...]]:
    return [tuple(rows[start : start + size]) for start in range(0, len(rows), size)]
