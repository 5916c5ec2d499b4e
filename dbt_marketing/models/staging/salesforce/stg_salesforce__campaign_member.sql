{{ config(enabled=is_synced('campaignmember')) }}

{{ stage_records('campaignmember', 'campaignmember', [
    ('id', 'text', 'campaign_member_id'),
    ('campaignid', 'text', 'campaign_id'),
    ('leadid', 'text', 'lead_id'),
    ('contactid', 'text', 'contact_id'),
    ('status', 'text', 'status'),
    ('hasresponded', 'boolean', 'has_responded'),
    ('firstrespondeddate', 'date', 'first_responded_on'),
    ('createddate', 'timestamptz', 'created_at'),
]) }}
