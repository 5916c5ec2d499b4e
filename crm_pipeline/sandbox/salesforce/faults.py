"""The fault plan: what goes wrong, when, and how often; every fault counts its uses.

Belongs here: choosing the fault of a request or a row. Does not belong here: carrying it out
on the wire (gate.py).
"""

import fnmatch
import logging
import random
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from crm_pipeline.sandbox.salesforce.failures import OrgError
from crm_pipeline.sandbox.salesforce.ledger import Entry
from crm_pipeline.sandbox.salesforce.row_locks import unable_to_lock

_log = logging.getLogger(__name__)
PageFault = Literal[
    "drop_records",
    "duplicate_records",
    "early_end",
    "short_page",
    "shuffle_records",
    "wrong_count",
    "wrong_locator",
]
"""What a page of a result may get wrong, over REST and over Bulk."""

FaultKind = Literal[
    "bad_gzip",
    "call",
    "clock",
    "content_type",
    "cut",
    "date",
    "deep_json",
    "drip",
    "expire_session",
    "gzip_bomb",
    "hang",
    "html",
    "huge_header",
    "late_answer",
    "late_status",
    "lost_answer",
    "redirect",
    "reset",
    "reset_midway",
    "status",
    PageFault,
]
When = Literal["before", "after", "sent"]


@dataclass(slots=True)
class Fault:
    """One scripted fault.

    It applies to requests of `method` (any if empty, or several: `POST,PATCH`) whose path
    matches the `path` glob: to the `nth` one that matches (every one if 0), and `times` times in
    all (0: without end).
    `reset` hangs up before the request is carried out, `lost_answer` after; `late_status` answers
    with `status` after it, `late_answer` rightly, but only after so many `seconds`; `cut` and
    `reset_midway` send `after_bytes` of the body first; `hang` waits `seconds`, then goes on.

    `call` calls `callback` with the request's ledger entry, from a thread of its own, `when`
    the request came in, `after` it was carried out, or when the answer was `sent`. It exists in
    Python only. It is for killing clients, moving clocks, and changes between two pages.

    The faults of a page (`PageFault`) touch so many `records`, chosen by the `seed`; counts go
    wrong `by` so many; `consistent` lets the page's counts agree with what it shows, and
    `instead` doubles records in the place of others. `locator` is the wrong word itself.
    """

    kind: FaultKind
    path: str = "*"
    method: str = ""
    nth: int = 0
    times: int = 1
    status: int = 503
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json;charset=UTF-8"
    after_bytes: int = 0
    seconds: float = 0.0
    size: int = 1_000_000
    location: str = ""
    when: When = "before"
    callback: Callable[[Entry], object] | None = None
    records: int = 1
    by: int = 1
    consistent: bool = False
    instead: bool = False
    locator: str = "MDAwMDA"
    seed: int = 1
    seen: int = 0
    uses: int = 0

    def called(self, entry: Entry) -> None:
        """Call the callback; the request goes on whatever it raises."""
        try:
            if self.callback is not None:
                self.callback(entry)
        except Exception:
            _log.exception("the callback of a fault failed")

    def matches(self, method: str, path: str) -> bool:
        """Whether the request is one this fault looks at."""
        return _is_one(method, self.method) and fnmatch.fnmatchcase(path, self.path)


def _is_one(method: str, wanted: str) -> bool:
    return not wanted or method in wanted.split(",")


@dataclass(slots=True)
class RowFault:
    """A refusal of single rows on write: of one record, or of every record of an object.

    `match` are field values a written row must carry to be refused. With a `rate` below 1 only
    that share of the matching rows is refused, the same ones for the same `seed`.
    """

    code: str
    message: str = ""
    object_name: str = ""
    record_id: str = ""
    match: dict[str, Any] = field(default_factory=dict)
    times: int = 1
    rate: float = 1.0
    seed: int = 1
    seen: int = 0
    uses: int = 0

    def is_due(self) -> bool:
        """Whether the next matching row meets it."""
        self.seen += 1
        return self.rate >= 1 or random.Random(f"{self.seed} {self.seen}").random() < self.rate

    def matches(self, object_name: str, record_id: str, values: Mapping[str, Any]) -> bool:
        """Whether this row is to be refused."""
        return (
            self.object_name in {"", object_name}
            and self.record_id in {"", record_id}
            and all(values.get(name) == value for name, value in self.match.items())
        )


HEALED_BY_TRYING_AGAIN: tuple[FaultKind, ...] = (
    "bad_gzip",
    "cut",
    "drop_records",
    "expire_session",
    "html",
    "lost_answer",
    "reset",
    "status",
    "wrong_count",
)
"""What a client gets over by asking again, if it notices: the kinds drawn by default."""
OUTCOME_UNKNOWN: tuple[FaultKind, ...] = ("late_status", "lost_answer", "reset", "status")
"""What leaves a client that writes in doubt: it was carried out, or it was not."""
_MOST_BYTES = 2_000  # within which a body is cut


@dataclass(slots=True)
class RandomFaults:
    """Faults at a `rate` between 0 and 1 among the requests that match `path` and `method`.

    The n-th matching request meets the same fate for the same seed, whatever came before.
    """

    seed: int
    rate: float
    kinds: Collection[FaultKind] = HEALED_BY_TRYING_AGAIN
    path: str = "*"
    method: str = ""
    seen: int = 0
    uses: int = 0

    def take(self, method: str, path: str) -> Fault | None:
        """The fate of the next request."""
        if not _is_one(method, self.method) or not fnmatch.fnmatchcase(path, self.path):
            return None
        self.seen += 1
        rng = random.Random(f"{self.seed} {self.seen}")
        if rng.random() >= self.rate:
            return None
        self.uses += 1
        return Fault(
            rng.choice(sorted(self.kinds)),
            after_bytes=rng.randrange(_MOST_BYTES),
            status=rng.choice((500, 502, 503)),
            seed=rng.randrange(1 << 30),
        )


class FaultPlan:
    """The faults in force, asked once per request and once per written row."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.faults: list[Fault] = []
        self.row_faults: list[RowFault] = []
        self.chance: RandomFaults | None = None

    def script(self, faults: Iterable[Fault | RowFault | Mapping[str, Any]]) -> None:
        """Add faults; mappings carry a fault's attributes, a `code` makes it a row fault."""
        with self._lock:
            for one in faults:
                fault = one if isinstance(one, (Fault, RowFault)) else _made(one)
                if isinstance(fault, RowFault):
                    self.row_faults.append(fault)
                else:
                    self.faults.append(fault)

    def random(self, seed: int, rate: float, **facts: Any) -> None:
        """Let that share of all requests go wrong, the same ones for the same seed.

        `facts` are `kinds`, `path` and `method` of `RandomFaults`. Scripted faults go before.
        """
        self.chance = RandomFaults(seed, rate, **facts)

    def clear(self) -> None:
        """Let everything go well again."""
        self.chance = None
        with self._lock:
            self.faults.clear()
            self.row_faults.clear()

    def take(self, method: str, path: str) -> Fault | None:
        """The fault that befalls this request; the first that is due wins."""
        due = None
        with self._lock:
            for fault in self.faults:
                if not fault.matches(method, path):
                    continue
                fault.seen += 1
                exhausted = fault.times and fault.uses >= fault.times
                if due is None and not exhausted and fault.nth in {0, fault.seen}:
                    fault.uses += 1
                    due = fault
            if due is None and self.chance is not None:
                due = self.chance.take(method, path)
        return due

    def check_row(self, object_name: str, record_id: str, values: Mapping[str, Any]) -> None:
        """Refuse a row that the plan says is refused."""
        with self._lock:
            for fault in self.row_faults:
                exhausted = fault.times and fault.uses >= fault.times
                if exhausted or not fault.matches(object_name, record_id, values):
                    continue
                if fault.is_due():
                    fault.uses += 1
                    raise _refused(fault, record_id)

    def report(self) -> dict[str, Any]:
        """The plan with its uses, as JSON."""
        with self._lock:
            return {
                "faults": [_facts(one) for one in self.faults],
                "row_faults": [asdict(one) for one in self.row_faults],
                "random": asdict(self.chance) if self.chance else None,
            }


def _refused(fault: RowFault, record_id: str) -> OrgError:
    if fault.code == "UNABLE_TO_LOCK_ROW" and not fault.message:
        return unable_to_lock(record_id)
    return OrgError(fault.code, fault.message or fault.code)


def _facts(fault: Fault) -> dict[str, Any]:
    """A fault as JSON; a callback is nothing that JSON could say."""
    return {one.name: getattr(fault, one.name) for one in fields(fault) if one.name != "callback"}


def _made(entry: Mapping[str, Any]) -> Fault | RowFault:
    kind: type[Fault | RowFault] = RowFault if "code" in entry else Fault
    known = {one.name for one in fields(kind)} - {"callback"}
    unknown = set(entry) - known
    if unknown:
        raise OrgError("JSON_PARSER_ERROR", f"a fault has no {', '.join(sorted(unknown))}")
    if kind is Fault and entry.get("kind") not in get_args(FaultKind):
        raise OrgError("JSON_PARSER_ERROR", f"a fault is one of {', '.join(get_args(FaultKind))}")
    return kind(**entry)
