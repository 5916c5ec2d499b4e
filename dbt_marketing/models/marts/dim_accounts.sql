{{ config(
    materialized='incremental',
    incremental_strategy='replace_differing',
    unique_key='account_id',
    indexes=[{'columns': ['account_id'], 'unique': true}]
) }}
with accounts as (

    {% if is_synced('account') %}
    select
        account_id,
        account_name as name,
        account_type as type,
        industry,
        country,
        parent_account_id,
        owner_id,
        created_at
    from {{ ref('stg_salesforce__account') }}
    {% else %}
    select
        {% for name in [
            'account_id', 'name', 'type', 'industry', 'country', 'parent_account_id', 'owner_id'
        ] -%}
        null::text as {{ name }},
        {% endfor -%}
        null::timestamptz as created_at
    where false
    {% endif %}

),

customers as (

    {{ customers() }}

),

opportunities as (

    select
        account_id,
        count(*) filter (where not is_closed) as open_count,
        sum(amount) filter (where not is_closed) as open_amount,
        min(close_on) filter (where not is_closed) as next_close_on,
        count(*) filter (where is_won) as won_count,
        sum(amount) filter (where is_won) as won_amount,
        max(close_on) filter (where is_won) as last_won_on
    from {{ ref('fct_opportunities') }}
    where account_id is not null
    group by account_id

),

people as (

    select account_id, count(*) as people_count
    from {{ ref('dim_people') }}
    where account_id is not null
    group by account_id

)

select
    a.account_id,
    a.name,
    a.type,
    a.industry,
    a.country,
    a.parent_account_id,
    a.owner_id,
    w.owner_name,
    c.account_id is not null as is_customer,
    coalesce(p.people_count, 0)::integer as people_count,
    coalesce(o.open_count, 0)::integer as open_opportunity_count,
    coalesce(o.open_amount, 0) as open_opportunity_amount,
    o.next_close_on,
    coalesce(o.won_count, 0)::integer as won_opportunity_count,
    coalesce(o.won_amount, 0) as won_opportunity_amount,
    o.last_won_on,
    a.created_at
from accounts as a
left join {{ ref('int_owners__kept') }} as w on a.owner_id = w.owner_id
left join customers as c on a.account_id = c.account_id
left join opportunities as o on a.account_id = o.account_id
left join people as p on a.account_id = p.account_id
