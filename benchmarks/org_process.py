"""The sandbox org in a process of its own, and the wire on which it is told to change.

Belongs here: filling, serving and editing the org from outside. Does not belong here: what is in it
(subjects.py) and who reads it.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from subjects import SUBJECTS, Subject

from crm_pipeline.sandbox.salesforce.faults import Fault, FaultPlan
from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.running import running

PAGE_RECORDS = 100_000
_LONGER_THAN_ANY_OVERLAP = 3_600


@dataclass
class OrgProcess:
    """A served org of one object."""

    url: str
    subject: Subject
    records: int
    _orders: IO[str]
    _answers: IO[str]

    def change(self, count: int) -> None:
        """Give so many records a new value, spread evenly if they are a percentage.

        An hour passes afterwards, so that no sync reads the same change twice for its overlap.
        """
        percent = -(-100 * count // self.records)
        condition = self.subject.matching(percent)
        self._order("change", matching=f"{condition} LIMIT {count}")

    def recalculate(self, count: int) -> None:
        """Give a calculated field other values, which moves no stamp."""
        percent = -(-100 * count // self.records)
        condition = self.subject.matching(percent)
        self._order("recalculate", matching=f"{condition} LIMIT {count}")

    def answer_after(self, seconds: float) -> None:
        """Let every request for data wait so long, as on a way around half the world."""
        self._order("wait", seconds=seconds)

    def _order(self, verb: str, **facts: Any) -> None:
        self._orders.write(json.dumps({"verb": verb, **facts}) + "\n")
        self._orders.flush()
        if not self._answers.readline():
            raise SystemExit("the org's process ended")


@contextmanager
def serving(folder: Path, subject: Subject, records: int) -> Iterator[OrgProcess]:
    """An org, filled; one that a folder already holds goes on as it is."""
    command = [sys.executable, str(Path(__file__).resolve()), str(folder), subject.name]
    process = subprocess.Popen(
        [*command, str(records)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        if not url:
            raise SystemExit("the org's process ended")
        yield OrgProcess(url, subject, records, process.stdin, process.stdout)
    finally:
        process.stdin.close()
        process.wait()


def main() -> None:
    """Fill the org if it is empty, serve it, and obey until the orders end."""
    folder, name, records = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    subject = SUBJECTS[name]
    filled = folder / f"{name}-{records}"
    # No history: each edit of a million records would be kept as a million rows.
    org = SandboxOrg(filled / "org.sqlite", keeps_past=False)
    if org.store.meta("filled") is None:
        org.clock.advance(seconds=-86_400)
        subject.fill(org, records)
        org.clock.advance(seconds=86_400)
        org.store.set_meta("filled", "yes")
    if (left_at := org.store.meta("clock")) is not None:
        org.clock.set(datetime.fromisoformat(left_at))
    try:
        with running(
            org, bulk_page_records=PAGE_RECORDS, bulk_directory=filled / "results"
        ) as served:
            print(served.url, flush=True)
            for line in sys.stdin:
                order = json.loads(line)
                if order["verb"] == "wait":
                    _let_wait(served.server.faults, order["seconds"])
                else:
                    _obey(org, subject, order)
                print("done", flush=True)
    finally:
        org.close()


def _let_wait(faults: FaultPlan, seconds: float) -> None:
    faults.clear()
    if seconds:
        faults.script([Fault("hang", "/services/data/*", times=0, seconds=seconds)])


def _obey(org: SandboxOrg, subject: Subject, order: dict[str, Any]) -> None:
    number = int(org.store.meta("edits") or 0) + 1
    org.store.set_meta("edits", str(number))
    if order["verb"] == "change":
        org.update_all(subject.name, {subject.changed: f"Edit {number}"}, order["matching"])
    else:
        org.update_all(
            subject.name, {"Lead_Score__c": number % 90}, order["matching"], stamps="none"
        )
    now = org.clock.advance(seconds=_LONGER_THAN_ANY_OVERLAP)
    org.store.set_meta("clock", now.isoformat())


if __name__ == "__main__":
    main()
