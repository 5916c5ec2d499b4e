"""Objects made to measure: as wide as one likes, without a bin, with a cursor of no use.

Belongs here: inventing an object and its rows. Does not belong here: the standard ones
(standard_objects.py).
"""

import random
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from crm_pipeline.sandbox.salesforce import identifiers
from crm_pipeline.sandbox.salesforce.schema import (
    STAMP_FIELDS,
    FieldDefinition,
    FieldType,
    ObjectDefinition,
    PicklistValue,
)

if TYPE_CHECKING:
    from crm_pipeline.sandbox.salesforce.org import SandboxOrg

_KINDS: tuple[FieldType, ...] = (
    *("string", "double", "date", "boolean", "picklist"),
    *("datetime", "currency", "textarea", "int", "email"),
)
_CHOICES = ("Red", "Green", "Blue")
_WORDS = ("alder", "birch", "cedar", "elm", "fir", "maple", "oak", "pine", "rowan", "willow")


def custom_object(
    org: "SandboxOrg",
    name: str,
    *,
    fields: int = 10,
    unfilterable: Collection[str] = (),
    **facts: Any,
) -> ObjectDefinition:
    """A custom object with a name and so many fields of ten types, `F000__c` and on.

    Stamps among the `unfilterable` cannot be asked for in a WHERE. `facts` are further ones of
    `ObjectDefinition`: `soft_delete=False`, `bulk=False`, `replicateable=False`.
    """
    stamps = tuple(replace(one, filterable=one.name not in unfilterable) for one in STAMP_FIELDS)
    named = FieldDefinition("Name", "Name", "string", length=80, name_field=True)
    return ObjectDefinition(
        name,
        name.removesuffix("__c").replace("_", " "),
        name.removesuffix("__c").replace("_", " ") + "s",
        _free_prefix(org),
        (named, *(_field(place) for place in range(fields)), *stamps),
        custom=True,
        **facts,
    )


def _free_prefix(org: "SandboxOrg") -> str:
    taken = {one.key_prefix for one in org.catalogue.all()}
    letters = identifiers.ALPHABET
    return next(
        prefix
        for first in letters
        for second in letters
        if (prefix := f"a{first}{second}") not in taken
    )


def _field(place: int) -> FieldDefinition:
    kind = _KINDS[place % len(_KINDS)]
    field = FieldDefinition(f"F{place:03}__c", f"Field {place}", kind)
    match kind:
        case "string" | "email" | "textarea":
            return replace(field, length=80)
        case "double" | "currency":
            return replace(field, precision=18, scale=2)
        case "int":
            return replace(field, precision=9)
        case "boolean":
            return replace(field, nillable=False, default=False)
        case "picklist":
            values = tuple(PicklistValue(one) for one in _CHOICES)
            return replace(field, length=255, picklist_values=values)
    return field


def invented_rows(
    definition: ObjectDefinition, count: int, seed: int = 1
) -> Iterator[dict[str, Any]]:
    """So many rows for such an object, the same ones for the same seed; a few cells are empty."""
    rng = random.Random(seed)
    fields = [one for one in definition.fields if one.name.endswith("__c")]
    for place in range(count):
        row: dict[str, Any] = {"Name": f"{definition.label} {place}"}
        row.update((one.name, _value(one, rng)) for one in fields if rng.random() > 0.1)
        yield row


def _value(field: FieldDefinition, rng: random.Random) -> Any:
    number = rng.randrange(1_000_000)
    return _VALUES.get(field.type, _words)(number)


def _words(number: int) -> str:
    return f"{_WORDS[number % 10]} {number}"


_VALUES: dict[str, Callable[[int], Any]] = {
    "boolean": lambda number: number % 2 == 0,
    "currency": lambda number: f"{number}.25",
    "date": lambda number: (date(2000, 1, 1) + timedelta(days=number % 9_000)).isoformat(),
    "datetime": lambda number: f"20{number % 30:02}-01-01T00:00:{number % 60:02}.000Z",
    "double": lambda number: f"{number}.25",
    "email": lambda number: f"{_WORDS[number % 10]}{number}@example.com",
    "int": lambda number: number,
    "picklist": lambda number: _CHOICES[number % 3],
}
