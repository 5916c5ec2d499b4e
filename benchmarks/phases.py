"""Where the engine's time goes: its steps wrapped from outside, in the process that is measured.

Belongs here: which function is which phase, and adding up. Does not belong here: anything that the
engine would have to know of.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from functools import wraps
from typing import Any

import psycopg
from psycopg import sql

from crm_pipeline.sync import merge_path
from crm_pipeline.sync.engine import SyncEngine
from crm_pipeline.sync.merge_path import MergePath
from crm_pipeline.sync.reading import PageLander

_REST = "lease, ledger and the rest"
_PHASES: tuple[tuple[str, Any, str], ...] = (
    (_REST, SyncEngine, "sync_object"),
    ("log in, describe, fit the table", SyncEngine, "_plan"),
    ("open the read", PageLander, "_open"),
    ("read and stage", PageLander, "_land"),
    ("verify the count", PageLander, "_shortfall"),
    ("verify the count", MergePath, "_require_whole_staging"),
    ("compare", MergePath, "_compare"),
    ("look for what did not come", merge_path, "look_before"),
    ("look for what did not come", merge_path, "look_after"),
    ("merge", MergePath, "_merge"),
    ("commit", psycopg.Connection, "commit"),
)


class Phases:
    """Seconds by phase, each without the phases inside it, and by statement."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.statements: dict[str, float] = defaultdict(float)
        self._stack: list[str] = []
        self._since = 0.0

    def watch(self) -> None:
        """Wrap the engine's steps; for the life of this process."""
        for phase, owner, name in _PHASES:
            setattr(owner, name, self._timed(phase, getattr(owner, name)))
        plain = psycopg.Connection.execute

        @wraps(plain)
        def execute(connection: Any, query: Any, *args: Any, **options: Any) -> Any:
            if not self._is_watched():
                return plain(connection, query, *args, **options)
            begun = time.monotonic()
            try:
                return plain(connection, query, *args, **options)
            finally:
                taken = time.monotonic() - begun
                self.statements[f"{self._stack[-1]}: {_beginning(query)}"] += taken

        psycopg.Connection.execute = execute  # type: ignore[method-assign, assignment]

    def _is_watched(self) -> bool:
        return bool(self._stack) and threading.current_thread() is threading.main_thread()

    def _timed(self, phase: str, plain: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(plain)
        def timed(*args: Any, **options: Any) -> Any:
            if threading.current_thread() is not threading.main_thread():
                return plain(*args, **options)
            if phase == "commit" and (not self._stack or self._stack[-1] != _REST):
                return plain(*args, **options)  # a short one inside another phase
            self._turn()
            self._stack.append(phase)
            try:
                return plain(*args, **options)
            finally:
                self._turn()
                self._stack.pop()

        return timed

    def _turn(self) -> None:
        """Book what has passed to the phase that was on top."""
        now = time.monotonic()
        if self._stack:
            self.seconds[self._stack[-1]] += now - self._since
        self._since = now


def _beginning(query: Any) -> str:
    text = query.as_string(None) if isinstance(query, sql.Composable) else str(query)
    return " ".join(text.replace('"', "").split())[:48].replace("|", "/")
