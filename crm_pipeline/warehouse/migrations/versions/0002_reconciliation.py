"""Reconciliation: deletions, findings, held disappearances, foreign updates, odd characters."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = """
ALTER TABLE crm_sync.object_state
    ADD COLUMN deletions_through timestamptz,
    ADD COLUMN refreshed_at timestamptz,
    ADD COLUMN held_disappearance bigint,
    ADD COLUMN held_mode text,
    ADD COLUMN accepted_disappearance bigint;
ALTER TABLE crm_sync.object_state RENAME COLUMN full_sync_due_reason TO due_reason;
UPDATE crm_sync.object_state SET refreshed_at = last_full_sync_at;
COMMENT ON COLUMN crm_sync.object_state.deletions_through IS
    'Every deletion before this instant of the CRM''s time is known; null: none is known to be.';
COMMENT ON COLUMN crm_sync.object_state.refreshed_at IS
    'When the columns that no stamp speaks for (formulas, parents'' fields) were last read whole.';
COMMENT ON COLUMN crm_sync.object_state.held_disappearance IS
    'So many rows would have vanished at once; nothing was changed, and a person must agree.';
COMMENT ON COLUMN crm_sync.object_state.accepted_disappearance IS
    'A person agreed that so many rows vanish; the next commit uses it up.';

ALTER TABLE crm_sync.sync_run
    ADD COLUMN findings jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN delta_records bigint;
COMMENT ON COLUMN crm_sync.sync_run.delta_records IS
    'Where everything was read: rows that differ from the live table, by the comparison.';
COMMENT ON COLUMN crm_sync.sync_run.findings IS
    'Of a reconciliation: rows that were out of step, by kind.';

CREATE FUNCTION crm_sync.mark_altered() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW._synced_at := '-infinity';
    RETURN NEW;
END $$;
COMMENT ON FUNCTION crm_sync.mark_altered() IS
    'Marks a row that somebody else has changed, so that the next reconciliation reads it again.';

ALTER TABLE crm_sync.checkpoint ADD COLUMN replaced_characters bigint NOT NULL DEFAULT 0;
ALTER TABLE crm_sync.sync_run ADD COLUMN replaced_characters bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN crm_sync.sync_run.replaced_characters IS
    'NULs and halves of surrogate pairs that came from the CRM and are U+FFFD here.';

DROP VIEW crm_sync.sync_status;
CREATE VIEW crm_sync.sync_status AS
SELECT s.object_name,
       s.table_name,
       CASE WHEN l.owner IS NOT NULL AND l.expires_at > now() THEN l.mode || ' sync running'
            WHEN s.held_disappearance IS NOT NULL THEN 'waits for a person'
            WHEN r.status IN ('reading', 'staged') THEN 'last sync interrupted'
            WHEN r.status IN ('failed', 'interrupted') THEN 'last sync ' || r.status
            WHEN s.watermark IS NULL THEN 'never fully synced'
            WHEN s.due_reason IS NOT NULL THEN 'refresh due'
            WHEN q.records > 0 THEN 'records in quarantine'
            ELSE 'in step' END AS status,
       s.watermark AS synced_through,
       s.last_full_sync_at,
       s.last_sync_at,
       s.refreshed_at,
       r.mode AS last_mode,
       r.status AS last_result,
       r.records_read AS last_records_read,
       r.inserted AS last_inserted,
       r.updated AS last_updated,
       r.deleted AS last_deleted,
       r.seconds AS last_seconds,
       r.api_calls AS last_api_calls,
       r.transport AS last_transport,
       r.replaced_characters AS last_replaced_characters,
       q.records AS quarantined,
       s.held_disappearance,
       s.due_reason,
       c.finished_at AS last_reconciled_at,
       c.findings AS last_findings,
       r.error AS last_error
FROM crm_sync.object_state s
LEFT JOIN crm_sync.lease l ON l.name = s.object_name
CROSS JOIN LATERAL (
    SELECT count(*) AS records FROM crm_sync.quarantine q WHERE q.object_name = s.object_name
) q
LEFT JOIN LATERAL (
    SELECT * FROM crm_sync.sync_run r
    WHERE r.object_name = s.object_name AND r.mode <> 'record' ORDER BY r.sync_run_id DESC LIMIT 1
) r ON true
LEFT JOIN LATERAL (
    SELECT * FROM crm_sync.sync_run r
    WHERE r.object_name = s.object_name AND r.mode IN ('reconcile', 'full')
    AND r.status = 'committed' ORDER BY r.sync_run_id DESC LIMIT 1
) c ON true;
COMMENT ON VIEW crm_sync.sync_status IS 'One row per CRM object: where it stands and how it went.';
"""


def upgrade() -> None:
    """What the reconciliation, the refresh and the circuit breaker remember."""
    op.execute(TABLES)
