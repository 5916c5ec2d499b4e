"""CRM Pipeline: a two-way sync between a CRM and a PostgreSQL marketing warehouse."""
