"""Which events the marketing models have not seen, whoever wrote them.

A file, a tool's INSERT and a command on a shell all count alike. The models remember what they
have seen as a snapshot (dbt_marketing/macros/what_has_changed.sql); here it is only asked for.

Belongs here: that question. Does not belong here: building models (defs/marketing_models.py).
"""

from datetime import datetime

from psycopg import sql

from crm_pipeline.warehouse.connection import Warehouse
from crm_pipeline.warehouse.schema import is_relation

_READER = "fct_engagement"
_NEWEST = """
SELECT max(loaded_in)::text FROM events.marketing_events
WHERE loaded_in >= pg_snapshot_xmin({seen}) AND NOT pg_visible_in_snapshot(loaded_in, {seen})
"""
_NOTHING_SEEN = "1:1:"


def newest_event_not_built(warehouse: Warehouse, marts_schema: str) -> str | None:
    """The transaction of the newest event that the models have not seen; None if there is none."""
    memory = sql.Identifier(f"{marts_schema}_staging", "build_progress")
    with warehouse.connect() as connection:
        row = None
        if is_relation(connection, memory):
            row = connection.execute(
                sql.SQL("SELECT seen::text FROM {} WHERE model = %s").format(memory), [_READER]
            ).fetchone()
        seen = sql.SQL("{}::pg_snapshot").format(sql.Literal(row[0] if row else _NOTHING_SEEN))
        newest = connection.execute(sql.SQL(_NEWEST).format(seen=seen)).fetchone()
    return None if newest is None or newest[0] is None else str(newest[0])


def models_built_at(warehouse: Warehouse, marts_schema: str) -> datetime | None:
    """When the last model was built; None before the first."""
    memory = sql.Identifier(f"{marts_schema}_staging", "build_progress")
    with warehouse.connect() as connection:
        if not is_relation(connection, memory):
            return None
        row = connection.execute(sql.SQL("SELECT max(built_at) FROM {}").format(memory)).fetchone()
    return row[0] if row else None
