"""Alembic migrations of the control schema, additive first."""
