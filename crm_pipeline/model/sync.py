"""The facts of one sync: its mode, how it is going, how it ended.

Belongs here: values that the engine returns and that Dagster, the CLI and the ledger show. Does not
belong here: how any of it is done (sync/) or stored (warehouse/).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class SyncMode(StrEnum):
    """Why records are read.

    FULL reads everything, DIFFERENTIAL what changed, RECORD single records, REFERENCE reference
    data. RECONCILE compares ids and stamps of everything and reads what differs; REFRESH reads the
    columns that no stamp speaks for, in every record. WRITE_BACK reads nothing: it holds the lease
    of the one who empties the outbox.
    """

    FULL = "full"
    DIFFERENTIAL = "differential"
    RECORD = "record"
    REFERENCE = "reference"
    RECONCILE = "reconcile"
    REFRESH = "refresh"
    WRITE_BACK = "write_back"


class Finding(StrEnum):
    """What a reconciliation found that no watermark can: why a row was read again.

    Tombstones that it set are counted under the words of `Vanished`.
    """

    MISSING = "missing"
    STALE = "stale"
    ALTERED = "altered"
    RESTORED = "restored"
    QUARANTINED = "quarantined"


class Vanished(StrEnum):
    """How a record left our sight; the reason kept on its tombstone."""

    DELETED = "deleted"
    MERGED = "merged"
    LEFT_FILTER = "left_filter"
    NOT_VISIBLE = "not_visible"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one object's read has come. `expected` is None until the CRM has said it."""

    object_name: str
    records_read: int
    expected: int | None
    seconds: float

    @property
    def percent(self) -> float | None:
        """Share that is read, 0 to 100."""
        if self.expected is None:
            return None
        return 100.0 if not self.expected else min(100.0, 100 * self.records_read / self.expected)

    @property
    def eta_seconds(self) -> float | None:
        """Seconds left if the rest comes as fast as the part so far."""
        if self.expected is None or not self.records_read:
            return None
        return self.seconds * max(0, self.expected - self.records_read) / self.records_read


@dataclass(frozen=True, slots=True)
class SyncOutcome:
    """What one committed sync of one object did.

    Attributes:
        records_read: records that the CRM handed over, tombstones included.
        rejected: records in the quarantine, each with its reason.
        replaced_characters: characters that no warehouse can hold, and which are U+FFFD now.
        watermark_before: complete up to here before; None before the first full sync.
        watermark_after: complete up to here now, in the CRM's time.
        transport: rest or bulk.
        transport_reason: why that one, in a sentence.
        broken_fields: mapped fields that the org does not show us; their columns kept old values.
        due_reason: what is not true for every row yet, and the command that mends it; None when
            nothing is owed.
        findings: of a reconciliation, how many rows of each kind were out of step; empty when the
            table was true.
    """

    object_name: str
    table: str
    mode: SyncMode
    records_read: int = 0
    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    rejected: int = 0
    replaced_characters: int = 0
    watermark_before: datetime | None = None
    watermark_after: datetime | None = None
    api_calls: int = 0
    seconds: float = 0.0
    transport: str = ""
    transport_reason: str = ""
    broken_fields: tuple[str, ...] = ()
    due_reason: str | None = None
    findings: Mapping[str, int] = field(default_factory=dict)

    @property
    def has_changes(self) -> bool:
        """Whether any row of the table is different now, so that models need a rebuild."""
        return bool(self.inserted or self.updated or self.deleted)


@dataclass(frozen=True, slots=True)
class Parity:
    """The table's count of live rows beside the CRM's own.

    Attributes:
        changed_since: records that changed in the CRM since the table's watermark; looked up only
            when the counts differ.
    """

    object_name: str
    crm_count: int
    table_count: int
    changed_since: int

    @property
    def is_in_step(self) -> bool:
        """Whether changes that the next differential reads can explain the difference."""
        return abs(self.crm_count - self.table_count) <= self.changed_since

    @property
    def sentence(self) -> str:
        """The comparison in words."""
        if self.crm_count == self.table_count:
            return f"{self.object_name}: {self.crm_count} records in the CRM and in the table."
        verdict = (
            f"{self.changed_since} changed since the last sync, which explains it"
            if self.is_in_step
            else "launch a full sync"
        )
        return (
            f"{self.object_name}: {self.crm_count} records in the CRM, {self.table_count} in the "
            f"table: {verdict}."
        )
