"""Delivery can hand an action back to its decision; its next write-back has a key of its own."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

COLUMNS = """
ALTER TABLE crm_sync.action
    ADD COLUMN handed_back integer NOT NULL DEFAULT 0,
    ADD COLUMN idempotency_key text COLLATE "C" NOT NULL GENERATED ALWAYS AS (
        'action/' || action_id
        || CASE WHEN handed_back > 0 THEN '/' || handed_back::text ELSE '' END
    ) STORED;
COMMENT ON COLUMN crm_sync.action.handed_back IS
    'So often its record was there when it was to be made, and it was decided again.';
COMMENT ON COLUMN crm_sync.action.idempotency_key IS
    'Of its write-back; where it is an update, a slash and the field follow.';
"""
LOG = """
CREATE OR REPLACE VIEW crm_sync.action_log AS
SELECT a.action_id,
       CASE WHEN a.is_dismissed AND a.state IN ('held', 'refused') THEN 'dismissed'
            WHEN a.state <> 'enqueued' THEN a.state
            ELSE coalesce(o.state, 'forgotten') END AS state,
       a.kind,
       a.object_name,
       o.operation,
       o.written_object,
       coalesce(o.record_id, a.record_id, CASE WHEN cardinality(a.matches) = 1
                                               THEN a.matches[1] END) AS record_id,
       o.is_created,
       coalesce(o.code, a.code) AS code,
       coalesce(o.reason, a.reason) AS reason,
       coalesce(o.remedy, a.remedy) AS remedy,
       a.matches,
       a.waits_for,
       a.requested_by,
       a.cause,
       a.requested_at,
       a.resolved_at,
       o.ended_at
FROM crm_sync.action a
LEFT JOIN LATERAL (
    -- The action's end is its worst part's. A value that a newer one superseded is no failure, and
    -- one that went to another record, after a merge, is told by what became of it there.
    SELECT CASE WHEN bool_or(e.state = 'parked') THEN 'parked'
                WHEN bool_or(e.state IN ('waiting', 'held', 'sending')) THEN 'waiting'
                WHEN bool_or(e.state = 'applied') THEN 'applied'
                WHEN bool_or(e.state = 'superseded') THEN 'superseded' END AS state,
           min(e.operation) AS operation,
           min(e.object_name) AS written_object,
           min(coalesce(e.written_id, e.record_id)) AS record_id,
           bool_or(e.is_created) AS is_created,
           min(e.code) FILTER (WHERE e.state = 'parked' OR e.code IN (
               'LINKED', 'READ_BACK', 'CHANGED_IN_CRM')) AS code,
           min(e.reason) FILTER (WHERE e.state = 'parked' OR e.code IN (
               'LINKED', 'READ_BACK', 'CHANGED_IN_CRM')) AS reason,
           min(e.remedy) FILTER (WHERE e.state = 'parked') AS remedy,
           max(e.ended_at) AS ended_at
    FROM crm_sync.outbox w
    CROSS JOIN LATERAL (
        WITH RECURSIVE trail AS (
            SELECT w.write_id, w.idempotency_key, w.successor_id, 0 AS steps
            UNION ALL
            SELECT n.write_id, n.idempotency_key, n.successor_id, t.steps + 1
            FROM trail t JOIN crm_sync.outbox n ON n.write_id = t.successor_id
            WHERE t.steps < 10 AND starts_with(n.idempotency_key, t.idempotency_key || '=>')
        )
        SELECT t.write_id FROM trail t ORDER BY t.steps DESC LIMIT 1
    ) last_one
    JOIN crm_sync.outbox e ON e.write_id = last_one.write_id
    WHERE a.state = 'enqueued'
    AND (w.idempotency_key = a.idempotency_key
         OR (w.idempotency_key >= a.idempotency_key || '/'
             AND w.idempotency_key < a.idempotency_key || '0'
             AND position('=>' IN substr(w.idempotency_key, length(a.idempotency_key) + 2)) = 0))
) o ON true;
"""


def upgrade() -> None:
    """How often, the key, and the log that goes by it."""
    op.execute(COLUMNS)
    op.execute(LOG)
