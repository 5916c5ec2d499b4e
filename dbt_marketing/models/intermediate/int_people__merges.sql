-- Each merged record with the one that it is part of in the end, for winners are merged again.
with recursive followed as (

    {% if is_synced('lead') or is_synced('contact') %}
    select record_id, email, merged_into from {{ ref('stg_salesforce__merged_record') }}
    union
    select f.record_id, f.email, m.merged_into
    from followed as f
    inner join {{ ref('stg_salesforce__merged_record') }} as m on f.merged_into = m.record_id
    {% else %}
    select null::text as record_id, null::text as email, null::text as merged_into where false
    {% endif %}

)

select f.record_id, {{ normalize_email('f.email') }} as email, f.merged_into
from followed as f
{%- if is_synced('lead') or is_synced('contact') %}
where not exists (
    select from {{ ref('stg_salesforce__merged_record') }} as m where m.record_id = f.merged_into
)
{%- endif %}
