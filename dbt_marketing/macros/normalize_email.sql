{# One spelling per address: no blanks around it, lower case, null instead of nothing. #}
{% macro normalize_email(column) %}
    {{- "nullif(lower(btrim(" ~ column ~ ")), '')" -}}
{% endmacro %}
