"""Looking at typed tables: whether they are there, how many rows they hold, the latest rows.

Belongs here: questions about a table as it is. Does not belong here: statements that change one
(merge.py) or its columns (schema.py).
"""

from collections.abc import Mapping

import psycopg
from psycopg import sql

from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.schema import TableShape, is_relation


def table_is_live(connection: psycopg.Connection, shape: TableShape) -> bool:
    """Whether the typed table exists already."""
    return is_relation(connection, shape.qualified)


def preview_table(
    warehouse: Warehouse, table: sql.Identifier, *, rows: int
) -> list[Mapping[str, object]]:
    """The rows written last, for people to look at; empty while there is no table."""
    with warehouse.connect() as connection:
        if not is_relation(connection, table):
            return []
        cursor = connection.execute(
            sql.SQL("SELECT * FROM {} ORDER BY _synced_at DESC LIMIT {}").format(
                table, sql.Literal(rows)
            )
        )
        names = [column.name for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def count_live_rows(connection: psycopg.Connection, shape: TableShape) -> int:
    """Rows that are no tombstones; 0 while there is no table."""
    if not is_relation(connection, shape.qualified):
        return 0
    return _number(
        connection,
        sql.SQL("SELECT count(*) FROM {} WHERE _deleted_at IS NULL").format(shape.qualified),
    )


def count_duplicates(connection: psycopg.Connection, table: sql.Identifier) -> int:
    """Keys that stand in more than one row."""
    key = connection.execute(
        "SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid"
        " AND a.attnum = i.indkey[0] WHERE i.indrelid = to_regclass(%s) AND i.indisprimary",
        [table.as_string(connection)],
    ).fetchone()
    name = sql.Identifier(key[0] if key else "id")
    return _number(
        connection,
        sql.SQL(
            "SELECT count(*) FROM (SELECT 1 FROM {} GROUP BY {} HAVING count(*) > 1) twice"
        ).format(table, name),
    )


def _number(connection: psycopg.Connection, statement: sql.Composed) -> int:
    row = connection.execute(statement).fetchone()
    assert row is not None
    return int(row[0])
