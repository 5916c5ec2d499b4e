"""Who we are at Salesforce, and where.

Belongs here: the few calls that name organisation and user. Does not belong here: logging in.
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from crm_pipeline.config.names import printable
from crm_pipeline.crm.port import OrgIdentity
from crm_pipeline.crm.salesforce.failures import Concern
from crm_pipeline.crm.salesforce.session import SalesforceSession
from crm_pipeline.crm.salesforce.soql import quoted
from crm_pipeline.errors import PermanentError

_LONGEST_NAME = 200  # both stand in sentences and logs, and an org may call itself anything
_EXCESSIVE = {
    "PermissionsModifyAllData": "Modify All Data",
    "PermissionsViewAllData": "View All Data",
    "PermissionsManageUsers": "Manage Users",
    "PermissionsAuthorApex": "Author Apex",
    "PermissionsCustomizeApplication": "Customize Application",
}
_IDENTITY_PATH = re.compile(r"/id/(?P<organization>00D\w{15})/(?P<user>005\w{15})", re.ASCII)


def identity_of(session: SalesforceSession, version_path: str) -> OrgIdentity:
    """Two calls: the organisation's record, and the user's name.

    The login says both ids; where it does not (some flows leave `id` out), userinfo does.

    Raises:
        PermanentError: neither says them.
    """
    organization = _only_record(
        session, version_path, "SELECT Id, Name, IsSandbox FROM Organization", "Organization"
    )
    match = _IDENTITY_PATH.fullmatch(urlsplit(session.identity_url).path)
    if match:
        query = f"SELECT Username FROM User WHERE Id = {quoted(match['user'])}"  # noqa: S608
        user_name = _only_record(session, version_path, query, "User").get("Username")
    else:
        answer = session.get_object("/services/oauth2/userinfo", concern=Concern("User"))
        user_name = answer.get("preferred_username")
    return OrgIdentity(
        organization_id=str(organization["Id"]),
        organization_name=printable(str(organization.get("Name") or ""), limit=_LONGEST_NAME),
        user_name=printable(str(user_name or ""), limit=_LONGEST_NAME),
        instance_url=session.instance_url,
        is_sandbox=bool(organization.get("IsSandbox")),
    )


def excess_permissions(session: SalesforceSession, version_path: str) -> tuple[str, ...]:
    """Labels of the permissions that a thief of our token would like best.

    A profile counts as a permission set of its own (Object Reference, PermissionSetAssignment).

    Raises:
        ObjectUnavailable: our user may not see its own permission sets.
    """
    fields = ", ".join(f"PermissionSet.{name}" for name in _EXCESSIVE)
    query = (
        f"SELECT {fields} FROM PermissionSetAssignment"  # noqa: S608 - names of our own
        f" WHERE AssigneeId = {quoted(user_id_of(session))}"
    )
    answer = session.get_object(
        f"{version_path}/query",
        "records",
        params={"q": query},
        concern=Concern("PermissionSetAssignment"),
    )
    granted = [record.get("PermissionSet") or {} for record in answer["records"]]
    return tuple(label for name, label in _EXCESSIVE.items() if any(g.get(name) for g in granted))


def user_id_of(session: SalesforceSession) -> str:
    """Our user's id as the login says it; one call to userinfo where it does not."""
    match = _IDENTITY_PATH.fullmatch(urlsplit(session.identity_url).path)
    if match:
        return match["user"]
    answer = session.get_object("/services/oauth2/userinfo", concern=Concern("User"))
    return str(answer.get("user_id") or "")


def owner_refusal(session: SalesforceSession, version_path: str, owner_id: str) -> str | None:
    """Why records cannot be given to a user or queue, in a sentence; None when they can."""
    kinds = {"005": ("User", "IsActive = true"), "00G": ("Group", "Type = 'Queue'")}
    if owner_id[:3] not in kinds:
        return f"{owner_id} is the id of no user and of no queue."
    name, condition = kinds[owner_id[:3]]
    answer = session.get_object(
        f"{version_path}/query",
        "records",
        params={"q": f"SELECT Id FROM {name} WHERE Id = {quoted(owner_id)} AND {condition}"},  # noqa: S608
        concern=Concern(name),
    )
    return None if answer["records"] else f"{owner_id} is no active user and no queue."


def organization_of(session: SalesforceSession) -> str:
    """The organisation's id as the login says it; one call to userinfo where it does not."""
    match = _IDENTITY_PATH.fullmatch(urlsplit(session.identity_url).path)
    if match:
        return match["organization"]
    answer = session.get_object("/services/oauth2/userinfo", concern=Concern("User"))
    return str(answer.get("organization_id"))


def _only_record(
    session: SalesforceSession, version_path: str, query: str, object_name: str
) -> Mapping[str, Any]:
    answer = session.get_object(
        f"{version_path}/query", "records", params={"q": query}, concern=Concern(object_name)
    )
    records = answer["records"]
    if not records:
        raise PermanentError(
            f"Salesforce does not show our user the record of its own {object_name}; give the "
            "integration user View Setup and Configuration."
        )
    return dict(records[0])
