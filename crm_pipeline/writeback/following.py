"""Where a write goes whose record is not there any more.

A merged record's value goes to the winner; a converted lead's to its contact, if a field of the
same name can be written there. Anything else is parked: nothing here revives a record.

Belongs here: the decision. Does not belong here: handing a write over (warehouse/handing_over.py).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from crm_pipeline.crm.port import CrmConnector
from crm_pipeline.model.objects import CrmObject
from crm_pipeline.model.writeback import Operation, Outcome, Value, Verdict, Whereabouts
from crm_pipeline.warehouse.claims import ClaimedWrite
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.handing_over import Move, known_whereabouts

MOST_HOPS = 5
"""So often one write is handed on; records that were merged into each other in a circle end it."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A write whose record is gone or converted, with the CRM's answer."""

    write: ClaimedWrite
    outcome: Outcome


Describe = Callable[[str], CrmObject | None]


def find(
    connector: CrmConnector,
    warehouse: Warehouse,
    crm_object: CrmObject,
    lost: Sequence[Lost],
    describe: Describe,
) -> tuple[list[Move], list[Lost]]:
    """Writes that go on for another record, and those that end here.

    The CRM is asked first. What it forgot when the bin was emptied, our tombstones may know.

    Args:
        connector: to ask.
        warehouse: with the tombstones.
        crm_object: of the records that were lost.
        lost: updates alone; creates have no record to lose.
        describe: an object of the settings as the CRM shows it; None if we may not write it.
    """
    ids = sorted({one.write.record_id for one in lost if one.write.record_id})
    found = dict(connector.whereabouts(crm_object, ids))
    known = known_whereabouts(warehouse, crm_object.name, ids)
    moves, ended = [], []
    for one in lost:
        record_id = one.write.record_id or ""
        merged, converted = known.get(record_id, (None, None))
        asked = found.get(record_id, Whereabouts())
        became = Whereabouts(
            asked.merged_into or merged,
            asked.converted_into or (("Contact", converted) if converted else None),
        )
        target = _target(connector, crm_object, one.write, became, describe)
        if target is None or one.write.hops >= MOST_HOPS or target[1] == record_id:
            ended.append(one)
            continue
        moves.append(_move(one.write.write_id, target, became))
    return moves, ended


def _target(
    connector: CrmConnector,
    crm_object: CrmObject,
    write: ClaimedWrite,
    became: Whereabouts,
    describe: Describe,
) -> tuple[str, str] | None:
    if became.merged_into is not None:
        return crm_object.name, became.merged_into
    if became.converted_into is None:
        return None
    name, record_id = became.converted_into
    other = describe(name)
    if other is None or not _takes(connector, other, write.values):
        return None
    return name, record_id


def _takes(connector: CrmConnector, crm_object: CrmObject, values: Mapping[str, Value]) -> bool:
    return all(
        connector.refusal_of(crm_object, Operation.UPDATE, name, value) is None
        for name, value in values.items()
    )


def _move(write_id: int, target: tuple[str, str], became: Whereabouts) -> Move:
    object_name, record_id = target
    is_merged = became.merged_into is not None
    return Move(
        write_id,
        object_name,
        record_id,
        "MERGED" if is_merged else "CONVERTED",
        (
            f"The record was merged into {record_id}; the value goes there."
            if is_merged
            else f"The record was converted to the {object_name} {record_id}; the value goes there."
        ),
    )


def is_elsewhere(outcome: Outcome) -> bool:
    """Whether the CRM's answer means that the record may have become another one."""
    return outcome.verdict in {Verdict.GONE, Verdict.CONVERTED}
