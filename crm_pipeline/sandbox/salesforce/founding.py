"""The records every org is born with: its integration user with a permission set, and itself.

Belongs here: what must exist before the first other record. Does not belong here: invented
people (people.py).
"""

from typing import TYPE_CHECKING, Any

from crm_pipeline.sandbox.salesforce import identifiers
from crm_pipeline.sandbox.salesforce.failures import malformed_id

if TYPE_CHECKING:
    from crm_pipeline.sandbox.salesforce.org import SandboxOrg

INTEGRATION_USER = identifiers.make_id("005", 1)
INTEGRATION_SET = identifiers.make_id("0PS", 1)


def organization_id(org: "SandboxOrg", given: str | None) -> str:
    """The org's own Id: the given one, the kept one, or the usual one."""
    kept = given or org.store.meta("organization_id") or identifiers.make_id("00D", 1)
    identifier = identifiers.normalise(kept)
    if identifier is None:
        raise malformed_id(kept, "Organization ID")
    org.store.set_meta("organization_id", identifier)
    return identifier


def found(org: "SandboxOrg") -> None:
    """Make them where they are missing.

    Every record names its author, so the integration user comes before any other; and every
    org can name itself, an empty one too.
    """
    _ensure(
        org,
        "User",
        {
            "Id": INTEGRATION_USER,
            "Username": "integration@sandbox.example",
            "LastName": "Integration User",
            "Email": "integration@sandbox.example",
            "Alias": "integ",
            "IsActive": True,
        },
    )
    _ensure(
        org,
        "PermissionSet",
        {
            "Id": INTEGRATION_SET,
            "Name": "Integration",
            "Label": "Integration",
            "PermissionsApiEnabled": True,
            "PermissionsCustomizeApplication": True,
            "PermissionsViewSetup": True,
        },
    )
    _ensure(
        org,
        "PermissionSetAssignment",
        {
            "Id": identifiers.make_id("0Pa", 1),
            "PermissionSetId": INTEGRATION_SET,
            "AssigneeId": INTEGRATION_USER,
        },
    )
    _ensure(
        org,
        "Organization",
        {
            "Id": org.organization_id,
            "Name": org.name,
            "OrganizationType": "Developer Edition",
            "IsSandbox": True,
            "InstanceName": "SBX1",
            "DefaultLocaleSidKey": "en_US",
            "LanguageLocaleKey": "en_US",
            "TimeZoneSidKey": "GMT",
        },
    )


def _ensure(org: "SandboxOrg", name: str, facts: dict[str, Any]) -> None:
    if not org.catalogue.has(name) or org.get(name, facts["Id"]) is not None:
        return
    definition = org.catalogue.object(name)
    org.create(name, {key: one for key, one in facts.items() if definition.field(key)})
