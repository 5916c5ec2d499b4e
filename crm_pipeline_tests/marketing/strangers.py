"""Made-up people with made-up events, and what the contract of the marts says of each of them.

A world holds many people, each a case of its own, so that one build of the models tries them all.
What is said of them is computed here in plain Python, from the contract and not from the SQL.

Belongs here: people, events, how they reach a warehouse, and what must be known of them. Does not
belong here: assertions and builds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zlib import crc32

from hypothesis import strategies as st

from crm_pipeline_tests.marketing.synthetic import SyntheticWarehouse

BEGINNING = datetime(2026, 3, 1, tzinfo=UTC)
SESSION = timedelta(minutes=30)
TOUCHES = {
    "page_visited": "web",
    "form_submitted": "web",
    "webinar_attended": "event",
    "email_clicked": "email",
}
"""Touches by the golden month's rules, with the channel that each has by default."""
NOES = {
    "email_unsubscribed": "unsubscribed",
    "email_hard_bounced": "hard_bounced",
    "email_complained": "complained",
}
WEIGHTS = {"subscribed": 0, "unsubscribed": 1, "hard_bounced": 2, "complained": 3}
STORIES = (
    *("lead", "nameless", "twins", "both", "converted", "merged", "chain", "address", "deleted"),
)
"""What may become of a person between the first and the last delivery."""


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that a person does.

    Attributes:
        minutes: since the beginning; multiples of 15, so that gaps of exactly 30 are common.
        way: which of the person's ids or addresses the event carries; counted round.
    """

    minutes: int
    kind: str
    channel: str | None
    way: int
    points: int

    @property
    def at(self) -> datetime:
        """When it happens."""
        return BEGINNING + timedelta(minutes=self.minutes)


HAPPENINGS = st.builds(
    Happening,
    minutes=st.integers(0, 96).map(lambda quarters: quarters * 15),
    kind=st.sampled_from(
        (
            *("page_visited",) * 5,
            *("form_submitted", "webinar_attended", "email_clicked", "email_opened"),
            *("email_soft_bounced", "score_adjusted", "email_unsubscribed"),
            *("email_hard_bounced", "email_complained"),
        )
    ),
    channel=st.sampled_from((None, None, "paid_search", "social")),
    way=st.integers(0, 7),
    points=st.integers(-20, 20),
)


@dataclass(frozen=True, slots=True)
class Stranger:
    """One person: a story, and what happens in it."""

    number: int
    story: str
    happenings: tuple[Happening, ...]

    @property
    def addresses(self) -> tuple[str, ...]:
        """Theirs, the one that counts in the end first."""
        count = {"nameless": 0, "converted": 2, "merged": 2, "chain": 3}.get(self.story, 1)
        return tuple(f"p{self.number}.{n}@example.com" for n in range(count))

    def record(self, table: str, place: int) -> str:
        """The id of one of their records."""
        prefix, suffix = ("00Q", "EAA") if table == "lead" else ("003", "AAA")
        return f"{prefix}{self.number * 10 + place:012}{suffix}"

    @property
    def records(self) -> tuple[tuple[str, str, str | None], ...]:
        """Table, id and address of all their records, also of those that come or go."""
        tables = {
            "address": (),
            "twins": ("lead", "lead"),
            "both": ("lead", "contact"),
            "converted": ("contact", "lead"),
            "merged": ("lead", "lead"),
            "chain": ("contact", "contact", "contact"),
        }.get(self.story, ("lead",))
        spelt: Sequence[str | None] = self.addresses or (None,)
        return tuple(
            (table, self.record(table, n), spelt[min(n, len(spelt) - 1)])
            for n, table in enumerate(tables)
        )

    @property
    def is_known_by_id(self) -> bool:
        """Whether the ids of their records lead to them: not once the record is deleted."""
        return self.story not in ("address", "deleted")

    @property
    def events(self) -> list[dict[str, Any]]:
        """What the tools report, each with one of the ways to say whose it is."""
        ways: list[dict[str, str]] = [{"email": address} for address in self.addresses]
        if self.is_known_by_id:
            ways += [{"crm_id": record} for _, record, _ in self.records]
        return [
            {
                "event_id": f"e{self.number:03}-{n:02}",
                "occurred_at": happening.at,
                "kind": happening.kind,
                "channel": happening.channel,
                "source": f"source {n}",
                "url": f"https://ours.example/{n}",
                "properties": {"points": happening.points},
                **ways[happening.way % len(ways)],
            }
            for n, happening in enumerate(self.happenings)
        ]


@dataclass(frozen=True, slots=True)
class World:
    """Strangers, and how their events are delivered.

    Attributes:
        order: a number for each event; it says in which delivery it comes, and in which place.
        opt_ins: numbers of people who say yes, and when.
    """

    people: tuple[Stranger, ...]
    order: tuple[int, ...]
    opt_ins: tuple[tuple[int, int], ...]

    @property
    def events(self) -> list[dict[str, Any]]:
        """All events, in the order in which the people are listed."""
        return [event for person in self.people for event in person.events]

    def deliveries(self, count: int) -> list[list[dict[str, Any]]]:
        """The events in disorder, in so many portions; one in four comes twice or more often."""
        found: list[list[dict[str, Any]]] = [[] for _ in range(count)]
        for place, event in enumerate(self.events):
            number = self.order[place % len(self.order)] + place
            found[number % count].append(event)
            if number % 4 == 0:
                found[(number // 4) % count].append(event)
        for portion in found:
            portion.sort(key=lambda event: crc32(f"{self.order[0]} {event['event_id']}".encode()))
        return found

    def opted_in(self) -> list[dict[str, Any]]:
        """Explicit yeses, for the ledger."""
        return [
            {
                "email": person.addresses[0],
                "status": "subscribed",
                "side": "marketing",
                "evidence": f"form {person.number}",
                "occurred_at": BEGINNING + timedelta(minutes=15 * quarters),
            }
            for number, quarters in dict(self.opt_ins).items()
            for person in [self.people[number % len(self.people)]]
            if person.addresses
        ]


def worlds() -> st.SearchStrategy[World]:
    """Worlds of some forty people, every story in each."""
    lives = st.lists(HAPPENINGS, min_size=2, max_size=9).map(tuple)
    return st.builds(
        lambda told, order, opt_ins: World(
            tuple(
                Stranger(n, STORIES[n % len(STORIES)], happenings)
                for n, happenings in enumerate(told)
            ),
            tuple(order),
            tuple(opt_ins),
        ),
        st.lists(lives, min_size=36, max_size=45),
        st.lists(st.integers(0, 99), min_size=7, max_size=13),
        st.lists(st.tuples(st.integers(0, 44), st.integers(0, 96)), min_size=5, max_size=9),
    )


def write_beginning(warehouse: SyntheticWarehouse, world: World) -> None:
    """The records as they are before anything is converted, merged or deleted."""
    for person in world.people:
        for place, (table, record, address) in enumerate(person.records):
            if person.story == "converted" and table == "contact":
                continue
            spelt = address.upper() if address and place else address
            warehouse.insert(table, {"id": record, "lastname": record[-6:], "email": spelt})


def write_ending(warehouse: SyntheticWarehouse, world: World) -> None:
    """What becomes of the records."""
    for person in world.people:
        ids = [record for _, record, _ in person.records]
        if person.story == "converted":
            warehouse.contacts({"id": ids[0], "lastname": "New", "email": person.addresses[0]})
            warehouse.convert(ids[1], ids[0])
        elif person.story == "merged":
            warehouse.merge("lead", ids[1], ids[0])
        elif person.story == "chain":
            warehouse.merge("contact", ids[2], ids[1])
            warehouse.merge("contact", ids[1], ids[0])
        elif person.story == "deleted":
            warehouse.delete("lead", ids[0])


def visits_of(person: Stranger) -> list[tuple[datetime, datetime, int]]:
    """Begin, end and pages of each visit: 30 minutes without a page end it."""
    pages = sorted(h.at for h in person.happenings if h.kind == "page_visited")
    if not pages:
        return []
    ends = [n for n, (one, next_one) in enumerate(pairwise(pages), 1) if next_one - one > SESSION]
    cuts = [0, *ends, len(pages)]
    return [(pages[a], pages[b - 1], b - a) for a, b in pairwise(cuts)]


def touches_of(person: Stranger) -> tuple[int, str, str, str, str] | None:
    """Number of touches; channel and source of the first and the last one."""
    touches = [e for e in person.events if e["kind"] in TOUCHES]
    if not touches:
        return None
    touches.sort(key=lambda event: (event["occurred_at"], event["event_id"]))
    ends = [(e["channel"] or TOUCHES[e["kind"]], e["source"]) for e in (touches[0], touches[-1])]
    return len(touches), *ends[0], *ends[1]


def manual_score_of(person: Stranger) -> int:
    """The points that people gave and took."""
    return sum(h.points for h in person.happenings if h.kind == "score_adjusted")


def consent_of(events: Sequence[Mapping[str, Any]], yeses: Sequence[datetime]) -> str:
    """What the noes of an address and the times of its yeses come to."""
    noes = [(NOES[e["kind"]], e["occurred_at"]) for e in events if e["kind"] in NOES]
    final = [status for status, _ in noes if status != "unsubscribed"]
    if final:
        return max(final, key=WEIGHTS.__getitem__)
    outs = [at for status, at in noes if status == "unsubscribed"]
    if not outs:
        return "subscribed"
    return "subscribed" if yeses and max(yeses) > max(outs) else "unsubscribed"
