"""Control tables: organisation, object state, leases, sync runs, checkpoints, quarantine."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE crm_sync.organization (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    organization_id text NOT NULL,
    organization_name text NOT NULL,
    crm_type text NOT NULL,
    first_seen_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE crm_sync.organization IS 'The one organisation whose data this warehouse holds.';

CREATE TABLE crm_sync.object_state (
    object_name text PRIMARY KEY,
    table_name text NOT NULL,
    watermark timestamptz,
    last_full_sync_at timestamptz,
    last_sync_at timestamptz,
    record_filter text,
    fields jsonb NOT NULL DEFAULT '[]',
    full_sync_due_reason text
);
COMMENT ON COLUMN crm_sync.object_state.watermark IS
    'Complete up to here, in the CRM''s time; the next differential reads from here on.';
COMMENT ON COLUMN crm_sync.object_state.fields IS 'Mapped fields that are filled for every row.';

CREATE TABLE crm_sync.lease (
    name text PRIMARY KEY,
    epoch bigint NOT NULL,
    owner text,
    mode text NOT NULL,
    acquired_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);
COMMENT ON TABLE crm_sync.lease IS
    'At most one sync owns an object. The epoch is a fencing token: only its holder may commit.';

CREATE TABLE crm_sync.sync_run (
    sync_run_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id text NOT NULL,
    object_name text NOT NULL,
    mode text NOT NULL,
    status text NOT NULL
        CHECK (status IN ('reading', 'staged', 'committed', 'failed', 'interrupted')),
    fingerprint text NOT NULL,
    has_staging boolean NOT NULL DEFAULT true,
    read_token text,
    staged_at timestamptz,
    scope_records bigint,
    transport text,
    transport_reason text,
    read_started_at timestamptz,
    changed_since timestamptz,
    expected_records bigint,
    records_read bigint NOT NULL DEFAULT 0,
    inserted bigint,
    updated bigint,
    deleted bigint,
    rejected bigint NOT NULL DEFAULT 0,
    watermark_before timestamptz,
    watermark_after timestamptz,
    api_calls bigint NOT NULL DEFAULT 0,
    seconds double precision NOT NULL DEFAULT 0,
    error text,
    started_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
);
CREATE INDEX sync_run_by_object ON crm_sync.sync_run (object_name, sync_run_id DESC);
CREATE INDEX sync_run_by_run ON crm_sync.sync_run (run_id);
COMMENT ON TABLE crm_sync.sync_run IS 'The ledger: one row per attempt to sync one object.';

CREATE TABLE crm_sync.checkpoint (
    sync_run_id bigint NOT NULL REFERENCES crm_sync.sync_run ON DELETE CASCADE,
    page_key text NOT NULL,
    ordinal bigint GENERATED ALWAYS AS IDENTITY,
    records bigint NOT NULL DEFAULT 0,
    rejected bigint NOT NULL DEFAULT 0,
    landed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (sync_run_id, page_key)
);
COMMENT ON TABLE crm_sync.checkpoint IS
    'Pages that landed in staging; written in the page''s own transaction.';

CREATE TABLE crm_sync.quarantine (
    quarantine_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sync_run_id bigint NOT NULL,
    object_name text NOT NULL,
    record_id text,
    column_name text NOT NULL,
    value text,
    reason text NOT NULL,
    record jsonb NOT NULL,
    quarantined_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX quarantine_by_record ON crm_sync.quarantine (object_name, record_id);
COMMENT ON TABLE crm_sync.quarantine IS
    'Records whose values do not fit their column, with the reason.';

CREATE VIEW crm_sync.sync_status AS
SELECT s.object_name,
       s.table_name,
       CASE WHEN l.owner IS NOT NULL AND l.expires_at > now() THEN l.mode || ' sync running'
            WHEN r.status IN ('reading', 'staged') THEN 'last sync interrupted'
            WHEN r.status IN ('failed', 'interrupted') THEN 'last sync ' || r.status
            WHEN s.watermark IS NULL THEN 'never fully synced'
            WHEN s.full_sync_due_reason IS NOT NULL THEN 'full sync due'
            ELSE 'in step' END AS status,
       s.watermark AS synced_through,
       s.last_full_sync_at,
       s.last_sync_at,
       r.mode AS last_mode,
       r.status AS last_result,
       r.records_read AS last_records_read,
       r.inserted AS last_inserted,
       r.updated AS last_updated,
       r.deleted AS last_deleted,
       r.seconds AS last_seconds,
       r.api_calls AS last_api_calls,
       r.transport AS last_transport,
       (SELECT count(*) FROM crm_sync.quarantine q WHERE q.object_name = s.object_name)
           AS quarantined,
       s.full_sync_due_reason,
       r.error AS last_error
FROM crm_sync.object_state s
LEFT JOIN crm_sync.lease l ON l.name = s.object_name
LEFT JOIN LATERAL (
    SELECT * FROM crm_sync.sync_run r
    WHERE r.object_name = s.object_name AND r.mode <> 'record' ORDER BY r.sync_run_id DESC LIMIT 1
) r ON true;
COMMENT ON VIEW crm_sync.sync_status IS 'One row per CRM object: where it stands and how it went.';
"""


def upgrade() -> None:
    """Everything the reading side remembers."""
    op.execute(TABLES)
