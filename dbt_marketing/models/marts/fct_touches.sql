{{ config(
    materialized='incremental',
    incremental_strategy='replace_people',
    unique_key='person_id',
    pre_hook="{{ remember_what_is_seen(seeds=[ref('touch_kinds')]) }}",
    indexes=[{'columns': ['person_id'], 'unique': true}]
) }}
{%- set seen = seen_by_last_build(seeds=[ref('touch_kinds')]) %}

{{ says(seen) }}
with touches as (

    select
        e.person_id,
        e.event_id,
        e.occurred_at,
        coalesce(e.channel, k.default_channel) as channel,
        e.source,
        e.campaign
    from {{ ref('fct_engagement') }} as e
    inner join {{ ref('touch_kinds') }} as k on e.kind = k.kind
    where
        e.person_id is not null
        {% if seen %}
        and e.person_id = any (array(select person_id from people_to_rebuild))
        {% endif %}

),

in_order as (

    select
        person_id,
        count(*)::integer as touch_count,
        min(occurred_at) as first_touch_at,
        max(occurred_at) as last_touch_at,
        {% for name in ['channel', 'source', 'campaign'] -%}
        array_agg({{ name }} order by occurred_at, event_id) as {{ name }}s{{ ',' if not loop.last }}
        {% endfor %}
    from touches
    group by person_id

)

select
    person_id,
    first_touch_at,
    channels[1] as first_touch_channel,
    sources[1] as first_touch_source,
    campaigns[1] as first_touch_campaign,
    last_touch_at,
    channels[touch_count] as last_touch_channel,
    sources[touch_count] as last_touch_source,
    campaigns[touch_count] as last_touch_campaign,
    touch_count
from in_order
