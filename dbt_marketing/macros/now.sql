{#
    The instant that all models of one build take for now.

    Variable `as_of` sets it, so that tests stand still. Else it is when the build began, not the
    database's own clock, so that a build over midnight has one day.
#}
{% macro now() %}
    {{- return("'" ~ (var('as_of', none) or run_started_at.isoformat()) ~ "'::timestamptz") -}}
{% endmacro %}

{# The day of that instant, in UTC. #}
{% macro today() %}
    {{- return("(" ~ now() ~ " at time zone 'UTC')::date") -}}
{% endmacro %}
