"""What the automatic write-backs saw when they last looked, and what they decided."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE crm_sync.write_back (
    name text PRIMARY KEY,
    marts text,
    settings text,
    looked_at timestamptz
);
COMMENT ON TABLE crm_sync.write_back IS
    'One row per automatic write-back. Whoever decides locks it, so that two never decide at once.';
COMMENT ON COLUMN crm_sync.write_back.marts IS
    'Which builds of its marts the last decision saw; another build makes it due.';
COMMENT ON COLUMN crm_sync.write_back.settings IS
    'Which settings the last decision followed; others make it due.';
COMMENT ON COLUMN crm_sync.write_back.looked_at IS
    'When it was last decided, also if there was nothing to write.';

CREATE TABLE crm_sync.write_back_decision (
    batch text PRIMARY KEY,
    name text NOT NULL,
    run_id text NOT NULL,
    decided_at timestamptz NOT NULL DEFAULT now(),
    records bigint NOT NULL,
    waiting bigint NOT NULL,
    held bigint NOT NULL,
    superseded bigint NOT NULL,
    parked bigint NOT NULL,
    held_because text,
    approved_at timestamptz,
    rejected_at timestamptz
);
CREATE INDEX write_back_decision_by_name ON crm_sync.write_back_decision (name, decided_at);
COMMENT ON TABLE crm_sync.write_back_decision IS
    'Decisions that found something to write. It holds no value of any record.';
COMMENT ON COLUMN crm_sync.write_back_decision.batch IS
    'What its rows of the outbox carry, and what commands approve, reject or undo.';
COMMENT ON COLUMN crm_sync.write_back_decision.records IS 'How many records it would change.';
COMMENT ON COLUMN crm_sync.write_back_decision.waiting IS
    'Rows of the outbox at that moment that were to be sent; held, superseded, parked likewise.';
COMMENT ON COLUMN crm_sync.write_back_decision.held_because IS
    'Why a person must approve it; null where nobody must.';

CREATE INDEX outbox_held ON crm_sync.outbox (batch) WHERE state = 'held';

CREATE VIEW crm_sync.write_back_decisions AS
SELECT d.batch,
       d.name,
       d.run_id,
       d.decided_at,
       d.records,
       d.waiting AS enqueued_waiting,
       d.held AS enqueued_held,
       d.superseded AS enqueued_superseded,
       d.parked AS enqueued_parked,
       d.held_because,
       (SELECT count(*) FROM crm_sync.outbox o WHERE o.state = 'held' AND o.batch = d.batch)
           AS still_held,
       d.approved_at,
       d.rejected_at
FROM crm_sync.write_back_decision d;
COMMENT ON VIEW crm_sync.write_back_decisions IS
    'One row per decision of an automatic write-back that found something, and what of it is held.';
"""


def upgrade() -> None:
    """Decisions, and who holds the pen."""
    op.execute(TABLES)
