"""What the cases need: a house of leads whose last sync lies an hour back.

Belongs here: fixtures that several files of cases share. Does not belong here: processes that die
on purpose (victims.py), the house itself (crm_pipeline_tests/house.py).
"""

import pytest

from crm_pipeline_tests.house import House
from crm_pipeline_tests.integration.sync.conftest import house
from crm_pipeline_tests.integration.sync.test_rare_interleavings import pass_time

__all__ = ["house", "leads", "paged"]

FIELDS = ["LastName", "Company", "Email"]


def only_leads(house: House, transport: str = "auto") -> None:
    """Let the settings name leads alone."""
    house.configure(objects={"Lead": {"transport": transport, "fields": FIELDS}})


@pytest.fixture
def leads(house: House) -> House:
    """Some 270 leads on a clock that stands still, fully synced an hour ago."""
    only_leads(house)
    house.org.clock.advance(0)
    house.full()
    pass_time(house)
    return house


@pytest.fixture
def paged(leads: House) -> House:
    """The same by Bulk, in pages of 40."""
    only_leads(leads, "bulk")
    leads.served.server.settings.bulk_page_records = 40
    return leads
