{{ config(enabled=is_synced('contact')) }}

{{ stage_records('contact', 'contact', [
    ('id', 'text', 'contact_id'),
    ('accountid', 'text', 'account_id'),
    ('firstname', 'text', 'first_name'),
    ('lastname', 'text', 'last_name'),
    ('name', 'text', 'full_name'),
    ('email', 'text', 'email'),
    ('phone', 'text', 'phone'),
    ('mobilephone', 'text', 'mobile_phone'),
    ('title', 'text', 'title'),
    ('department', 'text', 'department'),
    ('mailingcountry', 'text', 'country'),
    ('leadsource', 'text', 'lead_source'),
    ('ownerid', 'text', 'owner_id'),
    ('hasoptedoutofemail', 'boolean', 'has_opted_out_of_email'),
    ('emailbounceddate', 'timestamptz', 'email_bounced_at'),
    ('createddate', 'timestamptz', 'created_at'),
]) }}
