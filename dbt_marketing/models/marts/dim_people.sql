{{ config(indexes=[{'columns': ['person_id'], 'unique': true}, {'columns': ['email']}]) }}

with customers as (

    {% if is_synced('account') %}
    select account_id
    from {{ ref('stg_salesforce__account') }}
    where account_type ilike 'customer%'
    {% else %}
    select null::text as account_id where false
    {% endif %}
    {% if is_synced('opportunity') %}
    union
    select account_id
    from {{ ref('stg_salesforce__opportunity') }}
    where is_won and account_id is not null
    {% endif %}

),

-- Contacts speak before leads, and of either the one that changed last.
records as (

    select
        p.*,
        p.record_type = 'contact' and c.account_id is not null as is_customer,
        row_number() over (
            partition by p.person_key
            order by p.record_type, p.modified_at desc nulls last, p.record_id
        ) as rank_in_person
    from {{ ref('int_people__unioned') }} as p
    left join customers as c on p.account_id = c.account_id

),

people as (

    select
        person_key,
        {% for name in [
            'record_type', 'record_id', 'email', 'first_name', 'last_name', 'full_name', 'phone',
            'title', 'company', 'account_id', 'owner_id'
        ] -%}
        (array_agg({{ name }} order by rank_in_person) filter (where {{ name }} is not null))[1]
            as {{ name }},
        {% endfor -%}
        -- Where a person came from is what the oldest record says.
        (array_agg(lead_source order by created_at, record_id) filter (where lead_source is not null))[1]
            as lead_source,
        coalesce(array_agg(record_id order by record_id) filter (where record_type = 'lead'), '{}')
            as lead_ids,
        coalesce(array_agg(record_id order by record_id) filter (where record_type = 'contact'), '{}')
            as contact_ids,
        bool_or(is_customer) as is_customer,
        coalesce(bool_or(has_opted_out_of_email), false) as has_opted_out_of_email,
        max(email_bounced_at) as email_bounced_at,
        min(created_at) as created_at,
        max(modified_at) as modified_at
    from records
    group by person_key

)

select
    md5(person_key) as person_id,
    email,
    first_name,
    last_name,
    full_name,
    phone,
    title,
    company,
    account_id,
    owner_id,
    lead_source,
    record_type as primary_record_type,
    record_id as primary_record_id,
    lead_ids,
    contact_ids,
    is_customer,
    has_opted_out_of_email,
    email_bounced_at,
    created_at,
    modified_at
from people
