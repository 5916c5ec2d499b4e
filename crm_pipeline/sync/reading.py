"""From an open read to verified rows in staging.

Pages stream side by side, each landing in a transaction of its own, so that a sync of days that is
killed goes on with the pages that are missing. The count in staging must be the count that the CRM
announced before anything is merged.

Belongs here: landing pages, repeating them, resuming, verifying. Does not belong here: which
records are read and why (engine.py).
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace

import psycopg
import stamina

from crm_pipeline.crm.port import ReadRequest, RecordRead, RecordSource, ResumePoint
from crm_pipeline.errors import IncompleteRead, ReadExpired, TransientError
from crm_pipeline.model.objects import Transport
from crm_pipeline.model.pages import ResultPage
from crm_pipeline.model.sync import Progress
from crm_pipeline.sync.questions import RECORDS_PER_QUESTION, batched, open_read
from crm_pipeline.warehouse import ledger, scope, staging
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.schema import TableShape

Report = Callable[[Progress], None]
PATIENCE_SECONDS = 10.0
"""How long an interrupted sync waits for the pages that its threads are at."""
WAKE_SECONDS = 0.1
"""How long we sleep at a time: a signal that comes just before we fall asleep does not wake us."""
READS_PER_SYNC = 3
"""How often a read is begun anew when the CRM forgot it or its count does not add up."""


@dataclass(frozen=True, slots=True)
class PageLander:
    """Lands the pages of one attempt.

    Attributes:
        check_interrupts: raises `Interrupted` when the lease is lost or syncs were switched off.
        report: told after every page.
    """

    source: RecordSource
    warehouse: Warehouse
    streams: int
    check_interrupts: Callable[[], None]
    report: Report

    def read_into_staging(
        self,
        attempt: ledger.SyncAttempt,
        request: ReadRequest,
        shape: TableShape,
        *,
        becomes_live: bool,
    ) -> ledger.LandedPages:
        """Read until staging holds exactly what the CRM announced.

        Raises:
            IncompleteRead: the counts do not meet even after reading anew.
            TransientError: the CRM or the warehouse stayed unreachable; what landed is kept.
            Interrupted: at a safe point.
        """
        started = time.monotonic()
        resume = self._resume_point(attempt, shape)
        if resume is not None and attempt.staged_at is not None:
            with self.warehouse.connect() as connection:
                return ledger.landed_pages(connection, attempt)
        complaint = ""
        for _ in range(READS_PER_SYNC):
            if resume is None:
                self._begin_anew(attempt, shape, becomes_live=becomes_live)
            try:
                read = self._open(attempt, request, resume)
                landed = self._land(attempt, read, shape, started)
            except ReadExpired as error:
                complaint, resume = str(error), None
                continue
            complaint = self._shortfall(attempt, read, landed)
            if not complaint:
                return landed
            read.close()
            resume = None
        raise IncompleteRead(
            f"{attempt.object_name}: {complaint} It was read {READS_PER_SYNC} times. The table was "
            "not touched; run the sync again, and if it stays so compare the object in the CRM."
        )

    def _resume_point(self, attempt: ledger.SyncAttempt, shape: TableShape) -> ResumePoint | None:
        """Where to go on; None when there is nothing to go on with, or staging was lost."""
        if attempt.read_token is None:
            return None
        with self.warehouse.connect() as connection:
            landed = ledger.landed_pages(connection, attempt)
            if not staging.staging_matches(connection, shape, attempt.staging_table):
                return None
            if staging.staged_count(connection, attempt.staging_table) != landed.records:
                return None
        return ResumePoint(attempt.read_token, landed.keys)

    def _begin_anew(
        self, attempt: ledger.SyncAttempt, shape: TableShape, *, becomes_live: bool
    ) -> None:
        with self.warehouse.connect() as connection:
            ledger.forget_pages(connection, attempt)
            staging.create_staging(
                connection, shape, attempt.staging_table, becomes_live=becomes_live
            )

    def _open(
        self, attempt: ledger.SyncAttempt, request: ReadRequest, resume: ResumePoint | None
    ) -> RecordRead:
        """Open the read and write its token down before the first page lands.

        The instant from which the read is complete is taken before it is opened, from the CRM's
        clock; a resumed read keeps the instant at which it was first opened.
        """
        self.check_interrupts()
        read_started_at = attempt.read_started_at if resume else None
        instant = read_started_at or self.source.server_time()
        read = open_read(self.source, request, resume)
        try:
            with self.warehouse.connect() as connection:
                ledger.note_read(
                    connection,
                    attempt,
                    token=read.token,
                    transport=read.transport.value,
                    reason=read.reason,
                    read_started_at=instant,
                    expected_records=read.record_count,
                )
        except BaseException:
            if resume is None:  # nobody would know of it any more
                read.close()
            raise
        return read

    def _land(
        self, attempt: ledger.SyncAttempt, read: RecordRead, shape: TableShape, started: float
    ) -> ledger.LandedPages:
        """Stream all pages; pages of a keyset read build on each other and so come one by one."""
        streams = self.streams if read.transport is Transport.BULK else 1
        pages = _SharedPages(read.pages())
        with self.warehouse.connect() as connection:
            count = _Counter(ledger.landed_pages(connection, attempt).records)

        def drain() -> None:
            for page in pages:
                landed = self._land_page(attempt, page, shape)
                self.report(
                    Progress(
                        attempt.object_name,
                        count.add(landed.records + landed.rejected),
                        read.record_count,
                        time.monotonic() - started,
                    )
                )

        _side_by_side(pages, drain, streams, attempt.object_name)
        with self.warehouse.connect() as connection:
            return ledger.landed_pages(connection, attempt)

    def _land_page(
        self, attempt: ledger.SyncAttempt, page: ResultPage, shape: TableShape
    ) -> staging.Landed:
        """Land one page, reading it again when the way was at fault."""
        for trial in stamina.retry_context(
            on=_is_worth_repeating, attempts=5, timeout=None, wait_max=20
        ):
            with trial:
                self.check_interrupts()
                with self.warehouse.connect(autocommit=True) as connection:
                    return staging.land_page(
                        connection,
                        page,
                        shape=shape,
                        staging_table=attempt.staging_table,
                        sync_run_id=attempt.sync_run_id,
                        object_name=attempt.object_name,
                    )
        raise AssertionError("the last trial returns or raises")

    def _shortfall(
        self, attempt: ledger.SyncAttempt, read: RecordRead, landed: ledger.LandedPages
    ) -> str:
        """What does not add up, in a sentence; empty when everything does."""
        with self.warehouse.connect() as connection:
            staged = staging.staged_count(connection, attempt.staging_table)
        if staged != landed.records:
            return f"{landed.records} records had landed, but staging holds {staged}."
        arrived = landed.records + landed.rejected
        if read.record_count is not None and arrived != read.record_count:
            return f"the CRM announced {read.record_count} records, but {arrived} arrived."
        return ""

    def read_scope(self, request: ReadRequest, shape: TableShape, scope_table: str) -> None:
        """Land ids, stamps and marks of records whether or not they pass the filter.

        It is read before the records themselves: a record that changes in between is then found
        inside by the later read, and never marked as gone while it is not.
        """
        with self.warehouse.connect() as connection:
            scope.create_scope(connection, shape.narrowed(), scope_table)
            self._copy_scope(connection, request, shape.narrowed(), scope_table)

    def extend_scope(
        self, request: ReadRequest, shape: TableShape, scope_table: str, ids: Sequence[str]
    ) -> None:
        """Ask for ids, and land what is found of them, and what is not."""
        with self.warehouse.connect() as connection:
            for batch in batched(ids, RECORDS_PER_QUESTION):
                question = replace(request, record_ids=batch)
                self._copy_scope(connection, question, shape.narrowed(), scope_table)

    def _copy_scope(
        self,
        connection: psycopg.Connection,
        request: ReadRequest,
        narrow: TableShape,
        scope_table: str,
    ) -> None:
        self.check_interrupts()
        unfiltered = replace(request, fields=narrow.read_fields, record_filter=None)
        read = open_read(self.source, unfiltered)
        try:
            copied = sum(
                staging.copy_page(connection, page, narrow, scope_table) for page in read.pages()
            )
        finally:
            read.close()
        if read.record_count is not None and copied != read.record_count:
            raise TransientError(
                f"{request.crm_object.name}: the CRM announced {read.record_count} ids, but "
                f"{copied} arrived. Run the sync again."
            )
        if request.record_ids is not None:
            scope.note_not_found(connection, narrow, scope_table, request.record_ids)


def _is_worth_repeating(error: Exception) -> bool:
    if isinstance(error, ReadExpired):
        return False
    return isinstance(error, TransientError | psycopg.OperationalError)


class _Counter:
    """Adds up from several threads."""

    def __init__(self, start: int) -> None:
        self._value = start
        self._lock = threading.Lock()

    def add(self, amount: int) -> int:
        with self._lock:
            self._value += amount
            return self._value


class _SharedPages:
    """One iterator of pages for several threads; the first error stops all of them."""

    def __init__(self, pages: Iterator[ResultPage]) -> None:
        self._pages = pages
        self._lock = threading.Lock()
        self._is_stopped = False

    def __iter__(self) -> Iterator[ResultPage]:
        while True:
            with self._lock:
                page = None if self._is_stopped else next(self._pages, None)
            if page is None:
                return
            yield page

    @contextmanager
    def stopped_by_errors(self) -> Iterator[None]:
        """Hand out no more pages once anything has gone wrong, a Ctrl-C of the main thread too."""
        try:
            yield
        except BaseException:
            self._is_stopped = True
            raise

    def stopping_on_error(self, work: Callable[[], None]) -> Callable[[], None]:
        def guarded() -> None:
            with self.stopped_by_errors():
                work()

        return guarded


def _side_by_side(pages: _SharedPages, drain: Callable[[], None], streams: int, name: str) -> None:
    """Drain the pages in several threads, and wait for all of them.

    Whoever interrupts us (Ctrl-C, SIGTERM, a cancelled run) waits for a page that hangs no longer
    than `PATIENCE_SECONDS`. The threads do not keep the process alive, and what one of them might
    still land is whole: a page comes with its checkpoint or not at all.
    """
    work = pages.stopping_on_error(drain)
    futures: list[Future[None]] = []
    for number in range(streams):
        future: Future[None] = Future()
        threading.Thread(
            target=_settle, args=(future, work), name=f"{name} {number}", daemon=True
        ).start()
        futures.append(future)
    try:
        with pages.stopped_by_errors():
            while wait(futures, timeout=WAKE_SECONDS).not_done:
                continue
            for future in futures:
                future.result()
    except Exception:
        wait(futures)
        raise
    except BaseException:
        wait(futures, timeout=PATIENCE_SECONDS)
        raise


def _settle(future: Future[None], work: Callable[[], None]) -> None:
    try:
        work()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(None)
