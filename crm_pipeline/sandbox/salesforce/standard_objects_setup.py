"""The objects an administrator keeps: User, Group, queues, assignment rules, the org itself.

Belongs here: their fields and what may be done with them; none of them has a recycle bin.
Does not belong here: their records (people.py).
"""

from crm_pipeline.sandbox.salesforce.schema import ObjectDefinition
from crm_pipeline.sandbox.salesforce.standard_objects_fields import (
    address_fields,
    field,
    flag,
    long_text,
    picklist,
    read_only,
    reference,
    text,
)
from crm_pipeline.sandbox.salesforce.standard_objects_formulas import person_name

QUEUE_OBJECTS = ("Lead", "Case", "Task", "Event_Registration__c")
"""The objects whose records a queue may own."""

USER = ObjectDefinition(
    "User",
    "User",
    "Users",
    "005",
    (
        field("Username", "Username", "string", 80, nillable=False, unique=True),
        text("LastName", "Last Name", 80, nillable=False),
        text("FirstName", "First Name", 40),
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
        text("CompanyName", "Company Name", 80),
        text("Division", "Division", 80),
        text("Department", "Department", 80),
        text("Title", "Title", 80),
        *address_fields("", ""),
        field("Email", "Email", "email", 128, nillable=False),
        field("Phone", "Phone", "phone", 40),
        field("MobilePhone", "Mobile", "phone", 40),
        text("Alias", "Alias", 8),
        flag("IsActive", "Active", default=True),
        picklist(
            "TimeZoneSidKey",
            "Time Zone",
            (
                "GMT",
                "Europe/Berlin",
                "Europe/London",
                "America/New_York",
                "America/Los_Angeles",
                "America/Sao_Paulo",
                "Asia/Tokyo",
                "Pacific/Kiritimati",
                "America/St_Johns",
            ),
            default="GMT",
            length=40,
        ),
        picklist(
            "LocaleSidKey",
            "Locale",
            ("en_US", "en_GB", "de_DE", "fr_FR", "es_ES", "pt_BR", "ja_JP"),
            default="en_US",
            length=40,
        ),
        picklist("LanguageLocaleKey", "Language", ("en_US", "de", "fr", "ja"), default="en_US"),
        picklist(
            "UserType",
            "User Type",
            ("Standard", "PowerPartner", "AutomatedProcess"),
            default="Standard",
            length=40,
        ),
        # The org keeps neither profiles nor roles; the Ids are as opaque here as in most loaders.
        reference("ProfileId", "Profile ID", ("Profile",)),
        reference("UserRoleId", "Role ID", ("UserRole",)),
        reference("ManagerId", "Manager ID", ("User",)),
        read_only(field("LastLoginDate", "Last Login", "datetime")),
        text("FederationIdentifier", "SAML Federation ID", 512),
    ),
    deletable=False,
    undeletable=False,
    soft_delete=False,
)

GROUP = ObjectDefinition(
    "Group",
    "Group",
    "Group",
    "00G",
    (
        text("Name", "Name", 40, nillable=False, name_field=True),
        text("DeveloperName", "Developer Name", 80),
        picklist(
            "Type",
            "Type",
            ("Regular", "Role", "RoleAndSubordinates", "Organization", "Queue"),
            default="Regular",
            length=40,
            updateable=False,
        ),
        field("Email", "Email", "email", 255),
        flag("DoesSendEmailToMembers", "Send Email to Members"),
        flag("DoesIncludeBosses", "Include Bosses", default=True),
    ),
    undeletable=False,
    soft_delete=False,
    cascade=(("QueueSobject", "QueueId"), ("GroupMember", "GroupId")),
)

QUEUE_SOBJECT = ObjectDefinition(
    "QueueSobject",
    "Queue Sobject",
    "Queue Sobject",
    "03g",
    (
        reference("QueueId", "Group ID", ("Group",), nillable=False, updateable=False),
        picklist("SobjectType", "Sobject Type", QUEUE_OBJECTS, nillable=False, length=40),
    ),
    undeletable=False,
    soft_delete=False,
)

GROUP_MEMBER = ObjectDefinition(
    "GroupMember",
    "Group Member",
    "Group Member",
    "011",
    (
        reference("GroupId", "Group ID", ("Group",), nillable=False, updateable=False),
        reference("UserOrGroupId", "User/Group ID", ("User", "Group"), nillable=False),
    ),
    updateable=False,
    undeletable=False,
    soft_delete=False,
)

ASSIGNMENT_RULE = ObjectDefinition(
    "AssignmentRule",
    "Assignment Rule",
    "Assignment Rule",
    "01Q",
    (
        text("Name", "Name", 120, name_field=True),
        picklist("SobjectType", "SObject Type", ("Lead", "Case"), length=40),
        flag("Active", "Active"),
    ),
    createable=False,
    updateable=False,
    deletable=False,
    undeletable=False,
    replicateable=False,
    searchable=False,
    soft_delete=False,
)

RECORD_TYPE = ObjectDefinition(
    "RecordType",
    "Record Type",
    "Record Types",
    "012",
    (
        text("Name", "Name", 80, nillable=False, name_field=True),
        text("DeveloperName", "Developer Name", 80, nillable=False),
        picklist(
            "SobjectType",
            "SObject Type",
            ("Lead", "Account", "Contact", "Opportunity", "Case"),
            nillable=False,
            length=40,
        ),
        long_text("Description", "Description", 255),
        flag("IsActive", "Active", default=True),
    ),
    deletable=False,
    undeletable=False,
    soft_delete=False,
)

ORGANIZATION = ObjectDefinition(
    "Organization",
    "Organization",
    "Organizations",
    "00D",
    (
        text("Name", "Name", 80, nillable=False, name_field=True),
        picklist(
            "OrganizationType",
            "Edition",
            ("Developer Edition", "Enterprise Edition", "Unlimited Edition"),
            length=40,
        ),
        flag("IsSandbox", "Is Sandbox"),
        text("InstanceName", "Instance Name", 5),
        text("NamespacePrefix", "Namespace Prefix", 15),
        text("DefaultLocaleSidKey", "Locale", 40),
        text("TimeZoneSidKey", "Time Zone", 40),
        text("LanguageLocaleKey", "Language", 40),
        *address_fields("", ""),
    ),
    createable=False,
    deletable=False,
    undeletable=False,
    searchable=False,
    soft_delete=False,
)

SETUP_OBJECTS = (
    USER,
    GROUP,
    QUEUE_SOBJECT,
    GROUP_MEMBER,
    ASSIGNMENT_RULE,
    RECORD_TYPE,
    ORGANIZATION,
)
