{{ config(
    materialized='incremental',
    incremental_strategy='replace_and_note',
    unique_key='record_id',
    pre_hook="{{ remember_what_is_seen() }}",
    post_hook="{{ note_a_first_build() }}",
    indexes=[
        {'columns': ['record_id'], 'unique': true},
        {'columns': ['person_id']},
    ]
) }}
{%- set seen = seen_by_last_build() %}

{{ says(seen) }}
with customers as (

    {{ customers() }}

),

records as (

    select
        p.record_id,
        p.record_type,
        md5(p.person_key)::uuid as person_id,
        p.email,
        p.record_type = 'contact' and c.account_id is not null as is_customer,
        false as is_gone,
        p.synced_at
    from {{ ref('int_people__unioned') }} as p
    left join customers as c on p.account_id = c.account_id

),

-- A merged record is its winner's person, under the id and the address that events still carry.
merged as (

    select
        m.record_id,
        'merged' as record_type,
        r.person_id,
        m.email,
        false as is_customer,
        false as is_gone,
        r.synced_at
    from {{ ref('int_people__merges') }} as m
    inner join records as r on m.merged_into = r.record_id

),

living as (

    select * from records
    union all
    select * from merged

)

{% if not seen %}
select * from living
{% else %}
select
    record_id,
    coalesce(new.record_type, old.record_type) as record_type,
    coalesce(new.person_id, old.person_id) as person_id,
    case when new.person_id is null then old.email else new.email end as email,
    coalesce(new.is_customer, false) as is_customer,
    new.person_id is null as is_gone,
    coalesce(new.synced_at, old.synced_at) as synced_at
from living as new
full join {{ this }} as old using (record_id)
where
    (new.person_id is null and not old.is_gone)
    or (
        new.person_id is not null
        -- The type as well: a loser may share address and stamp with its winner.
        and (
            new.record_type, new.person_id, new.email, new.is_customer, new.synced_at, false
        ) is distinct from (
            old.record_type, old.person_id, old.email, old.is_customer, old.synced_at, old.is_gone
        )
    )
{% endif %}
