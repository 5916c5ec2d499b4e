{# Points that no typing error can make larger than an integer holds. #}
{% macro within_reach(points) %}
    {{- return("least(greatest(" ~ points ~ ", -1000000), 1000000)") -}}
{% endmacro %}
