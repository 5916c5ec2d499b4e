"""Fakes and suites for authors of connectors."""
