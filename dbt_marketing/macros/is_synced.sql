{# Whether the operator syncs an object; known when models are parsed. #}
{% macro is_synced(object) %}
    {{- return(object in var('crm_objects')) -}}
{% endmacro %}
