"""The crash matrix: kill a sync at every named point, every request, every message; look; go on.

Belongs here: the scenarios, the choice of blows, what must be true after each. Does not belong
here: how a process is made and killed (victims.py, proxies.py), the org's edits (edits.py).

After every blow, in this order: whoever looks sees each table whole, of before or after, with the
watermark that belongs to it; the next run goes on with no human hand; its tables equal those of a
run that nobody disturbed, which equal the org; the table of before can still be asked for; nothing
is left over; at most one page for each stream was read twice.
"""

import os
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import count, islice
from urllib.parse import urlsplit

from crm_pipeline_tests.reliability import edits
from crm_pipeline_tests.reliability.engines import Act, engine_at, settings_text
from crm_pipeline_tests.reliability.lab import OVERLAP_SECONDS, Lab, Seen, lab, objects
from crm_pipeline_tests.reliability.proxies import (
    CountingProxy,
    MessageCounter,
    RequestCounter,
    counting_proxy,
)
from crm_pipeline_tests.reliability.server import ProofServer
from crm_pipeline_tests.reliability.victims import Blow, Order, Victims

RECORDS = 200
KINDS = ("kill", "term", "postgres")
STREAMS = 2 + 1
"""Pages that are under way at once: the records' streams, and a scope."""
_runs = count(1)

# Functions that only compute: nothing can be half done in them.
_PURE = (
    *("staging_identifier", "._column", "_in_order", "._row", ".table_shape", ".batched"),
    *("_Statements.", "narrowed_to_scope", "_source", "._Counter", "chosen_object", "is_relation"),
)


@dataclass(frozen=True)
class Scenario:
    """One act, and the state of org and warehouse at which it begins.

    Attributes:
        prepare: from an empty org to that state.
        recovery: verbs that may come after a kill, each of them followed by the act itself.
    """

    name: str
    act: Act
    prepare: Callable[[Lab], None]
    transport: str = "bulk"
    recovery: tuple[str, ...] = ("",)

    @property
    def page_records(self) -> int:
        """Small where pages are resumed; a differential is one page, and begins anew."""
        return 40 if self.act.verb == "full" else 2_000


def _full_before(lab_: Lab) -> None:
    edits.fill(lab_.org, RECORDS)
    with engine_at(lab_.place) as engine:
        for name in ("Account", "Contact", "Lead"):
            Act("full", name).run(engine, "before")
    lab_.org.clock.advance(2 * OVERLAP_SECONDS)
    edits.one_of_every_kind(lab_.org)
    lab_.org.clock.advance(2 * OVERLAP_SECONDS)


def _purged(lab_: Lab) -> None:
    _full_before(lab_)
    edits.purge(lab_.org, "Lead", edits.ids(lab_.org, "Lead", "WHERE Is_Target__c = true")[50:53])


def _filled(lab_: Lab) -> None:
    edits.fill(lab_.org, RECORDS)


def _drifted(lab_: Lab) -> None:
    """What no watermark shows: rows that were lost, altered or invented, and records purged."""
    _full_before(lab_)
    with engine_at(lab_.place) as engine:
        Act("differential", "Lead").run(engine, "before")
    targets = edits.ids(lab_.org, "Lead", "WHERE Is_Target__c = true")
    with lab_.connect() as connection:
        connection.execute("DELETE FROM salesforce.lead WHERE id = %s", [targets[0]])
        connection.execute(
            "UPDATE salesforce.lead SET company = 'Tampered' WHERE id = ANY(%s)", [targets[1:4]]
        )
    edits.purge(lab_.org, "Lead", targets[50:53])
    lab_.org.clock.advance(2 * OVERLAP_SECONDS)


def _newly_mapped(lab_: Lab) -> None:
    edits.fill(lab_.org, RECORDS)
    lab_.org.clock.advance(2 * OVERLAP_SECONDS)
    wanted = lab_.place
    fewer = objects(lab_.transport)
    fewer["Lead"]["fields"].remove("Email")
    lab_.place = replace(wanted, settings=settings_text(fewer))
    with engine_at(lab_.place) as engine:
        Act("full", "Lead").run(engine, "before")
    lab_.place = wanted
    lab_.org.clock.advance(2 * OVERLAP_SECONDS)
    with engine_at(lab_.place) as engine:
        Act("differential", "Lead").run(engine, "before")


def scenarios() -> dict[str, Scenario]:
    """All that the engine can do today."""
    found = [
        Scenario("first full sync by Bulk", Act("full", "Lead"), _filled),
        Scenario("first full sync by REST", Act("full", "Lead"), _filled, "rest"),
        Scenario("repeated full sync", Act("full", "Lead"), _purged, recovery=("", "differential")),
        Scenario("differential", Act("differential", "Lead"), _full_before, "auto"),
        Scenario("differential by Bulk", Act("differential", "Lead"), _full_before),
        Scenario("differential without a filter", Act("differential", "Contact"), _full_before),
        Scenario(
            "differential in two halves",
            Act("halves", "Lead"),
            _full_before,
            "auto",
            ("", "differential"),
        ),
    ]
    found += [
        Scenario(
            "reconciliation",
            Act("reconcile", "Lead"),
            _drifted,
            "auto",
            ("", "differential"),
        ),
        Scenario("refresh", Act("refresh", "Lead"), _newly_mapped, "auto"),
    ]
    return {one.name: one for one in found}


@dataclass(frozen=True)
class Verdict:
    """What one blow did.

    Attributes:
        violations: promises that were broken, in sentences.
        repeated_pages: pages that the org handed over more often than to an undisturbed run.
        reread_pages: the same, where a crash of PostgreSQL had emptied the staging table, or where
            the victim had already committed.
        extra_calls: calls beyond those of an undisturbed run.
        orphans: Bulk jobs that were begun and whose number nobody could write down any more.
    """

    blow: str
    status: str
    violations: tuple[str, ...]
    repeated_pages: int = 0
    reread_pages: int = 0
    extra_calls: int = 0
    orphans: int = 0


@dataclass
class Matrix:
    """One scenario, set up, ready for any number of blows."""

    scenario: Scenario
    lab: Lab
    victims: Victims
    http: CountingProxy
    messages: CountingProxy
    seed: int
    old: Seen = field(init=False)
    new: Seen = field(init=False)
    calls: tuple[str, ...] = field(init=False)
    requests: int = field(init=False)
    pages: int = field(init=False)
    http_words: int = field(init=False)
    message_words: int = field(init=False)
    _aside: int = 0
    _old_rows: dict[str, str] = field(init=False)
    _old_at: datetime = field(init=False)
    _new_rows: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        """See the state before, run undisturbed for the state after, and write down every call."""
        self.scenario.prepare(self.lab)
        name = self.scenario.act.object_name
        self.old, self._old_rows = self.lab.seen(name), self.lab.rows(name)
        self._old_at = self.lab.now()
        with self._copy() as copy:
            self._count_anew()
            end = self.victims.carry_out(self._order(self._behind_proxies(copy)))
            assert end.status == "committed", end.status
            self.new, self._new_rows = copy.seen(name), copy.rows(name)
            assert not copy.differences(name)
            self.requests, self.pages = len(self.lab.requests()), self._pages()
            self.http_words, self.message_words = self.http.disarm(), self.messages.disarm()
        assert self.old.digest != self.new.digest
        with self._copy() as copy:
            end = self.victims.carry_out(replace(self._order(copy), records_calls=True))
            self.calls = tuple(c for c in end.calls if not any(part in c for part in _PURE))

    def named_blows(self, number: int) -> Iterator[Blow]:
        """So many blows at named points: every point before any comes a second time."""
        rng = random.Random(f"{self.seed} {self.scenario.name}")
        often = Counter(self.calls)
        made: list[Blow] = []
        for after in (False, True):
            for kind in KINDS:
                for point, times in sorted(often.items()):
                    made += [
                        Blow(point, after, nth, kind) for nth in sorted({1, times, times // 2 + 1})
                    ]
        rng.shuffle(made)
        rounds: Counter[str] = Counter()
        order: list[tuple[int, Blow]] = []
        for blow in made:
            order.append((rounds[blow.point], blow))
            rounds[blow.point] += 1
        order.sort(key=lambda pair: pair[0])
        return islice((blow for _, blow in order), number)

    def strike(self, blow: Blow) -> Verdict:
        """A kill at a named point."""
        with self._copy() as copy:
            self._count_anew()
            end = self.victims.carry_out(replace(self._order(copy), blow=blow))
            return self._judged(copy, str(blow), end.status, blow.kind)

    def blind_blows(self, number: int) -> Iterator[tuple[str, int, bool, str]]:
        """Which proxy, at which word, whether it is passed on, and what happens."""
        rng = random.Random(f"{self.seed} blind {self.scenario.name}")
        spots = [
            (which, word, passes_on)
            for which, words in (("http", self.http_words), ("messages", self.message_words))
            for word in range(1, words + 1)
            for passes_on in (False, True)
        ]
        http = [spot for spot in spots if spot[0] == "http"]
        others = [spot for spot in spots if spot[0] == "messages"]
        rng.shuffle(http)
        rng.shuffle(others)
        mixed = [spot for pair in zip(http, others, strict=False) for spot in pair]
        for spot in islice([*mixed, *others[len(http) :]], number):
            yield (*spot, "postgres" if rng.random() < 0.15 else "kill")

    def strike_blindly(self, which: str, word: int, passes_on: bool, kind: str) -> Verdict:  # noqa: FBT001 - a tuple of blind_blows
        """A kill from outside, at the k-th request or message."""
        proxy = self.http if which == "http" else self.messages
        with self._copy() as copy:
            self._count_anew()
            pids: list[int] = []

            def blow() -> None:
                while not pids:  # the child may be quicker than its own process id
                    pass
                if kind == "postgres":
                    self.lab.server.restart_immediately()
                else:
                    os.kill(pids[0], signal.SIGKILL)

            proxy.arm(word, blow, passes_on=passes_on)
            pids.append(self.victims.begin(self._order(self._behind_proxies(copy))))
            end = self.victims.end()
            proxy.disarm()
            where = f"{kind} {'after' if passes_on else 'before'} word {word} of {which}"
            return self._judged(copy, where, end.status, kind)

    def _judged(self, copy: Lab, blow: str, status: str, kind: str) -> Verdict:
        name = self.scenario.act.object_name
        wrong = [] if status != "SIGALRM" else ["it hung"]
        found = copy.seen(name)
        if found not in (self.old, self.new) and not self._is_midway(copy):
            wrong.append(f"somebody saw {found}, neither {self.old} nor {self.new}")
        with copy.connect() as connection:  # as the clock would, in 30 seconds
            connection.execute("UPDATE crm_sync.lease SET expires_at = now() - interval '1 s'")
            connection.execute(  # attempts by hand are nobody's after an hour
                "UPDATE crm_sync.sync_run SET started_at = started_at - interval '2 h'"
                " WHERE status <> 'committed' AND mode = 'record'"
            )
        wrong += self._recovered(copy, blow)
        orphans = self._orphans()
        repeated = max(0, self._pages() - self.pages - self._aside)
        extra = len(self.lab.requests()) - self.requests
        # Emptied staging is read again, and so is what had been committed before the kill.
        is_excused = kind == "postgres" or found == self.new
        reread, repeated = (repeated, 0) if is_excused else (0, repeated)
        if repeated > STREAMS:
            wrong.append(f"{repeated} pages were read twice")
        if orphans > 1:
            wrong.append(f"{orphans} Bulk jobs are left over")
        return Verdict(blow, status, tuple(wrong), repeated, reread, extra, orphans)

    def _is_midway(self, copy: Lab) -> bool:
        """A reconciliation commits its marks, then its repairs: each row is of before or after."""
        if self.scenario.act.verb != "reconcile":
            return False
        rows = copy.rows(self.scenario.act.object_name)
        known = {**self._old_rows, **self._new_rows}
        return rows.keys() <= known.keys() and all(
            row in (self._old_rows.get(key), self._new_rows.get(key)) for key, row in rows.items()
        )

    def _recovered(self, copy: Lab, blow: str) -> list[str]:
        """Run the next sync, and say what is wrong after it."""
        name = self.scenario.act.object_name
        first = random.Random(f"{self.seed} {blow}").choice(self.scenario.recovery)
        try:
            with engine_at(copy.place) as engine:
                before = self._pages()
                if first:
                    Act(first, name).run(engine, f"between {next(_runs)}")
                self._aside = self._pages() - before
                self.scenario.act.run(engine, f"rescue {next(_runs)}")
        except Exception as error:
            return [f"the next run could not go on: {type(error).__name__}: {error}"]
        wrong = []
        after = copy.seen(name)
        if (after.digest, after.rows) != (self.new.digest, self.new.rows) or (
            after.watermark is None
            or self.new.watermark is None
            or after.watermark < self.new.watermark
        ):
            wrong.append(f"{after} after the next run, not {self.new}")
            wrong += copy.differences(name)[:5]
        if self._old_rows and copy.rows(name, at=self._old_at) != self._old_rows:
            wrong.append("the table of before cannot be asked for any more")
        return wrong + left_over(copy)

    def _orphans(self) -> int:
        jobs = self.lab.served.server.jobs
        left = jobs.all()
        for job in left:
            jobs.forget(job)
        return len(left)

    def _pages(self) -> int:
        """Pages of records that the org handed over, whole or not."""
        return sum(
            entry.path.endswith("/results")
            or ("/jobs" not in entry.path and "/query" in entry.path and "COUNT" not in entry.query)
            for entry in self.lab.served.server.ledger.entries()
        )

    def _count_anew(self) -> None:
        self.lab.served.server.ledger.clear()
        self.http.arm(0, lambda: None, passes_on=True)
        self.messages.arm(0, lambda: None, passes_on=True)

    @contextmanager
    def _copy(self) -> Iterator[Lab]:
        template = urlsplit(self.lab.place.database_url).path.removeprefix("/")
        database = self.lab.server.copy(template)
        try:
            yield self.lab.at(database)
        finally:
            self.lab.server.drop(database)

    def _behind_proxies(self, copy: Lab) -> Lab:
        place = replace(
            copy.place,
            org_url=_with_port(copy.place.org_url, self.http.port),
            database_url=_with_port(copy.place.database_url, self.messages.port),
        )
        return replace(copy, place=place)

    def _order(self, copy: Lab) -> Order:
        home = str(self.lab.server.home)
        return Order(copy.place, self.scenario.act, f"victim {next(_runs)}", server_home=home)


def _with_port(url: str, port: int) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition(":")[0] + f":{port}").geturl()


def left_over(lab_: Lab) -> list[str]:
    """What should have been swept, in sentences."""
    questions = {
        "staging tables": "SELECT count(*) FROM pg_class WHERE relkind = 'r'"
        " AND relnamespace = 'crm_staging'::regnamespace",
        "attempts with staging": "SELECT count(*) FROM crm_sync.sync_run WHERE has_staging",
        "open attempts": "SELECT count(*) FROM crm_sync.sync_run"
        " WHERE status IN ('reading', 'staged')",
        "checkpoints": "SELECT count(*) FROM crm_sync.checkpoint",
        "leases": "SELECT count(*) FROM crm_sync.lease"
        " WHERE owner IS NOT NULL AND expires_at > now()",
    }
    wrong = []
    with lab_.connect() as connection:
        for what, question in questions.items():
            row = connection.execute(question.encode()).fetchone()
            assert row is not None
            if row[0]:
                wrong.append(f"{row[0]} {what} left over")
    return wrong


@contextmanager
def matrix(
    server: ProofServer, victims: Victims, scenario: Scenario, *, seed: int
) -> Iterator[Matrix]:
    """A scenario with its org, its warehouse and its proxies."""
    with ExitStack() as stack:
        made = stack.enter_context(
            lab(
                server,
                transport=scenario.transport,
                bulk_page_records=scenario.page_records,
                rest_page_records=scenario.page_records,
            )
        )
        http = stack.enter_context(counting_proxy(made.served.port, RequestCounter))
        messages = stack.enter_context(counting_proxy(server.port, MessageCounter))
        yield Matrix(scenario, made, victims, http, messages, seed)


def struck(ready: Matrix, *, named: int, blind: int) -> Iterator[Verdict]:
    """Verdicts of so many blows."""
    for blow in ready.named_blows(named):
        yield ready.strike(blow)
    for spot in ready.blind_blows(blind):
        yield ready.strike_blindly(*spot)


def broken(verdicts: Sequence[Verdict]) -> list[str]:
    """Every violation, with the blow that shows it."""
    return [f"{v.blow} ({v.status}): {w}" for v in verdicts for w in v.violations]
