{{ config(
    materialized='incremental',
    incremental_strategy='replace_and_note',
    unique_key='event_id',
    pre_hook=["{{ remember_what_is_seen() }}", "{{ forget_erased_events() }}"],
    post_hook="{{ note_a_first_build() }}",
    indexes=[
        {'columns': ['event_id'], 'unique': true},
        {'columns': ['person_id', 'occurred_at']},
        {'columns': ['occurred_at'], 'type': 'brin'},
    ]
) }}
{%- set seen = seen_by_last_build() %}

{{ says(seen) }}
with events as (

    select * from {{ ref('stg_events__marketing_event') }}
    {% if seen %}
    where event_id = any (array(
        select e.event_id
        from {{ ref('stg_events__marketing_event') }} as e
        where
            e.loaded_in >= pg_snapshot_xmin('{{ seen }}'::pg_snapshot)
            and not pg_visible_in_snapshot(e.loaded_in, '{{ seen }}'::pg_snapshot)
        union
        -- Where a record moved, so may the events that carry its id or its address.
        select e.event_id
        from {{ this }} as e
        inner join people_to_rebuild as p on e.person_id = p.person_id
        union
        select e.event_id
        from people_to_rebuild as p
        inner join {{ ref('int_people__records') }} as r on p.person_id = r.person_id
        inner join {{ ref('stg_events__marketing_event') }} as e on r.record_id = e.crm_id
        union
        select e.event_id
        from people_to_rebuild as p
        inner join {{ ref('int_people__records') }} as r on p.person_id = r.person_id
        inner join {{ ref('stg_events__marketing_event') }} as e on r.email = e.email
    ))
    {% endif %}

)

select
    e.event_id,
    -- The record speaks before the address; an address that no record has is a person as well.
    coalesce(r.person_id, a.person_id, md5('email:' || e.email)::uuid) as person_id,
    e.occurred_at,
    e.kind,
    e.email,
    e.crm_id,
    e.campaign,
    e.channel,
    e.source,
    e.url,
    e.points
from events as e
left join {{ ref('int_people__records') }} as r on e.crm_id = r.record_id and not r.is_gone
left join {{ ref('int_people__addresses') }} as a on e.email = a.email
