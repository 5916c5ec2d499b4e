"""A run's progress on the terminal, read from the ledger while the run is at work.

Belongs here: following and drawing. Does not belong here: the run itself (dagster_runs.py).
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Self

import psycopg
from psycopg.rows import dict_row
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.progress import TimeElapsedColumn as Elapsed

from crm_pipeline.errors import CrmPipelineError
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.lease import running_syncs

SECONDS_BETWEEN_LOOKS = 0.25
_STATES = """
SELECT r.object_name, r.status, r.expected_records, r.error,
       greatest(r.records_read, (SELECT coalesce(sum(c.records + c.rejected), 0)
                                 FROM crm_sync.checkpoint c
                                 WHERE c.sync_run_id = r.sync_run_id))::bigint AS records_read
FROM crm_sync.sync_run r WHERE r.run_id = %s ORDER BY r.sync_run_id
"""


def console_on_a_copy(descriptor: int = 2) -> Console:
    """A console that goes on to the terminal when the standard stream is redirected."""
    stream = os.fdopen(os.dup(descriptor), "w", encoding="utf-8")
    return Console(file=stream, highlight=False, soft_wrap=True)


@contextmanager
def followed(
    console: Console, warehouse: Warehouse, find_run_id: Callable[[], str | None]
) -> Iterator[None]:
    """Draw the progress of a run for the length of the block.

    A terminal gets a bar per object, anything else a line per finished object.
    """
    stopped = threading.Event()
    with _Board(console) as board:
        follower = threading.Thread(
            target=_follow, args=(board, warehouse, find_run_id, stopped), name="progress"
        )
        follower.start()
        try:
            yield
        finally:
            stopped.set()
            follower.join()


class _Board:
    """The bars, or the lines where nobody could see bars."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description:<28}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            Elapsed(),
            console=console,
            disable=not console.is_terminal,
        )
        self._bars: dict[str, TaskID] = {}
        self._said: set[str] = set()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, state: dict[str, object]) -> None:
        """One object as the ledger says it now."""
        name, read = str(state["object_name"]), int(str(state["records_read"]))
        expected = state["expected_records"]
        is_over = state["status"] in ("committed", "failed", "interrupted")
        if name not in self._bars:
            self._bars[name] = self._progress.add_task(name, total=None)
        total = read if is_over else None if expected is None else int(str(expected))
        # An object with nothing to read is done, not at 0 of 0.
        self._progress.update(self._bars[name], completed=read or is_over, total=total or is_over)
        if is_over and not self._console.is_terminal:
            self.say(f"{name}: {state['status']}, {read:,} records read")

    def say(self, sentence: str) -> None:
        """A line above the bars, once."""
        if sentence not in self._said:
            self._said.add(sentence)
            self._progress.console.print(sentence, markup=False)


def _follow(
    board: _Board,
    warehouse: Warehouse,
    find_run_id: Callable[[], str | None],
    stopped: threading.Event,
) -> None:
    run_id: str | None = None
    is_last = False
    while not is_last:
        is_last = stopped.wait(SECONDS_BETWEEN_LOOKS)
        # Watching must never break what is watched; the next look may succeed.
        with suppress(CrmPipelineError, psycopg.Error):
            run_id = run_id or find_run_id()
            if run_id is not None:
                _look(board, warehouse, run_id)


def _look(board: _Board, warehouse: Warehouse, run_id: str) -> None:
    with warehouse.connect(autocommit=True) as connection:
        cursor = connection.cursor(row_factory=dict_row)
        states = cursor.execute(_STATES, [run_id]).fetchall()
    for state in states:
        board.show(state)
    if not any(state["status"] == "reading" for state in states):
        for holder in running_syncs(warehouse):
            if holder.owner != run_id:
                board.say(
                    f"Waiting for a {holder.mode} sync of {holder.name} (run {holder.owner[:8]})."
                )
