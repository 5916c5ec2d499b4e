"""The sync engine: one object at a time from the CRM to its table.

Every mode goes the same way: *stage* what the CRM hands over, *verify* the count, *merge* in one
transaction together with the watermark and the ledger row. A mode only says which records are read
and what it means that one is missing.

Belongs here: the verbs that Dagster and the CLI call. Does not belong here: how pages land
(reading.py), SQL (warehouse/), a CRM's protocol (crm/), and anything of Dagster.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import psycopg
import stamina
from psycopg import sql

from crm_pipeline.config.fingerprint import selection_fingerprint
from crm_pipeline.config.settings import Settings
from crm_pipeline.crm.port import CrmConnector, ReadRequest, RecordSource
from crm_pipeline.errors import (
    CrmPipelineError,
    Interrupted,
    LeaseBusy,
    LeaseLost,
    TransientError,
    UsageError,
    WrongOrganization,
)
from crm_pipeline.model.objects import ObjectSelection, ValueType
from crm_pipeline.model.sync import Parity, Progress, SyncMode, SyncOutcome
from crm_pipeline.sync.reading import PageLander
from crm_pipeline.sync.selection import chosen_object, completeness_after, select_object
from crm_pipeline.warehouse import ledger, merge, staging
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.lease import Lease, held_lease, running_syncs
from crm_pipeline.warehouse.schema import TableShape, fit_table, table_shape
from crm_pipeline.warehouse.wording import told

ABSENT_TO_ASK_FOR = 2_000
_NEVER_SYNCED = (
    "{name} has never been fully synced, so there is nothing to add changes to. Launch a full sync "
    "first: crm-pipeline sync full --objects {name}"
)

Report = Callable[[Progress], None]


def ignore_progress(_: Progress) -> None:
    """For callers that nobody watches."""


@dataclass(frozen=True, slots=True)
class _Work:
    """What one sync of one object is about, from its first call to its commit.

    Attributes:
        name: the object's name in lease, ledger and status.
        broken_fields: mapped fields that the org does not show us now; the rest is synced.
        record_ids: for RECORD, the ids asked for.
        source: where records come from; None means the CRM.
    """

    name: str
    selection: ObjectSelection
    mode: SyncMode
    run_id: str
    broken_fields: tuple[str, ...] = ()
    record_ids: tuple[str, ...] | None = None
    source: RecordSource | None = None
    fitted_shape: TableShape | None = None

    @property
    def shape(self) -> TableShape:
        """The columns, as the live table can take them."""
        assert self.fitted_shape is not None, "_fitted ran before anything was read"
        return self.fitted_shape

    @property
    def reads_everything(self) -> bool:
        """Whether a row that is not handed over is gone."""
        return self.mode in (SyncMode.FULL, SyncMode.REFERENCE) or (
            self.mode is SyncMode.DIFFERENTIAL and self.selection.crm_object.cursor_field is None
        )

    @property
    def needs_table(self) -> bool:
        """Whether what is read is only a part, which makes no table by itself."""
        return self.mode in (SyncMode.DIFFERENTIAL, SyncMode.RECORD)

    @property
    def needs_scope(self) -> bool:
        """Whether ids must also be looked for without the filter, to notice who left it."""
        return self.mode is SyncMode.RECORD or (
            self.selection.record_filter is not None and not self.reads_everything
        )


class SyncEngine:
    """Syncs objects of one org into one warehouse.

    Args:
        settings: what the operator chose.
        connector: the CRM.
        warehouse: already migrated.
        require_enabled: raises `SyncsDisabled` while the operator's switch is off; asked before
            every page.
    """

    def __init__(
        self,
        settings: Settings,
        connector: CrmConnector,
        warehouse: Warehouse,
        require_enabled: Callable[[], None],
    ) -> None:
        self.settings = settings
        self.connector = connector
        self.warehouse = warehouse
        self.require_enabled = require_enabled
        self._prepared: dict[tuple[str, SyncMode, str], _Work] = {}
        self._open_columns: dict[str, frozenset[str]] = {}
        self._is_own_organization = False

    def require_own_organization(self) -> None:
        """Make sure, once, that the login leads to the organisation whose data is kept here.

        Raises:
            WrongOrganization: it leads to another one.
            CredentialsError: the CRM refuses the login.
        """
        if self._is_own_organization:
            return
        if ledger.known_organization(self.warehouse) is None:
            identity = self.connector.identity()
            ledger.claim_organization(
                self.warehouse,
                organization_id=identity.organization_id,
                name=identity.organization_name,
                crm_type=self.settings.crm.type,
            )
        known, found = ledger.known_organization(self.warehouse), self.connector.organization_id()
        if known is None or known[0] != found:
            holds = f"{known[1]} ({known[0]})" if known else "another organisation"
            raise WrongOrganization(
                f"This warehouse holds the data of {holds}, but the login leads to the "
                f"organisation {found}. Use another database for another organisation."
            )
        self._is_own_organization = True

    def sync_object(
        self,
        object_name: str,
        *,
        mode: SyncMode,
        run_id: str,
        restart: bool = False,
        report: Report = ignore_progress,
    ) -> SyncOutcome:
        """Stage, verify and merge one object under one lease.

        A full sync waits for a sync that is at work on the object; a differential does not, for
        the next one closes the gap.

        Args:
            object_name: as in the settings.
            mode: FULL or DIFFERENTIAL.
            run_id: who does it, for the lease and the ledger.
            restart: drop what an interrupted full sync has landed, and read from the beginning.
            report: told after every page.

        Raises:
            LeaseBusy: a differential found another run at work.
        """
        with self._lease(object_name, mode, run_id) as lease:
            work = self._prepare(object_name, mode, run_id)
            attempt = self._stage(work, lease, restart=restart, report=report)
            return self._commit(work, attempt, lease)

    def stage_changes(
        self, object_name: str, *, run_id: str, report: Report = ignore_progress
    ) -> ledger.SyncAttempt:
        """The first half of a differential: read what changed, verified and ready to merge."""
        mode = SyncMode.DIFFERENTIAL
        with self._lease(object_name, mode, run_id) as lease:
            work = self._prepare(object_name, mode, run_id)
            attempt = self._stage(work, lease, restart=False, report=report)
        self._prepared[object_name, mode, run_id] = work
        return attempt

    def commit_changes(self, object_name: str, *, run_id: str) -> SyncOutcome:
        """The second half of a differential: merge what the same run has staged.

        Raises:
            LeaseLost: another run took the object over between the halves.
        """
        mode = SyncMode.DIFFERENTIAL
        with self._lease(object_name, mode, run_id) as lease:
            work = self._prepare(object_name, mode, run_id)
            with self.warehouse.connect() as connection:
                attempt = ledger.staged_attempt(connection, object_name, run_id)
            if attempt is None:
                raise LeaseLost(
                    f"{object_name}: nothing is staged by this run; another run has taken over."
                )
            if attempt.fingerprint != selection_fingerprint(work.selection):
                attempt = self._stage(work, lease, restart=False, report=ignore_progress)
            return self._commit(work, attempt, lease)

    def has_staged_changes(self, object_name: str, *, run_id: str) -> bool:
        """Whether the same run has staged this object and its merge is due."""
        with self.warehouse.connect() as connection:
            return ledger.staged_attempt(connection, object_name, run_id) is not None

    def sync_record(self, object_name: str, record_id: str, *, run_id: str) -> SyncOutcome:
        """Read one record now, whatever else runs: the stamp guard makes that safe without a lease.

        Raises:
            UsageError: the object has never been fully synced, so there is no table.
        """
        self.require_enabled()
        work = self._prepare(object_name, SyncMode.RECORD, run_id)
        work = replace(work, record_ids=(self.connector.full_id(record_id),))
        attempt = self._stage(work, None, restart=False, report=ignore_progress)
        return self._commit(work, attempt, None)

    def sync_reference(
        self,
        selection: ObjectSelection,
        source: RecordSource,
        *,
        run_id: str,
        report: Report = ignore_progress,
    ) -> SyncOutcome:
        """Read something whole that the settings do not list: users, queues and their like.

        Args:
            selection: the columns of the reference table.
            source: where the records come from; the connector itself for records of the CRM.
            run_id: who does it, for the lease and the ledger.
            report: told after every page.
        """
        self.require_own_organization()
        mode = SyncMode.REFERENCE
        with self._lease(selection.table, mode, run_id) as lease:
            work = self._fitted(_Work(selection.table, selection, mode, run_id, source=source))
            attempt = self._stage(work, lease, restart=False, report=report)
            return self._commit(work, attempt, lease)

    def preview(self, object_name: str, *, rows: int = 5) -> list[Mapping[str, object]]:
        """The rows written last, for an orchestrator's pages; empty before the first full sync.

        Free text is cut to its first letter: those pages and their database are open to more people
        than the tables are. Ids, options, numbers and times show what arrived.
        """
        found = merge.preview_table(self.warehouse, self._table(object_name), rows=rows)
        return [{name: self._veiled(object_name, name, row[name]) for name in row} for row in found]

    def _veiled(self, object_name: str, column: str, value: object) -> object:
        is_plain = not isinstance(value, str) or not value or column.startswith("_")
        if is_plain or column in self._open_columns.get(object_name, ()):
            return value
        return f"{str(value)[0]}…"

    def count_parity(self, object_name: str) -> Parity:
        """Hold the table's count against the CRM's own.

        The org lives on while we count, so a difference is only a fault when more records differ
        than have changed since the table was read.
        """
        selection, _ = select_object(self.settings, self.connector, object_name)
        shape = table_shape(selection, self.warehouse.crm_schema)
        request = ReadRequest(
            selection.crm_object, shape.read_fields, selection.record_filter, include_deleted=False
        )
        crm_count = self.connector.count(request)
        with self.warehouse.connect() as connection:
            table_count = merge.count_live_rows(connection, shape)
            state = ledger.read_state(connection, object_name)
        changed = 0
        has_cursor = selection.crm_object.cursor_field is not None
        if crm_count != table_count and has_cursor and state and state.watermark:
            changed = self.connector.count(
                replace(
                    request,
                    record_filter=None,
                    changed_since=state.watermark,
                    include_deleted=True,
                )
            )
        return Parity(object_name, crm_count, table_count, changed)

    def count_duplicate_ids(self, object_name: str) -> int:
        """Ids that stand in more than one row; the key forbids it, and the check shows it."""
        with self.warehouse.connect() as connection:
            return merge.count_duplicates(connection, self._table(object_name))

    def watermark(self, object_name: str) -> datetime | None:
        """Complete up to here, in the CRM's time; None before the first full sync."""
        with self.warehouse.connect() as connection:
            state = ledger.read_state(connection, object_name)
        return state.watermark if state else None

    def _table(self, object_name: str) -> sql.Identifier:
        name = chosen_object(self.settings, object_name).table_name(object_name)
        return sql.Identifier(self.warehouse.crm_schema, name)

    @contextmanager
    def _lease(self, name: str, mode: SyncMode, run_id: str) -> Iterator[Lease]:
        """Own an object; no differential owns one while a full sync of any object runs."""
        self.require_enabled()
        trials = None if mode is SyncMode.FULL else 1
        with ExitStack() as stack:
            for trial in stamina.retry_context(
                on=LeaseBusy, attempts=trials, timeout=None, wait_initial=0.5, wait_max=5
            ):
                with trial:
                    self.require_enabled()
                    if mode is SyncMode.DIFFERENTIAL:
                        self._refuse_during_full_sync(name)
                    lease = stack.enter_context(
                        held_lease(self.warehouse, name, owner=run_id, mode=mode)
                    )
            yield lease

    def _refuse_during_full_sync(self, name: str) -> None:
        for holder in running_syncs(self.warehouse):
            if holder.mode is SyncMode.FULL:
                raise LeaseBusy(
                    f"{name}: a full sync is at work on {holder.name} (run {holder.owner}). The "
                    "differential that follows it reads what changed meanwhile.",
                    owner=holder.owner,
                    expires_in_seconds=0.0,
                )

    def _prepare(self, object_name: str, mode: SyncMode, run_id: str) -> _Work:
        """Describe the object anew: fields come and go, and the mapping must still make sense.

        The two halves of a differential in one process share one describe.
        """
        prepared = self._prepared.pop((object_name, mode, run_id), None)
        if prepared is not None:
            return prepared
        try:
            self.require_own_organization()
            selection, broken = select_object(self.settings, self.connector, object_name)
        except CrmPipelineError as error:
            self._note_failed_start(object_name, mode, run_id, error)
            raise
        self._open_columns[object_name] = frozenset(
            mapped.column
            for mapped in selection.columns
            if mapped.field.options or mapped.field.value_type is ValueType.IDENTIFIER
        )
        return self._fitted(_Work(object_name, selection, mode, run_id, broken))

    def _note_failed_start(
        self, object_name: str, mode: SyncMode, run_id: str, error: CrmPipelineError
    ) -> None:
        """Let the status say what went wrong, although there is no attempt yet."""
        chosen = self.settings.enabled_objects.get(object_name)
        if chosen is None or isinstance(error, Interrupted):
            return
        with suppress(CrmPipelineError, psycopg.Error), self.warehouse.connect() as connection:
            ledger.note_object(connection, object_name, chosen.table_name(object_name))
            ledger.note_failed_start(
                connection, run_id=run_id, object_name=object_name, mode=mode, error=str(error)
            )

    def _fitted(self, work: _Work) -> _Work:
        """The work in a shape that the live table can take.

        Columns are added in a transaction of their own: it waits its turn behind slow readers only
        for a moment at a time, so that nobody queues behind it.
        """
        shape = table_shape(work.selection, self.warehouse.crm_schema)
        for trial in stamina.retry_context(
            on=psycopg.errors.LockNotAvailable, attempts=30, timeout=60, wait_max=2
        ):
            with trial, self.warehouse.connect() as connection:
                if not merge.table_is_live(connection, shape):
                    return replace(work, fitted_shape=shape)
                connection.execute("SET LOCAL lock_timeout = '500ms'")
                fitted = fit_table(connection, shape)
                if fitted.unfilled:
                    ledger.note_unfilled(connection, work.name, fitted.unfilled)
        misfits = tuple(f"{field} ({reason})" for field, reason in fitted.misfits)
        return replace(
            work, fitted_shape=fitted.shape, broken_fields=(*work.broken_fields, *misfits)
        )

    def _stage(
        self, work: _Work, lease: Lease | None, *, restart: bool, report: Report
    ) -> ledger.SyncAttempt:
        """Read into staging and verify; whatever stops it is written into the ledger."""

        def check_interrupts() -> None:
            self.require_enabled()
            if lease is not None:
                lease.check()

        attempt, becomes_live = self._open_attempt(work, restart=restart)
        streams = self.settings.crm.read_streams
        lander = PageLander(self._source(work), self.warehouse, streams, check_interrupts, report)
        request = ReadRequest(
            crm_object=work.selection.crm_object,
            fields=work.shape.read_fields,
            record_filter=work.selection.record_filter,
            changed_since=None if work.reads_everything else attempt.changed_since,
            record_ids=work.record_ids,
            only_transport=work.selection.transport,
        )
        scope_records: int | None = None
        with self._noting_failure(attempt) as spent:
            if work.needs_scope:
                scope_records = lander.read_scope(request, work.shape, attempt.scope_table)
            landed = lander.read_into_staging(
                attempt, request, work.shape, becomes_live=becomes_live
            )
            if work.selection.record_filter is not None and work.reads_everything:
                scope_records = self._look_for_absent(work, attempt, lander, request)
            with self.warehouse.connect() as connection:
                return ledger.note_staged(
                    connection, attempt, landed, spent(), scope_records=scope_records
                )

    def _look_for_absent(
        self,
        work: _Work,
        attempt: ledger.SyncAttempt,
        lander: PageLander,
        request: ReadRequest,
    ) -> int | None:
        """Tell records that left the filter from those that are gone, as far as it is cheap."""
        with self.warehouse.connect() as connection:
            if not merge.table_is_live(connection, work.shape):
                return None
            absent = merge.absent_ids(connection, work.shape, attempt, limit=ABSENT_TO_ASK_FOR)
        return lander.extend_scope(request, work.shape, attempt.scope_table, absent)

    def _source(self, work: _Work) -> RecordSource:
        return work.source or self.connector

    def _open_attempt(self, work: _Work, *, restart: bool) -> tuple[ledger.SyncAttempt, bool]:
        """Resume an interrupted full sync of the same selection, or begin; sweep left-overs.

        Returns:
            The attempt, and whether its staging will be renamed into place.
        """
        fingerprint = selection_fingerprint(work.selection)
        forgotten: list[str] = []
        with self.warehouse.connect() as connection:
            ledger.note_object(connection, work.name, work.selection.table)
            state = ledger.read_state(connection, work.name)
            is_live = merge.table_is_live(connection, work.shape)
            watermark = state.watermark if state and is_live else None
            if work.needs_table and watermark is None:
                raise UsageError(_NEVER_SYNCED.format(name=work.name))
            attempt: ledger.SyncAttempt | None = None
            for left_over in ledger.unfinished_attempts(connection, work.name):
                is_same = (left_over.mode, left_over.fingerprint) == (SyncMode.FULL, fingerprint)
                if attempt is None and is_same and work.mode is SyncMode.FULL and not restart:
                    attempt = ledger.reopen_attempt(connection, left_over, work.run_id)
                elif work.mode is SyncMode.FULL or left_over.mode == work.mode:
                    ledger.discard_attempt(connection, left_over)
                    forgotten += [left_over.read_token] if left_over.read_token else []
            if attempt is None:
                attempt = ledger.open_attempt(
                    connection,
                    run_id=work.run_id,
                    object_name=work.name,
                    mode=work.mode,
                    fingerprint=fingerprint,
                    changed_since=watermark if work.mode is SyncMode.DIFFERENTIAL else None,
                )
        for token in forgotten:
            self._source(work).forget(token)
        return attempt, not is_live

    def _commit(self, work: _Work, attempt: ledger.SyncAttempt, lease: Lease | None) -> SyncOutcome:
        """One transaction: data, tombstones, watermark and ledger row.

        Commits into one object take turns, and staging is counted once more: a crash of the server
        in between would have emptied it. The lease is proved last.
        """
        with self._noting_failure(attempt) as spent, self.warehouse.connect() as connection:
            state = ledger.lock_state(connection, work.name)
            self._require_whole_staging(connection, attempt)
            merge.key_staging(connection, work.shape, attempt.staging_table)
            ledger.release_from_quarantine(connection, attempt, work.shape)
            merged = self._merge(connection, work, attempt)
            outcome, completeness = self._outcome(work, attempt, state, merged, spent())
            if work.mode is not SyncMode.RECORD:
                ledger.move_watermark(connection, outcome, completeness)
            ledger.commit_attempt(connection, attempt, outcome)
            if lease is not None:
                lease.prove(connection)
        if attempt.read_token:
            self._source(work).forget(attempt.read_token)
        return outcome

    def _require_whole_staging(
        self, connection: psycopg.Connection, attempt: ledger.SyncAttempt
    ) -> None:
        """Raise if staging does not hold what was verified.

        Raises:
            TransientError: it was emptied in between; the next run reads again.
        """
        expected = attempt.records_read - attempt.rejected
        is_whole = staging.staged_count(connection, attempt.staging_table) == expected
        if attempt.scope_records is not None:
            found = staging.staged_count(connection, attempt.scope_table)
            is_whole = is_whole and found == attempt.scope_records
        if not is_whole:
            raise TransientError(
                f"{attempt.object_name}: what had been read was lost in a restart of the "
                "database. Nothing was changed; run the sync again."
            )

    def _merge(
        self, connection: psycopg.Connection, work: _Work, attempt: ledger.SyncAttempt
    ) -> merge.Merged:
        if merge.table_is_live(connection, work.shape):
            scope_table = None if attempt.scope_records is None else attempt.scope_table
            absence = merge.Absence(scope_table, work.reads_everything)
            return merge.merge(connection, work.shape, attempt, absence=absence)
        if work.needs_table:
            raise UsageError(_NEVER_SYNCED.format(name=work.name))
        return merge.publish(connection, work.shape, attempt.staging_table)

    def _outcome(
        self,
        work: _Work,
        attempt: ledger.SyncAttempt,
        state: ledger.ObjectState,
        merged: merge.Merged,
        spent: ledger.Spent,
    ) -> tuple[SyncOutcome, ledger.Completeness]:
        assert attempt.read_started_at is not None, "a staged attempt was opened"
        overlap = timedelta(minutes=self.settings.differential.overlap_minutes)
        complete_through = attempt.read_started_at - overlap
        if work.mode is SyncMode.RECORD and state.watermark is not None:
            complete_through = state.watermark
        completeness = completeness_after(
            work.selection,
            state,
            everything_was_read=work.reads_everything,
            read_started_at=attempt.read_started_at,
        )
        outcome = SyncOutcome(
            object_name=work.name,
            table=f"{work.shape.schema}.{work.shape.table}",
            mode=work.mode,
            records_read=attempt.records_read,
            inserted=merged.inserted,
            updated=merged.updated,
            deleted=merged.deleted,
            rejected=attempt.rejected,
            watermark_before=state.watermark,
            watermark_after=complete_through,
            api_calls=attempt.api_calls + spent.api_calls,
            seconds=attempt.seconds + spent.seconds,
            transport=attempt.transport or "",
            transport_reason=attempt.transport_reason or "",
            broken_fields=work.broken_fields,
            full_sync_due_reason=completeness.full_sync_due_reason,
        )
        return outcome, completeness

    @contextmanager
    def _noting_failure(self, attempt: ledger.SyncAttempt) -> Iterator[Callable[[], ledger.Spent]]:
        """Write down what stopped an attempt, and what it had cost by then.

        Yields:
            What the block has cost so far.
        """
        started, calls = time.monotonic(), self.connector.usage.calls

        def spent() -> ledger.Spent:
            return ledger.Spent(self.connector.usage.calls - calls, time.monotonic() - started)

        try:
            yield spent
        except BaseException as error:
            is_deliberate = isinstance(error, Interrupted) or not isinstance(error, Exception)
            with suppress(CrmPipelineError, psycopg.Error), self.warehouse.connect() as connection:
                ledger.note_failure(
                    connection,
                    attempt,
                    status="interrupted" if is_deliberate else "failed",
                    error=told(error),
                    spent=spent(),
                )
            raise
