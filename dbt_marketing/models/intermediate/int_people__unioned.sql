-- Leads and contacts under one roof, each with the key of the person that it is about.
{% set shared = [
    'first_name', 'last_name', 'full_name', 'title', 'country', 'lead_source', 'owner_id',
    'has_opted_out_of_email', 'email_bounced_at', 'created_at', 'modified_at', 'synced_at'
] %}
with contacts as (

    {% if is_synced('contact') %}
    select
        contact_id as record_id,
        coalesce('email:' || {{ normalize_email('email') }}, 'contact:' || contact_id) as person_key,
        {{ normalize_email('email') }} as email,
        coalesce(phone, mobile_phone) as phone,
        null::text as company,
        null::text as industry,
        null::text as lead_status,
        account_id,
        {{ shared | join(',\n        ') }}
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
            {% if is_synced('contact') %}
            'email:' || {{ normalize_email('c.email') }},
            'contact:' || c.contact_id,
            {% endif %}
            'email:' || {{ normalize_email('l.email') }},
            'lead:' || l.lead_id
        ) as person_key,
        {{ normalize_email('l.email') }} as email,
        coalesce(l.phone, l.mobile_phone) as phone,
        l.company,
        l.industry,
        l.status as lead_status,
        l.converted_account_id as account_id,
        l.{{ shared | join(',\n        l.') }}
    from {{ ref('stg_salesforce__lead') }} as l
    {% if is_synced('contact') -%}
    left join {{ ref('stg_salesforce__contact') }} as c on l.converted_contact_id = c.contact_id
    {%- endif %}
    {% else %}
    {{ no_people() }}
    {% endif %}

)

select 'contact' as record_type, * from contacts
union all
select 'lead' as record_type, * from leads
