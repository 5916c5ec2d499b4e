-- Records whose opt-out box we have ticked: an opinion of ours that comes back, and not one of the CRM.
{{ config(
    materialized='incremental',
    incremental_strategy='replace_differing',
    unique_key='evidence',
    full_refresh=false,
    indexes=[{'columns': ['evidence'], 'unique': true}]
) }}
with written as (

    -- The outbox is no asset of anybody's, so it is no source.
    select object_name || ' ' || record_id as evidence, max(ended_at) as written_at
    from crm_sync.outbox
    where
        state = 'applied'
        and origin = 'consent'
        and value = 'true'::jsonb
        and lower(field) = 'hasoptedoutofemail'
    group by 1

),

records as (

    {% for object in ['lead', 'contact'] if is_synced(object) %}
    {{ 'union all' if not loop.first }}
    select
        '{{ object | capitalize }} ' || {{ object }}_id as evidence,
        {{ normalize_email('email') }} as email,
        coalesce(has_opted_out_of_email, false) as is_ticked,
        synced_at
    from {{ ref('stg_salesforce__' ~ object) }}
    {% else %}
    select
        null::text as evidence,
        null::text as email,
        null::boolean as is_ticked,
        null::timestamptz as synced_at
    where false
    {% endfor %}

)

select
    r.evidence,
    r.is_ticked,
    {% if is_incremental() -%}
    -- A tick that stands stays whose it was; one for another address is another opinion.
    case when old.is_ticked then old.email else r.email end as email,
    case when r.is_ticked then old.without_at else r.synced_at end as without_at,
    r.is_ticked and case
        when old.is_ticked then old.is_ours
        else old.without_at is null or w.written_at > old.without_at
    end as is_ours
    {%- else -%}
    r.email,
    case when not r.is_ticked then r.synced_at end as without_at,
    r.is_ticked as is_ours
    {%- endif %}
from written as w
inner join records as r on w.evidence = r.evidence
{% if is_incremental() -%}
left join {{ this }} as old on r.evidence = old.evidence
{%- endif %}
