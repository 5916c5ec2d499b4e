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
    select object_name, record_id, max(ended_at) as written_at
    from crm_sync.outbox
    where
        state = 'applied'
        and origin = 'consent'
        and value = 'true'::jsonb
        and lower(field) = 'hasoptedoutofemail'
    group by object_name, record_id

),

-- By id alone, which the tables have an index on: nobody knows beforehand how many ticks there are.
records as (

    {% for object in ['lead', 'contact'] if is_synced(object) %}
    {{ 'union all' if not loop.first }}
    select
        w.object_name || ' ' || w.record_id as evidence,
        w.written_at,
        {{ normalize_email('r.email') }} as email,
        coalesce(r.has_opted_out_of_email, false) as is_ticked,
        r.synced_at
    from written as w
    inner join {{ ref('stg_salesforce__' ~ object) }} as r on w.record_id = r.{{ object }}_id
    where w.object_name = '{{ object | capitalize }}'
    {% else %}
    select
        null::text as evidence,
        null::timestamptz as written_at,
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
        else old.without_at is null or r.written_at > old.without_at
    end as is_ours
    {%- else -%}
    r.email,
    case when not r.is_ticked then r.synced_at end as without_at,
    r.is_ticked as is_ours
    {%- endif %}
from records as r
{% if is_incremental() -%}
left join {{ this }} as old on r.evidence = old.evidence
{%- endif %}
