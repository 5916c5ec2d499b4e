"""A large full sync that is killed again and again, and goes on each time.

Belongs here: one object, many pages, many kills in a row. Does not belong here: one kill at every
point (crash.py).
"""

import random
from dataclasses import dataclass, replace

from crm_pipeline_tests.reliability import edits
from crm_pipeline_tests.reliability.engines import Act
from crm_pipeline_tests.reliability.lab import Lab, lab
from crm_pipeline_tests.reliability.server import ProofServer
from crm_pipeline_tests.reliability.victims import Blow, Order, Victims

PAGES = 40
_LANDED = "warehouse.staging.land_page"


@dataclass(frozen=True)
class Survived:
    """What became of it.

    Attributes:
        pages: of an undisturbed run.
        pages_read: of all runs together.
        calls: of an undisturbed run.
        calls_made: of all runs together; each new process logs in, describes, looks at the job.
        peak_mb: of the hungriest process.
    """

    records: int
    kills: int
    pages: int
    pages_read: int
    calls: int
    calls_made: int
    peak_mb: int
    wrong: tuple[str, ...]


def kill_and_go_on(
    server: ProofServer, victims: Victims, *, records: int, kills: int, seed: int
) -> Survived:
    """A first full sync by Bulk, killed after a page or two, so many times."""
    rng = random.Random(seed)
    size = max(1, records // PAGES)
    with lab(server, transport="bulk", bulk_page_records=size) as made:
        made.org.create_many("Lead", (edits.lead(n, is_target=True) for n in range(records)))
        clean = made.at(server.copy())
        order = Order(clean.place, Act("full", "Lead"), "undisturbed")
        end = victims.carry_out(order)
        assert end.status == "committed", end.status
        calls, pages = _counted(made)
        peaks, struck = [end.peak_kb], 0
        for number in range(kills + 1):
            blow = Blow(_LANDED, rng.random() < 0.5, rng.randint(1, 3))
            order = Order(made.place, Act("full", "Lead"), f"run {number}")
            end = victims.carry_out(replace(order, blow=blow if number < kills else None))
            peaks.append(end.peak_kb)
            if end.status != "SIGKILL":
                break
            struck += 1
            with made.connect() as connection:
                connection.execute("UPDATE crm_sync.lease SET expires_at = now() - interval '1 s'")
        calls_made, pages_read = _counted(made)
        wrong = [] if end.status == "committed" else [end.status]
        wrong += made.differences("Lead")[:5]
        peak = max(peaks) // 1024
        return Survived(records, struck, pages, pages_read, calls, calls_made, peak, tuple(wrong))


def _counted(lab_: Lab) -> tuple[int, int]:
    """Calls and pages since the last count."""
    entries = lab_.served.server.ledger.entries()
    lab_.served.server.ledger.clear()
    return len(entries), sum(entry.path.endswith("/results") for entry in entries)
