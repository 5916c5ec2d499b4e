"""What one drainer has in its hands: settings, CRM, warehouse, lease, and how patient it is.

Belongs here: what sending.py, jobs.py and drain.py share. Does not belong here: any step of theirs.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from crm_pipeline.config.settings import Settings
from crm_pipeline.crm.port import CrmConnector, WriteCapabilities
from crm_pipeline.errors import CrmPipelineError, ObjectUnavailable
from crm_pipeline.model.objects import CrmObject
from crm_pipeline.model.writeback import Verdict
from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.lease import Lease


@dataclass(frozen=True, slots=True)
class WriteManners:
    """How patient we are.

    Attributes:
        most_by_calls: so many write-backs go by single calls, ten of 200; more go by a job.
        most_at_once: what is claimed for single calls; between two claims urgent lanes overtake.
        most_by_job: what is claimed for a job, three of the parts of 10,000 in which a CRM works at
            one: the next job is filled and the last one settled meanwhile.
        retry_seconds: before the second try of a record that was refused for a passing reason;
            each further pause is twice as long.
        wait_seconds: the same for one that waits for a person or a process of the CRM's.
        longest_pause_seconds: no pause is longer.
        first_look_seconds: before the second look at a bulk job; each wait is a quarter longer.
        slowest_look_seconds: the longest wait: every look is an API call.
        look_again_seconds: so long a decision to make a record is good; one that waited longer is
            looked for once more before it is sent.
        patience_seconds: after which a drainer leaves the rest to the next one.
        most_outages: so many calls without an answer, one after the other, end a drainer.
        sleep: waits so many seconds.
        clock: seconds that pass, from any beginning.
    """

    most_by_calls: int = 2_000
    most_at_once: int = 2_000
    most_by_job: int = 30_000
    retry_seconds: float = 2.0
    wait_seconds: float = 900.0
    longest_pause_seconds: float = 6 * 3600.0
    first_look_seconds: float = 0.2
    slowest_look_seconds: float = 30.0
    look_again_seconds: float = 60.0
    patience_seconds: float = 3 * 3600.0
    most_outages: int = 3
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def pause_seconds(self, verdict: Verdict, refusals: int) -> float:
        """Before a record is tried again; never the same for two, or they would collide again."""
        first = self.wait_seconds if verdict is Verdict.WAIT else self.retry_seconds
        longest = min(first * 2.0 ** min(refusals, 20), self.longest_pause_seconds)
        return random.uniform(0.5, 1.0) * longest  # noqa: S311 - no secret


Report = Callable[[str], None]
"""Told the step that was just done: claimed, sent, settled, begun, uploaded, ended."""


@dataclass(slots=True)
class WriteContext:
    """One drainer at work.

    Attributes:
        require_enabled: raises when writing is switched off.
        problems: what kept write-backs waiting, in sentences, each once.
        outages: calls without an answer since the last one with one.
        ended: how many rows were settled, by the state that they have now.
        able: how much the CRM takes at once.
    """

    settings: Settings
    connector: CrmConnector
    warehouse: Warehouse
    lease: Lease
    require_enabled: Callable[[], None]
    manners: WriteManners
    report: Report
    problems: list[str] = field(default_factory=list)
    outages: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    _described: dict[str, CrmObject | None] = field(default_factory=dict)
    able: WriteCapabilities = field(init=False)
    _calls_told: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.able = self.connector.write_capabilities()

    @property
    def calls(self) -> int:
        """API calls so far."""
        return self.connector.usage.calls

    def untold_calls(self) -> int:
        """API calls since this was last asked: the first claim to end tells those of all."""
        calls = self.calls
        untold, self._calls_told = calls - self._calls_told, calls
        return untold

    def count(self, ended: Mapping[str, int]) -> None:
        """Add rows that were settled, by the state that they have now; any thread may."""
        with self._lock:
            self.ended.update(ended)

    def note(self, problem: CrmPipelineError | str) -> None:
        """Remember why something waits."""
        if str(problem) not in self.problems:
            self.problems.append(str(problem))

    def describe(self, object_name: str) -> CrmObject | None:
        """The object as our user may write it now; None with a problem noted when we may not.

        An object that the settings leave out is neither read nor written.
        """
        if object_name not in self._described:
            self._described[object_name] = self._looked_up(object_name)
        return self._described[object_name]

    def _looked_up(self, object_name: str) -> CrmObject | None:
        if object_name not in self.settings.enabled_objects:
            self.note(
                f"{object_name} is not among the objects of the settings, so nothing is written to"
                f" it; add it under `objects:`, or dismiss what waits for it."
            )
            return None
        try:
            return self.connector.describe(object_name)
        except ObjectUnavailable as error:
            self.note(error)
            return None
