"""Makes sure that the control schema is the one that this code was written for.

Nearly always it is, and one question says so: the migration tool and what it imports cost every
process half a second and 20 MB.

Belongs here: that question. Does not belong here: running migrations (upgrade.py).
"""

from importlib.resources import files

import psycopg

from crm_pipeline.warehouse.connection import CONTROL_SCHEMA, STAGING_SCHEMA, Warehouse

_IS_READY = """
SELECT to_regnamespace(%(staging)s) IS NOT NULL AND to_regnamespace(%(crm)s) IS NOT NULL
   AND CASE WHEN to_regrole('analyst') IS NULL
            THEN NOT (SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user)
            ELSE has_schema_privilege('analyst', %(crm)s, 'USAGE')
             AND has_table_privilege('analyst', 'crm_sync.sync_status', 'SELECT')
             AND has_table_privilege('analyst', 'events.consent_ledger', 'SELECT')
             AND has_table_privilege('analyst', 'history.version', 'SELECT')
             AND has_table_privilege('analyst', 'crm_sync.write_back_log', 'SELECT')
             AND has_table_privilege('analyst', 'crm_sync.action_log', 'SELECT') END
   AND (to_regrole('event_writer') IS NULL
        OR has_column_privilege('event_writer', 'events.marketing_events', 'event_id', 'INSERT'))
   AND (to_regrole('action_writer') IS NULL
        OR has_column_privilege('action_writer', 'crm_sync.action', 'action_id', 'INSERT'))
"""


def migrate(url: str, *, crm_schema: str = "salesforce") -> None:
    """Create or upgrade the control schema, and let analysts in, unless all of that is done.

    Args:
        url: the warehouse.
        crm_schema: where typed tables will stand, named after the CRM.

    Raises:
        ConfigurationError: the schema was made by a newer version of this software, or our user
            may not create what is missing.
        TransientError: the warehouse does not answer.
    """
    if _is_current(Warehouse(url, crm_schema)):
        return
    from crm_pipeline.warehouse.upgrade import upgrade  # noqa: PLC0415 - imports alembic

    upgrade(url, crm_schema=crm_schema)


def newest_revision() -> str:
    """The migration that this code was written for: the highest number among the files."""
    versions = files("crm_pipeline.warehouse") / "migrations" / "versions"
    return max(file.name[:4] for file in versions.iterdir() if file.name[:4].isdigit())


def _is_current(warehouse: Warehouse) -> bool:
    with warehouse.connect(autocommit=True) as connection:
        try:
            found = connection.execute(
                f"SELECT version_num FROM {CONTROL_SCHEMA}.alembic_version"
            ).fetchone()
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            return False
        if found is None or found[0] != newest_revision():
            return False
        names = {"staging": STAGING_SCHEMA, "crm": warehouse.crm_schema}
        ready = connection.execute(_IS_READY, names).fetchone()
    return bool(ready and ready[0])
