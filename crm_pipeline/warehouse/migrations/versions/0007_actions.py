"""Actions: what somebody or a rule asked to be created or updated in the CRM, and its end."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE crm_sync.action (
    action_id text COLLATE "C" PRIMARY KEY
        CHECK (length(action_id) BETWEEN 1 AND 200 AND position('/' IN action_id) = 0),
    kind text NOT NULL CHECK (kind IN ('create', 'update', 'upsert')),
    object_name text NOT NULL CHECK (object_name ~ '^[A-Za-z][A-Za-z0-9_]{0,99}$'),
    record_id text COLLATE "C",
    match_email text,
    external_id_field text,
    external_id text,
    fields jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(fields) = 'object'),
    options jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(options) = 'object'),
    requested_by text NOT NULL DEFAULT current_user
        CHECK (length(requested_by) BETWEEN 1 AND 100),
    requested_at timestamptz NOT NULL DEFAULT now(),
    ordinal bigint GENERATED ALWAYS AS IDENTITY,
    cause text,
    state text NOT NULL DEFAULT 'requested' CHECK (
        state IN ('requested', 'enqueued', 'unneeded', 'held', 'refused')
    ),
    code text,
    reason text,
    remedy text,
    matched_object text,
    matches text[] COLLATE "C" NOT NULL DEFAULT '{}',
    is_dismissed boolean NOT NULL DEFAULT false,
    waits_for text,
    resolved_at timestamptz,
    CONSTRAINT action_names_a_whole_external_id CHECK (
        (external_id IS NULL) = (external_id_field IS NULL)
    ),
    CONSTRAINT action_is_resolved_once CHECK ((resolved_at IS NULL) = (state = 'requested')),
    CONSTRAINT action_stops_with_a_reason CHECK (
        state NOT IN ('held', 'refused')
        OR (code IS NOT NULL AND reason IS NOT NULL AND remedy IS NOT NULL)
    )
);
CREATE INDEX action_requested ON crm_sync.action (ordinal) WHERE state = 'requested';
CREATE INDEX action_newest ON crm_sync.action (ordinal);
CREATE INDEX action_by_email ON crm_sync.action (match_email)
    WHERE state = 'enqueued' AND match_email IS NOT NULL;
CREATE INDEX action_stopped ON crm_sync.action (object_name)
    WHERE state IN ('held', 'refused') AND NOT is_dismissed;
COMMENT ON TABLE crm_sync.action IS
    'What is to be created or updated in the CRM because somebody or a rule asked for it. Insert a'
    ' row to ask; crm_sync.action_log tells what became of it. It holds values of records.';
COMMENT ON COLUMN crm_sync.action.action_id IS
    'The sender''s own key, without a slash: the same action asked for twice is done once.';
COMMENT ON COLUMN crm_sync.action.kind IS
    'create (or update what is there), update (only what is there), upsert (by an external id).';
COMMENT ON COLUMN crm_sync.action.record_id IS 'The record to update, if its id is known.';
COMMENT ON COLUMN crm_sync.action.match_email IS 'The person''s address, by which she is found.';
COMMENT ON COLUMN crm_sync.action.fields IS
    'Values by API name. What is absent keeps its value, null empties it.';
COMMENT ON COLUMN crm_sync.action.options IS
    'on_duplicate, assignment, if_found, match, owner, campaign, only_new, only_empty.';
COMMENT ON COLUMN crm_sync.action.requested_by IS 'A tool, a person''s form, or a rule''s name.';
COMMENT ON COLUMN crm_sync.action.ordinal IS 'The order in which actions are decided.';
COMMENT ON COLUMN crm_sync.action.cause IS 'Of a rule''s action: what made it act.';
COMMENT ON COLUMN crm_sync.action.matches IS 'Ids of the records that were found.';
COMMENT ON COLUMN crm_sync.action.waits_for IS
    'The action that creates the same person just now; this one is decided when that has ended.';

CREATE TABLE crm_sync.action_rule (
    rule_name text PRIMARY KEY,
    watches text NOT NULL,
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    seen pg_snapshot NOT NULL,
    looked_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE crm_sync.action_rule IS
    'How far each rule of the settings file has looked; it acts on nothing that is older.';
COMMENT ON COLUMN crm_sync.action_rule.watches IS
    'What the rule watches for; a rule that watches for something else begins anew.';
COMMENT ON COLUMN crm_sync.action_rule.seen IS 'Events that this snapshot shows were looked at.';

CREATE FUNCTION crm_sync.tidy_action() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.match_email := nullif(lower(btrim(NEW.match_email)), '');
    NEW.record_id := nullif(btrim(NEW.record_id), '');
    RETURN NEW;
END $$;
COMMENT ON FUNCTION crm_sync.tidy_action() IS 'One spelling per address.';
CREATE TRIGGER tidy_action BEFORE INSERT ON crm_sync.action FOR EACH ROW
    EXECUTE FUNCTION crm_sync.tidy_action();

CREATE VIEW crm_sync.action_log AS
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
    AND (w.idempotency_key = 'action/' || a.action_id
         OR (w.idempotency_key >= 'action/' || a.action_id || '/'
             AND w.idempotency_key < 'action/' || a.action_id || '0'
             AND position('=>' IN substr(w.idempotency_key, length(a.action_id) + 9)) = 0))
) o ON true;
COMMENT ON VIEW crm_sync.action_log IS
    'One row per action: what was asked for, by whom, and how it ended. It shows no value.';
"""


def upgrade() -> None:
    """What was asked for, and how far the rules have looked."""
    op.execute(TABLES)
