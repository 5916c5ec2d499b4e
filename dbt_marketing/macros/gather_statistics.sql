{#
    Statistics of a table that is new: what is built next, or soon, comes before PostgreSQL gathers
    them by itself, and the planner would take a large table for an empty one.
#}
{% macro gather_statistics() %}
    {%- if model.config.materialized != 'view' -%}
do $$
begin
    if (
        select reltuples < 0 from pg_class where oid = '{{ this.include(database=false) }}'::regclass
    ) then
        analyze {{ this }};
    end if;
end $$;
    {%- endif -%}
{% endmacro %}
