-- Leads and contacts under one roof, each with the key of the person that it is about.
with contacts as (

    {% if is_synced('contact') %}
    select
        contact_id as record_id,
        coalesce('email:' || {{ normalize_email('email') }}, 'contact:' || contact_id) as person_key,
        {{ normalize_email('email') }} as email,
        first_name,
        last_name,
        full_name,
        coalesce(phone, mobile_phone) as phone,
        title,
        null::text as company,
        account_id,
        owner_id,
        lead_source,
        has_opted_out_of_email,
        email_bounced_at,
        created_at,
        modified_at
    from {{ ref('stg_salesforce__contact') }}
    {% else %}
    {{ no_people() }}
    {% endif %}

),

leads as (

    {% if is_synced('lead') %}
    select
        l.lead_id as record_id,
        -- A converted lead follows its contact, whatever address it still carries.
        coalesce(
            c.person_key,
            'email:' || {{ normalize_email('l.email') }},
            'lead:' || l.lead_id
        ) as person_key,
        {{ normalize_email('l.email') }} as email,
        l.first_name,
        l.last_name,
        l.full_name,
        coalesce(l.phone, l.mobile_phone) as phone,
        l.title,
        l.company,
        l.converted_account_id as account_id,
        l.owner_id,
        l.lead_source,
        l.has_opted_out_of_email,
        l.email_bounced_at,
        l.created_at,
        l.modified_at
    from {{ ref('stg_salesforce__lead') }} as l
    left join contacts as c on l.converted_contact_id = c.record_id
    {% else %}
    {{ no_people() }}
    {% endif %}

)

select 'contact' as record_type, * from contacts
union all
select 'lead' as record_type, * from leads
