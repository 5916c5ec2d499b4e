{{ config(
    materialized='incremental',
    incremental_strategy='replace_people',
    unique_key='person_id',
    pre_hook="{{ remember_what_is_seen(seeds=[
        ref('lead_score_event_rules'), ref('lead_score_contact_rules')
    ], daily=true) }}",
    post_hook="{{ note_a_first_build() }}",
    indexes=[{'columns': ['person_id'], 'unique': true}, {'columns': ['total_score']}]
) }}
{%- set seen = seen_by_last_build(seeds=[
    ref('lead_score_event_rules'), ref('lead_score_contact_rules')
], daily=true) %}

{{ says(seen) }}
with people as (

    select * from {{ ref('dim_people') }}
    {% if seen %}
    where person_id = any (array(select person_id from people_to_rebuild))
    {% endif %}

),

answers as (

    select p.person_id, r.attribute, max(r.points) as points
    from people as p
    cross join lateral (
        values
        {% for name in [
            'title', 'company', 'industry', 'country', 'email', 'phone', 'lead_source',
            'lead_status', 'primary_record_type', 'is_customer'
        ] -%}
        ('{{ name }}', p.{{ name }}::text){{ ',' if not loop.last }}
        {% endfor %}
    ) as a (attribute, value)
    inner join {{ ref('lead_score_contact_rules') }} as r
        on a.attribute = r.attribute and a.value ilike r.pattern
    group by p.person_id, r.attribute

),

contact_scores as (

    select person_id, sum(points) as contact_score
    from answers
    group by person_id

),

rules as (

    select kind, score, points, half_life_days, at_most
    from {{ ref('lead_score_event_rules') }}
    union all
    -- These events bring their own points.
    select 'score_adjusted', 'manual', null, null, null

),

points_by_kind as (

    select
        e.person_id,
        r.score,
        least(sum(
            coalesce(r.points, {{ within_reach('e.points') }})::double precision
            -- Whole days, so that a score is the same all day. The power must not underflow.
            * power(0.5::double precision, least(coalesce(
                ({{ today() }} - (e.occurred_at at time zone 'UTC')::date)
                / r.half_life_days::double precision, 0
            ), 1000))
        ), r.at_most) as points
    from {{ ref('fct_engagement') }} as e
    inner join rules as r on e.kind = r.kind
    where
        e.person_id is not null
        and (e.occurred_at at time zone 'UTC')::date <= {{ today() }}
        {% if seen %}
        and e.person_id = any (array(select person_id from people_to_rebuild))
        {% endif %}
    group by e.person_id, r.score, r.kind, r.at_most

),

event_scores as (

    select
        person_id,
        {% for score in ['activity', 'engagement', 'manual'] -%}
        sum(points) filter (where score = '{{ score }}') as {{ score }}_score{{ ',' if not loop.last }}
        {% endfor %}
    from points_by_kind
    group by person_id

),

scores as (

    select
        person_id,
        {% for score in ['contact', 'activity', 'engagement', 'manual'] -%}
        -- As numeric, for halves of double precision are rounded to the even number.
        round({{ within_reach('coalesce(' ~ score ~ '_score, 0)::numeric') }})::integer
            as {{ score }}_score{{ ',' if not loop.last }}
        {% endfor %}
    from people
    left join contact_scores using (person_id)
    left join event_scores using (person_id)

)

select
    person_id,
    contact_score,
    activity_score,
    engagement_score,
    manual_score,
    greatest(contact_score + activity_score + engagement_score + manual_score, 0) as total_score,
    {{ today() }} as scored_on
from scores
