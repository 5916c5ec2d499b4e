{{ config(
    materialized='incremental',
    incremental_strategy='replace_differing',
    unique_key='email',
    pre_hook=[
        "{{ note_consent_of_crm() }}",
        "{{ note_consent_by_record() }}",
        "{{ remember_what_is_seen() }}",
    ],
    indexes=[{'columns': ['email'], 'unique': true}, {'columns': ['person_id']}]
) }}
with spoken as (

    select
        *,
        max(occurred_at) filter (where status = 'subscribed')
            over (partition by email) as last_yes_at,
        max(occurred_at) filter (where status = 'unsubscribed')
            over (partition by email) as last_no_at
    from {{ ref('stg_events__consent') }}

),

-- An explicit yes ends an earlier opt-out; nothing ends a complaint or a bounce.
in_force as (

    select
        *,
        case status
            when 'complained' then 1
            when 'hard_bounced' then 2
            when 'unsubscribed' then 3
            else 4
        end as weight
    from spoken
    where
        status in ('complained', 'hard_bounced')
        or (status = 'unsubscribed' and (last_yes_at is null or occurred_at >= last_yes_at))
        or (status = 'subscribed' and (last_no_at is null or occurred_at > last_no_at))

),

verdicts as (

    select distinct on (email) *
    from in_force
    order by email, weight, occurred_at, consent_id

),

times as (

    select
        email,
        bool_or(
            status = 'complained'
            or (status = 'unsubscribed' and (last_yes_at is null or occurred_at >= last_yes_at))
        ) as is_opted_out,
        {% for status in ['unsubscribed', 'hard_bounced', 'complained'] -%}
        max(occurred_at) filter (where status = '{{ status }}') as {{ status }}_at
            {{- ',' if not loop.last }}
        {% endfor %}
    from spoken
    group by email

)

select
    v.email,
    p.person_id,
    v.status,
    v.status = 'subscribed' as may_be_emailed,
    v.occurred_at as since,
    v.side,
    v.evidence,
    t.is_opted_out,
    t.unsubscribed_at,
    t.hard_bounced_at,
    t.complained_at
from verdicts as v
inner join times as t on v.email = t.email
left join {{ ref('int_people__addresses') }} as a on v.email = a.email
left join {{ ref('dim_people') }} as p
    on p.person_id = coalesce(a.person_id, md5('email:' || v.email)::uuid)
