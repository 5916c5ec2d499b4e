{#
    The living records of one object: columns renamed and cast, tombstones hidden.

    A field that is not mapped, or whose column is not there yet, is null of its type. A table that
    is not there yet (the object was never fully synced) is an empty one.

    object: as in var crm_objects
    table: its name in _sources.yml
    fields: list of (field in lower case, type, name)
#}
{% macro stage_records(object, table, fields) %}
    {%- set relation = source('salesforce', table) -%}
    {%- set mapping = var('crm_objects').get(object, {}).get('columns') -%}
    {%- set present = columns_of(relation) -%}
    {%- set stamp = (mapping or {}).get('systemmodstamp', 'systemmodstamp') -%}
select
    {%- for field, type, name in fields %}
    {%- set column = field if mapping is none else mapping.get(field) %}
    {% if column in present %}{{ adapter.quote(column) }}{% else %}null{% endif %}::{{ type }} as {{ name }},
    {%- endfor %}
    {%- for fallback in [stamp, '_modstamp'] if fallback in present %}
    {% if loop.first %}{{ adapter.quote(fallback) }}::timestamptz as modified_at,{% endif %}
    {%- else %}
    null::timestamptz as modified_at,
    {%- endfor %}
    {% if present %}_synced_at{% else %}null{% endif %}::timestamptz as synced_at
    {%- if present %}
from {{ relation }}
where _deleted_at is null
    {%- else %}
where false
    {%- endif %}
{% endmacro %}
