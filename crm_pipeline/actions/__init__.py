"""Actions: what a person, a tool or a rule wants in the CRM is decided here and put in the outbox."""
