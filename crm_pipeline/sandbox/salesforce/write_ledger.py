"""The ledger of writes: every request that writes records, and what became of each of its rows.

Belongs here: what a test needs to prove that nothing was written twice, out of order or as an
echo. Does not belong here: requests that only read (ledger.py), the writing (writer.py).
"""

import threading
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from crm_pipeline.sandbox.salesforce import strange_text

DONE, ROLLED_BACK = "OK", "ROLLED_BACK"
_SECRET_HEADERS = frozenset({"authorization", "x-sfdc-session", "cookie"})


@dataclass(slots=True)
class WrittenRow:
    """One row of a request.

    `values` are those that were sent, `changed` the fields that hold another value since.
    `outcome` is OK, an error code, or ROLLED_BACK for what another row took along. `key` is the
    external id of an upsert, with its field before it.
    """

    operation: str
    object: str
    id: str
    values: dict[str, Any]
    key: str = ""
    changed: list[str] = field(default_factory=list)
    outcome: str = ""


@dataclass(slots=True)
class WriteRequest:
    """One request that wrote or tried to; `status` is 0 until it is answered."""

    number: int
    method: str
    path: str
    received_at: str
    headers: dict[str, str]
    fault: str = ""
    status: int = 0
    rows: list[WrittenRow] = field(default_factory=list)

    def note(
        self, operation: str, object_name: str, record_id: str, values: Mapping[str, Any]
    ) -> WrittenRow:
        """Note a row before it is tried."""
        kept = {name: _kept(one) for name, one in values.items() if name != "attributes"}
        row = WrittenRow(operation, object_name, record_id, kept)
        self.rows.append(row)
        return row

    def roll_back(self, first: int = 0) -> None:
        """What succeeded, from that row on, is undone."""
        for row in self.rows[first:]:
            if row.outcome == DONE:
                row.outcome = ROLLED_BACK


class WriteLedger:
    """The latest requests that wrote, in the order in which they came."""

    def __init__(self, keep: int = 100_000) -> None:
        self._lock = threading.Lock()
        self._requests: deque[WriteRequest] = deque(maxlen=keep)
        self._number = 0

    def open(
        self, method: str, path: str, received_at: str, headers: Mapping[str, str], fault: str
    ) -> WriteRequest:
        """Note a request that is about to write."""
        shown = {name: one for name, one in headers.items() if name not in _SECRET_HEADERS}
        with self._lock:
            self._number += 1
            made = WriteRequest(self._number, method, path, received_at, shown, fault)
            self._requests.append(made)
            return made

    def requests(self) -> list[WriteRequest]:
        """The requests kept, oldest first."""
        with self._lock:
            return list(self._requests)

    def clear(self) -> None:
        """Begin anew; numbers go on."""
        with self._lock:
            self._requests.clear()

    def page(self, after: int, limit: int) -> dict[str, Any]:
        """Requests with a higher number than `after`, and where the next page begins."""
        later = [one for one in self.requests() if one.number > after]
        shown = later[:limit]
        return {
            "total": len(self._requests),
            "requests": [asdict(one) for one in shown],
            "next": shown[-1].number if len(later) > limit else None,
        }

    def counts(self, object_name: str = "", record_id: str = "") -> dict[str, Any]:
        """How often each record and field was written with success, and how often it changed."""
        records: dict[str, dict[str, Any]] = {}
        codes: dict[str, int] = {}
        for row in self._rows():
            if object_name not in {"", row.object} or record_id not in {"", row.id}:
                continue
            codes[row.outcome] = codes.get(row.outcome, 0) + 1
            if row.outcome == DONE:
                _count(records.setdefault(row.id, _nothing(row.object)), row)
        return {"records": records, "outcomes": codes}

    def _rows(self) -> Iterable[WrittenRow]:
        for request in self.requests():
            yield from list(request.rows)


def _nothing(object_name: str) -> dict[str, Any]:
    return {"object": object_name, "writes": 0, "creates": 0, "unchanged": 0, "fields": {}}


def _count(record: dict[str, Any], row: WrittenRow) -> None:
    record["writes"] += 1
    record["creates"] += row.operation == "create"
    record["unchanged"] += row.operation == "update" and not row.changed
    for name in row.values:
        entry = record["fields"].setdefault(name, {"writes": 0, "changed": 0})
        entry["writes"] += 1
        entry["changed"] += name in row.changed or row.operation == "create"


def _kept(value: Any) -> Any:
    """A sent value in a form that JSON can say."""
    return strange_text.stored(value) if isinstance(value, str) else value
