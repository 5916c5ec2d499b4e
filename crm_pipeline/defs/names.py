"""Names of groups, jobs, pools and steps that several files of this room spell.

Belongs here: a name that more than one Dagster noun refers to. Does not belong here: asset keys,
which follow the settings (crm_objects.py).
"""

LOCATION = "crm_pipeline"

CHANGES_GROUP = "crm_changes"
TABLES_GROUP = "crm"
REFERENCE_GROUP = "reference"
MARKETING_GROUP = "marketing"

FULL_SYNC = "full_sync"
DIFFERENTIAL_SYNC = "differential_sync"
RECONCILE = "reconcile"
REFRESH = "refresh"
SYNC_RECORD = "sync_record"
REFERENCE_DATA = "reference_data"
MARKETING = "marketing"
CHECK_TABLES = "check_tables"
HOUSEKEEPING = "housekeeping"
ALERTS = "alerts"

SYNC_POOL = "crm_sync"
"""One run at a time holds it, whoever launched the run; the lease is the airtight guard below."""
MARKETING_POOL = "dbt_marketing"
"""Two builds at once would replace each other's tables."""
MARKETING_STEP = "dbt_marketing"
