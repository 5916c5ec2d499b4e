"""Keeping data in PostgreSQL: tables, staging, merge, watermarks, leases."""
