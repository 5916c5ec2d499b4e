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
WRITE_BACK_GROUP = "write_backs"

FULL_SYNC = "full_sync"
DIFFERENTIAL_SYNC = "differential_sync"
RECONCILE = "reconcile"
REFRESH = "refresh"
SYNC_RECORD = "sync_record"
REFERENCE_DATA = "reference_data"
MARKETING = "marketing"
CHECK_TABLES = "check_tables"
CHECK_MODELS = "check_models"
LOAD_EVENTS = "load_events"
WRITE_BACK = "write_back"
REQUEUE_WRITE_BACKS = "requeue_write_backs"
DISMISS_WRITE_BACKS = "dismiss_write_backs"
APPROVE_WRITE_BACKS = "approve_write_backs"
REJECT_WRITE_BACKS = "reject_write_backs"
HOUSEKEEPING = "housekeeping"
ALERTS = "alerts"
ACTIONS = "actions"
REQUEST_ACTION = "request_action"
WRITE_BACK_FIELDS = "write_back_fields"

SYNC_POOL = "crm_sync"
"""One run at a time holds it, whoever launched the run; the lease is the airtight guard below."""
EVENTS_POOL = "events"
"""Loads take turns anyhow; in the queue they do so without a process each."""
ACTIONS_POOL = "actions"
"""Who comes second finds nothing left to decide; in the queue it costs no process."""
MARKETING_POOL = "dbt_marketing"
"""Two builds at once would replace each other's tables."""
WRITE_BACK_POOL = "write_back"
"""One drainer at a time; in the queue the next one waits without a process."""
MARKETING_STEP = "dbt_marketing"

EVENTS_ASSET = ("events", "marketing_events")
"""Schema and table, whatever the settings say; all sources of that schema are this asset."""
DELIVERY_ASSET = ("write_backs", "delivery")
"""What was sent to the CRM, from the outbox."""
