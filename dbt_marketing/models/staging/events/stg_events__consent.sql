select
    consent_id,
    email,
    status,
    side,
    evidence,
    occurred_at,
    noted_at
from {{ source('events', 'consent_ledger') }}
