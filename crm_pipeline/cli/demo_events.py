"""The demo's marketing: what the people of the sandbox org do, as files in the events folder.

The same people and the same seed give the same events. A history of three months is written once;
as a program, this module goes on with a few events every some seconds, like a site and a mail
service that drop files.

Belongs here: inventing events and writing files. Does not belong here: loading them, which the
sensor event_files does as for anybody.
"""

import argparse
import json
import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import psycopg

from crm_pipeline.errors import CrmPipelineError
from crm_pipeline.model.events import EventKind
from crm_pipeline.warehouse.connection import Warehouse

SEED = 20_260_302
MOST_PEOPLE = 400
HISTORY_DAYS = 90
_VISITS = (
    ("paid_search", "google"),
    ("social", "linkedin"),
    ("referral", "partner.example"),
    ("email", "newsletter"),
    ("web", "direct"),
)
_PAGES = ("", "pricing", "product", "docs", "blog/why-crm", "blog/consent", "careers", "contact")
_CAMPAIGNS = ("Spring launch", "Product news", "Customer stories", "Invitation")
_LAST_NAMES = ("Adler", "Brandt", "Cruz", "Duarte", "Eriksen", "Fontaine", "Grieg", "Haas")
_SENDGRID = {
    EventKind.EMAIL_DELIVERED: "delivered",
    EventKind.EMAIL_OPENED: "open",
    EventKind.EMAIL_CLICKED: "click",
    EventKind.EMAIL_UNSUBSCRIBED: "unsubscribe",
    EventKind.EMAIL_HARD_BOUNCED: "bounce",
    EventKind.EMAIL_COMPLAINED: "spamreport",
}
Event = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Reader:
    """Somebody in the org with an address."""

    record_id: str
    email: str


def readers(warehouse: Warehouse) -> tuple[Reader, ...]:
    """Some people of the synced tables, always the same ones; nobody before the first full sync."""
    with warehouse.connect() as connection:
        try:
            rows = connection.execute(
                "SELECT id, lower(btrim(email)) FROM ("
                " SELECT id, email FROM salesforce.lead WHERE _deleted_at IS NULL"
                " UNION ALL SELECT id, email FROM salesforce.contact WHERE _deleted_at IS NULL"
                ") people WHERE email ~ '^[^[:space:]@]+@[^[:space:]@]+$'"
                ' ORDER BY id COLLATE "C" LIMIT %s',
                [MOST_PEOPLE],
            ).fetchall()
        except psycopg.errors.UndefinedTable:
            return ()
    return tuple(Reader(str(record_id), str(email)) for record_id, email in rows)


def write_history(folder: Path, people: Sequence[Reader], until: datetime) -> tuple[Path, ...]:
    """Three months of visits, forms and mails: a file per month and one of the mail service.

    Returns:
        The files; none if the folder has a history already.
    """
    if (folder / "history").exists() or not people:
        return ()
    site: list[Event] = []
    mails: list[Event] = []
    chance = random.Random(SEED)  # noqa: S311 - invented visitors are not cryptography
    number = count(1)
    for reader in people:
        site += _visits(reader, chance, until, number)
        mails += _mails(reader, chance, until, number)
    written = []
    for month in sorted({str(event["occurred_at"])[:7] for event in site}):
        chosen = (event for event in site if str(event["occurred_at"]).startswith(month))
        written.append(_write(folder / "history" / f"site-{month}.jsonl", _lines(chosen)))
    body = json.dumps([_sendgrid(mail) for mail in mails])
    written.append(_write(folder / "history" / "sendgrid.json", body))
    return tuple(written)


def write_round(
    folder: Path, people: Sequence[Reader], now: datetime, number: int
) -> tuple[Path, ...]:
    """A handful of events that happen now: visits as JSON lines, and mails as the service tells.

    Every other time a stranger sends a form, and becomes a lead by the rule of the demo's settings.

    Returns:
        The files.
    """
    chance = random.Random(f"{SEED} {now:%Y%m%d%H%M%S} {number}")  # noqa: S311 - see above
    ids = count(1)
    name = f"{now:%Y%m%d-%H%M%S}-{number}"
    visits = [
        _event(chance, reader, EventKind.PAGE_VISITED, now, f"live-{name}-{next(ids)}")
        for reader in chance.sample(people, min(len(people), 6))
    ]
    if number % 2 == 0:
        visits.append(_stranger(chance, now, f"live-{name}-{next(ids)}", name))
    written = [_write(folder / "live" / f"site-{name}.jsonl", _lines(visits))]
    if number % 3 == 0:
        kinds = (EventKind.EMAIL_OPENED, EventKind.EMAIL_CLICKED, EventKind.EMAIL_UNSUBSCRIBED)
        mails = [
            _event(
                chance, reader, chance.choices(kinds, (50, 35, 15))[0], now, f"{name}-{next(ids)}"
            )
            for reader in chance.sample(people, min(len(people), 3))
        ]
        body = json.dumps([_sendgrid(mail) for mail in mails])
        written.append(_write(folder / "live" / f"sendgrid-{name}.json", body))
    return tuple(written)


def _visits(
    reader: Reader, chance: random.Random, until: datetime, number: Iterator[int]
) -> Iterator[Event]:
    """A few sessions of a person, some of which end with a form."""
    for _ in range(chance.choice((0, 1, 1, 2, 3, 5))):
        moment = _some_time(chance, until)
        channel, source = chance.choice(_VISITS)
        for _ in range(chance.randint(1, 5)):
            event = _event(chance, reader, EventKind.PAGE_VISITED, moment, f"site-{next(number)}")
            yield {**event, "channel": channel, "source": source}
            moment += timedelta(seconds=chance.randint(10, 400))
        if chance.random() < 0.15:
            event = _event(chance, reader, EventKind.FORM_SUBMITTED, moment, f"site-{next(number)}")
            yield {**event, "properties": {"form": chance.choice(("contact", "demo", "ebook"))}}


def _mails(
    reader: Reader, chance: random.Random, until: datetime, number: Iterator[int]
) -> Iterator[Event]:
    """What becomes of the mails to a person; nothing more after an end of consent."""
    for campaign in chance.sample(_CAMPAIGNS, 3):
        moment = _some_time(chance, until)
        luck = chance.random()
        kinds = [EventKind.EMAIL_DELIVERED]
        if luck < 0.02:
            kinds = [EventKind.EMAIL_HARD_BOUNCED]
        elif luck < 0.5:
            kinds += [EventKind.EMAIL_OPENED]
            kinds += [EventKind.EMAIL_CLICKED] if luck < 0.2 else []
            kinds += [EventKind.EMAIL_UNSUBSCRIBED] if luck < 0.04 else []
            kinds += [EventKind.EMAIL_COMPLAINED] if luck > 0.497 else []
        for kind in kinds:
            event = _event(chance, reader, kind, moment, f"mail-{next(number)}")
            yield {**event, "campaign": campaign}
            moment += timedelta(minutes=chance.randint(1, 600))
        if kinds[-1] not in (
            EventKind.EMAIL_DELIVERED,
            EventKind.EMAIL_OPENED,
            EventKind.EMAIL_CLICKED,
        ):
            return


def _event(
    chance: random.Random, reader: Reader, kind: EventKind, moment: datetime, event_id: str
) -> Event:
    """Most events name a person by address, and some by the record's id alone, as links do."""
    is_known_by_id = kind is EventKind.PAGE_VISITED and chance.random() < 0.2
    has_url = kind in (
        EventKind.PAGE_VISITED,
        EventKind.FORM_SUBMITTED,
        EventKind.EMAIL_CLICKED,
    )
    channel, source = chance.choice(_VISITS)
    return {
        "event_id": f"demo-{event_id}",
        "occurred_at": moment.isoformat(),
        "kind": kind.value,
        "email": None if is_known_by_id else reader.email,
        "crm_id": reader.record_id if is_known_by_id else None,
        "campaign": None,
        "channel": channel,
        "source": source,
        "url": f"https://www.example.com/{chance.choice(_PAGES)}" if has_url else None,
    }


def _stranger(chance: random.Random, moment: datetime, event_id: str, name: str) -> Event:
    """Somebody whom the org does not know yet, and who asks for a demo."""
    last_name = chance.choice(_LAST_NAMES)
    reader = Reader("", f"{last_name.lower()}.{name}@visitors.example")
    event = _event(chance, reader, EventKind.FORM_SUBMITTED, moment, event_id)
    company = f"{last_name} & Daughters"
    properties = {"form": "demo", "last_name": last_name, "company": company}
    return {**event, "properties": properties}


def _sendgrid(event: Event) -> dict[str, object]:
    """An event about a mail as SendGrid's webhook tells it."""
    url = {"url": event["url"]} if event["url"] else {}
    moment = datetime.fromisoformat(str(event["occurred_at"]))
    return {
        "email": event["email"],
        "timestamp": int(moment.timestamp()),
        "event": _SENDGRID[EventKind(str(event["kind"]))],
        "sg_event_id": event["event_id"],
        "sg_message_id": f"message-{event['event_id']}",
        "category": [event["campaign"] or _CAMPAIGNS[0]],
        **url,
    }


def _some_time(chance: random.Random, until: datetime) -> datetime:
    return until - timedelta(seconds=chance.randint(86_400, HISTORY_DAYS * 86_400))


def _lines(events: Iterable[Event]) -> str:
    return "".join(json.dumps(event) + "\n" for event in events)


def _write(path: Path, text: str) -> Path:
    """Whole or not at all: nobody reads half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"_{path.name}")
    aside.write_text(text, encoding="utf-8")
    return aside.replace(path)


def main() -> None:
    """Write a round every some seconds, for as long as somebody lets us."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=20.0)
    given = parser.parse_args()
    from crm_pipeline.sync.assembly import Installation  # noqa: PLC0415 - imports alembic

    warehouse = Installation.from_environment().warehouse()
    for number in count(1):
        time.sleep(given.seconds)
        try:
            people = readers(warehouse)
        except (CrmPipelineError, psycopg.Error):
            continue  # the database is being started again; the next round finds it
        if people:
            write_round(given.folder, people, datetime.now(UTC), number)


if __name__ == "__main__":
    main()
