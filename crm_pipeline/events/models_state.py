"""Which events the marketing models have seen, so that they follow whoever wrote the events.

A file, a tool's INSERT and a command on a shell all count alike. Transactions are compared, not
times: one that was still open when the models were built is not taken for seen.

Belongs here: that mark. Does not belong here: building models (defs/marketing_models.py).
"""

from crm_pipeline.warehouse.connection import Warehouse

_NEWEST = """
SELECT max(loaded_in)::text FROM events.marketing_events
WHERE loaded_in >= coalesce((SELECT built_through FROM events.models_state), '0'::xid8)
"""


def newest_event_not_built(warehouse: Warehouse) -> str | None:
    """The transaction of the newest event that the models have not seen; None if there is none."""
    with warehouse.connect() as connection:
        row = connection.execute(_NEWEST).fetchone()
    return None if row is None or row[0] is None else str(row[0])


def horizon(warehouse: Warehouse) -> str:
    """Every event of an earlier transaction than this can be seen by who reads from now on."""
    with warehouse.connect() as connection:
        row = connection.execute("SELECT pg_snapshot_xmin(pg_current_snapshot())::text").fetchone()
    assert row is not None
    return str(row[0])


def note_built(warehouse: Warehouse, through: str) -> None:
    """The models have seen every event of earlier transactions than this; it never goes back."""
    with warehouse.connect() as connection:
        connection.execute(
            "INSERT INTO events.models_state (built_through) VALUES (%s::xid8)"
            " ON CONFLICT (is_only) DO UPDATE SET built_through = excluded.built_through"
            " WHERE models_state.built_through < excluded.built_through",
            [through],
        )
