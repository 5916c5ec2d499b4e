"""What may be said of an error: never a value.

PostgreSQL quotes what it refuses: a row that breaks a constraint, a text that is no number, a line
of COPY. Other libraries quote what they could not parse. Logs, the ledger and Dagster's pages are
read by more people than the tables are, so all three tell errors by this module.

Belongs here: taking values out of errors. Does not belong here: our own sentences, which never hold
any (errors.py), and the CRM's answers (crm/<vendor>/failures.py).
"""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from crm_pipeline.errors import CrmPipelineError

_WITHHELD = "its text is withheld, for it may quote a record"
# Classes whose messages name tables, limits and states. Left out: 22 (bad values), 23 (constraints,
# which quote whole rows), P0 and all that an operator's trigger may say.
_CLASSES_WITHOUT_VALUES = frozenset(
    {"08", "25", "26", "28", "34", "3D", "3F", "40", "42", "53", "54", "55", "57", "58"}
)
# Python builds their texts from names of the code and from paths.
_ERRORS_WITHOUT_VALUES = (
    AssertionError,
    AttributeError,
    ImportError,
    NameError,
    NotImplementedError,
    OSError,
    TypeError,
)


@contextmanager
def values_kept_in() -> Iterator[None]:
    """Errors that leave the block hold no value any more, nor do those that led to them."""
    try:
        yield
    except BaseException as error:
        for one in _chain(error):
            if isinstance(one, psycopg.Error):
                _strip(one)
        raise


def told(error: BaseException) -> str:
    """What logs, the ledger and people may know of an error."""
    if isinstance(error, CrmPipelineError):
        return str(error)
    if isinstance(error, psycopg.Error):
        return f"{type(error).__name__}: {_without_values(error)}"
    is_plain = type(error).__module__ == "builtins" and isinstance(error, _ERRORS_WITHOUT_VALUES)
    return f"{type(error).__name__}: {str(error) if is_plain else _WITHHELD}"


def trace_of(error: BaseException) -> str:
    """Where an error came from and what led to it: files, lines and code, told without values."""
    steps = [
        "".join(traceback.format_tb(one.__traceback__)) + told(one)
        for one in reversed(list(_chain(error)))
    ]
    return "\n\n".join(steps)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, what caused it, what caused that."""
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        following = following.__cause__ or following.__context__


def _strip(error: psycopg.Error) -> None:
    """In place: whoever prints it later, in whatever chain, prints no value."""
    if error.diag.sqlstate is not None:
        error.args = (_without_values(error),)


def _without_values(error: psycopg.Error) -> str:
    """PostgreSQL's own message where it holds none, and otherwise the names that it gives."""
    diagnosis, state = error.diag, error.diag.sqlstate
    if state is None:  # libpq's own: connections
        return str(error).strip()
    if state[:2] in _CLASSES_WITHOUT_VALUES:
        return diagnosis.message_primary or state
    names = (
        ("table", diagnosis.table_name),
        ("column", diagnosis.column_name),
        ("constraint", diagnosis.constraint_name),
    )
    found = ", ".join(f"{kind} {name}" for kind, name in names if name)
    return f"{found or 'PostgreSQL'} refuses a value ({state}); {_WITHHELD}"
