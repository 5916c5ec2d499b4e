"""The proofs behind the figures M1 to M15, each in a short and a long form.

Belongs here: how much is run, and what counts as reached. Does not belong here: the machinery
(crash.py, model.py, soak.py and the others), printing (figures.py).
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from crm_pipeline_tests.cases.deciding import deciding_house, write_backs
from crm_pipeline_tests.cases.writing import writing_house
from crm_pipeline_tests.docs.cases import CASES, named_by_case
from crm_pipeline_tests.house import House
from crm_pipeline_tests.reliability.concurrency import (
    crowd_over_one_lease,
    readers_during_full_syncs,
)
from crm_pipeline_tests.reliability.consent import opinions_on_both_sides
from crm_pipeline_tests.reliability.crash import Verdict, broken, matrix, scenarios, struck
from crm_pipeline_tests.reliability.figures import Figure
from crm_pipeline_tests.reliability.large import kill_and_go_on
from crm_pipeline_tests.reliability.metamorphic import PAIRS
from crm_pipeline_tests.reliability.model import live_many_lives
from crm_pipeline_tests.reliability.seeded_bugs import BUGS, hunt
from crm_pipeline_tests.reliability.server import proof_server
from crm_pipeline_tests.reliability.soak import soak
from crm_pipeline_tests.reliability.victims import victims
from crm_pipeline_tests.reliability.writes import (
    PER_LEAD,
    creates_without_answers,
    scores_out_of_order,
)

TESTS = Path(__file__).parents[1]
READING_CASES = tuple(case for case in CASES if not case.startswith("H"))
"""H is about writing."""


@dataclass(frozen=True)
class Size:
    """How much of everything.

    Attributes:
        named: kills at named points, over all scenarios.
        blind: kills at counted requests and messages, over all scenarios.
        lives: sequences of the model test.
        days: of the soak.
        creates: whose outcome nobody is told.
        scores: changes out of order.
        opinions: random events of consent, in so many rounds.
    """

    name: str
    named: int
    blind: int
    lives: int
    steps: int
    days: int
    schedulers: int
    ticks: int
    readers: int
    full_syncs: int
    records: int
    kills: int
    pairs: int
    bugs: int
    creates: int
    scores: int
    opinions: int
    rounds: int


SHORT = Size("short", 120, 60, 60, 30, 1, 2, 100, 8, 3, 50_000, 3, 1, 10, 1_000, 2_000, 2_000, 3)
LONG = Size(
    *("long", 1_000, 450, 2_000, 60, 30, 8, 1_000, 32, 20, 1_000_000, 20, 10, len(BUGS)),
    *(10_000, 100_000, 100_000, 25),
)


def _tell(sentences: Sequence[str]) -> None:
    sys.stderr.writelines(f"{sentence}\n" for sentence in sentences)


def cases(_size: Size, _seed: int) -> list[Figure]:
    """M1: every case of the reading side has a test with its name in it."""
    wanted, found = set(READING_CASES), set(named_by_case())
    lacking = sorted(wanted - found)
    result = f"{len(wanted & found)} of {len(wanted)}"
    if lacking:
        result += f"; not yet: {', '.join(lacking)}"
    return [
        Figure(
            "M1",
            "cases of the reading side with a test of their name",
            "the tests' names",
            "all",
            result,
            not lacking,
        )
    ]


def crashes(part: int) -> Callable[[Size, int], list[Figure]]:
    """M2: one half of the scenarios."""

    def proof(size: Size, seed: int) -> list[Figure]:
        names = sorted(scenarios())[part::2]
        number = len(scenarios())
        verdicts: list[Verdict] = []
        points: set[str] = set()
        with proof_server() as server, victims() as warm:
            for name in names:
                with matrix(server, warm, scenarios()[name], seed=seed) as ready:
                    points |= set(ready.calls)
                    each = (-(-size.named // number), -(-size.blind // number))
                    verdicts += struck(ready, named=each[0], blind=each[1])
        wrong = broken(verdicts)
        _tell(wrong)
        kills = sum(v.status != "committed" for v in verdicts)
        orphans = sum(v.orphans for v in verdicts)
        repeated = max(v.repeated_pages for v in verdicts)
        return [
            Figure(
                "M2",
                f"kills anywhere: {', '.join(names)}",
                f"{len(verdicts)} blows at {len(points)} functions, before and after, requests and "
                f"messages; SIGKILL, SIGTERM, PostgreSQL stopped at once; {kills} ended the run",
                "0 violations; the next run recovers unaided; at most a page a stream again",
                f"{len(wrong)} violations; at most {repeated} pages again; {orphans} Bulk jobs "
                "begun at the very moment of the kill were nobody's any more",
                not wrong,
            )
        ]

    return proof


def lives(part: int) -> Callable[[Size, int], list[Figure]]:
    """M3: one half of the model's sequences, in portions with a seed of their own."""

    def proof(size: Size, seed: int) -> list[Figure]:
        portion, done = 50, 0
        wanted = size.lives // 2
        with proof_server() as server:
            while done < wanted:
                many = min(portion, wanted - done)
                number = seed * 1_000_000 + part * 100_000 + done
                live_many_lives(server, lives=many, steps=size.steps, number=number)
                done += many
        return [
            Figure(
                "M3",
                "random lives of an org and its pipeline",
                f"{done} sequences of {size.steps} steps",
                "0 mismatches",
                "0 mismatches",
                True,
            )
        ]

    return proof


def weeks(size: Size, seed: int) -> list[Figure]:
    """M4: the soak."""
    with proof_server() as server:
        soaked = soak(server, days=size.days, seed=seed)
    _tell(soaked.drift + soaked.left)
    grown = ", ".join(f"{name} {rows}" for name, rows in soaked.grown.items() if rows > 100)
    return [
        Figure(
            "M4",
            "soak on simulated time",
            f"{size.days} days, {soaked.ticks} ticks of 5 minutes, {soaked.faults} faults, "
            f"{soaked.kills} kills, daily reconciliation and refresh, weekly full sync",
            "0 drift, memory growth < 5 %, nothing left over",
            f"{len(soaked.drift)} differences, memory {soaked.memory_growth:+.1f} %, "
            f"{len(soaked.left)} left over; rows kept: {grown or 'none to speak of'}",
            not soaked.drift and not soaked.left and soaked.memory_growth < 5,
        )
    ]


def crowds(size: Size, _seed: int) -> list[Figure]:
    """M5: schedulers over one lease, readers during full syncs."""
    with proof_server() as server:
        crowd = crowd_over_one_lease(server, schedulers=size.schedulers, ticks=size.ticks)
        seen = readers_during_full_syncs(
            server, readers=size.readers, syncs=size.full_syncs, records=2_000
        )
    return [
        Figure(
            "M5",
            "many at once",
            f"{size.schedulers} schedulers x {size.ticks} ticks; {size.readers} readers during "
            f"{size.full_syncs} full syncs, {seen.reads:,} reads",
            "0 overlaps, 0 half reads, no reader stalled 2 s",
            f"{crowd.overlaps} overlaps in {crowd.owned:,} holds, {seen.halves} half reads, the "
            f"slowest read took {seen.slowest_seconds:.2f} s",
            not crowd.overlaps and not seen.halves and seen.slowest_seconds < 2,
        )
    ]


def large(size: Size, seed: int) -> list[Figure]:
    """M6: a large full sync, killed again and again."""
    with proof_server() as server, victims() as warm:
        found = kill_and_go_on(server, warm, records=size.records, kills=size.kills, seed=seed)
    again = found.pages_read - found.pages
    return [
        Figure(
            "M6",
            "large full sync killed at random pages",
            f"{found.records:,} rows in {found.pages} pages, {found.kills} kills",
            "equal to the org; at most a page a stream again at each kill; memory <= 512 MB",
            f"{len(found.wrong)} differences; {again} pages read again; {found.calls_made} calls "
            f"for {found.calls} undisturbed; {found.peak_mb} MB",
            not found.wrong and again <= 2 * found.kills and found.peak_mb <= 512,
        )
    ]


def writes(size: Size, seed: int) -> list[Figure]:
    """M8: creates without answers, and scores out of order."""
    with _writing(0) as house:
        made = creates_without_answers(house, creates=size.creates, portion=100, seed=seed)
    with _writing(size.scores // PER_LEAD) as house:
        scored = scores_out_of_order(house, portion=2_000, seed=seed)
    return [
        Figure(
            "M8",
            "creates whose outcome nobody is told, changes of scores out of order",
            f"{made.wanted:,} creates, {made.unanswered} calls of them without an answer;"
            f" {scored.wanted:,} changes, {scored.unanswered} calls of them without an answer",
            "0 duplicates, 0 lost, every final value right, writes <= 1.1 x needed",
            f"{made.doubled} duplicates, {made.wrong} lost, {scored.wrong} values wrong,"
            f" {made.writes / made.needed:.2f} x and {scored.writes / scored.needed:.2f} x",
            made.is_right and scored.is_right,
        )
    ]


@contextmanager
def _writing(leads: int) -> Iterator[House]:
    with (
        proof_server() as server,
        tempfile.TemporaryDirectory(prefix="writes-") as folder,
        pytest.MonkeyPatch.context() as environment,
        writing_house(server.url(server.copy()), Path(folder), environment, leads=leads) as house,
    ):
        yield house


def opinions(size: Size, seed: int) -> list[Figure]:
    """M9: opt-outs, bounces and edits on both sides, over models that dbt builds."""
    with (
        proof_server() as server,
        tempfile.TemporaryDirectory(prefix="opinions-") as folder,
        pytest.MonkeyPatch.context() as environment,
        deciding_house(
            server.url(server.copy()),
            Path(folder),
            environment,
            leads=max(80, size.opinions // 40),
            by_hand=False,
        ) as house,
    ):
        write_backs(house, consent={"direction": "both"})
        found = opinions_on_both_sides(
            house, Path(folder) / "dbt", events=size.opinions, rounds=size.rounds, seed=seed
        )
    _tell([*found.wrong, *found.lost])
    return [
        Figure(
            "M9",
            "random opt-outs, bounces and edits on both sides",
            f"{found.events:,} events in {size.rounds} rounds, {found.needed:,} boxes to tick;"
            f" {found.clouded} addresses of which nobody can tell who spoke last",
            "0 lost, 0 reversed, <= 1 write per change, quiet after 2 cycles",
            f"{len(found.lost)} lost, {len(found.wrong)} reversed, {found.applied:,} writes,"
            f" {found.restless} in the last cycle",
            found.is_right,
        )
    ]


def pairs(size: Size, seed: int) -> list[Figure]:
    """Metamorphic checks."""
    wrong: list[str] = []
    with proof_server() as server:
        for number in range(size.pairs):
            for name, check in PAIRS.items():
                wrong += [f"{name}: {one}" for one in check(server, seed + number)]
    _tell(wrong)
    return [
        Figure(
            "M3",
            f"two ways to the same place: {', '.join(PAIRS)}",
            f"{size.pairs} histories each, edits of every kind",
            "equal tables",
            f"{len(wrong)} differences",
            not wrong,
        )
    ]


def _every(part: str) -> list[str]:
    return [case for case in READING_CASES if case.startswith(part)]


def suite(
    number: str, what: str, target: str, named: Sequence[str]
) -> Callable[[Size, int], list[Figure]]:
    """A figure that is reached when every test of those cases passes."""
    shown = named[0] if len(named) == 1 else f"{named[0]} to {named[-1]}"
    wanted = " or ".join(f"_{case.lower()}_" for case in named)

    def proof(_size: Size, _seed: int) -> list[Figure]:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(TESTS)),
                *("-m", "not (real_clients or browser or long)", "-k", wanted),
                *("--ignore", str(TESTS / "reliability")),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        _tell([line for line in done.stdout.splitlines() if line.startswith("FAILED")])
        last = done.stdout.strip().splitlines()[-1].strip("= ")
        result = re.sub(r", \d+ deselected| in .*", "", last)
        ran = f"the tests of {shown}"
        return [Figure(number, what, ran, target, result, not done.returncode)]

    return proof


def bugs(size: Size, _seed: int) -> list[Figure]:
    """M15: bugs put in on purpose."""
    found = list(hunt(BUGS[:: max(1, len(BUGS) // size.bugs)][: size.bugs]))
    missed = [one.bug.name for one in found if not one.is_caught]
    return [
        Figure(
            "M15",
            "bugs put in on purpose, caught by a named test",
            f"{len(found)} bugs of the reading side",
            "all but one in thirty",
            f"{len(found) - len(missed)} of {len(found)}"
            + (f"; missed: {', '.join(missed)}" if missed else ""),
            len(missed) * 30 <= len(found),
        )
    ]


# The longest first: two run at a time.
PROOFS: dict[str, Callable[[Size, int], list[Figure]]] = {
    "M3 first half": lives(0),
    "M3 second half": lives(1),
    "M4": weeks,
    "M2 first half": crashes(0),
    "M2 second half": crashes(1),
    "M15": bugs,
    "M6": large,
    "M8": writes,
    "M9": opinions,
    "M3 pairs": pairs,
    "M5": crowds,
    "M1": cases,
    "M7": suite("M7", "values round-trip, REST = Bulk", "0 differences", _every("D")),
    "M10": suite("M10", "how a record vanishes; drift", "all found", [*_every("B"), "O3"]),
    "M11": suite("M11", "hostile inputs", "0 escapes", ["S5", "S6", "S7", "S13", "S14"]),
    "M12": suite("M12", "canaries: secrets, personal data", "0 hits", ["S1", "S2", "S3", "S4"]),
    "M13": suite("M13", "API budget, logins, off switch", "0; 1; <= 1", ["E2", "E5", "G10"]),
}
