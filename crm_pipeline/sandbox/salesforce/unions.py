"""Two records becoming one: merging duplicates, converting a lead into a contact.

Belongs here: what Salesforce does to the records involved and to those that point at them.
Does not belong here: deleting as such (bins.py), who asks for it (control.py).
"""

from typing import TYPE_CHECKING, Any

from crm_pipeline.sandbox.salesforce import bins
from crm_pipeline.sandbox.salesforce.failures import OrgError, not_found
from crm_pipeline.sandbox.salesforce.storage import quoted

if TYPE_CHECKING:
    from crm_pipeline.sandbox.salesforce.org import SandboxOrg

_MOST_LOSERS = 2
_CARRIED = ("FirstName", "LastName", "Salutation", "Title", "Email", "Phone", "MobilePhone")


def merge(org: "SandboxOrg", object_name: str, winner: str, losers: list[str]) -> None:
    """Fold up to two records into a third.

    Whatever pointed at a loser points at the winner, for good: undeleting a loser brings the
    record back alone. The loser goes to the bin with MasterRecordId naming the winner; the
    winner's stamps move.
    """
    definition = org.catalogue.object(object_name)
    if not definition.mergeable or not 1 <= len(losers) <= _MOST_LOSERS or winner in losers:
        raise OrgError("INVALID_OPERATION", f"{definition.name} records cannot be merged so")
    with org.transaction() as connection:
        stamp = org.commits.stamp()
        org.update(object_name, winner, {})
        for loser in losers:
            org.update(object_name, loser, {"MasterRecordId": winner})
            for child in org.catalogue.all():
                for field in child.fields:
                    if object_name not in field.reference_to or field.name == "MasterRecordId":
                        continue
                    moved = connection.execute(
                        f"UPDATE {quoted(child.name)} SET {quoted(field.name)} = ?, "
                        f"SystemModstamp = ? WHERE {quoted(field.name)} = ? RETURNING Id",
                        (winner, stamp, loser),
                    )
                    for (identifier,) in moved.fetchall():
                        org.transactions.check_free(identifier)
            bins.delete(org, connection, definition, loser)


def convert_lead(
    org: "SandboxOrg",
    lead_id: str,
    *,
    account_id: str | None = None,
    opportunity: bool = True,
) -> dict[str, Any]:
    """Turn a lead into a contact of an account, and perhaps an opportunity.

    The lead stays readable but takes no further writes; its Converted fields say what it
    became. Returns the three Ids.
    """
    lead = org.get("Lead", lead_id)
    if lead is None:
        raise not_found()
    if lead["IsConverted"] or lead["IsDeleted"]:
        raise OrgError("CANNOT_UPDATE_CONVERTED_LEAD", "cannot reference converted lead")
    owner = {"OwnerId": lead["OwnerId"]} if str(lead["OwnerId"]).startswith("005") else {}
    with org.transaction():
        account = account_id or org.create("Account", {"Name": lead["Company"], **owner})
        known = {field.name for field in org.catalogue.object("Contact").fields if field.stored}
        carried = {name: lead[name] for name in _CARRIED if name in known and lead.get(name)}
        contact = org.create("Contact", {**carried, "AccountId": account, **owner})
        sale = None
        if opportunity:
            facts = {
                "Name": f"{lead['Company']}-",
                "AccountId": account,
                "StageName": "Prospecting",
                "CloseDate": org.clock.now().date(),
            }
            sale = org.create("Opportunity", {**facts, **owner})
        became = {
            "ConvertedAccountId": account,
            "ConvertedContactId": contact,
            "ConvertedOpportunityId": sale,
        }
        end = {"IsConverted": True, "ConvertedDate": org.clock.now().date()}
        org.update("Lead", lead_id, {**became, **end, "Status": "Closed - Converted"})
    return {"account_id": account, "contact_id": contact, "opportunity_id": sale}
