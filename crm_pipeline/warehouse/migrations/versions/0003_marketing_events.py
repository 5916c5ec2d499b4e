"""Marketing events: the table that every tool writes, the ledger of consent, the loader's own."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TABLES = """
CREATE FUNCTION events.full_crm_id(given text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN CASE WHEN given ~ '^[a-zA-Z0-9]{15}$' THEN given || (
    SELECT string_agg(substr('ABCDEFGHIJKLMNOPQRSTUVWXYZ012345', 1 + b.bits, 1), '' ORDER BY b.part)
    FROM (
        SELECT (i - 1) / 5 AS part,
               sum(CASE WHEN ascii(substr(given, i, 1)) BETWEEN 65 AND 90
                        THEN 1 << ((i - 1) % 5) ELSE 0 END)::int AS bits
        FROM generate_series(1, 15) i GROUP BY 1
    ) b
) ELSE given END;
COMMENT ON FUNCTION events.full_crm_id(text) IS
    'A record''s id with 18 characters; ids with 15 mean the same record.';

CREATE TABLE events.marketing_events (
    event_id text COLLATE "C" PRIMARY KEY CHECK (length(event_id) BETWEEN 1 AND 200),
    occurred_at timestamptz NOT NULL
        CHECK (isfinite(occurred_at) AND occurred_at >= '1990-01-01 00:00:00+00'),
    kind text NOT NULL CHECK (
        kind IN (
            'email_sent', 'email_delivered', 'email_opened', 'email_clicked', 'email_unsubscribed',
            'email_hard_bounced', 'email_soft_bounced', 'email_complained', 'page_visited',
            'form_submitted', 'list_imported', 'webinar_registered', 'webinar_attended',
            'score_adjusted'
        ) OR kind ~ '^custom_[a-z0-9_]{1,50}$'
    ),
    email text CHECK (email = lower(btrim(email)) AND length(email) BETWEEN 1 AND 320),
    crm_id text COLLATE "C" CHECK (crm_id ~ '^[a-zA-Z0-9]{18}$'),
    campaign text,
    channel text,
    source text,
    url text,
    properties jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(properties) = 'object'),
    loaded_at timestamptz NOT NULL DEFAULT now(),
    loaded_in xid8 NOT NULL DEFAULT pg_current_xact_id(),
    CONSTRAINT score_adjusted_has_points CHECK (
        kind <> 'score_adjusted' OR coalesce(jsonb_typeof(properties -> 'points'), '') = 'number'
    )
);
CREATE INDEX marketing_events_by_email ON events.marketing_events (email)
    WHERE email IS NOT NULL;
CREATE INDEX marketing_events_by_crm_id ON events.marketing_events (crm_id)
    WHERE crm_id IS NOT NULL;
CREATE INDEX marketing_events_by_load ON events.marketing_events (loaded_in);
COMMENT ON TABLE events.marketing_events IS
    'What people did and what happened to mails. Append-only: the first event with an id stays.';
COMMENT ON COLUMN events.marketing_events.event_id IS
    'The sender''s own id of the event; the same event sent twice is stored once.';
COMMENT ON COLUMN events.marketing_events.occurred_at IS
    'When it happened, not when it was loaded.';
COMMENT ON COLUMN events.marketing_events.kind IS
    'What happened, such as email_opened or page_visited; own kinds begin with custom_.';
COMMENT ON COLUMN events.marketing_events.email IS
    'Whose event it is, by address: lower case, no blanks around it. Null for an unknown visitor.';
COMMENT ON COLUMN events.marketing_events.crm_id IS
    'Whose event it is, by the id of a lead or contact, with 18 characters.';
COMMENT ON COLUMN events.marketing_events.campaign IS 'The campaign''s name or id, as sent.';
COMMENT ON COLUMN events.marketing_events.channel IS
    'How the person was reached: email, web, event, paid_search, social, referral, or other.';
COMMENT ON COLUMN events.marketing_events.source IS
    'Where in the channel: a site, an advertiser, a newsletter.';
COMMENT ON COLUMN events.marketing_events.url IS
    'The page that was visited, or the link that was clicked.';
COMMENT ON COLUMN events.marketing_events.properties IS
    'Everything else, as a JSON object; points of a score_adjusted.';
COMMENT ON COLUMN events.marketing_events.loaded_at IS 'When the event was stored here.';
COMMENT ON COLUMN events.marketing_events.loaded_in IS
    'The transaction that stored it, so that models read what is new.';

CREATE TABLE events.consent_ledger (
    consent_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email text NOT NULL CHECK (email = lower(btrim(email)) AND email <> ''),
    status text NOT NULL
        CHECK (status IN ('unsubscribed', 'hard_bounced', 'complained', 'subscribed')),
    side text NOT NULL CHECK (side IN ('marketing', 'crm')),
    evidence text COLLATE "C" NOT NULL,
    occurred_at timestamptz NOT NULL,
    noted_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (email, status, side, evidence)
);
COMMENT ON TABLE events.consent_ledger IS
    'All that ever allowed or forbade writing to an address, with its evidence. Append-only.';
COMMENT ON COLUMN events.consent_ledger.consent_id IS 'Key.';
COMMENT ON COLUMN events.consent_ledger.email IS
    'The address that it holds for: lower case, no blanks around it.';
COMMENT ON COLUMN events.consent_ledger.status IS
    'unsubscribed, hard_bounced or complained; subscribed only by an explicit opt-in.';
COMMENT ON COLUMN events.consent_ledger.side IS
    'Where it was said: marketing (an event) or crm (a field of a record).';
COMMENT ON COLUMN events.consent_ledger.evidence IS
    'What says so: the id of an event, or an object of the CRM and the id of its record.';
COMMENT ON COLUMN events.consent_ledger.occurred_at IS 'When it was said.';
COMMENT ON COLUMN events.consent_ledger.noted_at IS 'When it was noted here.';

CREATE TABLE events.event_file (
    event_file_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    location text NOT NULL,
    version text NOT NULL,
    run_id text NOT NULL,
    file_rows bigint NOT NULL DEFAULT 0,
    loaded bigint NOT NULL DEFAULT 0,
    known bigint NOT NULL DEFAULT 0,
    rejected bigint NOT NULL DEFAULT 0,
    seconds double precision NOT NULL DEFAULT 0,
    refusal text,
    loaded_at timestamptz NOT NULL DEFAULT now(),
    loaded_in xid8 NOT NULL DEFAULT pg_current_xact_id(),
    UNIQUE (location, version)
);
CREATE INDEX event_file_by_run ON events.event_file (run_id);
COMMENT ON TABLE events.event_file IS
    'Files of events that were read, in each state in which they were found.';
COMMENT ON COLUMN events.event_file.version IS
    'What changes whenever the file does: size and time, or the object store''s own mark.';
COMMENT ON COLUMN events.event_file.refusal IS
    'Why nothing of the file could be read; null if it was.';

CREATE TABLE events.quarantine (
    quarantine_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_file_id bigint NOT NULL REFERENCES events.event_file ON DELETE CASCADE,
    row_number bigint NOT NULL,
    event_id text COLLATE "C",
    column_name text NOT NULL,
    reason text NOT NULL,
    file_row text NOT NULL,
    quarantined_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX quarantine_by_file ON events.quarantine (event_file_id);
COMMENT ON TABLE events.quarantine IS
    'Rows of files that are no events, with the reason. They hold personal data.';

CREATE TABLE events.models_state (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    built_through xid8 NOT NULL
);
COMMENT ON TABLE events.models_state IS
    'Events of earlier transactions than this one are in the marketing models.';

CREATE FUNCTION events.tidy_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.email := nullif(lower(btrim(NEW.email)), '');
    NEW.crm_id := events.full_crm_id(nullif(btrim(NEW.crm_id), ''));
    RETURN NEW;
END $$;
COMMENT ON FUNCTION events.tidy_event() IS 'One spelling per address and per record id.';
CREATE TRIGGER tidy_event BEFORE INSERT ON events.marketing_events FOR EACH ROW
    WHEN (NEW.email <> lower(btrim(NEW.email)) OR NEW.email = '' OR length(NEW.crm_id) <> 18)
    EXECUTE FUNCTION events.tidy_event();

CREATE FUNCTION events.note_consent() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO events.consent_ledger (email, status, side, evidence, occurred_at)
    SELECT a.email,
           CASE a.kind WHEN 'email_unsubscribed' THEN 'unsubscribed'
                       WHEN 'email_hard_bounced' THEN 'hard_bounced' ELSE 'complained' END,
           'marketing', a.event_id, a.occurred_at
    FROM added a
    WHERE a.email IS NOT NULL
    AND a.kind IN ('email_unsubscribed', 'email_hard_bounced', 'email_complained')
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION events.note_consent() IS
    'Notes opt-outs, hard bounces and complaints in the transaction that stores their event.';
CREATE TRIGGER note_consent AFTER INSERT ON events.marketing_events
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION events.note_consent();

CREATE FUNCTION events.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('crm_pipeline.is_erasing', true) = 'on' THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION '%.% is append-only; insert a newer row instead',
        TG_TABLE_SCHEMA, TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;
COMMENT ON FUNCTION events.refuse_change() IS
    'Keeps rows as they were written; only the erasure of a person deletes.';
CREATE TRIGGER refuse_change BEFORE UPDATE ON events.marketing_events
    FOR EACH ROW EXECUTE FUNCTION events.refuse_change();
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE ON events.consent_ledger
    FOR EACH ROW EXECUTE FUNCTION events.refuse_change();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON events.consent_ledger
    FOR EACH STATEMENT EXECUTE FUNCTION events.refuse_change();
"""


def upgrade() -> None:
    """Events, consent, and what the loader remembers."""
    op.execute(TABLES)
