"""Values that came to a record from one that became it: the loser of a merge, a converted lead.

Such a value is ours if this write-back once wrote it to that other record. It is known from
tombstones and conversions, through as many of them as there were.

Belongs here: the table of such values. Does not belong here: what a decision makes of it
(differences.py), and write-backs that are handed on (handing_over.py).
"""

from collections.abc import Iterator, Sequence

import psycopg
from psycopg import sql

from crm_pipeline.warehouse.differences import INHERITED, Target

_CONVERTED_TO = "Contact"
_CREATE = """
CREATE TEMPORARY TABLE write_back_inherited (
    object_name text, record_id text COLLATE "C", value jsonb
) ON COMMIT DROP
"""
_BECAME = """
SELECT {former} AS former_object, {field} AS former_field, t.{id} AS former_id,
       {object} AS object_name, t.{into} AS record_id
FROM {table} t WHERE t.{into} IS NOT NULL
"""
# UNION leaves out what is there already, so records that became each other end it, too.
_COLLECT = """
WITH RECURSIVE became AS ({became}), inherited AS (
    SELECT b.object_name, b.record_id, x.value
    FROM became b JOIN crm_sync.outbox x
      ON x.object_name = b.former_object AND x.record_id = b.former_id AND x.field = b.former_field
    WHERE x.state = 'applied' AND x.origin = {origin}
    UNION
    SELECT b.object_name, b.record_id, i.value
    FROM inherited i JOIN became b
      ON b.former_object = i.object_name AND b.former_id = i.record_id
)
INSERT INTO {inherited} SELECT object_name, record_id, value FROM inherited
"""


def collect_inherited(
    connection: psycopg.Connection, targets: Sequence[Target], *, origin: str
) -> None:
    """Make the table of inherited values, in the caller's transaction, instead of the one before.

    Args:
        connection: the caller's transaction.
        targets: the fields of one meaning, by object: what is in one of them comes from another.
        origin: the write-back's name.
    """
    connection.execute("DROP TABLE IF EXISTS pg_temp.write_back_inherited")
    connection.execute(_CREATE)
    became = list(_became(targets))
    if not became:
        return
    connection.execute(
        sql.SQL(_COLLECT).format(
            became=sql.SQL(" UNION ALL ").join(became),
            origin=sql.Literal(origin),
            inherited=INHERITED,
        )
    )
    # Nobody knows beforehand how many there are: with an index, that costs nothing.
    connection.execute(
        sql.SQL("CREATE INDEX ON {} (object_name, record_id); ANALYZE {}").format(
            INHERITED, INHERITED
        )
    )


def _became(targets: Sequence[Target]) -> Iterator[sql.Composable]:
    """Queries of the records that became others, with the field whose value they took along."""
    names = {target.object_name for target in targets}
    for target in targets:
        yield _of(target, target.object_name, "_merged_into")
        if _CONVERTED_TO in names:
            for column in target.converted_columns:
                yield _of(target, _CONVERTED_TO, column)


def _of(target: Target, became: str, column: str) -> sql.Composable:
    return sql.SQL(_BECAME).format(
        former=sql.Literal(target.object_name),
        field=sql.Literal(target.field),
        id=sql.Identifier(target.id_column),
        object=sql.Literal(became),
        into=sql.Identifier(column),
        table=target.table,
    )
