{{ config(
    materialized='incremental',
    incremental_strategy='replace_people',
    unique_key='visit_id',
    pre_hook="{{ remember_what_is_seen(var('session_minutes')) }}",
    indexes=[
        {'columns': ['visit_id'], 'unique': true},
        {'columns': ['person_id', 'started_at']},
        {'columns': ['started_at'], 'type': 'brin'},
    ]
) }}
{%- set seen = seen_by_last_build(var('session_minutes')) %}

{{ says(seen) }}
with pages as (

    select
        person_id,
        event_id,
        occurred_at,
        url,
        channel,
        source,
        campaign,
        coalesce(
            occurred_at - lag(occurred_at) over in_order
            > interval '{{ var("session_minutes") }} minutes',
            true
        ) as begins_a_visit
    from {{ ref('fct_engagement') }}
    where
        kind = 'page_visited' and person_id is not null
        {% if seen %}
        and person_id = any (array(select person_id from people_to_rebuild))
        {% endif %}
    window in_order as (partition by person_id order by occurred_at, event_id)

),

numbered as (

    select
        *,
        count(*) filter (where begins_a_visit) over (
            partition by person_id order by occurred_at, event_id
        ) as visit_number
    from pages

),

visits as (

    select
        person_id,
        min(occurred_at) as started_at,
        max(occurred_at) as ended_at,
        count(*)::integer as page_count,
        {% for name in ['url', 'channel', 'source', 'campaign'] -%}
        array_agg({{ name }} order by occurred_at, event_id) filter (where {{ name }} is not null)
            as {{ name }}s{{ ',' if not loop.last }}
        {% endfor %}
    from numbered
    group by person_id, visit_number

)

select
    -- Seconds since 1970 read the same in every time zone.
    md5(person_id::text || ' ' || extract(epoch from started_at)::text) as visit_id,
    person_id,
    started_at,
    ended_at,
    page_count,
    urls[1] as landing_url,
    urls[cardinality(urls)] as exit_url,
    channels[1] as channel,
    sources[1] as source,
    campaigns[1] as campaign,
    started_at = max(started_at) over (partition by person_id) as is_most_recent
from visits
