"""A record filter as a tree of values: what the operator meant, in no query language.

Belongs here: the few shapes that an allow-listed filter may have. Does not belong here: parsing
(config/filters.py) and rendering to a CRM's language (crm/<vendor>/).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum

FilterValue = str | bool | Decimal | date | datetime | None
"""A literal of a filter. `datetime` values are aware."""


class Comparator(StrEnum):
    """The comparisons that every CRM we mean to speak can make."""

    EQUAL = "="
    NOT_EQUAL = "!="
    LESS = "<"
    LESS_OR_EQUAL = "<="
    GREATER = ">"
    GREATER_OR_EQUAL = ">="
    LIKE = "like"
    IN = "in"
    NOT_IN = "not in"
    INCLUDES = "includes"
    EXCLUDES = "excludes"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One field against one value, or against a list for IN, NOT_IN, INCLUDES and EXCLUDES."""

    field: str
    comparator: Comparator
    value: FilterValue | tuple[FilterValue, ...]


@dataclass(frozen=True, slots=True)
class All:
    """Every part holds (AND)."""

    parts: tuple["RecordFilter", ...]


@dataclass(frozen=True, slots=True)
class Any:
    """At least one part holds (OR)."""

    parts: tuple["RecordFilter", ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: "RecordFilter"


RecordFilter = Comparison | All | Any | Not
"""Which records of an object take part in the sync."""


def fields_of(record_filter: RecordFilter) -> Iterator[str]:
    """The fields that a filter looks at, in the order written; preflight checks each of them."""
    match record_filter:
        case Comparison(field=field):
            yield field
        case All(parts=parts) | Any(parts=parts):
            for part in parts:
                yield from fields_of(part)
        case Not(part=part):
            yield from fields_of(part)
