"""The operator's audiences: who belongs to each, by a condition or by a query.

Holds the audience sections of the settings file and what a condition may compare. Belongs here:
rules that one audience's section can check by itself. Does not belong here: the grammar of
conditions (filters.py), the columns (model/audiences.py), and SQL (warehouse/conditions.py).
"""

import re
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, assert_never

from pydantic import Field, field_validator, model_validator

from crm_pipeline.config.faults import Accepts, Fault, Section, SettingFaults
from crm_pipeline.config.filters import parse_filter
from crm_pipeline.config.names import did_you_mean, listed, show
from crm_pipeline.errors import ConfigurationError
from crm_pipeline.model.audiences import FACTS
from crm_pipeline.model.filters import (
    All,
    Any,
    Comparator,
    Comparison,
    FilterValue,
    Not,
    RecordFilter,
)
from crm_pipeline.model.objects import ValueType

LONGEST_QUERY = 4_000
_HIDDEN = re.compile(
    r"[^\t\n\x20-\x7e\xa0-\u2027\u202f-\u2065\u206a-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)
_CHOICES = frozenset({Comparator.INCLUDES, Comparator.EXCLUDES})
_EQUALITIES = frozenset({Comparator.EQUAL, Comparator.NOT_EQUAL})
_MEMBERSHIPS = frozenset({Comparator.IN, Comparator.NOT_IN})
_ORDERINGS = frozenset(
    {
        Comparator.LESS,
        Comparator.LESS_OR_EQUAL,
        Comparator.GREATER,
        Comparator.GREATER_OR_EQUAL,
    }
)


class AudienceSettings(Section):
    """One audience: what it is for, and who belongs to it."""

    description: Annotated[
        str, Field(strict=True, min_length=1, max_length=500), Accepts("a sentence")
    ]
    """What it is for, as analysts read it."""
    where: Annotated[
        str | None,
        Field(strict=True),
        Accepts('a condition in quotes, such as "total_score >= 50"'),
    ] = None
    """Which rows of the mart `personalization` belong to it."""
    query: Annotated[
        str | None,
        Field(strict=True),
        Accepts("a query in quotes that returns `person_id`"),
    ] = None
    """A query that returns the ids of those who belong to it."""

    @property
    def condition(self) -> RecordFilter | None:
        """The condition as a tree."""
        return None if self.where is None else parse_filter(self.where)

    @field_validator("description")
    @classmethod
    def _description_is_readable(cls, text: str) -> str:
        require_readable(text)
        return text

    @field_validator("where")
    @classmethod
    def _where_makes_sense(cls, text: str | None) -> str | None:
        if text is not None:
            require_readable(text)
            try:
                tree = parse_filter(text)
            except ConfigurationError as error:
                raise SettingFaults(Fault((), str(error))) from error
            problems = [
                problem for one in comparisons_of(tree) if (problem := comparison_problem(one))
            ]
            if problems:
                raise SettingFaults(*(Fault((), problem) for problem in dict.fromkeys(problems)))
        return text

    @field_validator("query")
    @classmethod
    def _query_is_one_text(cls, text: str | None) -> str | None:
        if text is None:
            return None
        require_readable(text)
        stripped = text.strip().rstrip(";").rstrip()
        if not stripped:
            raise SettingFaults(
                Fault((), "the query is empty; write one that returns `person_id`.")
            )
        if len(stripped) > LONGEST_QUERY:
            raise SettingFaults(
                Fault(
                    (),
                    f"the query has {len(stripped):,} characters; at most {LONGEST_QUERY:,} are "
                    "allowed. Make a view of it, and select from that.",
                )
            )
        return stripped

    @model_validator(mode="after")
    def _one_way_to_belong(self) -> "AudienceSettings":
        if (self.where is None) == (self.query is None):
            raise SettingFaults(
                Fault((), "an audience has either `where` or `query`; write exactly one of them.")
            )
        return self


def comparison_problem(
    comparison: Comparison, columns: Mapping[str, ValueType] = FACTS
) -> str | None:
    """Why a comparison makes no sense for a person, or whatever the columns are of; else None."""
    kind = columns.get(comparison.field.lower())
    name = show(comparison.field)
    if kind is None:
        near = did_you_mean(comparison.field, columns)
        hint = f"did you mean {show(near)}? The columns are" if near else "write one of"
        return f"there is no column {name}; {hint} {listed(sorted(columns))}."
    if comparison.comparator in _CHOICES:
        return f"`{comparison.comparator}` looks into lists of choices, and {name} holds one value."
    if comparison.comparator not in _allowed(kind):
        return f"{name} holds {_held(kind)}, which `{comparison.comparator}` does not compare."
    values = comparison.value if isinstance(comparison.value, tuple) else (comparison.value,)
    if "" in values:
        return f"{name} is never an empty text; write `= null` for one that is not there."
    wrong = [value for value in values if not _fits(value, kind, comparison.comparator)]
    if wrong:
        return f"{name} holds {_held(kind)}, so it cannot be compared with {show(wrong[0])}."
    return None


def comparisons_of(tree: RecordFilter) -> Iterator[Comparison]:
    """Every comparison of a condition."""
    match tree:
        case Comparison():
            yield tree
        case All(parts=parts) | Any(parts=parts):
            for part in parts:
                yield from comparisons_of(part)
        case Not(part=part):
            yield from comparisons_of(part)
        case _:
            assert_never(tree)


def _allowed(kind: ValueType) -> frozenset[Comparator]:
    """Order of texts would depend on the server's language, so it is left out."""
    match kind:
        case ValueType.BOOLEAN:
            return _EQUALITIES
        case ValueType.TEXT:
            return _EQUALITIES | _MEMBERSHIPS | {Comparator.LIKE}
        case _:
            return _EQUALITIES | _MEMBERSHIPS | _ORDERINGS


def _held(kind: ValueType) -> str:
    match kind:
        case ValueType.BOOLEAN:
            return "true or false"
        case ValueType.TEXT:
            return "text"
        case ValueType.DATE:
            return "days such as 2026-01-31"
        case ValueType.DATETIME:
            return "instants such as 2026-01-31T08:00:00Z"
        case _:
            return "numbers"


def _fits(value: FilterValue, kind: ValueType, comparator: Comparator) -> bool:
    """Whether a value is of a column's kind; null is of every kind where the grammar takes it."""
    if value is None:
        return True
    match kind:
        case ValueType.BOOLEAN:
            return isinstance(value, bool)
        case ValueType.TEXT:
            return isinstance(value, str)
        case ValueType.DATE:
            return isinstance(value, date) and not isinstance(value, datetime)
        case ValueType.DATETIME:
            # Nothing happens at a day; before or since one it does.
            return isinstance(value, datetime) or (
                isinstance(value, date) and comparator in _ORDERINGS
            )
        case _:
            return isinstance(value, Decimal)


def require_readable(text: str) -> None:
    """Refuse characters that a reader of the file cannot see.

    Raises:
        SettingFaults: there are some.
    """
    found = _HIDDEN.search(text)
    if found:
        raise SettingFaults(
            Fault(
                (),
                f"the invisible character U+{ord(found.group()):04X} is not allowed; take it out.",
            )
        )
