{{ config(materialized='view') }}
{% set audiences = audiences_of_settings() %}
with defined as (

    {% for name, audience in audiences.items() %}
    select
        {{ as_text(name) }}::text as audience,
        {{ as_text(audience.description) }}::text as description
    {{ 'union all' if not loop.last }}
    {% else %}
    select null::text as audience, null::text as description where false
    {% endfor %}

)

select
    d.audience,
    d.description,
    (
        select count(*) from {{ ref('audiences') }} as a
        where a.audience = d.audience and a.left_at is null
    ) as member_count
from defined as d
