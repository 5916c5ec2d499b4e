"""The soak: weeks of differentials on simulated time, with faults, kills and daily checks.

Belongs here: the calendar and what is measured over it. Does not belong here: single kills
(crash.py), random lives (model.py).

The differentials run in one process of their own that lives as long as the soak, so that its memory
shows what leaks; the org lives in ours.
"""

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count

from crm_pipeline.sandbox.salesforce.failures import OrgError
from crm_pipeline_tests.reliability import edits
from crm_pipeline_tests.reliability.crash import left_over
from crm_pipeline_tests.reliability.engines import Act
from crm_pipeline_tests.reliability.lab import OVERLAP_SECONDS, Lab, lab
from crm_pipeline_tests.reliability.server import ProofServer
from crm_pipeline_tests.reliability.victims import Blow, Order, Victims, victims

TICK_SECONDS = 300
TICKS_PER_DAY = 86_400 // TICK_SECONDS
NAMES = ("Lead", "Contact")
RECORDS = 60
FAULT_SHARE = 0.01
_POINTS = ("merge.merge", "staging.land_page", "ledger.note_read", "lease.Lease.prove")
_FAULTS = ("status", "reset", "lost_answer", "html", "expire_session")


@dataclass
class Soaked:
    """What a soak measured.

    Attributes:
        drift: differences from the org that a quiet day showed.
        memory: of the process that runs the differentials, in kB: when warm, and at the end.
        left: what should have been swept and was not.
        grown: rows of the control tables at the end.
    """

    ticks: int = 0
    failed: int = 0
    faults: int = 0
    kills: int = 0
    drift: list[str] = field(default_factory=list)
    memory: tuple[int, int] = (0, 0)
    left: list[str] = field(default_factory=list)
    grown: dict[str, int] = field(default_factory=dict)

    @property
    def memory_growth(self) -> float:
        """In percent."""
        warm, end = self.memory
        return 100 * (end - warm) / warm if warm else 0.0


class _Calendar:
    """One org under one long-lived pipeline."""

    def __init__(
        self, lab_: Lab, long_lived: Victims, mortal: Victims, seed: int, ticks_per_day: int
    ) -> None:
        self.lab = lab_
        self.rng = random.Random(seed)
        self.soaked = Soaked()
        self._ticks = ticks_per_day
        self._long_lived = long_lived
        self._mortal = mortal
        self._runs = count(1)

    def sync(self, verb: str, name: str, *, may_fail: bool = True) -> None:
        order = self._order(verb, name)
        end = self._long_lived.carry_out(replace(order, stays=True))
        if end.status == "committed":
            return
        self.soaked.failed += 1
        if not may_fail:
            self.soaked.drift.append(f"{verb} of {name}: {end.status}")

    def kill(self) -> None:
        """A worker dies in the middle; its lease runs out before the next tick."""
        blow = Blow(f"warehouse.{self.rng.choice(_POINTS)}", after=self.rng.random() < 0.5)
        order = self._order("differential", self.rng.choice(NAMES))
        end = self._mortal.carry_out(replace(order, blow=blow))
        self.soaked.kills += end.status == "SIGKILL"
        with self.lab.connect() as connection:
            connection.execute("UPDATE crm_sync.lease SET expires_at = now() - interval '1 s'")

    def day(self, number: int) -> None:
        deadly = self.rng.randrange(self._ticks)
        for tick in range(self._ticks):
            self.lab.org.clock.advance(TICK_SECONDS)
            self._live()
            if tick == deadly:
                self.kill()
            self._fault()
            for name in NAMES:
                self.sync("differential", name)
            self.soaked.ticks += 1
        self._evening(number)

    def _evening(self, number: int) -> None:
        faults = self.lab.served.server.faults
        self.soaked.faults += sum(fault.uses for fault in faults.faults)
        faults.clear()
        self.lab.org.clock.advance(2 * OVERLAP_SECONDS)
        for name in NAMES:
            self.sync("differential", name, may_fail=False)
            for verb in ("reconcile", "refresh", *(("full",) if number % 7 == 6 else ())):
                self.sync(verb, name, may_fail=False)
            self.soaked.drift += self.lab.differences(name)
        self.lab.served.server.ledger.clear()
        self.lab.org.forget_past(self.lab.org.clock.stamp())

    def _live(self) -> None:
        org, rng = self.lab.org, self.rng
        name = rng.choice(NAMES)
        living = edits.ids(org, name)
        with suppress(OrgError):
            match rng.randrange(12):
                case 0 | 1 if len(living) < 2 * RECORDS:
                    values = edits.lead(rng.randrange(10**6)) if name == "Lead" else {}
                    org.create(name, values or {"LastName": f"New {rng.randrange(10**6)}"})
                case 2 if len(living) > RECORDS // 2:
                    org.delete(name, rng.choice(living))
                case 3 if len(living) > RECORDS // 2:
                    org.hard_delete(name, rng.choice(living))
                case 4 if len(living) > RECORDS // 2:
                    winner, loser = rng.sample(living, 2)
                    org.merge(name, winner, [loser])
                case 5 if name == "Lead":
                    org.update(name, rng.choice(living), {"Is_Target__c": rng.random() < 0.8})
                case _:
                    field = "Company" if name == "Lead" else "FirstName"
                    org.update(name, rng.choice(living), {field: f"v{rng.randrange(10**6)}"})

    def _fault(self) -> None:
        """One request in a hundred goes wrong; a tick makes about eight."""
        plan = self.lab.served.server.faults
        if self.rng.random() < FAULT_SHARE * 8:
            self.soaked.faults += sum(fault.uses for fault in plan.faults)
            plan.clear()
            kind, nth = self.rng.choice(_FAULTS), self.rng.randint(1, 8)
            plan.script([{"kind": kind, "nth": nth, "path": "/services/data/*"}])

    def _order(self, verb: str, name: str) -> Order:
        return Order(self.lab.place, Act(verb, name), f"tick {next(self._runs)}")


def soak(
    server: ProofServer,
    *,
    days: int,
    seed: int,
    ticks_per_day: int = TICKS_PER_DAY,
    report: Callable[[int, Soaked], None] = lambda _day, _soaked: None,
) -> Soaked:
    """So many days of five-minute differentials."""
    with lab(server) as made, victims() as long_lived, victims() as mortal:
        calendar = _Calendar(made, long_lived, mortal, seed, ticks_per_day)
        soaked = calendar.soaked
        edits.fill(made.org, RECORDS)
        for name in ("Account", *NAMES):
            calendar.sync("full", name, may_fail=False)
        for day in range(days):
            calendar.day(day)
            warm = soaked.memory[0] if day else long_lived.memory()
            soaked.memory = (warm, long_lived.memory())
            report(day, soaked)
        soaked.left = left_over(made)
        soaked.left += [f"Bulk job {job.id}" for job in made.served.server.jobs.all()]
        soaked.grown = _control_rows(made)
        return soaked


def _control_rows(lab_: Lab) -> dict[str, int]:
    with lab_.connect() as connection:
        tables = connection.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r'"
            " AND relnamespace = 'crm_sync'::regnamespace ORDER BY relname"
        ).fetchall()
        found = {}
        for (table,) in tables:
            row = connection.execute(f"SELECT count(*) FROM crm_sync.{table}".encode()).fetchone()
            found[str(table)] = int(row[0]) if row else 0
    return found
