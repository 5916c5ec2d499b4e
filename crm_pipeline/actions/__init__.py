"""Actions: what a person, a tool or a rule wants in the CRM becomes a write-back here."""
