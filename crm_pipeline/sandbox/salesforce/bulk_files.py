"""Bulk results on disk: SQLite writes the CSV, Python only moves blocks of it.

A result is one file of rows plus the place where each row begins, so any page of any size is a
byte range: served without looking at a value. The same query on an unchanged org is not run
again.

Belongs here: producing and slicing results. Does not belong here: jobs (bulk.py).
"""

import shutil
import tempfile
import threading
import weakref
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from crm_pipeline.sandbox.salesforce import strange_text
from crm_pipeline.sandbox.salesforce.soql_compiler import Column, Compiled

if TYPE_CHECKING:
    from crm_pipeline.sandbox.salesforce.org import SandboxOrg

_ROWS_AT_ONCE = 4_000
_ARGUMENTS_AT_ONCE = 100  # SQLite's functions take no more than 127
_KEPT = 6  # results remembered for the next job with the same query
BLOCK = 1 << 20  # bytes read from a result file at once


@dataclass(frozen=True, eq=False)
class Produced:
    """A finished result. `starts` has one entry per row and one for the end of the file."""

    path: Path
    header: bytes
    starts: "array[int]"
    carriage: bool

    @property
    def count(self) -> int:
        """How many records there are."""
        return len(self.starts) - 1

    def size(self, places: Sequence[int]) -> int:
        """Bytes of the rows at these places, with the header."""
        starts = self.starts
        if isinstance(places, range):
            return len(self.header) + starts[places.stop] - starts[places.start]
        return len(self.header) + sum(starts[one + 1] - starts[one] for one in places)

    def blocks(self, places: Sequence[int]) -> Iterator[bytes]:
        """The header and the rows, in blocks; rows in their own order are one stretch."""
        if isinstance(places, range):
            yield from self._stretch(places.start, places.stop)
            return
        with self.path.open("rb") as file:
            block = self.header
            for one in places:
                file.seek(self.starts[one])
                block += file.read(self.starts[one + 1] - self.starts[one])
            yield block

    def _stretch(self, first: int, end: int) -> Iterator[bytes]:
        left = self.starts[end] - self.starts[first]
        with self.path.open("rb", buffering=0) as file:
            file.seek(self.starts[first])
            block = file.read(min(BLOCK, left))
            left -= len(block)
            yield self.header + block
            while left > 0:
                block = file.read(min(BLOCK, left))
                left -= len(block)
                yield block


class ResultFiles:
    """Makes results and remembers the latest ones by query and state of the org."""

    def __init__(self, org: "SandboxOrg", directory: Path | None) -> None:
        self._org = org
        self._lock = threading.Lock()
        self._made = 0
        self._kept: OrderedDict[object, Produced] = OrderedDict()
        private = directory is None
        self._directory = directory or Path(tempfile.mkdtemp(prefix="sandbox-bulk-"))
        self._directory.mkdir(parents=True, exist_ok=True)
        if private:
            self._cleanup = weakref.finalize(
                self, shutil.rmtree, self._directory, ignore_errors=True
            )

    def result(
        self, compiled: Compiled, *, carriage: bool, stopped: Callable[[], bool]
    ) -> Produced | None:
        """The result of a query; None if the job was stopped meanwhile."""
        key = (
            compiled.sql(_row_sql(compiled.columns)),
            compiled.parameters,
            self._org.revision,
            carriage,
        )
        with self._lock:
            known = self._kept.get(key)
        if known is not None:
            return known
        produced = self._produce(compiled, carriage=carriage, stopped=stopped)
        if produced is not None:
            with self._lock:
                self._kept[key] = produced
                while len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
        return produced

    def _produce(
        self, compiled: Compiled, *, carriage: bool, stopped: Callable[[], bool]
    ) -> Produced | None:
        with self._lock:
            self._made += 1
            path = self._directory / f"result-{self._made}.csv"
        ending = b"\r\n" if carriage else b"\n"
        names = ",".join(f'"{".".join(one.names)}"' for one in compiled.columns)
        starts = array("q", [0])
        reader = self._org.store.reader()
        cursor = reader.execute(
            f"SELECT CAST({_row_sql(compiled.columns)} AS BLOB) "
            + compiled.sql("")[len("SELECT ") :],
            compiled.parameters,
        )
        with path.open("wb", buffering=0) as file:
            while rows := cursor.fetchmany(_ROWS_AT_ONCE):
                if stopped():
                    path.unlink()
                    return None
                texts = [strange_text.in_csv(row[0]) for row in rows]
                extra = len(ending)
                lengths = accumulate((len(one) + extra for one in texts), initial=starts.pop())
                starts.extend(lengths)
                file.write(ending.join(texts) + ending)
        produced = Produced(path, names.encode() + ending, starts, carriage)
        weakref.finalize(produced, path.unlink, missing_ok=True)
        return produced

    def close(self) -> None:
        """Forget all results."""
        self._kept.clear()
        if hasattr(self, "_cleanup"):
            self._cleanup()


def _row_sql(columns: tuple[Column, ...]) -> str:
    """SQL that yields a whole CSV row: every value quoted, quotes doubled (%w), null empty."""
    pieces = []
    for begin in range(0, len(columns), _ARGUMENTS_AT_ONCE):
        some = columns[begin : begin + _ARGUMENTS_AT_ONCE]
        shape = ",".join(['"%w"'] * len(some))
        values = ", ".join(f"coalesce({one.sql}, '')" for one in some)
        pieces.append(f"format('{shape}', {values})")
    return " || ',' || ".join(pieces)
