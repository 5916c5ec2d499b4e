"""The objects sales lives in: Account, Contact, Opportunity, Case and Task.

Belongs here: their fields, lengths, picklists and what is deleted with them.
Does not belong here: their records (people.py); what Salesforce computes (..._formulas.py).
"""

from crm_pipeline.sandbox.salesforce.schema import ObjectDefinition
from crm_pipeline.sandbox.salesforce.standard_objects_fields import (
    INDUSTRIES,
    LEAD_SOURCES,
    RATINGS,
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
    CASE_STATUSES,
    STAGES,
    TASK_STATUSES,
    case_is_closed,
    expected_revenue,
    fiscal_quarter,
    fiscal_year,
    forecast_category,
    stage_is_closed,
    stage_is_won,
    task_is_closed,
)
from crm_pipeline.sandbox.salesforce.standard_objects_marketing import person_fields, reach_fields

ACCOUNT = ObjectDefinition(
    "Account",
    "Account",
    "Accounts",
    "001",
    (
        read_only(reference("MasterRecordId", "Master Record ID", ("Account",), "MasterRecord")),
        text("Name", "Account Name", nillable=False, name_field=True),
        picklist(
            "Type",
            "Account Type",
            (
                "Prospect",
                "Customer - Direct",
                "Customer - Channel",
                "Channel Partner / Reseller",
                "Installation Partner",
                "Technology Partner",
                "Other",
            ),
        ),
        reference("ParentId", "Parent Account ID", ("Account",)),
        *address_fields("Billing", "Billing"),
        *address_fields("Shipping", "Shipping"),
        field("Phone", "Account Phone", "phone", 40),
        field("Fax", "Account Fax", "phone", 40),
        text("AccountNumber", "Account Number", 40),
        field("Website", "Website", "url", 255),
        text("Sic", "SIC Code", 20),
        picklist("Industry", "Industry", INDUSTRIES),
        number("AnnualRevenue", "Annual Revenue", "currency", 18, 0),
        integer("NumberOfEmployees", "Employees"),
        picklist("Ownership", "Ownership", ("Public", "Private", "Subsidiary", "Other")),
        long_text("Description", "Account Description"),
        picklist("Rating", "Account Rating", RATINGS),
        text("Site", "Account Site", 80),
        owner(),
        read_only(field("LastActivityDate", "Last Activity", "date")),
        picklist("AccountSource", "Account Source", LEAD_SOURCES),
        text("External_Key__c", "External Key", 64, unique=True, external_id=True),
    ),
    mergeable=True,
    cascade=(("Contact", "AccountId"), ("Opportunity", "AccountId"), ("Task", "WhatId")),
)

CONTACT = ObjectDefinition(
    "Contact",
    "Contact",
    "Contacts",
    "003",
    (
        read_only(reference("MasterRecordId", "Master Record ID", ("Contact",), "MasterRecord")),
        reference("AccountId", "Account ID", ("Account",)),
        *person_fields(),
        *address_fields("Other", "Other"),
        *address_fields("Mailing", "Mailing"),
        field("Phone", "Business Phone", "phone", 40),
        field("Fax", "Business Fax", "phone", 40),
        field("MobilePhone", "Mobile Phone", "phone", 40),
        field("HomePhone", "Home Phone", "phone", 40),
        reference("ReportsToId", "Reports To ID", ("Contact",)),
        field("Email", "Email", "email", 80),
        text("Title", "Title", 128),
        text("Department", "Department", 80),
        picklist("LeadSource", "Lead Source", LEAD_SOURCES),
        field("Birthdate", "Birthdate", "date"),
        long_text("Description", "Contact Description"),
        owner(),
        *reach_fields(),
        text("External_Key__c", "External Key", 64, unique=True, external_id=True),
    ),
    mergeable=True,
    cascade=(("CampaignMember", "ContactId"), ("Task", "WhoId")),
)

OPPORTUNITY = ObjectDefinition(
    "Opportunity",
    "Opportunity",
    "Opportunities",
    "006",
    (
        reference("AccountId", "Account ID", ("Account",)),
        flag("IsPrivate", "Private"),
        text("Name", "Name", 120, nillable=False, name_field=True),
        long_text("Description", "Description"),
        picklist("StageName", "Stage", tuple(one.name for one in STAGES), nillable=False),
        number("Amount", "Amount", "currency", 18, 2),
        number("Probability", "Probability (%)", "percent", 3, 0, defaulted_on_create=True),
        read_only(
            number(
                "ExpectedRevenue",
                "Expected Amount",
                "currency",
                18,
                2,
                formula=expected_revenue,
                formula_text="Amount * Probability",
            )
        ),
        number("TotalOpportunityQuantity", "Quantity", "double", 18, 2),
        field("CloseDate", "Close Date", "date", nillable=False),
        picklist(
            "Type",
            "Opportunity Type",
            (
                "Existing Customer - Upgrade",
                "Existing Customer - Replacement",
                "Existing Customer - Downgrade",
                "New Customer",
            ),
        ),
        text("NextStep", "Next Step"),
        picklist("LeadSource", "Lead Source", LEAD_SOURCES),
        read_only(
            flag(
                "IsClosed",
                "Closed",
                formula=stage_is_closed,
                formula_text="StageName is a closed stage",
            )
        ),
        read_only(
            flag("IsWon", "Won", formula=stage_is_won, formula_text="StageName is a won stage")
        ),
        read_only(
            picklist(
                "ForecastCategoryName",
                "Forecast Category",
                ("Omitted", "Pipeline", "Best Case", "Commit", "Closed"),
                formula=forecast_category,
                formula_text="the forecast category of StageName",
            )
        ),
        reference("CampaignId", "Campaign ID", ("Campaign",)),
        owner(),
        read_only(field("LastActivityDate", "Last Activity", "date")),
        read_only(
            integer(
                "FiscalQuarter",
                "Fiscal Quarter",
                formula=fiscal_quarter,
                formula_text="the quarter of CloseDate",
            )
        ),
        read_only(
            integer(
                "FiscalYear",
                "Fiscal Year",
                formula=fiscal_year,
                formula_text="the year of CloseDate",
            )
        ),
        reference("ContactId", "Contact ID", ("Contact",), updateable=False),
    ),
    cascade=(("Task", "WhatId"),),
)

CASE = ObjectDefinition(
    "Case",
    "Case",
    "Cases",
    "500",
    (
        read_only(reference("MasterRecordId", "Master Record ID", ("Case",), "MasterRecord")),
        read_only(
            text("CaseNumber", "Case Number", 30, nillable=False, name_field=True, auto_number=True)
        ),
        reference("ContactId", "Contact ID", ("Contact",)),
        reference("AccountId", "Account ID", ("Account",)),
        reference("ParentId", "Parent Case ID", ("Case",)),
        text("SuppliedName", "Name", 80),
        field("SuppliedEmail", "Email Address", "email", 80),
        text("SuppliedCompany", "Company", 80),
        picklist("Type", "Case Type", ("Problem", "Feature Request", "Question")),
        picklist("Status", "Status", CASE_STATUSES, default="New"),
        picklist(
            "Reason",
            "Case Reason",
            ("Installation", "Performance", "Breakdown", "Feedback", "Billing", "Other"),
        ),
        picklist("Origin", "Case Origin", ("Phone", "Email", "Web")),
        text("Subject", "Subject"),
        picklist("Priority", "Priority", ("High", "Medium", "Low"), default="Medium"),
        long_text("Description", "Description"),
        read_only(
            flag("IsClosed", "Closed", formula=case_is_closed, formula_text="Status = 'Closed'")
        ),
        field("ClosedDate", "Closed Date", "datetime", updateable=False),
        flag("IsEscalated", "Escalated"),
        owner(("Group", "User")),
    ),
    mergeable=True,
    cascade=(("Task", "WhatId"),),
)

TASK = ObjectDefinition(
    "Task",
    "Task",
    "Tasks",
    "00T",
    (
        reference("WhoId", "Name ID", ("Contact", "Lead")),
        reference("WhatId", "Related To ID", ("Account", "Campaign", "Case", "Opportunity")),
        picklist(
            "Subject",
            "Subject",
            ("Call", "Email", "Send Letter", "Send Quote", "Other"),
            kind="combobox",
            name_field=True,
        ),
        field("ActivityDate", "Due Date Only", "date"),
        picklist("Status", "Status", TASK_STATUSES, default="Not Started", nillable=False),
        picklist("Priority", "Priority", ("High", "Normal", "Low"), default="Normal"),
        read_only(
            flag(
                "IsHighPriority",
                "High Priority",
                formula=lambda record, _org: record.get("Priority") == "High",
                formula_text="Priority = 'High'",
            )
        ),
        owner(("User", "Group")),
        long_text("Description", "Description"),
        read_only(
            flag("IsClosed", "Closed", formula=task_is_closed, formula_text="Status = 'Completed'")
        ),
        field("CompletedDateTime", "Completed Date/Time", "datetime"),
        picklist("TaskSubtype", "Task Subtype", ("Task", "Email", "Call"), default="Task"),
    ),
)

SALES_OBJECTS = (ACCOUNT, CONTACT, OPPORTUNITY, CASE, TASK)
