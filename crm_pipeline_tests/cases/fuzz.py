"""Values of every field type, made from a seed: ordinary ones, edges, and what breaks parsers.

Belongs here: inventing values that an org may hold. Does not belong here: what becomes of them.
"""

import random
import string
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta

from crm_pipeline.sandbox.salesforce.identifiers import make_id
from crm_pipeline.sandbox.salesforce.schema import FieldDefinition
from crm_pipeline_tests.cases.things import field

PIECES = (
    *('"', '""', '"""', ",", ";", "\n", "\r\n", "\r", "\t", "\\", "\\N", "\\.", "\n\\.\n", "'"),
    *("\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1e", "\u00a0", "\ufeff", "\u200b"),
    *(
        "👩‍👩‍👧",
        "العربية",
        "\u202eright to left",
        "e\u0301",
        "é",
        "ﬁ",
        "中文",
        "\U0010ffff",
        "\ufffd",
    ),
    *("NULL", "null", "None", "NA", "N/A", "#N/A", "NaN", "nan", "inf", "-Infinity", "TRUE"),
    *("true", "00123", "1e5", "1.0", "0x1F", "2026-03-02", "=cmd()", "+1", "-1", "@x", " ", "  "),
    *("'; DROP TABLE x; --", 'x"; DROP TABLE x; --', "<b>", "%s", "{}", "$1", "\x1b[31m", "\x01"),
)
ALPHABET = string.printable + "äöüßéèñçøÅΩжя中日한🎉" + "".join(PIECES)


def _text(chance: random.Random, longest: int = 60) -> str:
    if chance.random() < 0.5:
        made = "".join(chance.choices(PIECES, k=chance.randint(1, 5)))
    else:
        made = "".join(chance.choices(ALPHABET, k=chance.randint(1, longest)))
    return made[:longest]


def _long_text(chance: random.Random) -> str:
    return _text(chance) * chance.choice((1, 1, 1, 50))


def _word(chance: random.Random) -> str:
    return "".join(chance.choices(string.ascii_letters + "éß中0123456789", k=chance.randint(1, 20)))


def _decimal(whole: int, scale: int) -> Callable[[random.Random], str]:
    def make(chance: random.Random) -> str:
        digits = "".join(chance.choices(string.digits, k=chance.randint(1, whole)))
        after = "".join(chance.choices(string.digits, k=chance.randint(0, scale)))
        sign = chance.choice(("", "-"))
        return sign + (f"{digits}.{after}" if after else digits)

    return make


def _day(chance: random.Random) -> str:
    edges = (date(1700, 1, 1), date(4000, 12, 31), date(1970, 1, 1), date(2000, 2, 29))
    any_day = date(1700, 1, 1) + timedelta(days=chance.randint(0, 840_000))
    return chance.choice((*edges, any_day, any_day)).isoformat()


def _instant(chance: random.Random) -> str:
    moment = datetime.fromisoformat(_day(chance)).replace(tzinfo=UTC)
    moment += timedelta(milliseconds=chance.randint(0, 86_399_999))
    return f"{moment:%H:%M:%S}".join(
        (f"{moment.date().isoformat()}T", f".{moment.microsecond // 1000:03}Z")
    )


def _several(chance: random.Random) -> str:
    return ";".join(_word(chance) for _ in range(chance.randint(1, 4)))


MAKERS: Mapping[str, tuple[FieldDefinition, Callable[[random.Random], object]]] = {
    made.name: (made, maker)
    for made, maker in (
        (field("Text__c", "string", length=255), _text),
        (field("Area__c", "textarea", length=255), _text),
        (field("Long__c", "textarea", length=131_072), _long_text),
        (field("Rich__c", "textarea", length=131_072, html_formatted=True), _long_text),
        (field("Pick__c", "picklist"), _text),
        (field("Multi__c", "multipicklist"), _several),
        (field("Combo__c", "combobox", length=255), _text),
        (field("Phone__c", "phone", length=40), lambda c: _text(c, 40)),
        (field("Url__c", "url", length=255), lambda c: f"http://x/{_word(c)}?a=%22&b={_word(c)}"),
        (field("Mail__c", "email", length=80), lambda c: f"{_word(c)}+{_word(c)}@{_word(c)}.org"),
        (field("Secret__c", "encryptedstring", length=175), _text),
        (field("Flag__c", "boolean"), lambda c: c.random() < 0.5),
        (
            field("Int__c", "int"),
            lambda c: c.choice((0, -1, 2**31 - 1, -(2**31), c.randint(-(9**9), 9**9))),
        ),
        (field("Whole__c", "double", scale=0), _decimal(18, 0)),
        (field("Double__c", "double", scale=9), _decimal(9, 9)),
        (field("Money__c", "currency", scale=2), _decimal(16, 2)),
        (field("Percent__c", "percent", scale=3), _decimal(15, 3)),
        (field("Day__c", "date"), _day),
        (field("Instant__c", "datetime"), _instant),
        (
            field("Time__c", "time"),
            lambda c: f"{c.randint(0, 23):02}:{c.randint(0, 59):02}:00.{c.randint(0, 999):03}Z",
        ),
        (field("Ref__c", "reference", length=18), lambda c: make_id("a9Z", c.randint(1, 10**9))),
    )
}
FIELDS = tuple(definition for definition, _ in MAKERS.values())


def made_up(seed: int, number: int) -> list[dict[str, object]]:
    """So many records with a value of every type; about one in ten values is null."""
    chance = random.Random(seed)
    return [
        {"Name": f"n{n}"}
        | {name: maker(chance) for name, (_, maker) in MAKERS.items() if chance.random() > 0.1}
        for n in range(number)
    ]
