{#
    Takes events out of fct_engagement that are not stored any more.

    Events are only ever deleted when a person is erased; who erases notes the person, so that only
    the events of noted people need to be looked for.
#}
{% macro forget_erased_events() %}
    {%- if is_incremental() -%}
delete from {{ this }} as e
where
    e.person_id = any (array(select person_id from people_to_rebuild))
    and not exists (
        select from {{ ref('stg_events__marketing_event') }} as s where s.event_id = e.event_id
    )
    {%- else -%}
select 1
    {%- endif -%}
{% endmacro %}
