{#
    Audiences of the settings file: who belongs to them is gathered first, by audience, so that one
    with an error is named.
#}

{#
    By name: the description, and either a condition over personalization or a query.

    The variable is a list of one JSON text: dbt would take a plain text for a template.
#}
{% macro audiences_of_settings() %}
    {%- set told = var('audiences', []) -%}
    {{- return(fromjson(told[0]) if told else {}) -}}
{% endmacro %}

{% macro as_text(value) %}
    {{- return("'" ~ value | replace("'", "''") ~ "'") -}}
{% endmacro %}

{#
    First hook: where members are gathered, and what runs an operator's query.

    The query may only read. Values that its error may quote are withheld.
#}
{% macro prepare_audiences() %}
set local standard_conforming_strings = on;
create temporary table audience_member (audience text not null, person_id uuid not null)
on commit drop;
create or replace function pg_temp.gather_audience(audience text, query text) returns text
language plpgsql as $$
begin
    set local transaction_read_only = on;
    execute 'insert into pg_temp.audience_member select $1, p.person_id from ('
        || query || E'\n) as q inner join {{ ref("dim_people") }} as p using (person_id)'
        ' group by p.person_id'
    using audience;
    return null;
exception when others then
    return case
        when sqlstate like '42%' or sqlstate = '25006' then sqlerrm
        else 'PostgreSQL says ' || sqlstate
    end;
end $$
{% endmacro %}

{# Second hook: members by query, one audience at a time, and those by condition in one pass. #}
{% macro gather_audiences() %}
    {%- set people = ref('personalization') -%}
    {%- set conditions = [] -%}
    {%- set failures = [] -%}
    {%- for name, audience in audiences_of_settings().items() if execute -%}
        {%- if audience.condition -%}
            {%- do conditions.append("(" ~ as_text(name) ~ ", " ~ audience.condition ~ ")") -%}
        {%- else -%}
            {%- set why = run_query(
                "select pg_temp.gather_audience(" ~ as_text(name) ~ ", " ~ as_text(audience.query) ~ ")"
            ).rows[0][0] -%}
            {%- do failures.append("audience " ~ name ~ ": " ~ why) if why -%}
        {%- endif -%}
    {%- endfor -%}
    {%- if failures -%}
        {{- exceptions.raise_compiler_error(
            "The settings file has a query that cannot be run. " ~ failures | join('; ')
        ) -}}
    {%- endif -%}
    {%- if conditions -%}
insert into pg_temp.audience_member (audience, person_id)
select a.audience, p.person_id
from {{ people }} as p
cross join lateral (values {{ conditions | join(', ') }}) as a (audience, belongs)
where a.belongs;
    {%- endif %}
analyze pg_temp.audience_member
{% endmacro %}

{# Strategy of audiences: who left is marked, who came is added, and nothing else is touched. #}
{% macro get_incremental_keep_memberships_sql(arg_dict) %}
update {{ arg_dict['target_relation'] }} as old
set left_at = {{ now() }}
where
    old.left_at is null
    and not exists (
        select from {{ arg_dict['temp_relation'] }} as new
        where new.audience = old.audience and new.person_id = old.person_id
    );
insert into {{ arg_dict['target_relation'] }} (audience, person_id, entered_at)
select new.audience, new.person_id, new.entered_at
from {{ arg_dict['temp_relation'] }} as new
where not exists (
    select from {{ arg_dict['target_relation'] }} as old
    where old.left_at is null and old.audience = new.audience and old.person_id = new.person_id
)
{% endmacro %}
