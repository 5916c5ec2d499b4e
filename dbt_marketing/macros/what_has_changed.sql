{#
    How a mart that holds millions of rows is kept up to date without building it anew.

    A model that is built by these macros remembers what it has seen as a PostgreSQL snapshot, in the
    transaction that writes its rows. What it must look at next time is what that snapshot did not
    see: events by the transaction that loaded them, people by the one that noted a change to them.
    Unlike a watermark of times, a snapshot misses nothing that commits late, and it needs no overlap.

    | model | remembers | notes |
    |---|---|---|
    | int_people__records | - (compares every record) | people of records that differ |
    | fct_engagement | events, people | people of events that are new or moved |
    | marts by person | people | - |

    A model that others follow also notes that it was built whole. A model follows the notes of the
    models that it is made of, and no others: never its own, or it would have no rest.

    A model is built whole where there is no table yet, where its code, the mapping or its rules
    changed, and where its memory is older than 30 days or from another server.
#}

{# Where the models' memory is. #}
{% macro memory(table) %}
    {{- return(adapter.quote(target.schema ~ '_staging') ~ '.' ~ table) -}}
{% endmacro %}

{# Stands for everybody in person_change. #}
{% macro everybody() %}
    {{- return("'00000000-0000-0000-0000-000000000000'::uuid") -}}
{% endmacro %}

{# Before the first model: the two tables of memory, and an end to what every model has seen. #}
{% macro prepare_memory() %}
do $$
begin
    -- Where only marts are chosen, dbt itself does not make it. Asking first needs no privilege.
    if to_regnamespace('{{ adapter.quote(target.schema ~ '_staging') }}') is null then
        create schema {{ adapter.quote(target.schema ~ '_staging') }};
    end if;
end $$;
create table if not exists {{ memory('build_progress') }} (
    model text primary key,
    seen pg_snapshot not null,
    made_of text not null,
    built_at timestamptz not null
);
create table if not exists {{ memory('person_change') }} (
    person_id uuid not null,
    -- The model; null where something else than a model says so, which every model follows.
    noted_by text,
    noted_in xid8 not null default pg_current_xact_id()
);
create index if not exists person_change_noted_in on {{ memory('person_change') }} (noted_in);
delete from {{ memory('person_change') }} where noted_in < (
    select min(pg_snapshot_xmin(seen)) from {{ memory('build_progress') }}
    where built_at > now() - interval '30 days'
);
{% endmacro %}

{#
    What a model is made of: its own code, the mapping, and whatever rules it reads.

    rules: text that stands for what the model reads besides people and events
    seeds: relations that hold such rules
    daily: whether it must be built anew on another day
#}
{% macro made_of(rules=none, seeds=(), daily=false) %}
    {%- if not execute -%}
        {{- return('') -}}
    {%- endif -%}
    {%- set parts = [model.raw_code, tojson(var('crm_objects'), sort_keys=true), rules or ''] -%}
    {%- for seed in seeds -%}
        {%- do parts.append(run_query(
            "select md5(coalesce(string_agg(r::text, '|' order by r::text collate \"C\"), '')) from "
            ~ seed ~ " as r"
        ).rows[0][0]) -%}
    {%- endfor -%}
    {%- do parts.append(run_query("select " ~ today() ~ "::text").rows[0][0]) if daily -%}
    {{- return(local_md5(parts | join('\n'))) -}}
{% endmacro %}

{# Whether a model follows a note: those of models that it is made of, and of no model at all. #}
{% macro follows(noted_by) %}
    {%- set names = [] -%}
    {%- for above in models_above(model.unique_id) if execute -%}
        {%- do names.append("'" ~ graph.nodes[above].name ~ "'") -%}
    {%- endfor -%}
    {{- return(
        "(" ~ noted_by ~ " is null" ~
        (" or " ~ noted_by ~ " in (" ~ names | join(', ') ~ ")" if names else '') ~ ")"
    ) -}}
{% endmacro %}

{# Ids of all models that one is made of, the nearest first. #}
{% macro models_above(unique_id) %}
    {%- set found = [] -%}
    {%- set waiting = [unique_id] -%}
    {# Jinja has no loop with a condition; a model is above another at most once. #}
    {%- for _ in graph.nodes if waiting -%}
        {%- for above in graph.nodes[waiting.pop(0)].depends_on.nodes
            if above in graph.nodes and above not in found
            and graph.nodes[above].resource_type == 'model' -%}
            {%- do found.append(above) -%}
            {%- do waiting.append(above) -%}
        {%- endfor -%}
    {%- endfor -%}
    {{- return(found) -}}
{% endmacro %}

{#
    The snapshot that the last build of this model had seen, or none: then everything is built.

    The arguments are those of made_of; a change of what they stand for builds everything. They
    must be the same in remember_what_is_seen.
#}
{% macro seen_by_last_build(rules=none, seeds=(), daily=false) %}
    {#- In unit tests a model has no table. -#}
    {%- if not execute or this is none or not is_incremental() -%}
        {{- return(none) -}}
    {%- endif -%}
    {%- set found = run_query(
        "select p.seen::text from " ~ memory('build_progress') ~ " p where p.model = '"
        ~ this.identifier ~ "' and p.made_of = '" ~ made_of(rules, seeds, daily) ~ "'"
        " and p.built_at > now() - interval '30 days'"
        " and pg_snapshot_xmax(p.seen) <= pg_snapshot_xmax(pg_current_snapshot())"
        " and not exists (select from " ~ memory('person_change') ~ " c"
        " where c.person_id = " ~ everybody() ~ " and " ~ follows('c.noted_by')
        ~ " and not pg_visible_in_snapshot(c.noted_in, p.seen))"
    ) -%}
    {{- return(found.rows[0][0] if found.rows else none) -}}
{% endmacro %}

{# What the statement says about itself; hooks and strategies read it there. #}
{% macro says(seen) %}
    {{- '-- Builds what has changed.' if seen else '-- Builds everything.' -}}
{% endmacro %}

{% macro builds_everything() %}
    {{- return('-- Builds what has changed.' not in (model.compiled_code or '')) -}}
{% endmacro %}

{#
    First hook of such a model: whom to rebuild, and what this build will have seen.

    The snapshot is older than whatever the model reads, so that what commits meanwhile is read now,
    or next time, or both.
#}
{% macro remember_what_is_seen(rules=none, seeds=(), daily=false) %}
create temporary table people_to_rebuild on commit drop as
select distinct c.person_id
from {{ memory('person_change') }} as c
inner join {{ memory('build_progress') }} as p on p.model = '{{ this.identifier }}'
where not pg_visible_in_snapshot(c.noted_in, p.seen) and {{ follows('c.noted_by') }};
analyze people_to_rebuild;
insert into {{ memory('build_progress') }} (model, seen, made_of, built_at)
values ('{{ this.identifier }}', pg_current_snapshot(), '{{ made_of(rules, seeds, daily) }}', now())
on conflict (model) do update
set seen = excluded.seen, made_of = excluded.made_of, built_at = excluded.built_at;
{% endmacro %}

{# Last hook of a model that others follow: they are told that everything is new. #}
{% macro note_a_first_build() %}
    {%- if builds_everything() -%}
insert into {{ memory('person_change') }} (person_id, noted_by)
values ({{ everybody() }}, '{{ this.identifier }}');
    {%- else -%}
select 1;
    {%- endif -%}
{% endmacro %}

{#
    Strategy of marts by person: rows of the people at hand that differ are replaced, others stay.

    A person whose rows are all gone loses them. Nothing is written where nothing differs.
#}
{% macro get_incremental_replace_people_sql(arg_dict) %}
    {%- set names = arg_dict['dest_columns'] | map(attribute='name') | list -%}
    {%- set columns = get_quoted_csv(names) -%}
delete from {{ arg_dict['target_relation'] }} as old
where
    {% if not builds_everything() -%}
    old.person_id = any (array(select person_id from people_to_rebuild)) and
    {%- endif %}
    not exists (
        select from {{ arg_dict['temp_relation'] }} as new
        where {{ same_key('old', 'new', arg_dict['unique_key']) }}
        and ({{ prefixed('old', names) }}) is not distinct from ({{ prefixed('new', names) }})
    );
insert into {{ arg_dict['target_relation'] }} ({{ columns }})
select {{ columns }}
from {{ arg_dict['temp_relation'] }} as new
where not exists (
    select from {{ arg_dict['target_relation'] }} as old
    where {{ same_key('old', 'new', arg_dict['unique_key']) }}
)
{% endmacro %}

{# Strategy of what others follow: rows that differ are replaced, their people noted, both ways. #}
{% macro get_incremental_replace_and_note_sql(arg_dict) %}
    {%- set names = arg_dict['dest_columns'] | map(attribute='name') | list -%}
    {%- set columns = get_quoted_csv(names) -%}
    {%- set key = arg_dict['unique_key'] -%}
    {%- if builds_everything() -%}
delete from {{ arg_dict['target_relation'] }};
    {%- else -%}
delete from {{ arg_dict['temp_relation'] }} as new
using {{ arg_dict['target_relation'] }} as old
where
    {{ same_key('old', 'new', key) }}
    and ({{ prefixed('old', names) }}) is not distinct from ({{ prefixed('new', names) }});
insert into {{ memory('person_change') }} (person_id, noted_by)
select person_id, '{{ this.identifier }}'
from {{ arg_dict['temp_relation'] }}
where person_id is not null
union
select old.person_id, '{{ this.identifier }}'
from {{ arg_dict['target_relation'] }} as old
inner join {{ arg_dict['temp_relation'] }} as new on {{ same_key('old', 'new', key) }}
where old.person_id is not null;
delete from {{ arg_dict['target_relation'] }} as old
using {{ arg_dict['temp_relation'] }} as new
where {{ same_key('old', 'new', key) }};
    {%- endif %}
insert into {{ arg_dict['target_relation'] }} ({{ columns }})
select {{ columns }}
from {{ arg_dict['temp_relation'] }}
{% endmacro %}

{% macro same_key(old, new, key) %}
    {%- for name in ([key] if key is string else key) -%}
        {{ old }}.{{ name }} = {{ new }}.{{ name }}{{ ' and ' if not loop.last }}
    {%- endfor -%}
{% endmacro %}

{% macro prefixed(alias, names) %}
    {%- for name in names -%}
        {{ alias }}.{{ adapter.quote(name) }}{{ ', ' if not loop.last }}
    {%- endfor -%}
{% endmacro %}
