{# Every value is a kind of marketing event, or an operator's own: a typing error would never match. #}
{% test is_event_kind(model, column_name) %}
select {{ column_name }}
from {{ model }}
where
    {{ column_name }} !~ '^custom_[a-z0-9_]{1,50}$'
    and {{ column_name }} not in (
        'email_sent', 'email_delivered', 'email_opened', 'email_clicked', 'email_unsubscribed',
        'email_hard_bounced', 'email_soft_bounced', 'email_complained', 'page_visited',
        'form_submitted', 'list_imported', 'webinar_registered', 'webinar_attended'
    )
{% endtest %}
