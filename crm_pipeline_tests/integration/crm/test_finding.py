"""Records found by the value of a field: few calls, all of them, and no value becomes a query."""

import pytest

from crm_pipeline.crm.salesforce.connector import SalesforceConnector
from crm_pipeline.errors import FieldUnavailable, PermanentError
from crm_pipeline.model.objects import CrmObject
from crm_pipeline.sandbox.salesforce.org import SandboxOrg


def test_two_hundred_values_cost_a_call_and_case_does_not_matter(
    connector: SalesforceConnector, lead: CrmObject
) -> None:
    addresses = [f"C{number}@Crowd.Example" for number in range(100, 300)]
    calls = connector.usage.calls
    found = connector.find_by(lead, "email", addresses, ["LastName"])
    assert connector.usage.calls - calls == 1
    assert {str(row["Email"]).lower() for row in found} == {one.lower() for one in addresses}
    assert set(found[0]) == {"Id", "Email", "LastName"}


def test_values_that_are_too_long_for_one_address_are_asked_for_in_parts(
    connector: SalesforceConnector, lead: CrmObject
) -> None:
    strange = [f"{'€' * 60}{number}@example.com" for number in range(200)]
    calls = connector.usage.calls
    found = connector.find_by(lead, "Email", [*strange, "c100@crowd.example"])
    assert [row["Email"] for row in found] == ["c100@crowd.example"]
    assert 2 <= connector.usage.calls - calls <= 32


def test_all_living_records_are_found_and_nothing_costs_nothing(
    crowd: SandboxOrg, connector: SalesforceConnector, lead: CrmObject
) -> None:
    calls = connector.usage.calls
    assert connector.find_by(lead, "Email", []) == ()
    assert connector.usage.calls == calls
    found = connector.find_by(lead, "Company", ["crowd"])
    living = crowd.query("SELECT Id FROM Lead WHERE Company = 'Crowd'")
    assert len(living) > 2_000, "more than a page, and three are in the bin"
    assert {row["Id"] for row in found} == {row["Id"] for row in living}


@pytest.mark.parametrize(
    "value",
    ["x' OR Id != '", "\\", "\\'", '"', "x%", "x_", "') LIMIT 1 --", "\u2019 OR 1=1", "a\nb"],
)
def test_a_value_finds_itself_or_nothing(
    connector: SalesforceConnector, lead: CrmObject, value: str
) -> None:
    assert connector.find_by(lead, "Email", [value]) == ()


def test_what_cannot_be_asked_for_is_refused(
    connector: SalesforceConnector, lead: CrmObject
) -> None:
    with pytest.raises(FieldUnavailable):
        connector.find_by(lead, "Emial", ["x"])
    with pytest.raises(PermanentError, match="cannot filter Lead by Description"):
        connector.find_by(lead, "Description", ["x"])
    with pytest.raises(PermanentError, match="control characters"):
        connector.find_by(lead, "Email", ["a\x00b"])
