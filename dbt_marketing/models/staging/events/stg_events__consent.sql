select
    consent_id,
    email,
    status,
    side,
    evidence,
    -- Nobody can have opted in later than we were told: such a clock would outlast every opt-out.
    case when status = 'subscribed' then least(occurred_at, noted_at) else occurred_at end
        as occurred_at,
    noted_at
from {{ source('events', 'consent_ledger') }}
