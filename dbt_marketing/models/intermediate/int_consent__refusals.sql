-- Leads and contacts that refuse mail now, each since it was first seen to: what may be news.
{{ config(
    materialized='incremental',
    incremental_strategy='replace_differing',
    unique_key=['evidence', 'status', 'email'],
    full_refresh=false,
    indexes=[{'columns': ['evidence', 'status', 'email'], 'unique': true}]
) }}
with records as (

    {% for object in ['lead', 'contact'] if is_synced(object) %}
    {{ 'union all' if not loop.first }}
    select
        '{{ object | capitalize }} ' || {{ object }}_id as evidence,
        {{ normalize_email('email') }} as email,
        has_opted_out_of_email,
        email_bounced_at,
        coalesce(modified_at, synced_at) as modified_at
    from {{ ref('stg_salesforce__' ~ object) }}
    where has_opted_out_of_email or email_bounced_at is not null
    {% else %}
    select
        null::text as evidence,
        null::text as email,
        null::boolean as has_opted_out_of_email,
        null::timestamptz as email_bounced_at,
        null::timestamptz as modified_at
    where false
    {% endfor %}

),

refusals as (

    -- The CRM does not say when a box was ticked, only that it was by then.
    select evidence, 'unsubscribed' as status, email, modified_at as occurred_at
    from records
    where has_opted_out_of_email and email is not null
    union all
    select evidence, 'hard_bounced' as status, email, email_bounced_at as occurred_at
    from records
    where email_bounced_at is not null and email is not null

)

select
    new.evidence,
    new.status,
    new.email,
    {% if is_incremental() -%}
    case
        when new.status = 'unsubscribed' then coalesce(old.occurred_at, new.occurred_at)
        else new.occurred_at
    end as occurred_at
    {%- else -%}
    new.occurred_at
    {%- endif %}
from refusals as new
{% if is_incremental() -%}
left join {{ this }} as old using (evidence, status, email)
{%- endif %}
