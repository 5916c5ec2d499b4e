"""Many at once: schedulers over one lease, readers during full syncs.

Belongs here: what happens side by side. Does not belong here: kills (crash.py).
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from crm_pipeline.errors import LeaseBusy
from crm_pipeline.model.sync import SyncMode
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.lease import held_lease
from crm_pipeline_tests.reliability import edits
from crm_pipeline_tests.reliability.engines import engine_at
from crm_pipeline_tests.reliability.lab import FILTER, Lab, lab
from crm_pipeline_tests.reliability.server import ProofServer


@dataclass(frozen=True)
class Crowd:
    """What a crowd of schedulers did."""

    ticks: int
    owned: int
    overlaps: int


def crowd_over_one_lease(server: ProofServer, *, schedulers: int, ticks: int) -> Crowd:
    """Every scheduler tries at every tick, and nobody may be inside with another."""
    database = server.copy()
    inside = _Inside()

    def schedule(number: int) -> int:
        owned = 0
        warehouse = Warehouse(server.url(database))
        with warehouse.reusing_connections():
            for tick in range(ticks):
                with suppress(LeaseBusy):
                    owned += _one_tick(warehouse, f"scheduler {number} {tick}", inside)
        return owned

    try:
        with ThreadPoolExecutor(schedulers) as pool:
            owned = sum(pool.map(schedule, range(schedulers)))
        return Crowd(schedulers * ticks, owned, inside.overlaps)
    finally:
        server.drop(database)


class _Inside:
    """Counts who is inside at the same moment."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self.overlaps = 0

    def __enter__(self) -> None:
        with self._lock:
            self._count += 1
            self.overlaps += self._count > 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._count -= 1


def _one_tick(warehouse: Warehouse, owner: str, inside: _Inside) -> int:
    with (
        held_lease(warehouse, "Lead", owner=owner, mode=SyncMode.DIFFERENTIAL) as lease,
        inside,
        warehouse.connect() as connection,
    ):
        lease.prove(connection)
    return 1


@dataclass(frozen=True)
class Readers:
    """What readers saw during full syncs.

    Attributes:
        halves: answers that belong to no state before or after a sync.
        slowest_seconds: the longest that one reader waited for one answer.
    """

    reads: int
    halves: int
    slowest_seconds: float


def readers_during_full_syncs(
    server: ProofServer, *, readers: int, syncs: int, records: int
) -> Readers:
    """Each full sync finds every lead changed, a tenth of them deleted and as many new."""
    with lab(server, bulk_page_records=max(40, records // 10)) as made:
        edits.fill(made.org, records)
        watch = _Watch(made, readers)
        with engine_at(made.place) as engine:
            for number in range(syncs + 1):
                if number:
                    made.org.clock.advance(3_600)
                    _change_everything(made, number)
                watch.allow()
                engine.sync_object("Lead", mode=SyncMode.FULL, run_id=f"full {number}")
                if not number:
                    watch.begin()
        return watch.end()


def _change_everything(lab_: Lab, number: int) -> None:
    org = lab_.org
    org.update_all("Lead", {"Company": f"State {number}"}, "")
    inside = edits.ids(org, "Lead", f"WHERE {FILTER}")
    for one in inside[: len(inside) // 20]:
        org.delete("Lead", one)
    new = (edits.lead(number * 100_000 + n) | {"Company": f"State {number}"} for n in range(7))
    org.create_many("Lead", new)


class _Watch:
    """Readers that never stop, and what they may see: one state, whole."""

    def __init__(self, lab_: Lab, readers: int) -> None:
        self._lab = lab_
        self._allowed: set[tuple[str, str, int]] = set()
        self._readers = readers
        self._is_over = threading.Event()
        self._pool = ThreadPoolExecutor(readers)
        self._found: list[tuple[int, int, float]] = []

    def allow(self) -> None:
        """The org's state as it is now is one that may be seen."""
        rows = self._lab.org.query(f"SELECT Company FROM Lead WHERE {FILTER}")
        companies = [str(row["Company"]) for row in rows]
        self._allowed.add((min(companies), max(companies), len(companies)))

    def begin(self) -> None:
        """Let them read."""
        self._futures = [self._pool.submit(self._read) for _ in range(self._readers)]

    def end(self) -> Readers:
        """Call them back."""
        self._is_over.set()
        answers = [future.result() for future in self._futures]
        self._pool.shutdown()
        return Readers(
            sum(reads for reads, _, _ in answers),
            sum(halves for _, halves, _ in answers),
            max(slowest for _, _, slowest in answers),
        )

    def _read(self) -> tuple[int, int, float]:
        reads, halves, slowest = 0, 0, 0.0
        with self._lab.connect() as connection:
            while not self._is_over.is_set():
                began = time.monotonic()
                row = connection.execute(
                    "SELECT min(company), max(company), count(*) FROM salesforce.lead"
                    " WHERE _deleted_at IS NULL"
                ).fetchone()
                slowest = max(slowest, time.monotonic() - began)
                reads += 1
                halves += row not in self._allowed
                self._is_over.wait(0.002)
        return reads, halves, slowest
