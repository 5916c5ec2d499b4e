"""Random opinions on both sides: who said no stays out, who said yes last is in, all gets quiet.

People opt out, bounce, complain and opt in here; in the CRM boxes are ticked and un-ticked, records
are made, edited and given other addresses. Each round ends with a sync, a build of the models, a
decision and a drain; while ticks are on their way, some people opt in.

Belongs here: the events, and what must come of them, kept apart from the models' own rules. Does
not belong here: how much is run (proofs.py).
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from crm_pipeline_tests.cases.deciding import BOUNCED, BOX, build, decided, person, says
from crm_pipeline_tests.cases.writing import drain
from crm_pipeline_tests.house import House

MOST_UN_TICKS = 2
"""Of one record: the outbox writes a value three times a week, and then it is a war."""
_MODELS = (
    *("int_people__records", "dim_people", "int_consent__own_ticks", "int_consent__refusals"),
    "fct_consent",
)
_KINDS = {"no": "email_unsubscribed", "bounce": "email_hard_bounced", "spam": "email_complained"}
_OPINIONS = "SELECT email, is_opted_out, hard_bounced_at IS NOT NULL FROM marketing.fct_consent"


@dataclass
class Opinions:
    """What was found.

    Attributes:
        needed: boxes that had to be ticked, as the org and the marts said before each drain.
        applied: boxes that were ticked.
        wrong: addresses about which the warehouse holds another opinion than the last one said.
        lost: records that lack a tick after the drain.
        restless: changes that the two last cycles wrote although nothing had happened.
        clouded: addresses of which the CRM does not tell enough to know who spoke last.
    """

    events: int = 0
    needed: int = 0
    applied: int = 0
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    restless: int = 0
    clouded: int = 0

    @property
    def is_right(self) -> bool:
        """Whether nothing was lost, reversed, written twice or written without need."""
        return not (self.wrong or self.lost or self.restless) and self.applied == self.needed


@dataclass
class _Said:
    """What was said of one address, the last of each kind."""

    yes: int = 0
    no: int = 0
    is_spam: bool = False
    is_bounced: bool = False
    is_clouded: bool = False

    @property
    def is_out(self) -> bool:
        return self.is_spam or self.no > self.yes


@dataclass
class _Card:
    """A record as the CRM holds it."""

    object_name: str
    email: str
    is_ticked: bool = False
    is_fresh: bool = False
    is_moved: bool = False
    has_bounced: bool = False
    is_touched: bool = False
    un_ticks: int = 0


class _World:
    """One org, its pipeline, and everything that anybody said."""

    def __init__(self, house: House, dbt_folder: Path, seed: int) -> None:
        self.house = house
        self.org = house.org
        self.found = Opinions()
        self._dbt = dbt_folder
        self._chance = random.Random(seed)
        self._said: dict[str, _Said] = {}
        self._cards: dict[str, _Card] = {}
        self._events: list[tuple[str, str, str, str]] = []
        self._now = 0
        for row in self.org.query("SELECT Id, Email FROM Lead"):
            self._cards[str(row["Id"])] = _Card("Lead", str(row["Email"]))
        self._acts: tuple[tuple[int, Callable[[], None]], ...] = (
            (5, lambda: self._speak("no")),
            (2, lambda: self._speak("bounce")),
            (1, lambda: self._speak("spam")),
            (4, self._opt_in),
            (5, self._tick),
            (4, self._un_tick),
            (1, self._bounce_in_crm),
            (4, self._edit),
            (2, self._move),
            (2, self._make),
        )

    def happen(self) -> None:
        """One event."""
        weights, acts = zip(*self._acts, strict=True)
        self._now += 1
        self.org.clock.advance(1)
        self._chance.choices(acts, weights)[0]()
        self.found.events += 1

    def cycle(self, *models: str) -> int:
        """Sync, build, decide, send; returns how many boxes were ticked."""
        self._store()
        self.org.clock.advance(3600)
        self.house.sync()
        self._what_the_crm_says()
        build(self.house, self._dbt, *models)
        self._compare()
        lacking = self._lacking()
        decided(self.house, "consent")
        for email in sorted({self._email_of(record_id) for record_id, _ in lacking}):
            if self._chance.random() < 0.1:
                self._opt_in(email)
        applied = drain(self.house).applied
        self.found.needed += len(lacking)
        self.found.applied += applied
        for record_id, box in lacking:
            card = self._cards[record_id]
            row = self.org.get(card.object_name, record_id)
            if row is None or not row[box]:
                self.found.lost.append(f"{record_id}.{box}")
            card.is_ticked = card.is_ticked or box == BOX
        return applied

    def end(self) -> Opinions:
        """Two cycles more, in which nothing happens."""
        self.cycle(*_MODELS)
        self.found.restless = self.cycle(*_MODELS)
        self.found.clouded = sum(one.is_clouded for one in self._said.values())
        return self.found

    def _of(self, email: str) -> _Said:
        return self._said.setdefault(email, _Said())

    def _email_of(self, record_id: str) -> str:
        return self._cards[record_id].email

    def _any(self, wanted: Callable[[_Card], bool] = lambda card: True) -> str | None:
        found = [
            one for one in self._chance.choices(list(self._cards), k=20) if wanted(self._cards[one])
        ]
        return found[0] if found else None

    def _instant(self) -> str:
        return self.org.clock.now().isoformat()

    def _speak(self, what: str) -> None:
        record_id = self._any()
        assert record_id is not None
        email = self._email_of(record_id)
        self._events.append((f"event {self._now}", self._instant(), _KINDS[what], email))
        said = self._of(email)
        said.no = self._now if what == "no" else said.no
        said.is_spam = said.is_spam or what == "spam"
        said.is_bounced = said.is_bounced or what == "bounce"

    def _opt_in(self, email: str | None = None) -> None:
        if email is None:
            record_id = self._any()
            assert record_id is not None
            email = self._email_of(record_id)
        # When exactly a box was ticked, the CRM does not say: who ticks and opts in between two
        # syncs may have meant either.
        if any(
            card.email == email and (card.is_fresh or card.is_moved)
            for card in self._cards.values()
        ):
            return
        self._now += 1
        self.org.clock.advance(1)
        # The org's clock runs ahead of the warehouse's, by which an opt-in is dated at the latest.
        now = self._instant()
        says(self.house, email, "subscribed", now, evidence=f"form {self._now}", noted_at=now)
        self._of(email).yes = self._now

    def _tick(self) -> None:
        record_id = self._any(lambda card: not card.is_ticked and not card.is_touched)
        if record_id is not None:
            self._change(record_id, {BOX: True})
            card = self._cards[record_id]
            card.is_ticked = card.is_fresh = card.is_touched = True

    def _un_tick(self) -> None:
        record_id = self._any(
            lambda card: card.is_ticked and not card.is_touched and card.un_ticks < MOST_UN_TICKS
        )
        if record_id is not None:
            self._change(record_id, {BOX: False})
            card = self._cards[record_id]
            card.is_ticked, card.is_touched = False, True
            card.un_ticks += 1

    def _bounce_in_crm(self) -> None:
        record_id = self._any(lambda card: not card.has_bounced)
        if record_id is not None:
            self._change(record_id, {"EmailBouncedDate": self._instant()})
            self._cards[record_id].has_bounced = True

    def _edit(self) -> None:
        record_id = self._any()
        assert record_id is not None
        self._change(record_id, {"Phone": str(self._now)})

    def _move(self) -> None:
        record_id, other = self._any(lambda card: not card.has_bounced), self._any()
        if record_id is None or other is None:
            return
        is_new = self._chance.random() < 0.5
        email = f"moved{self._now}@x.org" if is_new else self._email_of(other)
        self._change(record_id, {"Email": email})
        card = self._cards[record_id]
        card.email, card.is_moved = email, True

    def _make(self) -> None:
        known = self._any()
        assert known is not None
        is_new = self._chance.random() < 0.5
        email = f"made{self._now}@x.org" if is_new else self._email_of(known)
        name = self._chance.choice(("Lead", "Contact"))
        values: dict[str, Any] = person(self._now, Email=email)
        is_ticked = self._chance.random() < 0.2
        if name == "Lead":
            values["Company"] = "Co"
        record_id = self.org.create_many(name, [{**values, BOX: is_ticked}])[0]
        self._cards[record_id] = _Card(
            name, email, is_ticked=is_ticked, is_fresh=is_ticked, is_touched=True
        )

    def _change(self, record_id: str, values: dict[str, Any]) -> None:
        self.org.update(self._cards[record_id].object_name, record_id, values)

    def _store(self) -> None:
        with psycopg.connect(self.house.database_url) as connection, connection.cursor() as cursor:
            self._chance.shuffle(self._events)
            cursor.executemany(
                "INSERT INTO events.marketing_events (event_id, occurred_at, kind, email)"
                " VALUES (%s, %s, %s, %s)",
                self._events,
            )
        self._events.clear()

    def _what_the_crm_says(self) -> None:
        """A sync has seen the records: a fresh tick is a no of that moment, at their address."""
        self._now += 1
        for card in self._cards.values():
            said = self._of(card.email)
            if card.is_ticked and card.is_moved:
                said.is_clouded = True
            if card.is_ticked and card.is_fresh:
                said.no = self._now
            if card.has_bounced:
                said.is_bounced = True
            card.is_fresh = card.is_moved = card.is_touched = False

    def _compare(self) -> None:
        found = {str(email): (out, bounced) for email, out, bounced in self.house.query(_OPINIONS)}
        for email, said in self._said.items():
            is_out, is_bounced = found.get(email, (False, False))
            if is_bounced != said.is_bounced:
                self.found.wrong.append(f"{email} bounced: {is_bounced}")
            if is_out != said.is_out and not said.is_clouded:
                self.found.wrong.append(f"{email} opted out: {is_out}")

    def _lacking(self) -> list[tuple[str, str]]:
        """Boxes that are not ticked and have to be, by what the org itself says."""
        opinions = {str(email): (out, gone) for email, out, gone in self.house.query(_OPINIONS)}
        lacking = []
        for name in ("Lead", "Contact"):
            for row in self.org.query(f"SELECT Id, Email, {BOX}, {BOUNCED} FROM {name}"):
                is_out, is_gone = opinions.get(str(row["Email"]), (False, False))
                for box, is_due in ((BOX, is_out), (BOUNCED, is_gone)):
                    if is_due and not row[box]:
                        lacking.append((str(row["Id"]), box))
        twice = [one for one, times in Counter(lacking).items() if times > 1]
        assert not twice
        return lacking


def opinions_on_both_sides(
    house: House, dbt_folder: Path, *, events: int, rounds: int, seed: int
) -> Opinions:
    """So many events, in rounds, in a house whose marts dbt builds; then two quiet cycles."""
    world = _World(house, dbt_folder, seed)
    models: tuple[str, ...] = ("+fct_consent",)
    for _ in range(rounds):
        for _ in range(events // rounds):
            world.happen()
        world.cycle(*models)
        models = _MODELS
    return world.end()
