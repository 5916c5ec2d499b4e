{{ config(enabled=is_synced('users')) }}

{{ stage_records('users', 'users', [
    ('id', 'text', 'user_id'),
    ('name', 'text', 'full_name'),
    ('firstname', 'text', 'first_name'),
    ('lastname', 'text', 'last_name'),
    ('email', 'text', 'email'),
    ('username', 'text', 'user_name'),
    ('title', 'text', 'title'),
    ('department', 'text', 'department'),
    ('phone', 'text', 'phone'),
    ('isactive', 'boolean', 'is_active'),
]) }}
