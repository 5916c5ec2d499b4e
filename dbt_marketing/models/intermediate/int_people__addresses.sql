-- Addresses that are another person than they say: what a converted lead or a merged record carries.
select
    r.email,
    (array_agg(r.person_id order by r.synced_at desc, r.record_id))[1] as person_id
from {{ ref('int_people__records') }} as r
where
    not r.is_gone
    and r.record_type in ('lead', 'merged')
    and r.person_id <> md5('email:' || r.email)::uuid
    and not exists (
        select from {{ ref('int_people__records') }} as own
        where own.person_id = md5('email:' || r.email)::uuid and not own.is_gone
    )
group by r.email
