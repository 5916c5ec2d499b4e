"""What one sync of one object is about: the modes, as facts that the one way reads.

| mode | reads | a row that did not come is |
|---|---|---|
| FULL, REFERENCE | every record, whole | gone |
| DIFFERENTIAL | records changed since the watermark | unchanged, unless it left the filter |
| RECORD | records by id | gone, or it left the filter |
| RECONCILE | id, stamp and marks of every record | gone; what differs is read by id |
| REFRESH | the columns that no stamp speaks for | not this mode's business |

An object without a stamp cannot be read by its changes: all of its syncs read it whole.

Belongs here: what a mode means. Does not belong here: how it is done (merge_path.py).
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from crm_pipeline.crm.port import ReadRequest, RecordSource
from crm_pipeline.model.objects import ObjectSelection
from crm_pipeline.model.sync import SyncMode
from crm_pipeline.warehouse.ledger import SyncAttempt
from crm_pipeline.warehouse.schema import TableShape


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """One sync of one object, from its first call to its commit.

    Attributes:
        name: the object's name in lease, ledger and status.
        source: where records come from.
        shape: the columns, as the live table can take them.
        broken_fields: mapped fields that the org does not show us now; the rest is synced.
        record_ids: for RECORD, the ids asked for.
        changed_since: for RECORD without ids, everything since this instant.
        is_repair: for RECORD, whether it reads what a census found out of step.
        refreshed: for REFRESH, the fields to read.
        keeps_history: whether former values of its rows are kept.
    """

    name: str
    selection: ObjectSelection
    mode: SyncMode
    run_id: str
    source: RecordSource
    shape: TableShape
    broken_fields: tuple[str, ...] = ()
    record_ids: tuple[str, ...] | None = None
    changed_since: datetime | None = None
    is_repair: bool = False
    refreshed: Collection[str] = ()
    keeps_history: bool = True

    @property
    def has_stamp(self) -> bool:
        """Whether changes can be told from the record itself."""
        return self.selection.crm_object.cursor_field is not None

    @property
    def refreshes_stamp(self) -> bool:
        """Whether even the stamp's column is not filled yet, so that no row's version is known."""
        return self.selection.crm_object.cursor_field in self.refreshed

    @property
    def is_census(self) -> bool:
        """Whether only ids, stamps and marks are staged."""
        return self.mode is SyncMode.RECONCILE and self.has_stamp

    @property
    def is_whole(self) -> bool:
        """Whether staged rows carry every column."""
        return not self.is_census and self.mode is not SyncMode.REFRESH

    @property
    def counts_everything(self) -> bool:
        """Whether a row that is not handed over is gone."""
        if self.mode in (SyncMode.FULL, SyncMode.REFERENCE, SyncMode.RECONCILE):
            return True
        return self.mode is SyncMode.DIFFERENTIAL and not self.has_stamp

    @property
    def makes_table(self) -> bool:
        """Whether what is read is enough to make a table of."""
        return self.mode in (SyncMode.FULL, SyncMode.REFERENCE)

    @property
    def looks_beyond_filter(self) -> bool:
        """Whether ids are also looked for without the filter, to notice who left it."""
        if self.mode is SyncMode.RECORD:
            return self.record_ids is not None
        is_partial = self.mode is SyncMode.DIFFERENTIAL and self.has_stamp
        return is_partial and self.selection.record_filter is not None

    @property
    def asks_delete_log(self) -> bool:
        """Whether only the CRM's delete log can tell this sync who was deleted."""
        crm_object = self.selection.crm_object
        is_partial = self.mode is SyncMode.DIFFERENTIAL and self.has_stamp
        return is_partial and crm_object.deleted_field is None and crm_object.has_delete_log

    @property
    def staged_shape(self) -> TableShape:
        """The columns that this mode stages."""
        if self.is_whole:
            return self.shape
        return self.shape.narrowed(self.refreshed)

    def request(self, attempt: SyncAttempt) -> ReadRequest:
        """What to ask the CRM for."""
        return ReadRequest(
            crm_object=self.selection.crm_object,
            fields=self.staged_shape.read_fields,
            record_filter=self.selection.record_filter,
            changed_since=None if self.counts_everything else attempt.changed_since,
            record_ids=self.record_ids,
            include_deleted=self.mode is not SyncMode.REFRESH,
            only_transport=self.selection.transport,
        )
