"""What names may look like, and how a sentence shows what somebody wrote.

Holds the rules for names of CRM objects, CRM fields, tables and columns, and the few ways in which
error sentences quote input. Belongs here: a rule that two modules of this room share. Does not
belong here: which names exist (mapping.py asks the CRM's describe) and SQL quoting (warehouse/).
"""

import difflib
import hashlib
import re
from collections.abc import Iterable

FIELD_PATTERN = r"[A-Za-z][A-Za-z0-9_]*(?:\.[A-Za-z][A-Za-z0-9_]*){0,5}"
REFERENCE_TABLES = (
    "users",
    "queues",
    "queue_members",
    "queue_objects",
    "assignment_rules",
    "picklist_values",
    "case_priorities",
    "case_queues",
)
"""Tables that reference data fills beside the objects' own."""

MAXIMUM_NAME_LENGTH = 63
_FIELD = re.compile(FIELD_PATTERN)
_OBJECT = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}")
_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]*")
# PostgreSQL refuses these as columns even in quotes.
_SYSTEM_COLUMNS = frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"})
_SHOWN_CHARACTERS = 60


def is_field_name(text: str) -> bool:
    """Whether the text can be a CRM field, or a path of at most five relationships to one."""
    return _FIELD.fullmatch(text) is not None


def is_object_name(text: str) -> bool:
    """Whether the text can be a CRM object."""
    return _OBJECT.fullmatch(text) is not None


def identifier_problem(text: str) -> str | None:
    """Why PostgreSQL names of ours may not be spelt so; None when they may.

    Underscores in front are kept for our own bookkeeping, and longer names than 63 bytes would be
    cut by the server in silence.
    """
    if len(text.encode("utf-8", "replace")) > MAXIMUM_NAME_LENGTH:
        return f"is longer than {MAXIMUM_NAME_LENGTH} bytes"
    if text.startswith("_"):
        return "begins with `_`, which is kept for bookkeeping columns"
    if _IDENTIFIER.fullmatch(text) is None:
        return "is not made of a-z, 0-9 and `_` with a letter in front"
    return None


def column_problem(text: str) -> str | None:
    """Why a column may not be called so; None when it may."""
    if text in _SYSTEM_COLUMNS:
        return "is a column that PostgreSQL keeps for itself"
    return identifier_problem(text)


def default_column(field_name: str) -> str:
    """The column of a field whose mapping names none: lower case, dots as underscores."""
    return field_name.lower().replace(".", "_")


def shortened(name: str) -> str:
    """A legal name that still reads like `name` and differs for different names."""
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[:54]}_{digest}"


def printable(text: str, *, limit: int = _SHOWN_CHARACTERS) -> str:
    """The text on one line without control characters, so that it cannot forge a log line."""
    shown = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text[: limit + 1])
    return shown if len(text) <= limit else f"{shown[:limit]}..."


def show(value: object) -> str:
    """A value from a settings file as a sentence names it."""
    match value:
        case None:
            return "an empty value"
        case bool():
            return f"`{str(value).lower()}`"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case _:
            return f"`{printable(str(value))}`"


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """The known name nearest to a mistyped one, whatever the case; None when none is near."""
    by_folded = {k.casefold(): k for k in known}
    near = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.7)
    return by_folded[near[0]] if near else None


def listed(names: Iterable[str]) -> str:
    """Names in backticks as a sentence lists them: `a`, `b` and `c`."""
    quoted = [f"`{printable(name)}`" for name in names]
    if len(quoted) < 2:
        return "".join(quoted)
    return f"{', '.join(quoted[:-1])} and {quoted[-1]}"
