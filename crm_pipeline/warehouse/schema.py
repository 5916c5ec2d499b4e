"""The shape of a typed table: from an object selection to columns.

Belongs here: PostgreSQL's side of `ValueType`, bookkeeping columns, comments and grants. Does not
belong here: bringing a table that is there to a shape (fitting.py), moving rows (staging.py,
merge.py).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import psycopg
from psycopg import sql

from crm_pipeline.errors import PermanentError
from crm_pipeline.model.objects import CrmField, ObjectSelection, ValueType
from crm_pipeline.warehouse.connection import STAGING_SCHEMA

COLUMN_TYPES: dict[ValueType, str] = {
    ValueType.TEXT: "text",
    ValueType.IDENTIFIER: "text",
    ValueType.INTEGER: "integer",
    ValueType.DECIMAL: "numeric",
    ValueType.BOOLEAN: "boolean",
    ValueType.DATE: "date",
    ValueType.DATETIME: "timestamp with time zone",
    ValueType.TIME: "time without time zone",
}
MAXIMUM_COLUMNS = 1_590
MAXIMUM_ROW_BYTES = 8_160
"""What fits on a page of PostgreSQL; long values move out of the row, but each leaves a pointer."""
_BYTES_IN_ROW = {"integer": 4, "boolean": 1, "date": 4}
_ROW_HEADER_BYTES = 24
_POINTER_BYTES = 19


@dataclass(frozen=True, slots=True)
class Column:
    """One column, and the CRM field that fills it."""

    name: str
    column_type: str
    source: str
    comment: str
    is_identifier: bool = False

    @property
    def filling(self) -> str:
        """What to remember when every row has its value: the field and, if renamed, the column."""
        is_renamed = self.name != self.source.lower().replace(".", "_")
        return f"{self.source} as {self.name}" if is_renamed else self.source

    @property
    def definition(self) -> sql.Composable:
        """How CREATE TABLE spells it. Ids sort by byte: much faster to index than by language."""
        return sql.SQL("{} {}{}").format(
            sql.Identifier(self.name),
            sql.SQL(self.column_type),
            sql.SQL(' COLLATE "C"' if self.is_identifier else ""),
        )


@dataclass(frozen=True, slots=True)
class TableShape:
    """What a typed table and its staging table look like.

    `staged` are the columns that pages fill: the mapped ones and, where the operator did not map
    them herself, the record's stamp, its deletion mark and the winner of its merge.
    """

    schema: str
    table: str
    comment: str
    mapped: tuple[Column, ...]
    technical: tuple[Column, ...]
    id_column: str
    stamp_column: str | None
    deleted_column: str | None
    merged_column: str | None

    @property
    def staged(self) -> tuple[Column, ...]:
        """Columns that pages fill, in the order in which they are read."""
        return self.mapped + self.technical

    @property
    def kept(self) -> tuple[Column, ...]:
        """Staged columns that analysts keep: without the marks that become bookkeeping."""
        return tuple(c for c in self.staged if c.name not in _STAGED_ONLY)

    @property
    def read_fields(self) -> tuple[str, ...]:
        """CRM fields to ask for, in staged order."""
        return tuple(c.source for c in self.staged)

    @property
    def widest_row_bytes(self) -> int:
        """About how wide a row gets when every field is filled, its long values moved out."""
        columns = [c.column_type for c in self.kept] + [
            d.split()[0] for d, _ in BOOKKEEPING.values()
        ]
        filled = sum(_BYTES_IN_ROW.get(t, 8 if "time" in t else _POINTER_BYTES) for t in columns)
        return _ROW_HEADER_BYTES + len(columns) // 8 + filled

    def in_order(self, fields: Sequence[str]) -> tuple[Column, ...]:
        """The staged columns in the order in which a page carries their fields."""
        by_source = {column.source.casefold(): column for column in self.staged}
        return tuple(by_source[name.casefold()] for name in fields)

    def narrowed(self, fields: Collection[str] = ()) -> "TableShape":
        """Only id, stamp and marks of disappearance, and what is filled from `fields`."""
        names = (self.id_column, self.stamp_column, self.deleted_column, self.merged_column)

        def kept(columns: tuple[Column, ...]) -> tuple[Column, ...]:
            return tuple(c for c in columns if c.name in names or c.source in fields)

        return replace(self, mapped=kept(self.mapped), technical=kept(self.technical))

    @property
    def qualified(self) -> sql.Identifier:
        """The live table."""
        return sql.Identifier(self.schema, self.table)

    @property
    def full_name(self) -> str:
        """The live table in words, such as `salesforce.lead`."""
        return f"{self.schema}.{self.table}"


_GUARD = "_altered_elsewhere"
_STAGED_ONLY = ("_is_deleted", "_merged_from_crm")
BOOKKEEPING: dict[str, tuple[str, str]] = {
    "_synced_at": (
        "timestamp with time zone NOT NULL DEFAULT now()",
        "When this version of the row was written here",
    ),
    "_deleted_at": (
        "timestamp with time zone",
        "Tombstone: since when the record is gone; null while it lives",
    ),
    "_vanished": ("text", "How it went: deleted, merged, left_filter or not_visible"),
    "_merged_into": ("text", "Id of the record that it was merged into"),
    "_restored_at": (
        "timestamp with time zone",
        "When it last came back after it had vanished; null if it never went",
    ),
}


_TECHNICAL_COMMENTS = {
    "_modstamp": "The record's stamp, in the CRM's time",
    "_converted_into": "Id of the record that it was converted to",
}


def table_shape(selection: ObjectSelection, schema: str) -> TableShape:
    """The shape for a selection.

    Raises:
        PermanentError: more columns than PostgreSQL can hold.
    """
    mapped = tuple(_column(m.field, m.column) for m in selection.columns)
    if len(mapped) > MAXIMUM_COLUMNS:
        raise PermanentError(
            f"{selection.name}: {len(mapped)} mapped fields; a table can hold {MAXIMUM_COLUMNS}. "
            "Map fewer fields."
        )
    crm_object = selection.crm_object
    by_source = {c.source: c.name for c in mapped}
    technical: list[Column] = []

    def staged_as(field_name: str | None, column: str, type_name: ValueType) -> str | None:
        if field_name is None:
            return None
        if field_name in by_source:
            return by_source[field_name]
        technical.append(
            Column(column, COLUMN_TYPES[type_name], field_name, _TECHNICAL_COMMENTS.get(column, ""))
        )
        return column

    stamp_column = staged_as(crm_object.cursor_field, "_modstamp", ValueType.DATETIME)
    staged_as(crm_object.converted_into_field, "_converted_into", ValueType.TEXT)
    return TableShape(
        schema=schema,
        table=selection.table,
        comment=f"{crm_object.label} ({crm_object.name})",
        mapped=mapped,
        id_column=selection.id_column,
        stamp_column=stamp_column,
        deleted_column=staged_as(crm_object.deleted_field, "_is_deleted", ValueType.BOOLEAN),
        merged_column=staged_as(crm_object.merged_into_field, "_merged_from_crm", ValueType.TEXT),
        technical=tuple(technical),
    )


def _column(field: CrmField, name: str) -> Column:
    assert field.value_type is not None, "mapping.py refuses fields that cannot be stored"
    facts = f"{field.name}, {field.native_type}"
    if field.references:
        facts += f" to {', '.join(field.references[:3])}"
    if field.is_calculated:
        facts += ", calculated"
    if field.may_be_masked:
        facts += ", may be masked"
    return Column(
        name,
        COLUMN_TYPES[field.value_type],
        field.name,
        f"{field.label} ({facts})",
        is_identifier=field.value_type is ValueType.IDENTIFIER,
    )


def staging_identifier(staging_table: str) -> sql.Identifier:
    """The qualified name of a staging table."""
    return sql.Identifier(STAGING_SCHEMA, staging_table)


def is_relation(connection: psycopg.Connection, table: sql.Identifier) -> bool:
    """Whether a table of that name is there."""
    row = connection.execute(
        "SELECT to_regclass(%s) IS NOT NULL", [table.as_string(connection)]
    ).fetchone()
    return bool(row and row[0])


def column_types(connection: psycopg.Connection, schema: str, table: str) -> dict[str, str]:
    """Types by column name, as PostgreSQL spells them."""
    rows = connection.execute(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
        " WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
        [sql.Identifier(schema, table).as_string(connection)],
    ).fetchall()
    return {str(name): str(type_name) for name, type_name in rows}


def column_comments(connection: psycopg.Connection, schema: str, table: str) -> dict[str, str]:
    """Comments by column name, where there are any."""
    rows = connection.execute(
        "SELECT attname, col_description(attrelid, attnum) FROM pg_attribute"
        " WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
        [sql.Identifier(schema, table).as_string(connection)],
    ).fetchall()
    return {str(name): str(comment) for name, comment in rows if comment}


def is_guarded(connection: psycopg.Connection, shape: TableShape) -> bool:
    """Whether changes by somebody else are marked."""
    row = connection.execute(
        "SELECT 1 FROM pg_trigger WHERE tgrelid = to_regclass(%s) AND tgname = %s",
        [shape.qualified.as_string(connection), _GUARD],
    ).fetchone()
    return row is not None


def guard_rows(connection: psycopg.Connection, shape: TableShape) -> None:
    """Let no change by somebody else pass for the CRM's.

    Whatever we write carries a new `_synced_at`. A change that does not is somebody else's: the row
    is marked, and the next reconciliation reads it again. The condition costs our own writes about
    as much as one comparison.
    """
    connection.execute(
        sql.SQL(
            "CREATE TRIGGER {guard} BEFORE UPDATE ON {table} FOR EACH ROW"
            " WHEN (OLD._synced_at = NEW._synced_at) EXECUTE FUNCTION crm_sync.mark_altered()"
        ).format(guard=sql.Identifier(_GUARD), table=shape.qualified)
    )


def add_bookkeeping(connection: psycopg.Connection, table: sql.Composable) -> None:
    """Give a table the columns that begin with an underscore."""
    connection.execute(
        sql.SQL("ALTER TABLE {} {}").format(
            table,
            sql.SQL(", ").join(
                sql.SQL("ADD COLUMN {} {}").format(sql.Identifier(name), sql.SQL(definition))
                for name, (definition, _) in BOOKKEEPING.items()
            ),
        )
    )


def comment_table(connection: psycopg.Connection, shape: TableShape) -> None:
    """Put the CRM's labels where psql and every catalogue tool show them."""
    connection.execute(
        sql.SQL("COMMENT ON TABLE {} IS {}").format(shape.qualified, sql.Literal(shape.comment))
    )
    comments: Sequence[tuple[str, str]] = [(c.name, c.comment) for c in shape.kept] + [
        (name, comment) for name, (_, comment) in BOOKKEEPING.items()
    ]
    for name, comment in comments:
        connection.execute(
            sql.SQL("COMMENT ON COLUMN {}.{} IS {}").format(
                shape.qualified, sql.Identifier(name), sql.Literal(comment)
            )
        )


def publish_view(
    connection: psycopg.Connection, schema: str, view: str, query: sql.Composable, *, comment: str
) -> None:
    """Create or replace a view over typed tables, described and readable by analysts."""
    name = sql.Identifier(schema, view)
    connection.execute(sql.SQL("CREATE OR REPLACE VIEW {} AS {}").format(name, query))
    connection.execute(sql.SQL("COMMENT ON VIEW {} IS {}").format(name, sql.Literal(comment)))
    grant_to_analysts(connection, name)


def grant_to_analysts(connection: psycopg.Connection, relation: sql.Identifier) -> None:
    """Let analysts read; skipped where the operator has not created their role."""
    if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = 'analyst'").fetchone():
        connection.execute(sql.SQL("GRANT SELECT ON {} TO analyst").format(relation))
