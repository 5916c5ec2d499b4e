{#
    Records that were merged into another one, by their tombstones.

    objects: list of (object, table); those that are not synced, or have no table yet, bring no row.
#}
{% macro merged_records(objects) %}
    {%- set parts = [] -%}
    {%- for object, table in objects if is_synced(object) -%}
        {%- set relation = source('salesforce', table) -%}
        {%- set mapping = var('crm_objects').get(object, {}).get('columns') or {} -%}
        {%- set names = columns_of(relation) -%}
        {%- if '_merged_into' in names -%}
            {%- set address = mapping.get('email') if mapping else 'email' -%}
            {%- do parts.append(
                "select " ~ adapter.quote(mapping.get('id', 'id')) ~ "::text as record_id, "
                ~ (adapter.quote(address) if address in names else "null") ~ "::text as email,"
                " _merged_into::text as merged_into from " ~ relation
                ~ " where _merged_into is not null"
            ) -%}
        {%- endif -%}
    {%- endfor -%}
    {{- parts | join('\nunion all\n') if parts
        else 'select null::text as record_id, null::text as email, null::text as merged_into'
        ' where false' -}}
{% endmacro %}
