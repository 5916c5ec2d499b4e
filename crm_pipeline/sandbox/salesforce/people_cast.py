"""Believable people, companies and places, drawn from the words by a seeded generator.

Belongs here: one person, one company, one address, one moment. Does not belong here: whole
records and how many of each (people.py).
"""

import random
import unicodedata
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from crm_pipeline.sandbox.salesforce.people_words import (
    COMPANY_FORMS,
    COMPANY_STEMS,
    COMPANY_TRADES,
    LANGUAGES,
    NEEDS,
    TOPICS,
    Language,
    Place,
)

_LETTERS = str.maketrans(
    {"ß": "ss", "ø": "o", "ł": "l", "ı": "i", "æ": "ae", "ð": "d", "þ": "th", "'": "", " ": ""}
)
_WEIGHTS = tuple(one.weight for one in LANGUAGES)
_OPTED_OUT, _MOBILE = 0.08, 0.6
HISTORY_DAYS = 6 * 365
"""How far back the org's records reach."""


@dataclass(frozen=True, slots=True)
class Person:
    """A name, the mailbox part that belongs to it, and the language of its bearer."""

    first_name: str
    last_name: str
    mailbox: str
    language: Language


@dataclass(frozen=True, slots=True)
class Company:
    """A firm: its name, its mail domain, what it does and how large it is."""

    name: str
    domain: str
    industry: str
    employees: int
    revenue: int
    language: Language


def romanised(name: str) -> str:
    """The letters of a name that a mailbox can hold."""
    plain = unicodedata.normalize("NFKD", name.lower().translate(_LETTERS))
    return "".join(one for one in plain if one.isascii() and (one.isalnum() or one == "-"))


class Cast:
    """Draws people and firms; the same seed draws the same ones in the same order."""

    def __init__(self, seed: int | random.Random) -> None:
        self.rng = seed if isinstance(seed, random.Random) else random.Random(seed)

    def language(self) -> Language:
        """One of the languages, the frequent ones more often."""
        return self.rng.choices(LANGUAGES, _WEIGHTS)[0]

    def person(self, language: Language | None = None) -> Person:
        """Somebody; three in four share the language of the place they work at."""
        spoken = language if language and self.rng.random() < 0.75 else self.language()
        first, _, first_plain = self.rng.choice(spoken.first_names).partition("|")
        last, _, last_plain = self.rng.choice(spoken.last_names).partition("|")
        mailbox = f"{first_plain or romanised(first)}.{last_plain or romanised(last)}"
        return Person(first, last, mailbox, spoken)

    def company(self, serial: int) -> Company:
        """A firm of its own: the serial makes its domain unlike every other's."""
        stem = self.rng.choice(COMPANY_STEMS)
        trade, industry = self.rng.choice(COMPANY_TRADES)
        form = self.rng.choice(COMPANY_FORMS)
        employees = int(10 ** self.rng.uniform(0.5, 4.8))
        return Company(
            f"{stem} {trade} {form}".rstrip(),
            f"{romanised(stem)}-{romanised(trade)}-{serial}.example",
            industry,
            employees,
            employees * self.rng.randrange(40, 400) * 1_000,
            self.language(),
        )

    def address(self, language: Language, prefix: str = "") -> dict[str, Any]:
        """The parts of an address, their field names beginning with the prefix."""
        place: Place = self.rng.choice(language.places)
        street = language.street.format(
            n=self.rng.randrange(1, 250), s=self.rng.choice(language.streets)
        )
        return {
            f"{prefix}Street": street,
            f"{prefix}City": place.city,
            f"{prefix}State": place.state,
            f"{prefix}PostalCode": place.postal_code,
            f"{prefix}Country": place.country,
        }

    def phone(self, language: Language) -> str:
        """A number in the language's country that begins like those kept free for fiction."""
        area, line = self.rng.randrange(100), self.rng.randrange(10_000)
        return f"{language.dialling_code} 01{area:02d} {line:04d}"

    def reach(self, language: Language) -> dict[str, Any]:
        """Phones and whether they and the mailbox may be used."""
        return {
            "Phone": self.phone(language),
            "MobilePhone": self.phone(language) if self.rng.random() < _MOBILE else None,
            "HasOptedOutOfEmail": self.rng.random() < _OPTED_OUT,
            "DoNotCall": self.rng.random() < _OPTED_OUT,
        }

    def remark(self) -> str | None:
        """A salesperson's note; half of the records have none."""
        if self.rng.random() < 0.5:
            return None
        note = self.rng.choice(NEEDS)
        return note.format(n=self.rng.randrange(5, 500), w=self.rng.choice(TOPICS))

    def moment(self, now: datetime) -> datetime:
        """A moment of the org's past, recent ones more often, always before now."""
        days = HISTORY_DAYS * self.rng.random() ** 2
        moment = now - timedelta(days=days, seconds=self.rng.randrange(60, 80_000))
        return moment.replace(microsecond=0)
