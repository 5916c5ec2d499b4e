"""Bringing a typed table that is there to the shape that the CRM describes now.

Values are never lost and never bent: a column is added, or widened, or keeps a type that is wider
than need be. Where the CRM's new type is neither wider nor narrower (a tick box became a date), the
old column is set aside with its values, and a new one takes its name. The other fields go on
whatever becomes of one.

Belongs here: the decision for one column, and its DDL. Does not belong here: views that stand on a
column (dependent_views.py), how long to wait for locks (sync/).

Source: PostgreSQL's manual, "Limits": 1,600 columns in a table, and dropped ones count.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import chain, count

import psycopg
from psycopg import sql

from crm_pipeline.warehouse import history
from crm_pipeline.warehouse.dependent_views import ViewInTheWay, change_under_views
from crm_pipeline.warehouse.schema import (
    BOOKKEEPING,
    Column,
    TableShape,
    column_types,
    comment_table,
    guard_rows,
    is_guarded,
)

SERVER_COLUMNS = 1_600
_LONGEST_NAME = 63


class Fate(StrEnum):
    """What becomes of a column whose type is not the one that the CRM describes."""

    KEEP_WIDER = "the column is wide enough"
    WIDEN = "the column gets the wider type"
    SET_ASIDE = "the column keeps its values under another name, and a new one takes its place"


def fate_of(found: str, wanted: str) -> Fate:
    """What to do with a column of one type when the CRM describes another."""
    if (wanted, found) == ("integer", "numeric") or found == "text":
        return Fate.KEEP_WIDER
    if (found, wanted) == ("integer", "numeric") or wanted == "text":
        return Fate.WIDEN
    return Fate.SET_ASIDE


def set_aside_name(column: str, found: str, taken: Collection[str]) -> str:
    """A free name for the former values of a column, after the type that they have."""
    word = found.split(maxsplit=1)[0]
    suffixes = chain([f"__{word}"], (f"__{word}_{number}" for number in count(2)))
    names = (column[: _LONGEST_NAME - len(suffix)] + suffix for suffix in suffixes)
    return next(name for name in names if name not in taken)


def columns_left(connection: psycopg.Connection, schema: str, table: str) -> int:
    """How many columns can still be added to a table; dropped ones have used up their place."""
    row = connection.execute(
        "SELECT coalesce(max(attnum), 0) FROM pg_attribute WHERE attrelid = to_regclass(%s)",
        [sql.Identifier(schema, table).as_string(connection)],
    ).fetchone()
    assert row is not None, "an aggregate gives one row"
    return SERVER_COLUMNS - int(row[0])


@dataclass(frozen=True, slots=True)
class Fitted:
    """A shape that an existing table can take, and what had to be done for it.

    Attributes:
        shape: with the wider of both types where the table's is wider than the CRM's.
        unfilled: CRM fields whose column is new or was retyped, as `Column.filling` says it: older
            rows want a refresh.
        misfits: CRM fields that the table cannot take, each with the reason.
    """

    shape: TableShape
    unfilled: tuple[str, ...] = ()
    misfits: tuple[tuple[str, str], ...] = ()


def fit_table(connection: psycopg.Connection, shape: TableShape) -> Fitted:
    """Bring an existing table to the shape.

    Columns that are no longer mapped stay with their values. A field whose column cannot be brought
    about is left out and named, so that the others go on.
    """
    present = column_types(connection, shape.schema, shape.table)
    _mend_bookkeeping(connection, shape, present)
    fitting: dict[Column, Column] = {}
    unfilled: list[str] = []
    misfits: list[tuple[str, str]] = []
    for column in shape.staged:
        found = present.get(column.name)
        fitting[column] = column
        if column not in shape.kept or found == column.column_type:
            continue
        if found is not None and fate_of(found, column.column_type) is Fate.KEEP_WIDER:
            fitting[column] = replace(column, column_type=found)
            continue
        problem = _make_room(connection, shape, column, present)
        if problem:
            del fitting[column]
            misfits.append((column.source, problem))
        else:
            unfilled.append(column.filling)
    if unfilled:
        comment_table(connection, shape)
    fitted = replace(
        shape,
        mapped=tuple(fitting[c] for c in shape.mapped if c in fitting),
        technical=tuple(fitting[c] for c in shape.technical if c in fitting),
    )
    return Fitted(fitted, tuple(unfilled), tuple(misfits))


def _make_room(
    connection: psycopg.Connection, shape: TableShape, column: Column, present: Mapping[str, str]
) -> str | None:
    """Add or retype a column, or say why that cannot be."""
    where = f"{shape.schema}.{shape.table}"
    try:
        with connection.transaction():
            _change(connection, shape, column, present)
    except psycopg.errors.TooManyColumns:
        return (
            f"{where} has used up the {SERVER_COLUMNS:,} columns that PostgreSQL allows, dropped "
            "ones included. Rename the table and launch a full sync, which makes a new one."
        )
    except psycopg.OperationalError:
        raise  # a lock that did not come, a server that went: to be tried again
    except (ViewInTheWay, psycopg.Error) as error:
        reason = error.diag.message_primary if isinstance(error, psycopg.Error) else str(error)
        return (
            f"{where}.{column.name} holds {present.get(column.name)} and cannot become "
            f"{column.column_type}: {reason}. Drop what is in the way for a moment, or map the "
            "field to a new column."
        )
    return None


def _change(
    connection: psycopg.Connection, shape: TableShape, column: Column, present: Mapping[str, str]
) -> None:
    found = present.get(column.name)
    name = sql.Identifier(column.name)
    addition = sql.SQL("ADD COLUMN {}").format(column.definition)
    if found is None:
        _alter(connection, shape, addition)
        return

    def widen() -> None:
        new_type = sql.SQL(column.column_type)
        _alter(connection, shape, sql.SQL("ALTER COLUMN {} TYPE {}").format(name, new_type))
        history.widen_column(connection, shape, column.name, found=found, wanted=column.column_type)

    def set_aside() -> None:
        taken = {*present, *(other.name for other in shape.staged)}
        aside = set_aside_name(column.name, found, taken)
        former = sql.Identifier(aside)
        _alter(connection, shape, sql.SQL("RENAME COLUMN {} TO {}").format(name, former))
        history.rename_column(connection, shape, column.name, aside)
        _alter(connection, shape, addition)
        comment = f"{column.name} as it was until {column.source} became {column.column_type}"
        connection.execute(
            sql.SQL("COMMENT ON COLUMN {}.{} IS {}").format(
                shape.qualified, former, sql.Literal(comment)
            )
        )

    is_wider = fate_of(found, column.column_type) is Fate.WIDEN
    change_under_views(connection, shape.qualified, column.name, widen if is_wider else set_aside)


def _mend_bookkeeping(
    connection: psycopg.Connection, shape: TableShape, present: Mapping[str, str]
) -> None:
    for name, (definition, _) in BOOKKEEPING.items():
        if name not in present:
            added = sql.SQL("ADD COLUMN {} {}").format(sql.Identifier(name), sql.SQL(definition))
            _alter(connection, shape, added)
    if not is_guarded(connection, shape):
        guard_rows(connection, shape)


def _alter(connection: psycopg.Connection, shape: TableShape, change: sql.Composed) -> None:
    connection.execute(sql.SQL("ALTER TABLE {} {}").format(shape.qualified, change))
