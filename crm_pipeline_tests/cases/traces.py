"""An object that leaves no trace: without a recycle bin, and perhaps without a log of deletions.

Belongs here: making such an object. Does not belong here: what is expected of its syncs.
"""

from dataclasses import replace
from typing import Any

from crm_pipeline_tests.cases.things import an_object, field
from crm_pipeline_tests.house import House
from crm_pipeline_tests.integration.sync.test_rare_interleavings import pass_time

TRACES = {"Trace__c": {"fields": ["Name", "Kind__c"]}}


def synced(house: House, objects: dict[str, Any]) -> House:
    """A house that was fully synced an hour ago."""
    house.configure(objects=objects)
    house.full()
    pass_time(house)
    return house


def with_traces(house: House, *, has_log: bool = True, **facts: Any) -> House:
    """A house of ten records of an object without a bin, fully synced an hour ago."""
    made = an_object("Trace__c", field("Kind__c", "string", length=80))
    house.org.add_object(replace(made, soft_delete=False, replicateable=has_log))
    house.org.create_many("Trace__c", ({"Name": f"n{n}", "Kind__c": "a"} for n in range(10)))
    return synced(house, {"Trace__c": {**TRACES["Trace__c"], **facts}})
