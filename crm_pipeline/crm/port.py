"""What the upper rooms know of a CRM: a handful of verbs, answered in bytes and model values.

Belongs here: what every CRM can answer, or honestly decline through `describe`. Does not belong
here: a word of any one CRM's API. A connector is a folder beside this file and a line in
`registry.py`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from crm_pipeline.model.filters import RecordFilter
from crm_pipeline.model.objects import CrmObject, Transport
from crm_pipeline.model.pages import ResultPage
from crm_pipeline.model.wanted_fields import FieldEnsured, WantedField
from crm_pipeline.model.writeback import (
    Operation,
    Outcome,
    Value,
    Whereabouts,
    WriteBatch,
    WriteOptions,
)


@dataclass(frozen=True, slots=True)
class OrgIdentity:
    """Which organisation we talk to, and as whom."""

    organization_id: str
    organization_name: str
    user_name: str
    instance_url: str
    is_sandbox: bool


@dataclass(frozen=True, slots=True)
class ApiUsage:
    """API calls: ours since the connector was made, and the org's last word on its daily limit."""

    calls: int
    used_today: int | None
    daily_limit: int | None


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """Which records of an object to read, and which fields of them.

    Attributes:
        fields: API names or relationship paths, in the order in which pages must carry them.
        changed_since: inclusive lower bound on the object's cursor field; None reads from the
            beginning of time.
        record_ids: only these records (at most 200); None reads all.
        include_deleted: also records in the recycle bin, with the deleted field true.
        only_transport: what the operator or the caller insists on; AUTO lets the connector choose
            by cost.
    """

    crm_object: CrmObject
    fields: tuple[str, ...]
    record_filter: RecordFilter | None = None
    changed_since: datetime | None = None
    record_ids: tuple[str, ...] | None = None
    include_deleted: bool = True
    only_transport: Transport = Transport.AUTO


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Where an earlier attempt at the same request stopped.

    Attributes:
        token: what `RecordRead.token` was.
        landed_keys: keys of the pages that are already in the warehouse, in landing order.
    """

    token: str
    landed_keys: tuple[str, ...]


class RecordRead(Protocol):
    """An open read: its pages, and what the CRM said about it."""

    @property
    def transport(self) -> Transport:
        """REST or BULK."""

    @property
    def reason(self) -> str:
        """Why that transport, in one sentence for the ledger."""

    @property
    def token(self) -> str:
        """What to store so that a later process can go on with this read."""

    @property
    def record_count(self) -> int | None:
        """Records of the whole read by the CRM's own count, landed pages included."""

    def pages(self) -> Iterator[ResultPage]:
        """The pages that have not landed yet; several may be streamed side by side."""

    def close(self) -> None:
        """Give back what the CRM keeps for us (job results, cursors); never raises."""


class RecordSource(Protocol):
    """Anything that hands over records as pages: a CRM, or data derived from what it describes."""

    def server_time(self) -> datetime:
        """The CRM's own clock, never later than the truth; costs a call only when nothing is known.

        Windows are built from this alone: the local clock may be wrong by hours.
        """

    def open_read(self, request: ReadRequest, *, resume: ResumePoint | None = None) -> RecordRead:
        """Begin to read, or go on where an earlier attempt stopped.

        Raises:
            ReadExpired: the point to resume from is gone; open again without it.
            FieldUnavailable: the CRM refuses a field.
            ObjectUnavailable: the CRM refuses the object.
            PermanentError: the CRM refuses the filter, or the job failed for good.
        """

    def forget(self, token: str) -> None:
        """Give back what the CRM keeps for a read that nobody will go on with; never raises."""


@dataclass(frozen=True, slots=True)
class WriteCapabilities:
    """How much a CRM takes at once, and what that costs.

    Attributes:
        rows_per_call: records of one `write`.
        calls_at_once: so many of them may be out side by side.
        job_rows: records of one bulk job; 0 where there are none.
        job_bytes: how much its content may weigh.
        calls_per_job: about what a job costs, whatever its size.
        job_null: the text in a job's CSV that empties a field; an empty cell leaves it alone.
        parent_fields: where a record names the one that is locked together with it.
        owner_field: where a record names its owner.
    """

    rows_per_call: int
    calls_at_once: int
    job_rows: int
    job_bytes: int
    calls_per_job: int
    job_null: str
    parent_fields: tuple[str, ...] = ()
    owner_field: str = ""


class WriteJob(Protocol):
    """A bulk job that writes records: begun, filled, waited for, and asked what became of them."""

    @property
    def token(self) -> str:
        """What to store before the upload, so that a later process can ask about this job."""

    def upload(self, content: Iterable[bytes]) -> None:
        """Hand over all records as CSV with a header line; nothing is written before `begin`."""

    def begin(self) -> None:
        """Let the job work; without an answer, it may have begun."""

    def has_ended(self) -> bool:
        """Whether every record was looked at; one call.

        Raises:
            ReadExpired: the job is gone, or never got its records.
        """

    def applied(self) -> Iterator[bytes]:
        """CSV with a header: the id that each applied record has, whether it is new, its cells."""

    def refused(self) -> Iterator[bytes]:
        """CSV with a header: the id, the error, the cells of each refused record."""

    def outcome_of(self, error: str) -> Outcome:
        """What the error of a refused record means."""

    def close(self) -> None:
        """Give back what the CRM keeps for the job; never raises."""


class RecordSink(Protocol):
    """Anything that takes records. Nothing is repeated by itself: unknown outcomes are told."""

    def write_capabilities(self) -> WriteCapabilities:
        """How much it takes at once; costs no call."""

    def refusal_of(
        self, crm_object: CrmObject, operation: Operation, name: str, value: Value
    ) -> Outcome | None:
        """Why a field cannot be given a value, as far as describe tells; costs no call."""

    def key_refusal(self, crm_object: CrmObject, field_name: str) -> Outcome | None:
        """Why records cannot be told apart by a key field; costs no call."""

    def owner_refusal(self, owner_id: str) -> str | None:
        """Why records cannot be given to a user or queue, in a sentence; one call."""

    def same_value(self, crm_object: CrmObject, name: str, ours: Value, theirs: Value) -> bool:
        """Whether a value that was read is the one that was written; CRMs round and trim."""

    def write(self, batch: WriteBatch) -> tuple[Outcome, ...]:
        """Send records in one call; an outcome for each, in order.

        Raises:
            NotAccepted: nothing was written; later it may be.
            FailedMidway: the CRM failed, perhaps over one record; part of it may be written.
            TransientError: no answer; part of it may be written.
            PermanentError: the call as a whole is refused; nothing was written.
        """

    def retrieve(
        self, crm_object: CrmObject, ids: Sequence[str], fields: Sequence[str]
    ) -> Mapping[str, Mapping[str, Value]]:
        """What living records hold now, by id."""

    def whereabouts(self, crm_object: CrmObject, ids: Sequence[str]) -> Mapping[str, Whereabouts]:
        """What became of records, by id, as far as the CRM still knows."""

    def begin_write_job(
        self,
        crm_object: CrmObject,
        operation: Operation,
        *,
        external_id_field: str | None,
        options: WriteOptions,
    ) -> WriteJob:
        """Begin a bulk job that has no records yet."""

    def find_write_job(self, token: str) -> WriteJob:
        """A job that an earlier process began."""


class FieldMaker(Protocol):
    """Anything in which fields can be made for what we write. No field is changed or removed."""

    def judge_field(self, crm_object: CrmObject, wanted: WantedField) -> FieldEnsured:
        """How a field stands, as far as describe tells; costs no call and changes nothing."""

    def ensure_field(self, wanted: WantedField) -> FieldEnsured:
        """See to it that a field is there and that our user may write it; a second time is none.

        What the CRM refuses is told as an outcome with its remedy, not raised.

        Raises:
            ObjectUnavailable: the CRM does not show us the object.
            TransientError: no answer came; run it again.
        """


class CrmConnector(RecordSource, RecordSink, FieldMaker, Protocol):
    """One CRM, spoken to as one user. Safe to use from several threads."""

    @property
    def usage(self) -> ApiUsage:
        """API calls so far."""

    def identity(self) -> OrgIdentity:
        """Log in if need be, and say where we are.

        Raises:
            CredentialsError: the CRM refuses us; the sentence says which setting to look at.
            TransientError: the CRM cannot be reached.
        """

    def organization_id(self) -> str:
        """Which organisation the login leads to; costs no call beyond the login itself."""

    def full_id(self, record_id: str) -> str:
        """A record's id in the form that records carry it; some CRMs have a short form, too.

        Raises:
            UsageError: it is no id.
        """

    def excess_permissions(self) -> tuple[str, ...]:
        """Permissions of our user over the whole organisation that no sync needs, by label.

        Raises:
            ObjectUnavailable: the CRM does not show our user what it may do.
        """

    def object_names(self) -> tuple[str, ...]:
        """API names of all objects that our user may query."""

    def describe(self, object_name: str) -> CrmObject:
        """The object as our user may see it now; never served from a cache of an earlier run.

        Raises:
            ObjectUnavailable: unknown, or hidden from our user.
        """

    def describe_path(self, crm_object: CrmObject, path: str) -> CrmObject:
        """The same object with the field at the end of a relationship path added under that path.

        Raises:
            FieldUnavailable: some step of the path does not exist or is hidden.
        """

    def count(self, request: ReadRequest) -> int:
        """How many records the request would return now."""

    def find_by(
        self,
        crm_object: CrmObject,
        field_name: str,
        values: Sequence[str],
        fields: Sequence[str] = (),
    ) -> tuple[Mapping[str, Value], ...]:
        """Living records of which a text or reference field holds one of the values, as of now.

        Values are compared as the CRM compares them, mostly without regard to case.

        Returns:
            Per record its id, the field and the other fields, spelt as describe spells them.

        Raises:
            FieldUnavailable: there is no such field for our user.
            PermanentError: the field cannot be searched by, or a value cannot be said.
        """

    def deleted_since(
        self, crm_object: CrmObject, since: datetime, until: datetime
    ) -> Iterator[tuple[str, datetime]]:
        """Ids that the CRM's log of deletions knows, each with the instant of its deletion.

        It also knows what no read shows: records deleted for good, and those of objects without a
        bin. Ask only for objects with `has_delete_log`. The log's clock is coarse, so deletions up
        to two minutes around the window come too, and an id may come twice. Pairs arrive while
        they are iterated, and so do errors.

        Raises:
            ReadExpired: the log does not reach back to `since`, or cannot be read whole; compare
                the ids instead.
            ObjectUnavailable: the CRM refuses the object.
        """

    def close(self) -> None:
        """Give connections back."""
