{{ config(enabled=is_synced('opportunity')) }}

{{ stage_records('opportunity', 'opportunity', [
    ('id', 'text', 'opportunity_id'),
    ('accountid', 'text', 'account_id'),
    ('name', 'text', 'opportunity_name'),
    ('stagename', 'text', 'stage'),
    ('type', 'text', 'opportunity_type'),
    ('amount', 'numeric', 'amount'),
    ('probability', 'numeric', 'probability_percent'),
    ('closedate', 'date', 'close_on'),
    ('isclosed', 'boolean', 'is_closed'),
    ('iswon', 'boolean', 'is_won'),
    ('campaignid', 'text', 'campaign_id'),
    ('leadsource', 'text', 'lead_source'),
    ('ownerid', 'text', 'owner_id'),
    ('createddate', 'timestamptz', 'created_at'),
]) }}
