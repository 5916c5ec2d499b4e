"""Every object a new sandbox org knows, with real Salesforce names, types and lengths.

Belongs here: the list of them, in an order in which parents come before their children.
Does not belong here: the fields of each (standard_objects_<family>.py), any record (people.py).
"""

from crm_pipeline.sandbox.salesforce.schema import ObjectDefinition, with_system_fields
from crm_pipeline.sandbox.salesforce.standard_objects_marketing import (
    CAMPAIGN,
    CAMPAIGN_MEMBER,
    EVENT_REGISTRATION,
    LEAD,
)
from crm_pipeline.sandbox.salesforce.standard_objects_permissions import PERMISSION_OBJECTS
from crm_pipeline.sandbox.salesforce.standard_objects_sales import (
    ACCOUNT,
    CASE,
    CONTACT,
    OPPORTUNITY,
    TASK,
)
from crm_pipeline.sandbox.salesforce.standard_objects_setup import SETUP_OBJECTS

STANDARD_OBJECTS: tuple[ObjectDefinition, ...] = tuple(
    with_system_fields(one)
    for one in (
        *SETUP_OBJECTS,
        *PERMISSION_OBJECTS,
        ACCOUNT,
        CONTACT,
        LEAD,
        CAMPAIGN,
        OPPORTUNITY,
        CASE,
        TASK,
        CAMPAIGN_MEMBER,
        EVENT_REGISTRATION,
    )
)
"""All objects, system fields included; parents first."""


def standard_object(name: str) -> ObjectDefinition:
    """The standard object of that name.

    Raises:
        KeyError: No such object.
    """
    return _BY_NAME[name]


_BY_NAME = {one.name: one for one in STANDARD_OBJECTS}
