{{ config(enabled=is_synced('task')) }}

{{ stage_records('task', 'task', [
    ('id', 'text', 'task_id'),
    ('whoid', 'text', 'person_record_id'),
    ('whatid', 'text', 'related_record_id'),
    ('accountid', 'text', 'account_id'),
    ('subject', 'text', 'subject'),
    ('status', 'text', 'status'),
    ('priority', 'text', 'priority'),
    ('tasksubtype', 'text', 'task_type'),
    ('activitydate', 'date', 'due_on'),
    ('isclosed', 'boolean', 'is_closed'),
    ('ownerid', 'text', 'owner_id'),
    ('createddate', 'timestamptz', 'created_at'),
]) }}
