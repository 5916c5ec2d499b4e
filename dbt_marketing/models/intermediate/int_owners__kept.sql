-- Owners as a table: a view on a view is gone while the lower one is made anew.
{{ config(
    materialized='incremental',
    incremental_strategy='replace_differing',
    unique_key='owner_id',
    indexes=[{'columns': ['owner_id'], 'unique': true}]
) }}
{% if is_synced('users') %}
select
    user_id as owner_id,
    full_name as owner_name,
    {{ normalize_email('email') }} as owner_email,
    phone as owner_phone,
    title as owner_title
from {{ ref('stg_salesforce__user') }}
{% else %}
select
    null::text as owner_id,
    null::text as owner_name,
    null::text as owner_email,
    null::text as owner_phone,
    null::text as owner_title
where false
{% endif %}
