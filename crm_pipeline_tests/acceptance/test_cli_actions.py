"""`crm-pipeline actions` from asking to the record in the CRM."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from crm_pipeline.cli import main
from crm_pipeline_tests.cases.acting import acting_house, records
from crm_pipeline_tests.house import House

LEAD = ("--object", "Lead", "--field", "LastName=Doe", "--field", "Company=Acme & Co=x")


@pytest.fixture
def acting(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    with acting_house(database_url, tmp_path, monkeypatch) as house:
        yield house


def test_what_is_asked_for_on_the_shell_is_in_the_crm_and_in_the_list(
    acting: House, capsys: pytest.CaptureFixture[str]
) -> None:
    email = ("--field", "Email=new@example.com", "--option", "only_new=Company,Title")
    assert main.run(["actions", "request", *LEAD, *email, "--id", "mine"]) == 0
    assert capsys.readouterr().out.strip() == "mine"
    assert main.run(["actions", "request", *LEAD, "--id", "mine"]) == 0
    assert "asked for already" in capsys.readouterr().err
    assert main.run(["actions", "request", "--object", "Task", "--field", "Subject=Call",
                     "--email", "new@example.com"]) == 0  # fmt: skip
    capsys.readouterr()
    assert main.run(["actions", "resolve", "--deliver"]) == 0
    told = capsys.readouterr().out
    assert "1 to be sent, 0 unneeded, 0 held, 0 refused, 1 waiting for another" in told
    assert "1 applied" in told
    [lead] = records(acting, "SELECT Id, Company FROM Lead WHERE Email = 'new@example.com'")
    assert lead["Company"] == "Acme & Co=x"
    assert [row["WhoId"] for row in records(acting, "SELECT WhoId FROM Task")] == [lead["Id"]]
    assert main.run(["actions", "list", "--state", "applied", "--json"]) == 0
    listed = {row["action_id"]: row for row in json.loads(capsys.readouterr().out)}
    assert (len(listed), listed["mine"]["record_id"]) == (2, lead["Id"])
    assert main.run(["actions", "list"]) == 0
    assert "mine" in capsys.readouterr().out


def test_what_was_refused_is_listed_mended_and_decided_again_or_dismissed(
    acting: House, capsys: pytest.CaptureFixture[str]
) -> None:
    late = ("actions", "request", "--object", "Lead", "--kind", "update", "--field", "Title=Boss")
    for email in ("late@example.com", "never@example.com"):
        assert main.run([*late, "--email", email, "--id", email]) == 0
    assert main.run(["actions", "resolve"]) == 0
    capsys.readouterr()
    assert main.run(["actions", "list", "--state", "refused"]) == 0
    assert "No lead or contact has the address." in capsys.readouterr().out
    assert main.run(["actions", "requeue"]) == 2
    assert main.run(["actions", "dismiss", "never@example.com"]) == 0
    acting.org.create("Lead", {"LastName": "L", "Company": "C", "Email": "late@example.com"})
    assert main.run(["actions", "requeue", "late@example.com"]) == 0
    assert main.run(["actions", "resolve", "--deliver", "--json"]) == 0
    capsys.readouterr()
    assert main.run(["actions", "list", "--json"]) == 0
    states = {row["action_id"]: row["state"] for row in json.loads(capsys.readouterr().out)}
    assert states == {"late@example.com": "applied", "never@example.com": "dismissed"}


def test_h28_what_delivery_handed_back_is_decided_and_delivered_by_the_same_command(
    acting: House,
) -> None:
    new = ("--field", "Email=new@example.com")
    assert main.run(["actions", "request", *LEAD, *new]) == 0
    assert main.run(["actions", "resolve"]) == 0
    acting.execute("UPDATE crm_sync.outbox SET enqueued_at = enqueued_at - interval '1 hour'")
    by_hand = {"LastName": "By hand", "Company": "Co", "Email": "new@example.com"}
    acting.org.create("Lead", by_hand)
    assert main.run(["actions", "request", *LEAD]) == 0
    assert main.run(["actions", "resolve", "--deliver"]) == 0
    found = records(acting, "SELECT LastName FROM Lead WHERE Email = 'new@example.com'")
    assert found == [{"LastName": "Doe"}]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--object", "a lead"), "`a lead` is no object name; write one such as Lead."),
        ((*LEAD, "--field", "LastName"), "`LastName` is no field; write Name=value."),
        ((*LEAD, "--field", "LastName=x"), "The field `LastName` is given twice."),
        ((*LEAD, "--option", "if_found=x"), "is one of `update` and `leave`, not `x`."),
        ((*LEAD, "--option", "asignment=x"), "did you mean `assignment`?"),
        ((*LEAD, "--external-id", "X"), "`X` is no external id; write Name=value."),
        ((*LEAD, "--id", "a/b"), "An action's id has 1 to 200 characters and no slash."),
        (("--object", "Lead", "--kind", "delete"), "'delete' is not one of"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_asked_for(
    arguments: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["actions", "request", *arguments]) == 2
    assert sentence in capsys.readouterr().err


def test_the_capabilities_tell_what_can_be_done_here_and_what_lacks(
    acting: House, capsys: pytest.CaptureFixture[str]
) -> None:
    acting.org.retype_field("Case", "Crm_Pipeline_Key__c", unique=False)
    assert main.run(["actions", "capabilities", "--json"]) == 0
    found = {row["object_name"]: row for row in json.loads(capsys.readouterr().out)}
    lead, case = found["Lead"], found["Case"]
    assert (lead["can_create"], lead["can_update"], lead["lacks"]) == (True, True, [])
    assert {"External_Key__c", "Crm_Pipeline_Key__c"} <= set(lead["upsert_keys"])
    assert {"LastName", "Company"} <= set(lead["required"])
    assert lead["assignment"][:2] == ["none", "default"]
    assert (case["can_create"], case["can_update"]) == (False, True)
    assert "Create the text field Crm_Pipeline_Key__c on Case" in case["lacks"][0]
    assert main.run(["actions", "capabilities"]) == 0
    assert "External_Key__c" in capsys.readouterr().out
