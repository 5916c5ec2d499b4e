select
    event_id,
    occurred_at,
    kind,
    email,
    crm_id,
    campaign,
    channel,
    source,
    url,
    case
        when kind = 'score_adjusted' and pg_input_is_valid(properties ->> 'points', 'numeric')
            then (properties ->> 'points')::numeric
    end as points,
    loaded_in
from {{ source('events', 'marketing_events') }}
