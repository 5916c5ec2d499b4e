"""The objects marketing lives in: Lead, Campaign, CampaignMember and the event registration.

Belongs here: their fields, lengths, picklists and what is deleted with them.
Does not belong here: their records (people.py); what Salesforce computes (..._formulas.py).
"""

from crm_pipeline.sandbox.salesforce.schema import FieldDefinition, ObjectDefinition
from crm_pipeline.sandbox.salesforce.standard_objects_fields import (
    INDUSTRIES,
    LEAD_SOURCES,
    RATINGS,
    SALUTATIONS,
    address_fields,
    field,
    flag,
    integer,
    long_text,
    number,
    owner,
    picklist,
    read_only,
    reference,
    text,
)
from crm_pipeline.sandbox.salesforce.standard_objects_formulas import (
    member_has_responded,
    person_name,
)

LEAD_STATUSES = (
    "Open - Not Contacted",
    "Working - Contacted",
    "Closed - Converted",
    "Closed - Not Converted",
)
SEGMENTS = ("Newsletter", "Webinar", "Trial", "Enterprise", "Partner", "Churn risk")
REGIONS = ("EMEA", "AMER", "APAC", "LATAM")


def person_fields() -> tuple[FieldDefinition, ...]:
    """Who it is, as Lead and Contact both say it."""
    return (
        text("LastName", "Last Name", 80, nillable=False),
        text("FirstName", "First Name", 40),
        picklist("Salutation", "Salutation", SALUTATIONS, length=40),
        read_only(
            text(
                "Name",
                "Full Name",
                121,
                nillable=False,
                name_field=True,
                formula=person_name,
                formula_text="FirstName & ' ' & LastName",
            )
        ),
    )


def reach_fields() -> tuple[FieldDefinition, ...]:
    """What tells whether a person may and can be reached."""
    return (
        flag("HasOptedOutOfEmail", "Email Opt Out"),
        flag("HasOptedOutOfFax", "Fax Opt Out"),
        flag("DoNotCall", "Do Not Call"),
        read_only(field("LastActivityDate", "Last Activity", "date")),
        text("EmailBouncedReason", "Email Bounced Reason"),
        field("EmailBouncedDate", "Email Bounced Date", "datetime"),
    )


LEAD = ObjectDefinition(
    "Lead",
    "Lead",
    "Leads",
    "00Q",
    (
        read_only(reference("MasterRecordId", "Master Record ID", ("Lead",), "MasterRecord")),
        reference("RecordTypeId", "Record Type ID", ("RecordType",)),
        *person_fields(),
        text("Title", "Title", 128),
        text("Company", "Company", nillable=False),
        *address_fields("", ""),
        field("Phone", "Phone", "phone", 40),
        field("MobilePhone", "Mobile Phone", "phone", 40),
        field("Fax", "Fax", "phone", 40),
        field("Email", "Email", "email", 80),
        field("Website", "Website", "url", 255),
        long_text("Description", "Description"),
        picklist("LeadSource", "Lead Source", LEAD_SOURCES),
        picklist("Status", "Status", LEAD_STATUSES, default=LEAD_STATUSES[0], nillable=False),
        picklist("Industry", "Industry", INDUSTRIES),
        picklist("Rating", "Rating", RATINGS),
        number("AnnualRevenue", "Annual Revenue", "currency", 18, 0),
        integer("NumberOfEmployees", "Employees"),
        owner(("Group", "User")),
        *reach_fields(),
        read_only(flag("IsConverted", "Converted")),
        read_only(field("ConvertedDate", "Converted Date", "date")),
        read_only(reference("ConvertedAccountId", "Converted Account ID", ("Account",))),
        read_only(reference("ConvertedContactId", "Converted Contact ID", ("Contact",))),
        read_only(
            reference("ConvertedOpportunityId", "Converted Opportunity ID", ("Opportunity",))
        ),
        flag("IsUnreadByOwner", "Unread By Owner", default=True),
        number("Lead_Score__c", "Lead Score", "double", 18, 2),
        picklist(
            "Marketing_Segments__c",
            "Marketing Segments",
            SEGMENTS,
            kind="multipicklist",
            length=4099,
            sortable=False,
        ),
        field("Preferred_Call_Time__c", "Preferred Call Time", "time"),
        flag("Is_Target__c", "Is Target"),
        picklist("Region__c", "Region", REGIONS, restricted_picklist=True),
        text("External_Key__c", "External Key", 64, unique=True, external_id=True),
    ),
    mergeable=True,
    cascade=(("CampaignMember", "LeadId"), ("Task", "WhoId")),
)

CAMPAIGN = ObjectDefinition(
    "Campaign",
    "Campaign",
    "Campaigns",
    "701",
    (
        text("Name", "Name", 80, nillable=False, name_field=True),
        reference("ParentId", "Parent Campaign ID", ("Campaign",)),
        picklist(
            "Type",
            "Type",
            (
                "Conference",
                "Webinar",
                "Trade Show",
                "Public Relations",
                "Partners",
                "Referral Program",
                "Advertisement",
                "Banner Ads",
                "Direct Mail",
                "Email",
                "Telemarketing",
                "Other",
            ),
        ),
        picklist(
            "Status",
            "Status",
            ("Planned", "In Progress", "Completed", "Aborted"),
            default="Planned",
        ),
        field("StartDate", "Start Date", "date"),
        field("EndDate", "End Date", "date"),
        number("ExpectedRevenue", "Expected Revenue", "currency", 18, 0),
        number("BudgetedCost", "Budgeted Cost", "currency", 18, 0),
        number("ActualCost", "Actual Cost", "currency", 18, 0),
        number("ExpectedResponse", "Expected Response (%)", "percent", 10, 2),
        number("NumberSent", "Num Sent", "double", 18, 0),
        flag("IsActive", "Active"),
        long_text("Description", "Description"),
        owner(),
        read_only(field("LastActivityDate", "Last Activity", "date")),
    ),
    cascade=(("CampaignMember", "CampaignId"),),
)

CAMPAIGN_MEMBER = ObjectDefinition(
    "CampaignMember",
    "Campaign Member",
    "Campaign Members",
    "00v",
    (
        reference("CampaignId", "Campaign ID", ("Campaign",), nillable=False, updateable=False),
        reference("LeadId", "Lead ID", ("Lead",), updateable=False),
        reference("ContactId", "Contact ID", ("Contact",), updateable=False),
        picklist("Status", "Status", ("Sent", "Responded"), default="Sent", length=40),
        read_only(
            flag(
                "HasResponded",
                "Responded",
                formula=member_has_responded,
                formula_text="Status = 'Responded'",
            )
        ),
        read_only(field("FirstRespondedDate", "First Responded Date", "date")),
    ),
    # getDeleted and queryAll know deleted members, but nothing brings one back.
    undeletable=False,
)

EVENT_REGISTRATION = ObjectDefinition(
    "Event_Registration__c",
    "Event Registration",
    "Event Registrations",
    "a00",
    (
        read_only(
            text("Name", "Registration", 80, nillable=False, name_field=True, auto_number=True)
        ),
        reference("Contact__c", "Contact", ("Contact",), "Contact__r"),
        reference("Lead__c", "Lead", ("Lead",), "Lead__r"),
        reference("Campaign__c", "Campaign", ("Campaign",), "Campaign__r"),
        field("Event_Date__c", "Event Date", "date"),
        picklist(
            "Attendance__c",
            "Attendance",
            ("Registered", "Confirmed", "Attended", "No Show", "Cancelled"),
            default="Registered",
        ),
        number("Ticket_Price__c", "Ticket Price", "currency", 18, 2),
        long_text("Remarks__c", "Remarks", 4_000),
        owner(("Group", "User")),
    ),
    custom=True,
)

MARKETING_OBJECTS = (LEAD, CAMPAIGN, CAMPAIGN_MEMBER, EVENT_REGISTRATION)
