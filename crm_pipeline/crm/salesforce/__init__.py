"""Salesforce, spoken through one thin session of ours."""
