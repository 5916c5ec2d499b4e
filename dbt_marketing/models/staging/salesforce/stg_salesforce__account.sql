{{ config(enabled=is_synced('account')) }}

{{ stage_records('account', 'account', [
    ('id', 'text', 'account_id'),
    ('name', 'text', 'account_name'),
    ('type', 'text', 'account_type'),
    ('parentid', 'text', 'parent_account_id'),
    ('industry', 'text', 'industry'),
    ('website', 'text', 'website'),
    ('billingcountry', 'text', 'country'),
    ('annualrevenue', 'numeric', 'annual_revenue'),
    ('numberofemployees', 'numeric', 'employee_count'),
    ('ownerid', 'text', 'owner_id'),
    ('createddate', 'timestamptz', 'created_at'),
]) }}
