"""What `crm-pipeline check` finds in the house that the environment leads to.

Belongs here: asking preflight. Does not belong here: what it should say (the cases).
"""

from crm_pipeline.sync.assembly import Installation
from crm_pipeline.sync.findings import Finding, Severity
from crm_pipeline.sync.preflight import run_preflight


def findings() -> list[Finding]:
    """Everything that preflight has to say now."""
    installation = Installation.from_environment()
    settings = installation.settings
    connector = installation.connector(settings)
    try:
        return list(run_preflight(settings, connector, installation.warehouse))
    finally:
        connector.close()


def notices() -> list[Finding]:
    """What it wants a person to know, besides rights that the user does not need."""
    return [
        found
        for found in findings()
        if found.severity is Severity.NOTICE and "no sync needs that" not in found.sentence
    ]
