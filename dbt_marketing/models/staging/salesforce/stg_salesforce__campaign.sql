{{ config(enabled=is_synced('campaign')) }}

{{ stage_records('campaign', 'campaign', [
    ('id', 'text', 'campaign_id'),
    ('name', 'text', 'campaign_name'),
    ('type', 'text', 'campaign_type'),
    ('status', 'text', 'status'),
    ('parentid', 'text', 'parent_campaign_id'),
    ('isactive', 'boolean', 'is_active'),
    ('startdate', 'date', 'starts_on'),
    ('enddate', 'date', 'ends_on'),
    ('budgetedcost', 'numeric', 'budgeted_cost'),
    ('actualcost', 'numeric', 'actual_cost'),
    ('ownerid', 'text', 'owner_id'),
    ('createddate', 'timestamptz', 'created_at'),
]) }}
