"""History: the former values of rows that were changed, and the functions that ask for them."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE history.kept_table (
    table_name text PRIMARY KEY,
    key_column text NOT NULL,
    begins_at timestamptz NOT NULL
);
COMMENT ON TABLE history.kept_table IS 'Tables whose former values are kept, and since when.';
COMMENT ON COLUMN history.kept_table.table_name IS 'Schema and table, such as salesforce.lead.';
COMMENT ON COLUMN history.kept_table.begins_at IS
    'From this instant on the table can be asked for as it was; before it, nothing is known.';

CREATE TABLE history.version (
    version_id bigint GENERATED ALWAYS AS IDENTITY,
    table_name text NOT NULL,
    record_id text COLLATE "C" NOT NULL,
    valid_from timestamptz NOT NULL,
    valid_to timestamptz NOT NULL,
    former jsonb NOT NULL,
    PRIMARY KEY (table_name, record_id, version_id)
);
CREATE INDEX version_by_end ON history.version (table_name, valid_to);
COMMENT ON TABLE history.version IS
    'One row for each version of a record that another one replaced. The newest is in its table.';
COMMENT ON COLUMN history.version.version_id IS 'Order in which the versions were replaced.';
COMMENT ON COLUMN history.version.table_name IS 'Schema and table, such as salesforce.lead.';
COMMENT ON COLUMN history.version.record_id IS 'The record''s id.';
COMMENT ON COLUMN history.version.valid_from IS 'When the version was written here: _synced_at.';
COMMENT ON COLUMN history.version.valid_to IS 'When the next one replaced it.';
COMMENT ON COLUMN history.version.former IS
    'What the columns held that the next version changed; of a row that was removed, all columns.';

CREATE AGGREGATE history.overlay (jsonb) (
    SFUNC = jsonb_concat, STYPE = jsonb, INITCOND = '{}', PARALLEL = SAFE
);
COMMENT ON AGGREGATE history.overlay (jsonb) IS 'Objects laid over each other; the last one wins.';
"""

# Comparing column by column, in one statement, writes only what changed; a function holds at most
# 100 arguments, so the parts are nested. A column of the operator's own may have no equality.
KEEP_FORMER = """
CREATE FUNCTION history.keep_former() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET jit = off AS $body$
DECLARE
    key_column text := TG_ARGV[0];
    former text := 'to_jsonb(o)';
    origin text := 'former_rows o';
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        origin := format('%I.%I o', TG_TABLE_SCHEMA, TG_TABLE_NAME);
    ELSIF NOT EXISTS (SELECT FROM former_rows) THEN
        RETURN NULL;
    ELSIF TG_OP = 'UPDATE' THEN
        origin := format('former_rows o LEFT JOIN new_rows n ON n.%1$I = o.%1$I', key_column);
        SELECT format(
            $f$('{' || nullif(concat_ws(',', %s), '') || '}')::jsonb$f$,
            string_agg(format($f$nullif(concat_ws(',', %s), '')$f$, changes), ', ')
        ) INTO former FROM (
            SELECT string_agg(format(
                'CASE WHEN o.%1$I%2$s IS DISTINCT FROM n.%1$I%2$s'
                ' THEN %3$L || coalesce(to_json(o.%1$I)::text, ''null'') END',
                attname,
                CASE WHEN atttypid = ANY ('{text,integer,numeric,boolean,date,timestamptz,time}'
                    ::regtype[]) THEN '' ELSE '::text' END,
                to_json(attname::text)::text || ':'
            ), ', ') AS changes
            FROM pg_attribute
            WHERE attrelid = TG_RELID AND attnum > 0 AND NOT attisdropped AND attname <> key_column
            GROUP BY attnum / 90
        ) parts;
    END IF;
    EXECUTE format($statement$
        INSERT INTO history.version (table_name, record_id, valid_from, valid_to, former)
        SELECT $1, c.id, c.valid_from, greatest(c.valid_from, now()), c.former
        FROM (
            SELECT o.%1$I AS id, %2$s AS former,
                   CASE WHEN isfinite(o._synced_at) THEN o._synced_at ELSE coalesce((
                       SELECT max(v.valid_to) FROM history.version v
                       WHERE v.table_name = $1 AND v.record_id = o.%1$I
                   ), '-infinity') END AS valid_from
            FROM %3$s
        ) c WHERE c.former IS NOT NULL
        $statement$, key_column, former, origin)
    USING TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME;
    RETURN NULL;
END $body$;
COMMENT ON FUNCTION history.keep_former() IS
    'Keeps what a statement replaced or removed; once per statement, in its own transaction.';
REVOKE EXECUTE ON FUNCTION history.keep_former() FROM PUBLIC;
"""

# Right after a large sync the statistics know nothing of its versions, and a nested loop would read
# the table once for each of them: 14 seconds for 1,000 rows. So there are none.
ASKING = """
CREATE FUNCTION history.kept(asked regclass) RETURNS history.kept_table LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    found_table history.kept_table;
BEGIN
    SELECT k.* INTO found_table FROM history.kept_table k
    JOIN pg_class c ON c.oid = asked JOIN pg_namespace s ON s.oid = c.relnamespace
    WHERE k.table_name = s.nspname || '.' || c.relname;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'No history is kept of %.', asked
            USING HINT = 'Tables with a history stand in history.kept_table.';
    END IF;
    RETURN found_table;
END $body$;
COMMENT ON FUNCTION history.kept(regclass) IS 'What is known of the history of a table.';

CREATE FUNCTION history.as_of(
    row_type anyelement, instant timestamptz, only_id text DEFAULT NULL
) RETURNS SETOF anyelement LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET enable_nestloop = off AS $body$
DECLARE
    asked regclass := (SELECT typrelid FROM pg_type WHERE oid = pg_typeof(row_type));
    kept history.kept_table := history.kept(asked);
BEGIN
    IF instant < kept.begins_at THEN
        RAISE EXCEPTION 'The history of % begins at %.', kept.table_name, kept.begins_at
            USING HINT = 'Ask for a later instant.';
    END IF;
    RETURN QUERY EXECUTE format($query$
        WITH later AS (
            SELECT v.record_id, min(v.valid_from) <= $2 AS was_there,
                   history.overlay(v.former ORDER BY v.version_id DESC) AS former
            FROM history.version v
            WHERE v.table_name = $1 AND v.valid_to > $2 AND %3$s
            GROUP BY v.record_id
        )
        SELECT t.* FROM %1$s t
        WHERE t._synced_at <= $2 AND %4$s
          AND NOT EXISTS (SELECT FROM later l WHERE l.record_id = t.%2$I)
        UNION ALL
        SELECT r.* FROM later l LEFT JOIN %1$s t ON t.%2$I = l.record_id AND %4$s
        CROSS JOIN LATERAL jsonb_populate_record(
            t, jsonb_build_object(%2$L, l.record_id) || l.former) r
        WHERE l.was_there
        $query$, asked, kept.key_column,
        CASE WHEN only_id IS NULL THEN 'true' ELSE 'v.record_id = $3' END,
        CASE WHEN only_id IS NULL THEN 'true' ELSE format('t.%I = $3', kept.key_column) END)
    USING kept.table_name, instant, only_id;
END $body$;
COMMENT ON FUNCTION history.as_of(anyelement, timestamptz, text) IS
    'The rows of a table as this warehouse held them at an instant, tombstones included:'
    ' SELECT * FROM history.as_of(NULL::salesforce.lead, ''2026-03-01 00:00Z'').';

CREATE FUNCTION history.of_record(asked regclass, id text) RETURNS TABLE (
    valid_from timestamptz, valid_to timestamptz, changed text[], record jsonb
) LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    kept history.kept_table := history.kept(asked);
BEGIN
    RETURN QUERY EXECUTE format($query$
        WITH every AS (
            SELECT v.version_id, v.valid_from, v.valid_to, v.former
            FROM history.version v
            WHERE v.table_name = $1 AND v.record_id = $2 AND v.valid_to > $3
            UNION ALL
            SELECT NULL, greatest(t._synced_at, (
                       SELECT max(v.valid_to) FROM history.version v
                       WHERE v.table_name = $1 AND v.record_id = $2)),
                   NULL, to_jsonb(t)
            FROM %1$s t WHERE t.%2$I = $2
        ), told AS (
            SELECT e.version_id, e.valid_from, e.valid_to, lag(e.former) OVER in_order AS changed,
                   history.overlay(e.former) OVER (ORDER BY e.version_id DESC NULLS FIRST) AS record
            FROM every e WINDOW in_order AS (ORDER BY e.version_id NULLS LAST)
        )
        SELECT t.valid_from, t.valid_to,
               ARRAY(SELECT f FROM jsonb_object_keys(t.changed) f
                     WHERE f <> '_synced_at' ORDER BY f),
               t.record
        FROM told t WHERE t.valid_to IS NULL OR t.valid_from < t.valid_to
        ORDER BY t.version_id NULLS LAST
        $query$, asked, kept.key_column)
    USING kept.table_name, id, kept.begins_at;
END $body$;
COMMENT ON FUNCTION history.of_record(regclass, text) IS
    'Every kept version of one record, oldest first; the one that counts now has no valid_to.'
    ' `changed` names the columns that differ from the version before.';
"""


def upgrade() -> None:
    """What the time machine remembers, and how it is asked."""
    for statements in (TABLES, KEEP_FORMER, ASKING):
        op.execute(statements)
