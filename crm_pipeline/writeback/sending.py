"""A claim on its way by single calls: read back, packed, sent, settled batch by batch.

Belongs here: the order of these steps, and what an outcome means for rows of the outbox. Does not
belong here: choosing a transport (choice.py), jobs (jobs.py), which claim is next (drain.py).
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace

from crm_pipeline.errors import (
    CrmPipelineError,
    Interrupted,
    NotAccepted,
    ObjectUnavailable,
    TransientError,
    UsageError,
)
from crm_pipeline.model.objects import CrmObject
from crm_pipeline.model.writeback import (
    OnDuplicate,
    Operation,
    Outcome,
    Verdict,
    WriteBatch,
    WriteRow,
    WriteState,
)
from crm_pipeline.warehouse.claims import Claim, ClaimedWrite, claimed_writes
from crm_pipeline.warehouse.handing_over import follow
from crm_pipeline.warehouse.settling import Settlement, release, settle
from crm_pipeline.writeback import following
from crm_pipeline.writeback.bisection import Sifted, sift
from crm_pipeline.writeback.choice import pack
from crm_pipeline.writeback.context import WriteContext
from crm_pipeline.writeback.following import Lost
from crm_pipeline.writeback.looking_again import still_to_be_made
from crm_pipeline.writeback.owners import with_default_owner

_READ_BACK = Outcome(
    Verdict.APPLIED, code="READ_BACK", reason="No answer had come; the record holds the value."
)
_MADE = Outcome(
    Verdict.APPLIED,
    is_created=True,
    code="READ_BACK",
    reason="No answer had come; the record is there.",
)


@dataclass(slots=True)
class Sending:
    """One claim on its way by single calls.

    Attributes:
        pool: sends them.
        stop: why the drainer should not go on, if something says so.
    """

    context: WriteContext
    taken: Claim
    crm_object: CrmObject
    pool: ThreadPoolExecutor
    stop: CrmPipelineError | None = None
    _writes: dict[int, ClaimedWrite] = field(default_factory=dict)
    _sequences: list[list[tuple[WriteRow, ...]]] = field(default_factory=list)
    _has_families: bool = False
    _sent: list[Future[None]] = field(default_factory=list)

    @property
    def goes_alone(self) -> bool:
        """Whether nothing else may be on its way."""
        return not self._is_update or self._has_families or self.stop is not None

    @property
    def unavailable(self) -> str | None:
        """The object, if it turned out that it cannot be written now."""
        return None if self.stop is None else self.taken.portion.object_name

    def prepare(self) -> None:
        """Read what was claimed, settle what need not or cannot be sent, and pack the rest."""
        try:
            rows = self._not_there_yet(list(self._sendable()))
        except (Interrupted, NotAccepted, ObjectUnavailable, UsageError) as error:
            self.stop = error
        except TransientError as error:  # of a read-back: what became of the rows stays unknown
            self.context.note(error)
            self.stop = error
        else:
            self._has_families = any(row.parent_id for row in rows)
            self._sequences = pack(rows, self._most_rows)

    def start(self) -> None:
        """Begin to send everything."""
        self._sent = [self.pool.submit(self._send_in_turn, one) for one in self._sequences]

    def finish(self) -> None:
        """Wait until everything is sent and settled, or waits again.

        Raises:
            Interrupted: switched off, or the lease is lost; what was not sent waits again.
            NotAccepted: the CRM takes nothing now; the same.
            UsageError: the CRM refuses our login; the same.
        """
        for done in self._sent:
            done.result()
        self._let_go()
        if isinstance(self.stop, ObjectUnavailable):
            self.context.note(self.stop)
        elif self.stop is not None:
            raise self.stop

    def abandon(self) -> None:
        """Send nothing more; what was not sent waits again."""
        self.stop = self.stop or Interrupted("The drainer stops.")
        wait(self._sent)
        self._let_go()

    @property
    def _most_rows(self) -> int:
        return self.context.able.rows_per_call

    @property
    def _is_update(self) -> bool:
        return self.taken.portion.operation is Operation.UPDATE

    def _sendable(self) -> Iterator[WriteRow]:
        """The claim as rows of records, without what can be seen to be refused."""
        writes = claimed_writes(self.context.warehouse, self.taken)
        self._writes = {write.write_id: write for write in writes}
        refused = {write.write_id: found for write in writes if (found := self._refusal(write))}
        self._settle(Settlement(write_id, outcome) for write_id, outcome in refused.items())
        by_record: dict[str, list[ClaimedWrite]] = defaultdict(list)
        for write in writes:
            if write.write_id not in refused:
                by_record[write.record_id or write.external_id or ""].append(write)
        for together in by_record.values():
            yield self._row(together)

    def _refusal(self, write: ClaimedWrite) -> Outcome | None:
        connector, operation = self.context.connector, self.taken.portion.operation
        if self.taken.key_field is not None and not self._is_update:
            without_key = connector.key_refusal(self.crm_object, self.taken.key_field)
            if without_key is not None:
                return without_key
        for name, value in write.values.items():
            found = connector.refusal_of(self.crm_object, operation, name, value)
            if found is not None:
                return found
        return None

    def _row(self, together: Sequence[ClaimedWrite]) -> WriteRow:
        first = together[0]
        values = {name: value for write in together for name, value in write.values.items()}
        parents = (
            str(values[name]) for name in self.context.able.parent_fields if values.get(name)
        )
        return WriteRow(
            writes=tuple(write.write_id for write in together),
            values=values,
            record_id=first.record_id if self._is_update else None,
            external_id=first.external_id,
            parent_id=first.parent_id or next(parents, None),
        )

    def _not_there_yet(self, rows: list[WriteRow]) -> list[WriteRow]:
        """Rows whose values the CRM lacks; what got through without an answer is settled."""
        if self.taken.portion.is_uncertain and rows:
            self.context.require_enabled()
            rows = self._not_held(rows) if self._is_update else self._not_made(rows)
        if self._is_update or not rows:
            return rows
        return still_to_be_made(self.context, self.taken, self.crm_object, rows)

    def _not_made(self, rows: list[WriteRow]) -> list[WriteRow]:
        """Creates whose record is not there.

        Sent again, the others would find it by its key, and undo what people changed since.
        """
        key_field = self.crm_object.find(self.taken.key_field or "")
        if self.taken.portion.operation is not Operation.CREATE or key_field is None:
            return rows
        keys = [row.external_id or "" for row in rows]
        ids = {
            str(found[key_field.name]): str(found[self.crm_object.id_field])
            for found in self.context.connector.find_by(self.crm_object, key_field.name, keys)
        }
        self._settle(
            Settlement(write_id, replace(_MADE, record_id=ids[row.external_id or ""]))
            for row in rows
            if row.external_id in ids
            for write_id in row.writes
        )
        return [row for row in rows if row.external_id not in ids]

    def _not_held(self, rows: list[WriteRow]) -> list[WriteRow]:
        """Updates of which the record does not hold every value."""
        names = sorted({name for row in rows for name in row.values})
        ids = [row.record_id or "" for row in rows]
        held = self.context.connector.retrieve(self.crm_object, ids, names)
        missing: list[WriteRow] = []
        there: list[WriteRow] = []
        for row in rows:
            found = held.get(row.record_id or "")
            is_there = found is not None and all(
                self.context.connector.same_value(self.crm_object, name, value, found.get(name))
                for name, value in row.values.items()
            )
            (there if is_there else missing).append(row)
        self._settle(Settlement(write_id, _READ_BACK) for row in there for write_id in row.writes)
        return missing

    def _send_in_turn(self, sequence: list[tuple[WriteRow, ...]]) -> None:
        for batch in sequence:
            if self.stop is not None:
                return
            try:
                self.context.require_enabled()
                self.context.lease.check()
                self._send(batch)
            except (Interrupted, NotAccepted, ObjectUnavailable, UsageError) as error:
                self.stop = error
            except TransientError as error:
                self._note_outage(batch, error)

    def _send(self, batch: tuple[WriteRow, ...]) -> None:
        def write(rows: tuple[WriteRow, ...]) -> tuple[Outcome, ...]:
            portion = self.taken.portion
            return self.context.connector.write(
                WriteBatch(
                    self.crm_object, portion.operation, rows, self.taken.key_field, portion.options
                )
            )

        sifted = with_default_owner(
            sift(batch, write),
            write,
            field=self.context.able.owner_field,
            owner=self.context.settings.write_backs.default_owner,
        )
        self.context.report("sent")
        self.context.outages = 0
        self._settle_sifted(sifted)
        self.context.report("settled")
        if sifted.unanswered and isinstance(sifted.problem, TransientError):
            raise sifted.problem

    def _settle_sifted(self, sifted: Sifted) -> None:
        settlements: list[Settlement] = []
        lost: list[Lost] = []
        for row, outcome in sifted.answered:
            if following.is_elsewhere(outcome) and self._is_update:
                lost += [Lost(self._writes[write_id], outcome) for write_id in row.writes]
            else:
                settlements += self._judged(row, outcome)
        self._settle(settlements)
        if lost:
            self._follow(lost)

    def _judged(self, row: WriteRow, outcome: Outcome) -> Iterator[Settlement]:
        """What an outcome means for each write that the row carried."""
        if outcome.verdict is Verdict.DUPLICATE:
            outcome = self._linked(outcome)
        if outcome.verdict is Verdict.PARK and len(row.writes) > 1:
            yield from self._blamed(row, outcome)
            return
        if outcome.verdict not in {Verdict.RETRY, Verdict.WAIT}:
            yield from (Settlement(write_id, outcome) for write_id in row.writes)
            return
        for write_id in row.writes:
            refusals = self._writes[write_id].refusals
            yield Settlement(
                write_id,
                outcome,
                delay_seconds=self.context.manners.pause_seconds(outcome.verdict, refusals),
                is_uncertain=outcome.code == "FAILED_MIDWAY",
            )

    def _blamed(self, row: WriteRow, outcome: Outcome) -> Iterator[Settlement]:
        """One field must not hold back the others; if none of ours is named, each goes by itself.

        Rules like to name a field that the write does not carry.
        """
        carried = {name.casefold() for name in row.values}
        at_fault = carried & {name.casefold() for name in outcome.fields}
        again = Outcome(Verdict.RETRY, code=outcome.code, reason=outcome.reason)
        for write_id in row.writes:
            names = {name.casefold() for name in self._writes[write_id].values}
            if names & at_fault:
                yield Settlement(write_id, outcome)
            else:
                yield Settlement(write_id, again, counts=False, is_alone=not at_fault)

    def _linked(self, outcome: Outcome) -> Outcome:
        wanted = self.taken.portion.options.on_duplicate
        if wanted is OnDuplicate.LINK and len(outcome.matches) == 1:
            return Outcome(
                Verdict.APPLIED,
                record_id=outcome.matches[0],
                code="LINKED",
                reason="The record was there already; it was taken as it is.",
            )
        return outcome

    def _follow(self, lost: Sequence[Lost]) -> None:
        context = self.context
        moves, ended = following.find(
            context.connector, context.warehouse, self.crm_object, lost, context.describe
        )
        if moves:
            follow(context.warehouse, context.lease, self.taken, moves)
            context.count({WriteState.SUPERSEDED: len(moves)})
        self._settle(Settlement(one.write.write_id, one.outcome) for one in ended)

    def _note_outage(self, batch: tuple[WriteRow, ...], error: TransientError) -> None:
        """No answer: the rows wait and are read back; too many of them, and we stop asking."""
        self.context.outages += 1
        self.context.note(error)
        pause = error.retry_after_seconds
        if pause is None:
            pause = self.context.manners.pause_seconds(Verdict.RETRY, self.context.outages)
        outcome = Outcome(Verdict.RETRY, code="NO_ANSWER", reason="The CRM gave no answer.")
        self._settle(
            Settlement(write_id, outcome, delay_seconds=pause, is_uncertain=True, counts=False)
            for row in batch
            for write_id in row.writes
        )
        if self.context.outages >= self.context.manners.most_outages:
            self.stop = error

    def _settle(self, settlements: Iterable[Settlement]) -> None:
        listed = list(settlements)
        if listed:
            self.context.count(
                settle(self.context.warehouse, self.context.lease, self.taken, listed)
            )

    def _let_go(self) -> None:
        """What was not sent waits again; after a lost lease, that is the next drainer's to do."""
        if self.context.lease.lost.is_set():
            return
        is_uncertain = self.taken.portion.is_uncertain
        release(
            self.context.warehouse,
            self.context.lease,
            self.taken,
            is_uncertain=is_uncertain,
            api_calls=self.context.untold_calls(),
        )
