{{ config(enabled=is_synced('lead') or is_synced('contact')) }}

{{ merged_records([('lead', 'lead'), ('contact', 'contact')]) }}
