{# The columns of a person's record without a row, for an object that is not synced. #}
{% macro no_people() %}
    select
        {%- for name in [
            'record_id', 'person_key', 'email', 'phone', 'company', 'industry', 'lead_status',
            'account_id', 'first_name', 'last_name', 'full_name', 'title', 'country',
            'lead_source', 'owner_id'
        ] %}
        null::text as {{ name }},
        {%- endfor %}
        null::boolean as has_opted_out_of_email,
        null::timestamptz as email_bounced_at,
        null::timestamptz as created_at,
        null::timestamptz as modified_at,
        null::timestamptz as synced_at
    where false
{% endmacro %}
