{#
    Strategy of small marts that are compared whole: rows that differ are replaced, others stay.

    Unlike a table that is built anew it keeps the views on it, and nothing is written where nothing
    differs.
#}
{% macro get_incremental_replace_differing_sql(arg_dict) %}
    {%- set names = arg_dict['dest_columns'] | map(attribute='name') | list -%}
    {%- set key = arg_dict['unique_key'] -%}
delete from {{ arg_dict['target_relation'] }} as old
where not exists (
    select from {{ arg_dict['temp_relation'] }} as new
    where {{ same_key('old', 'new', key) }}
    and ({{ prefixed('old', names) }}) is not distinct from ({{ prefixed('new', names) }})
);
insert into {{ arg_dict['target_relation'] }} ({{ get_quoted_csv(names) }})
select {{ get_quoted_csv(names) }}
from {{ arg_dict['temp_relation'] }} as new
where not exists (
    select from {{ arg_dict['target_relation'] }} as old
    where {{ same_key('old', 'new', key) }}
)
{% endmacro %}
