"""Names of groups, jobs, pools and steps that several files of this room spell.

Belongs here: a name that more than one Dagster noun refers to. Does not belong here: asset keys,
which follow the settings (crm_objects.py).
"""

LOCATION = "crm_pipeline"

CHANGES_GROUP = "crm_changes"
TABLES_GROUP = "crm"
REFERENCE_GROUP = "reference"
MARKETING_GROUP = "marketing"
EVENTS_GROUP = "events"

FULL_SYNC = "full_sync"
DIFFERENTIAL_SYNC = "differential_sync"
RECONCILE = "reconcile"
REFRESH = "refresh"
SYNC_RECORD = "sync_record"
REFERENCE_DATA = "reference_data"
MARKETING = "marketing"
CHECK_TABLES = "check_tables"
LOAD_EVENTS = "load_events"
HOUSEKEEPING = "housekeeping"
ALERTS = "alerts"
ACTIONS = "actions"
REQUEST_ACTION = "request_action"

SYNC_POOL = "crm_sync"
"""One run at a time holds it, whoever launched the run; the lease is the airtight guard below."""
EVENTS_POOL = "events"
"""Loads take turns anyhow; in the queue they do so without a process each."""
ACTIONS_POOL = "actions"
"""Who comes second finds nothing left to decide; in the queue it costs no process."""
MARKETING_POOL = "dbt_marketing"
"""Two builds at once would replace each other's tables."""
MARKETING_STEP = "dbt_marketing"

EVENTS_ASSET = ("events", "marketing_events")
"""Schema and table, whatever the settings say; all sources of that schema are this asset."""
