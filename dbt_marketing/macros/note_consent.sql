{#
    What the CRM says of consent becomes rows of the ledger, before fct_consent reads it.

    An opt-out and a bounce are noted once per record and address. A box that was seen without its
    tick and is ticked again says something new: it is noted again, with its instant as part of the
    evidence. A bounce stays with the address at which it happened, whatever the record's address
    becomes. Only records that refuse mail are looked at, however many there are.

    A tick that we made ourselves says nothing new. It would be newer than what it repeats, and could
    end an opt-in of the time in between. For an address that never said no here, the box speaks.

    Where the settings do not let the CRM's word count, nothing of it is noted.
#}
{% macro note_consent_of_crm() %}
    {%- if not var('consent_is_read') -%}
        {{- return('select 1') -}}
    {%- endif -%}
insert into {{ source('events', 'consent_ledger') }} (email, status, side, evidence, occurred_at)
select
    r.email,
    r.status,
    'crm',
    r.evidence || case
        when exists (
            select from {{ source('events', 'consent_ledger') }} as l
            where
                l.email = r.email and l.status = r.status
                and l.side = 'crm' and l.evidence = r.evidence
        ) then ' at ' || to_char(r.occurred_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
        else ''
    end,
    r.occurred_at
from {{ ref('int_consent__refusals') }} as r
where not exists (
    select from {{ source('events', 'consent_ledger') }} as l
    where
        l.side = 'crm' and l.status = r.status
        and split_part(l.evidence, ' at ', 1) = r.evidence
        and l.email = r.email
        and l.occurred_at >= r.occurred_at
)
and not exists (
    select from {{ source('events', 'consent_ledger') }} as l
    where
        l.side = 'crm' and l.status = r.status and r.status = 'hard_bounced'
        and split_part(l.evidence, ' at ', 1) = r.evidence
        and l.occurred_at = r.occurred_at
)
and not exists (
    select from {{ ref('int_consent__own_ticks') }} as t
    where t.evidence = r.evidence and t.email = r.email and t.is_ours and r.status = 'unsubscribed'
    and exists (
        select from {{ source('events', 'consent_ledger') }} as l
        where l.email = r.email and l.status in ('unsubscribed', 'complained')
    )
)
on conflict do nothing
{% endmacro %}

{#
    Events that forbid mail to a record without naming its address: they hold for the address that
    the person has when both are first seen, for a record may arrive after its events. Each is noted
    once. Events with an address are noted where they are stored.
#}
{% macro note_consent_by_record() %}
    {%- set seen = seen_by_last_build() -%}
insert into {{ source('events', 'consent_ledger') }} (email, status, side, evidence, occurred_at)
select
    coalesce(r.email, p.email),
    case e.kind
        when 'email_unsubscribed' then 'unsubscribed'
        when 'email_hard_bounced' then 'hard_bounced'
        else 'complained'
    end,
    'marketing',
    e.event_id,
    e.occurred_at
from {{ ref('stg_events__marketing_event') }} as e
inner join {{ ref('int_people__records') }} as r on e.crm_id = r.record_id and not r.is_gone
inner join {{ ref('dim_people') }} as p on r.person_id = p.person_id
where
    e.kind in ('email_unsubscribed', 'email_hard_bounced', 'email_complained')
    and e.email is null
    and coalesce(r.email, p.email) is not null
    and not exists (
        select from {{ source('events', 'consent_ledger') }} as l
        where l.side = 'marketing' and l.evidence = e.event_id
    )
    {% if seen -%}
    and e.event_id = any (array(
        select n.event_id
        from {{ ref('stg_events__marketing_event') }} as n
        where
            n.loaded_in >= pg_snapshot_xmin('{{ seen }}'::pg_snapshot)
            and not pg_visible_in_snapshot(n.loaded_in, '{{ seen }}'::pg_snapshot)
        union
        select n.event_id
        from {{ memory('person_change') }} as c
        inner join {{ ref('int_people__records') }} as m on c.person_id = m.person_id
        inner join {{ ref('stg_events__marketing_event') }} as n on m.record_id = n.crm_id
        where not pg_visible_in_snapshot(c.noted_in, '{{ seen }}'::pg_snapshot)
    ))
    {%- endif %}
on conflict do nothing
{% endmacro %}
