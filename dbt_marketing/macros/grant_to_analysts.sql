{# Lets the role analyst read every schema of this run; does nothing where there is no such role. #}
{% macro grant_to_analysts(schemas) %}
    {%- if execute and schemas %}
do $$
begin
    if exists (select from pg_roles where rolname = 'analyst') then
        {%- for schema in schemas %}
        grant usage on schema {{ adapter.quote(schema) }} to analyst;
        grant select on all tables in schema {{ adapter.quote(schema) }} to analyst;
        -- A table that is built anew can be read from its first moment on.
        alter default privileges in schema {{ adapter.quote(schema) }} grant select on tables to analyst;
        {%- endfor %}
    end if;
end $$
    {%- endif %}
{% endmacro %}
