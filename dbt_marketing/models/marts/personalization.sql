{{ config(materialized='view') }}
select
    p.person_id,
    p.email,
    -- Nobody who said no; whether the law wants a yes is not ours to know.
    p.email is not null and coalesce(c.may_be_emailed, true) as may_be_emailed,
    c.status as consent_status,
    p.first_name,
    p.last_name,
    p.full_name,
    p.title,
    p.company,
    p.country,
    p.industry,
    p.lead_status,
    p.lead_source,
    p.primary_record_type,
    p.owner_id,
    w.owner_name,
    w.owner_email,
    w.owner_phone,
    w.owner_title,
    p.account_id,
    a.name as account_name,
    a.type as account_type,
    a.industry as account_industry,
    p.is_customer,
    coalesce(a.open_opportunity_count, 0) as open_opportunity_count,
    coalesce(a.open_opportunity_amount, 0) as open_opportunity_amount,
    a.next_close_on,
    coalesce(s.total_score, 0) as total_score,
    t.first_touch_channel,
    t.first_touch_source,
    t.last_touch_channel,
    t.last_touch_source,
    -- Looked up by key, person by person, and not at all where nobody asks for them.
    (
        select max(v.started_at)
        from {{ ref('fct_web_visits') }} as v
        where v.person_id = p.person_id
    ) as most_recent_visit_at,
    (
        select e.occurred_at
        from {{ ref('fct_engagement') }} as e
        where
            e.person_id = p.person_id
            and (
                e.kind in (
                    'email_opened', 'email_clicked', 'page_visited', 'form_submitted',
                    'webinar_registered', 'webinar_attended'
                )
                or e.kind like 'custom\_%'
            )
        order by e.occurred_at desc
        limit 1
    ) as last_engaged_at,
    p.created_at
from {{ ref('dim_people') }} as p
left join {{ ref('fct_consent') }} as c on p.email = c.email
left join {{ ref('int_owners__kept') }} as w on p.owner_id = w.owner_id
left join {{ ref('dim_accounts') }} as a on p.account_id = a.account_id
left join {{ ref('fct_lead_scores') }} as s on p.person_id = s.person_id
left join {{ ref('fct_touches') }} as t on p.person_id = t.person_id
