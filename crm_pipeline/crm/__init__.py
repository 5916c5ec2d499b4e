"""Talking to a CRM: the port that upper rooms know, and one folder per CRM."""
