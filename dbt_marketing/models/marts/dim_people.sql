{{ config(
    materialized='incremental',
    incremental_strategy='replace_people',
    unique_key='person_id',
    pre_hook="{{ remember_what_is_seen() }}",
    post_hook="{{ note_a_first_build() }}",
    indexes=[
        {'columns': ['person_id'], 'unique': true},
        {'columns': ['email']},
        {'columns': ['account_id']},
    ]
) }}
{%- set seen = seen_by_last_build() %}

{{ says(seen) }}
with people_records as (

    select person_id, record_id, is_customer
    from {{ ref('int_people__records') }}
    where
        not is_gone and record_type in ('contact', 'lead')
        {% if seen %}
        and person_id = any (array(select person_id from people_to_rebuild))
        {% endif %}

),

-- Contacts speak before leads, and of either the one that changed last.
records as (

    select
        r.person_id,
        r.is_customer,
        p.*,
        row_number() over (
            partition by r.person_id
            order by p.record_type, p.modified_at desc nulls last, p.record_id
        ) as rank_in_person
    from people_records as r
    inner join {{ ref('int_people__unioned') }} as p on r.record_id = p.record_id
    {% if seen %}
    -- As an array it reaches the tables' keys; joined alone it would not.
    where p.record_id = any (array(select record_id from people_records))
    {% endif %}

),

people as (

    select
        person_id,
        {% for name in [
            'record_type', 'record_id', 'email', 'first_name', 'last_name', 'full_name', 'phone',
            'title', 'company', 'industry', 'country', 'account_id', 'owner_id', 'lead_status'
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
    group by person_id

),

-- What was merged away is read nowhere any more, but its id may still be about.
merged as (

    select person_id, array_agg(record_id order by record_id) as merged_ids
    from {{ ref('int_people__records') }}
    where
        not is_gone and record_type = 'merged'
        {% if seen %}
        and person_id = any (array(select person_id from people_to_rebuild))
        {% endif %}
    group by person_id

),

-- People whom no record is about: all that is known is that something happened to their address.
strangers as (

    select e.person_id, min(e.email) as email, min(e.occurred_at) as created_at
    from {{ ref('fct_engagement') }} as e
    where
        e.person_id is not null
        {% if seen %}
        and e.person_id = any (array(select person_id from people_to_rebuild))
        {% endif %}
        and not exists (
            select from {{ ref('int_people__records') }} as r
            where r.person_id = e.person_id and not r.is_gone
        )
    group by e.person_id

)

select
    person_id,
    email,
    first_name,
    last_name,
    full_name,
    phone,
    title,
    company,
    industry,
    country,
    account_id,
    owner_id,
    lead_source,
    lead_status,
    record_type as primary_record_type,
    record_id as primary_record_id,
    lead_ids,
    contact_ids,
    coalesce(merged_ids, '{}') as merged_ids,
    is_customer,
    has_opted_out_of_email,
    email_bounced_at,
    created_at,
    modified_at
from people
left join merged using (person_id)
union all
select
    person_id,
    email,
    {% for name in [
        'first_name', 'last_name', 'full_name', 'phone', 'title', 'company', 'industry', 'country',
        'account_id', 'owner_id', 'lead_source', 'lead_status'
    ] -%}
    null as {{ name }},
    {% endfor -%}
    'address' as primary_record_type,
    null as primary_record_id,
    '{}' as lead_ids,
    '{}' as contact_ids,
    '{}' as merged_ids,
    false as is_customer,
    false as has_opted_out_of_email,
    null as email_bounced_at,
    created_at,
    null as modified_at
from strangers
