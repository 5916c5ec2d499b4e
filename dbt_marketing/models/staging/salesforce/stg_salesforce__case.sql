{{ config(enabled=is_synced('case')) }}

{{ stage_records('case', 'case', [
    ('id', 'text', 'case_id'),
    ('casenumber', 'text', 'case_number'),
    ('accountid', 'text', 'account_id'),
    ('contactid', 'text', 'contact_id'),
    ('subject', 'text', 'subject'),
    ('status', 'text', 'status'),
    ('priority', 'text', 'priority'),
    ('origin', 'text', 'origin'),
    ('isclosed', 'boolean', 'is_closed'),
    ('closeddate', 'timestamptz', 'closed_at'),
    ('ownerid', 'text', 'owner_id'),
    ('createddate', 'timestamptz', 'created_at'),
]) }}
