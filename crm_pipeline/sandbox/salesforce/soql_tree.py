"""What a SOQL query says, once parsed: plain values.

Belongs here: the nodes of the tree. Does not belong here: their meaning for an org
(soql_compiler.py, soql_filters.py).
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias


@dataclass(frozen=True, slots=True)
class Path:
    """A field, perhaps of a parent: `Account.Owner.Name`. `position` serves error messages."""

    names: tuple[str, ...]
    position: int

    def __str__(self) -> str:
        return ".".join(self.names)


@dataclass(frozen=True, slots=True)
class Aggregate:
    """COUNT, MIN, MAX, SUM, AVG or COUNT_DISTINCT of a field; COUNT() has no path."""

    function: str
    path: Path | None
    alias: str | None
    position: int


@dataclass(frozen=True, slots=True)
class FieldsOf:
    """FIELDS(ALL), FIELDS(STANDARD) or FIELDS(CUSTOM)."""

    kind: str
    position: int


Selected: TypeAlias = Path | Aggregate | FieldsOf


@dataclass(frozen=True, slots=True)
class Value:
    """A value as written. `pattern` is a text's form for LIKE, its escapes kept."""

    kind: Literal["text", "number", "date", "datetime", "time", "boolean", "null", "span"]
    text: str
    pattern: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A field against one value."""

    path: Path
    operator: str
    value: Value


@dataclass(frozen=True, slots=True)
class Membership:
    """A field against a list or the result of a query (IN, NOT IN, INCLUDES, EXCLUDES)."""

    path: Path
    operator: str
    values: "tuple[Value, ...] | Query"


@dataclass(frozen=True, slots=True)
class Junction:
    """Conditions joined by AND or OR."""

    word: Literal["AND", "OR"]
    parts: "tuple[Condition, ...]"


@dataclass(frozen=True, slots=True)
class Negation:
    """NOT of a condition."""

    part: "Condition"


Condition: TypeAlias = Comparison | Membership | Junction | Negation


@dataclass(frozen=True, slots=True)
class Ordering:
    """One ORDER BY term; SOQL puts nulls first whichever the direction."""

    path: Path
    descending: bool
    nulls_last: bool


@dataclass(frozen=True, slots=True)
class Query:
    """A whole SELECT. `text` is the source, for error messages."""

    text: str
    selected: tuple[Selected, ...]
    object_name: str
    object_position: int
    alias: str | None
    where: Condition | None
    group_by: tuple[Path, ...]
    order_by: tuple[Ordering, ...]
    limit: int | None
    offset: int | None
    all_rows: bool
