"""The ledger of truth: every request the org received, for tests to read.

Belongs here: what was asked and how it ended. Does not belong here: bodies and tokens.
"""

import re
import threading
from collections import Counter, deque
from dataclasses import asdict, dataclass
from typing import Any

_IDENTIFIER = re.compile(r"/[0-9a-zA-Z]{15}(?:[A-Z0-5]{3})?(?=/|$|-)")


@dataclass(slots=True)
class Entry:
    """One request; `status` 0 means that no whole answer went out."""

    number: int
    method: str
    path: str
    query: str
    received_at: str
    status: int = 0
    sent_bytes: int = 0
    fault: str = ""


class Ledger:
    """The latest requests in order, and counts by endpoint since the start."""

    def __init__(self, keep: int = 20_000) -> None:
        self._lock = threading.Lock()
        self._entries: deque[Entry] = deque(maxlen=keep)
        self._counts: Counter[str] = Counter()
        self._number = 0

    def open(self, method: str, path: str, query: str, received_at: str) -> Entry:
        """Note a request as it arrives."""
        with self._lock:
            self._number += 1
            entry = Entry(self._number, method, path, query, received_at)
            self._entries.append(entry)
            self._counts[f"{method} {endpoint(path)}"] += 1
            return entry

    def entries(self) -> list[Entry]:
        """The requests kept, oldest first."""
        with self._lock:
            return list(self._entries)

    def counts(self) -> dict[str, int]:
        """How often each endpoint was asked; Ids in paths are folded to {id}."""
        with self._lock:
            return dict(self._counts)

    def clear(self) -> None:
        """Begin anew."""
        with self._lock:
            self._entries.clear()
            self._counts.clear()

    def report(self) -> dict[str, Any]:
        """Both, as JSON."""
        entries = [asdict(one) for one in self.entries()]
        return {"total": self._number, "counts": self.counts(), "requests": entries}


def endpoint(path: str) -> str:
    """A path with its Ids folded, so that calls to one endpoint count together."""
    return _IDENTIFIER.sub("/{id}", path)
