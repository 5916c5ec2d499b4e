{{ config(materialized='view') }}
{% if is_synced('opportunity') %}
select
    opportunity_id,
    account_id,
    opportunity_name as name,
    stage,
    amount,
    probability_percent,
    round(amount * probability_percent / 100, 2) as expected_amount,
    close_on,
    -- What is won is decided, whether or not both fields are mapped.
    coalesce(is_closed, is_won, false) as is_closed,
    coalesce(is_won, false) as is_won,
    campaign_id,
    lead_source,
    owner_id,
    created_at,
    case
        when coalesce(is_closed, is_won)
            then close_on - (created_at at time zone 'UTC')::date
    end as days_to_close
from {{ ref('stg_salesforce__opportunity') }}
{% else %}
select
    null::text as opportunity_id,
    null::text as account_id,
    null::text as name,
    null::text as stage,
    null::numeric as amount,
    null::numeric as probability_percent,
    null::numeric as expected_amount,
    null::date as close_on,
    null::boolean as is_closed,
    null::boolean as is_won,
    null::text as campaign_id,
    null::text as lead_source,
    null::text as owner_id,
    null::timestamptz as created_at,
    null::integer as days_to_close
where false
{% endif %}
