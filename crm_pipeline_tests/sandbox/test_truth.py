"""The ledger of truth: what an object held at any instant of commit time."""

from pathlib import Path
from typing import Any

import pytest

from crm_pipeline.sandbox.salesforce.clock import OrgClock
from crm_pipeline.sandbox.salesforce.failures import OrgError
from crm_pipeline.sandbox.salesforce.org import SandboxOrg
from crm_pipeline.sandbox.salesforce.schema import FieldDefinition
from crm_pipeline_tests.sandbox.client import Client
from crm_pipeline_tests.sandbox.conftest import NOON

LEAD = {"LastName": "Doe", "Company": "Acme"}


def cities(org: SandboxOrg, minute: int) -> dict[str, Any]:
    found = org.truth_at("Lead", f"2026-03-02T12:{minute:02}:59Z")
    return {identifier: row["City"] for identifier, row in found.items()}


def test_the_truth_of_any_instant_can_be_asked_for(noon_org: SandboxOrg) -> None:
    """One event a minute: made, edited, edited twice at once, binned, brought back, removed."""
    one, other = noon_org.create_many("Lead", [{**LEAD, "City": "A"}, {**LEAD, "City": "Z"}])
    noon_org.clock.advance(seconds=60)
    noon_org.update("Lead", one, {"City": "B"})
    noon_org.clock.advance(seconds=60)
    with noon_org.transaction():
        noon_org.update("Lead", one, {"City": "C"})
        noon_org.update("Lead", one, {"City": "D"})
    noon_org.clock.advance(seconds=60)
    noon_org.delete("Lead", one)
    noon_org.clock.advance(seconds=60)
    noon_org.undelete("Lead", one)
    noon_org.clock.advance(seconds=60)
    noon_org.hard_delete("Lead", one)
    assert [cities(noon_org, minute) for minute in range(6)] == [
        {one: "A", other: "Z"},
        {one: "B", other: "Z"},
        {one: "D", other: "Z"},
        {other: "Z"},
        {one: "D", other: "Z"},
        {other: "Z"},
    ]
    assert noon_org.truth_at("Lead", "2026-03-02T11:59:59Z") == {}
    at_three = noon_org.truth_at("Lead", "2026-03-02T12:03:00Z", include_deleted=True)
    assert at_three[one]["IsDeleted"] is True
    assert noon_org.truth_at("Lead").keys() == {other}


def test_the_versions_of_a_record_name_begin_and_commit(noon_org: SandboxOrg) -> None:
    lead = noon_org.create("Lead", LEAD)
    late = noon_org.open_transaction()
    late.update("Lead", lead, {"City": "Bonn"})
    noon_org.clock.advance(seconds=570)
    late.commit()
    noon_org.hard_delete("Lead", lead)
    born, changed, gone = noon_org.versions("Lead", lead)
    assert (born["begun_at"], born["committed_at"]) == ("2026-03-02T12:00:00.000Z",) * 2
    assert changed["begun_at"] == "2026-03-02T12:00:00.000Z"
    assert changed["committed_at"] == "2026-03-02T12:09:30.000Z"
    assert changed["record"]["SystemModstamp"] == "2026-03-02T12:00:00.000Z"
    assert gone["record"] is None
    assert cities(noon_org, 5) == {lead: None}
    assert noon_org.truth_at("Lead", commit=changed["commit"])[lead]["City"] == "Bonn"


def test_the_truth_goes_by_commits_even_if_the_clock_steps_back(noon_org: SandboxOrg) -> None:
    lead = noon_org.create("Lead", {**LEAD, "City": "A"})
    noon_org.clock.advance(seconds=-3600)
    noon_org.update("Lead", lead, {"City": "B"})
    assert [one["record"]["City"] for one in noon_org.versions("Lead", lead)] == ["A", "B"]
    assert cities(noon_org, 0) == {lead: "B"}


def test_what_was_rolled_back_never_was(noon_org: SandboxOrg) -> None:
    lead = noon_org.create("Lead", LEAD)
    late = noon_org.open_transaction()
    late.update("Lead", lead, {"City": "Bonn"})
    late.update("Lead", lead, {"LastName": None})
    with pytest.raises(OrgError, match="REQUIRED_FIELD_MISSING"):
        late.commit()
    assert len(noon_org.versions("Lead", lead)) == 1


def test_the_truth_is_told_over_http(client: Client, noon_org: SandboxOrg) -> None:
    lead = noon_org.create("Lead", LEAD)
    noon_org.clock.advance(seconds=60)
    noon_org.update("Lead", lead, {"City": "Bonn"})
    before = client.sandbox("truth", object="Lead", at="2026-03-02T12:00:30Z")["records"]
    assert [(one["Id"], one["City"]) for one in before] == [(lead, None)]
    found = client.sandbox("truth", object="Lead", id=lead)["versions"]
    assert [one["record"]["City"] for one in found] == [None, "Bonn"]


def test_the_truth_survives_new_fields_and_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "org.sqlite"
    org = SandboxOrg(path, clock=OrgClock(NOON))
    lead = org.create("Lead", {**LEAD, "City": "A"})
    org.clock.advance(seconds=60)
    org.add_field("Lead", FieldDefinition("Late__c", "Late", "string", length=5))
    org.update("Lead", lead, {"City": "B", "Late__c": "x"})
    org.close()
    org = SandboxOrg(path, clock=OrgClock(NOON))
    org.clock.advance(seconds=120)
    org.update("Lead", lead, {"Late__c": "y"})
    found = [org.truth_at("Lead", f"2026-03-02T12:0{minute}:00Z")[lead] for minute in range(3)]
    assert [(one["City"], one["Late__c"]) for one in found] == [("A", None), ("B", "x"), ("B", "y")]
    org.close()


def test_the_past_can_be_forgotten_or_not_kept_at_all(noon_org: SandboxOrg) -> None:
    lead = noon_org.create("Lead", LEAD)
    for city in ("A", "B"):
        noon_org.clock.advance(seconds=60)
        noon_org.update("Lead", lead, {"City": city})
    noon_org.forget_past("2026-03-02T12:01:00Z")
    assert cities(noon_org, 1) == {lead: "A"}
    assert len(noon_org.versions("Lead", lead)) == 2
    forgetful = SandboxOrg(clock=OrgClock(NOON), keeps_past=False)
    forgetful.update("Lead", forgetful.create("Lead", LEAD), {"City": "Bonn"})
    with pytest.raises(OrgError, match="no past versions"):
        forgetful.truth_at("Lead")
    forgetful.close()
