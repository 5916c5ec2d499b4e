"""Updates that give way to people: the record is looked at before it is written.

Between a decision and its delivery lie seconds, or days of waiting for approval.

Belongs here: the comparison. Does not belong here: which write-backs give way (the decisions say
so), and reading back what may have been written (sending.py).
"""

from collections.abc import Iterator, Mapping

from crm_pipeline.model.objects import CrmObject
from crm_pipeline.model.writeback import Outcome, Value, Verdict
from crm_pipeline.warehouse.claims import Claim, ClaimedWrite, claimed_writes
from crm_pipeline.warehouse.settling import Settlement, settle
from crm_pipeline.writeback.context import WriteContext

_HELD = Outcome(Verdict.APPLIED, code="READ_BACK", reason="The record held the value already.")
_SPARED = Outcome(
    Verdict.SPARED,
    code="CHANGED_IN_CRM",
    reason="Somebody changed the field in the CRM meanwhile, and what people enter stays.",
)


def spare_changed(context: WriteContext, taken: Claim, crm_object: CrmObject) -> None:
    """End those of a claim's updates whose field holds something else by now.

    A call for each 2,000 records. Records that are not there are left to the CRM's own answer.

    Raises:
        CrmPipelineError: the CRM could not be asked, and nothing has ended.
    """
    writes = [
        write
        for write in claimed_writes(context.warehouse, taken)
        if all(crm_object.find(name) for name in write.values)
    ]
    if not writes:
        return
    context.require_enabled()
    ids = sorted({write.record_id or "" for write in writes})
    names = sorted({name for write in writes for name in write.values})
    held = context.connector.retrieve(crm_object, ids, names)
    ended = [
        Settlement(write.write_id, outcome)
        for write in writes
        for outcome in _outcomes(context, crm_object, write, held.get(write.record_id or ""))
    ]
    if ended:
        context.count(settle(context.warehouse, context.lease, taken, ended))


def _outcomes(
    context: WriteContext,
    crm_object: CrmObject,
    write: ClaimedWrite,
    found: Mapping[str, Value] | None,
) -> Iterator[Outcome]:
    """How an update ends without being sent, if it does."""
    for name, value in write.values.items():
        if found is None:
            continue
        if context.connector.same_value(crm_object, name, value, found.get(name)):
            yield _HELD
        elif not context.connector.same_value(crm_object, name, write.before, found.get(name)):
            yield _SPARED
