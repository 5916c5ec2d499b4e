{# Accounts of customers: by their type, or by an opportunity that was won. #}
{% macro customers() %}
    {%- if is_synced('account') %}
    select account_id
    from {{ ref('stg_salesforce__account') }}
    where account_type ilike 'customer%'
    {%- else %}
    select null::text as account_id where false
    {%- endif %}
    {%- if is_synced('opportunity') %}
    union
    select account_id
    from {{ ref('stg_salesforce__opportunity') }}
    where is_won and account_id is not null
    {%- endif %}
{% endmacro %}
