{# Every value that is there is above a bound. #}
{% test more_than(model, column_name, bound) %}
select {{ column_name }}
from {{ model }}
where {{ column_name }} <= {{ bound }}
{% endtest %}
