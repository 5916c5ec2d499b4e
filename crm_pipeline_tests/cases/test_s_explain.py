"""The record passport: one timeline of a person, every entry with its evidence."""

import json

import pytest

from crm_pipeline.cli.main import run
from crm_pipeline.model.writeback import Lane
from crm_pipeline_tests.cases.writing import drain, ids, update, wish, writing
from crm_pipeline_tests.house import House

__all__ = ["writing"]

UNSUBSCRIBED = (
    "INSERT INTO events.marketing_events (event_id, occurred_at, kind, email, campaign)"
    " VALUES ('e-1', '2026-03-01 09:00Z', 'email_unsubscribed', 'l0@example.com', 'spring')"
)


def test_a_passport_tells_what_was_read_said_and_written_and_what_proves_it(
    writing: House, capsys: pytest.CaptureFixture[str]
) -> None:
    lead = ids(writing)[0]
    writing.execute(UNSUBSCRIBED)
    wish(writing, update(lead, Lane.CONSENT, HasOptedOutOfEmail=True))
    wish(writing, update(lead, Nowhere__c="x"))
    writing.execute(
        "INSERT INTO crm_sync.action (action_id, kind, object_name, match_email, requested_by)"
        " VALUES ('a-1', 'update', 'Lead', 'l0@example.com', 'a form')"
    )
    drain(writing)
    writing.org.update("Lead", lead, {"Company": "Elsewhere"})
    writing.sync()
    assert run(["explain", " L0@example.com", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["now"]["records"] == [{"object": "Lead", "id": lead, "is_living": True}]
    said = [(entry["side"], entry["says"], entry["evidence"]) for entry in told["timeline"]]
    assert ("event", "email unsubscribed, campaign spring", "event e-1") in said
    [consent] = [one for one in said if one[0] == "consent"]
    assert consent[1].startswith("unsubscribed, said by marketing, noted 20")
    assert consent[2] == "e-1"
    assert ("action", "a form asks for update of a Lead: requested", "action a-1") in said
    writes = [one[1] for one in said if one[0] == "write-back"]
    assert writes[:2] == ["a test wants HasOptedOutOfEmail = true", "a test wants Nowhere__c = x"]
    assert "HasOptedOutOfEmail applied" in writes
    assert any(words.startswith("Nowhere__c parked: ") for words in writes)
    versions = [one for one in said if one[0] == "crm"]
    assert versions[0] == ("crm", "first kept as it was then", f"Lead {lead}")
    assert "company = Elsewhere" in versions[-1][1]
    assert "hasoptedoutofemail = true" in versions[-1][1]
    assert said[0][0] == "event"


def test_a_passport_is_of_one_person_alone(
    writing: House, capsys: pytest.CaptureFixture[str]
) -> None:
    writing.execute(UNSUBSCRIBED)
    assert run(["explain", "l1@example.com"]) == 0
    shown = capsys.readouterr().out
    assert ids(writing)[1] in shown
    assert "e-1" not in shown
    assert run(["explain", "nobody@example.com"]) == 0
    assert capsys.readouterr().out == "Nothing here tells of this person.\n"


def test_a_passport_needs_an_address(writing: House, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", ids(writing)[0]]) == 2
    assert "Name an e-mail address" in capsys.readouterr().err
