{{ config(
    materialized='incremental',
    incremental_strategy='append',
    full_refresh=false,
    pre_hook="{{ remember_what_is_seen() }}",
    indexes=[
        {'columns': ['person_id', 'scored_at'], 'unique': true},
        {'columns': ['scored_at']},
    ]
) }}
{%- set seen = seen_by_last_build() %}
{%- set names = [
    'contact_score', 'activity_score', 'engagement_score', 'manual_score', 'total_score'
] %}

{{ says(seen) }}
select
    s.person_id,
    {% if is_incremental() %}
    -- Later than the row before, whatever the clock says.
    greatest({{ now() }}, latest.scored_at + interval '1 microsecond') as scored_at,
    {% else %}
    {{ now() }} as scored_at,
    {% endif %}
    s.{{ names | join(',\n    s.') }},
    {{ 'latest.total_score' if is_incremental() else 'null::integer' }} as previous_total_score
from {{ ref('fct_lead_scores') }} as s
{% if is_incremental() %}
left join lateral (
    select *
    from {{ this }} as c
    where c.person_id = s.person_id
    order by c.scored_at desc
    limit 1
) as latest on true
where
    (s.{{ names | join(', s.') }})
    is distinct from (latest.{{ names | join(', latest.') }})
    {% if seen %}
    and s.person_id = any (array(select person_id from people_to_rebuild))
    {% endif %}
{% endif %}
