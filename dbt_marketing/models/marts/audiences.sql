{{ config(
    materialized='incremental',
    incremental_strategy='keep_memberships',
    full_refresh=false,
    pre_hook=["{{ prepare_audiences() }}", "{{ gather_audiences() }}"],
    indexes=[
        {'columns': ['audience', 'person_id', 'entered_at'], 'unique': true},
        {'columns': ['person_id']},
    ]
) }}
-- Built last, for an operator's query may read any mart.
-- depends_on: {{ ref('personalization') }}
-- depends_on: {{ ref('fct_opportunities') }}
-- depends_on: {{ ref('fct_lead_score_changes') }}
select
    audience,
    person_id,
    {{ now() }} as entered_at,
    null::timestamptz as left_at
from pg_temp.audience_member
