"""H18: the fields that write-backs need are made, opened to our user, or explained."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from crm_pipeline.cli.main import run
from crm_pipeline.errors import ConfigurationError, SyncsDisabled, UsageError
from crm_pipeline.model.wanted_fields import FieldEnsured, FieldState
from crm_pipeline.sandbox.salesforce.faults import Fault
from crm_pipeline.sandbox.salesforce.founding import INTEGRATION_SET, INTEGRATION_USER
from crm_pipeline.sync.assembly import Installation
from crm_pipeline.sync.findings import Severity
from crm_pipeline.writeback.field_setup import FieldSetUp, set_up_fields
from crm_pipeline_tests.cases.checking import findings
from crm_pipeline_tests.cases.writing import (
    create,
    drain,
    held_by,
    ids,
    states,
    update,
    wish,
    writing_house,
)
from crm_pipeline_tests.house import House

SCORE = "Marketing_Score__c"
NUMBER = {"label": "Score", "type": "Number", "precision": 18, "scale": 0}


@pytest.fixture
def house(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """An org without the score field, and settings that want it on leads."""
    with writing_house(database_url, tmp_path, monkeypatch, leads=3) as found:
        want(found, lead_scores={"enabled": True, "fields": {"Lead": SCORE}})
        yield found


def want(house: House, **write_backs: Any) -> None:
    """Enable write-backs, and these alone."""
    off = {"consent": {"direction": "off"}}
    house.configure(write_backs={**off, **write_backs})


def set_up(**options: Any) -> FieldSetUp:
    """One run of the command, without its table."""
    installation = Installation.from_environment()
    settings = installation.settings
    connector = installation.connector(settings)
    try:
        return set_up_fields(settings, connector, **options)
    finally:
        connector.close()


def only(found: FieldSetUp) -> FieldEnsured:
    """The one field that there is."""
    [one] = found.fields
    return one


def described(house: House, field: str = SCORE, name: str = "Lead") -> Any:
    """The field as our user sees it."""
    return house.org.catalogue.visible(name).field(field)


def metadata_calls(house: House) -> list[str]:
    """Methods of the requests that made or changed fields and permissions."""
    return [
        entry.method
        for entry in house.served.server.ledger.entries()
        if entry.method != "GET"
        and ("CustomField" in entry.path or "FieldPermissions" in entry.path)
    ]


def test_h18_a_score_lands_in_a_field_that_was_just_made(house: House) -> None:
    lead = ids(house)[0]
    assert only(set_up()).state is FieldState.CREATED
    wish(house, update(lead, Marketing_Score__c=42))
    drain(house)
    assert held_by(house, lead, SCORE) == 42
    assert states(house) == {"applied": 1}


def test_h18_a_new_field_is_shown_to_our_user_and_to_no_other_permission_set(house: House) -> None:
    crowd = house.org.create("PermissionSet", {"Name": "Crowd", "Label": "A crowd"})
    others = [
        house.org.create("User", {"LastName": name, "Username": name, "Email": name, "Alias": "u"})
        for name in ("a@example.com", "b@example.com", "c@example.com")
    ]
    for user in (INTEGRATION_USER, *others):
        house.org.create("PermissionSetAssignment", {"PermissionSetId": crowd, "AssigneeId": user})
    made = only(set_up())
    assert "Integration" in made.reason
    assert described(house).updateable
    rows = house.org.query("SELECT ParentId FROM FieldPermissions")
    assert [row["ParentId"] for row in rows] == [INTEGRATION_SET]


def test_h18_the_second_time_changes_nothing(house: House) -> None:
    set_up()
    before = len(metadata_calls(house))
    assert only(set_up()).state is FieldState.PRESENT
    assert len(metadata_calls(house)) == before


def test_h18_only_looking_changes_nothing(house: House) -> None:
    found = only(set_up(only_look=True))
    assert (found.state, found.crm_type) == (FieldState.LACKING, "Number(18, 0)")
    assert found.remedy
    assert metadata_calls(house) == []


def test_h18_a_field_that_somebody_made_and_nobody_sees_is_opened(house: House) -> None:
    house.org.custom_fields.create(f"Lead.{SCORE}", NUMBER)
    assert described(house) is None
    assert only(set_up()).state is FieldState.MADE_WRITABLE
    assert described(house).updateable


def test_h18_a_field_that_is_read_only_for_us_is_opened(house: House) -> None:
    house.org.custom_fields.create(f"Lead.{SCORE}", NUMBER)
    house.org.create(
        "FieldPermissions",
        {
            "ParentId": INTEGRATION_SET,
            "SobjectType": "Lead",
            "Field": f"Lead.{SCORE}",
            "PermissionsRead": True,
            "PermissionsEdit": False,
        },
    )
    assert not described(house).updateable
    assert only(set_up(only_look=True)).state is FieldState.READ_ONLY
    assert only(set_up()).state is FieldState.MADE_WRITABLE
    assert described(house).updateable


@pytest.mark.parametrize("is_shown", [True, False])
def test_h18_a_field_of_another_type_is_left_alone_and_named(
    house: House,
    is_shown: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    house.org.custom_fields.create(f"Lead.{SCORE}", {"label": "Score", "type": "DateTime"})
    if is_shown:
        house.org.show_field("Lead", SCORE)
    found = only(set_up())
    assert found.state is FieldState.REFUSED
    assert "is of the type datetime, and must be Number(18, 0)" in found.reason
    assert "write_backs.lead_scores.fields" in found.remedy
    assert metadata_calls(house) == []


def test_h18_a_name_that_a_deleted_field_holds_is_explained_until_it_is_erased(
    house: House,
) -> None:
    house.org.custom_fields.create(f"Lead.{SCORE}", NUMBER)
    house.org.custom_fields.delete("Lead", SCORE)
    found = only(set_up())
    assert found.state is FieldState.REFUSED
    assert "fifteen days" in found.reason
    assert "Deleted Fields" in found.remedy
    house.org.custom_fields.erase("Lead", SCORE)
    assert only(set_up()).state is FieldState.CREATED


def test_h18_two_creators_at_once_make_one_field_and_both_are_content(house: House) -> None:
    want(
        house,
        lead_scores={"enabled": True, "fields": {"Lead": SCORE, "Contact": SCORE}},
        touches={"enabled": True},
    )
    with ThreadPoolExecutor(2) as pool:
        both = [one.result() for one in [pool.submit(set_up) for _ in range(2)]]
    for found in both:
        assert all(one.can_be_written for one in found.fields)
    for mine, theirs in zip(*(found.fields for found in both), strict=True):
        assert [mine.state, theirs.state].count(FieldState.CREATED) == 1
    permissions = house.org.query("SELECT Field FROM FieldPermissions")
    assert len(permissions) == len({row["Field"] for row in permissions}) == 10


def test_h18_the_loser_of_a_race_finds_the_field(house: House) -> None:
    winners: list[FieldEnsured] = []
    house.served.server.faults.script(
        [Fault("call", "*/CustomField", "POST", callback=lambda _: winners.append(only(set_up())))]
    )
    loser = only(set_up())
    assert [one.state for one in winners] == [FieldState.CREATED]
    assert loser.state is FieldState.PRESENT


def test_h18_without_the_right_to_make_fields_an_administrator_is_told_what_to_make(
    house: House,
) -> None:
    house.served.server.settings.customize_application = False
    found = only(set_up())
    assert found.state is FieldState.REFUSED
    assert "Customize Application" in found.reason
    for word in (SCORE, "Lead", "Number(18, 0)", "Read and Edit"):
        assert word in found.remedy


def test_h18_a_user_who_may_not_look_at_the_set_up_is_told_so(house: House) -> None:
    body = json.dumps([{"errorCode": "INVALID_TYPE", "message": "'CustomField' is not supported"}])
    house.served.server.faults.script(
        [Fault("status", "*/tooling/query", status=400, body=body, times=0)]
    )
    found = only(set_up())
    assert found.state is FieldState.REFUSED
    assert "Customize Application" in found.reason
    assert SCORE in found.remedy


def test_h18_without_the_right_to_open_fields_the_missing_permission_is_named(
    house: House,
) -> None:
    house.org.catalogue.forbid_object("FieldPermissions")
    found = only(set_up())
    assert found.state is FieldState.REFUSED
    assert "Manage Profiles and Permission Sets" in found.reason
    house.org.catalogue.allow_object("FieldPermissions")
    assert only(set_up()).state is FieldState.MADE_WRITABLE


def test_h18_a_user_without_a_permission_set_of_its_own_is_told_so(house: House) -> None:
    for row in house.org.query("SELECT Id FROM PermissionSetAssignment"):
        house.org.delete("PermissionSetAssignment", str(row["Id"]))
    found = only(set_up())
    assert found.state is FieldState.REFUSED
    assert "a permission set of its own" in found.remedy


def test_h18_an_object_without_room_says_so(house: House) -> None:
    house.org.custom_fields.most_per_object = 1
    found = only(set_up())
    assert (found.state, "no room" in found.reason) == (FieldState.REFUSED, True)


def test_h18_a_field_that_describe_does_not_show_in_the_end_is_not_called_done(
    house: House,
) -> None:
    house.org.hide_field("Lead", SCORE)
    found = only(set_up())
    assert found.state is FieldState.REFUSED
    assert "was made, and still" in found.reason


def test_h18_a_standard_field_is_looked_at_and_never_made_or_opened(house: House) -> None:
    want(house, consent={"direction": "to_crm", "hard_bounced": {}})
    assert {one.state for one in set_up().fields} == {FieldState.PRESENT}
    house.org.catalogue.set_access("Lead", "HasOptedOutOfEmail", "read_only")
    house.org.hide_field("Contact", "HasOptedOutOfEmail")
    found = set_up()
    assert [one.state for one in found.fields] == [FieldState.REFUSED] * 2
    assert all(one.remedy for one in found.fields)
    assert metadata_calls(house) == []


def test_h18_every_kind_of_field_is_made_with_its_type(house: House) -> None:
    house.org.remove_field("Lead", "Crm_Pipeline_Key__c")
    want(
        house,
        key_field="Made_Key__c",
        consent={"direction": "both"},
        visits={"enabled": True},
        touches={"enabled": True},
        lead_scores={"enabled": True, "fields": {"Lead": SCORE, "Contact": SCORE}},
    )
    found = set_up(key_field_on=("Lead", "Account"))
    assert found.unready == ()
    types = {
        (one.wanted.object_name, one.wanted.name): one.crm_type
        for one in found.fields
        if one.state is FieldState.CREATED
    }
    for name in ("Lead", "Contact"):
        assert types[name, SCORE] == "Number(18, 0)"
        assert types[name, "Email_Hard_Bounced__c"] == "Checkbox"
        assert types[name, "Most_Recent_Visit__c"] == "Date/Time"
        assert types[name, "First_Touch_Channel__c"] == "Text(255)"
    key = described(house, "Made_Key__c", "Account")
    assert (key.unique, key.external_id, key.length) == (True, True, 64)
    assert described(house, "Made_Key__c", "Contact") is None
    wish(house, create(LastName="New", Company="Co"))
    drain(house)
    assert states(house) == {"applied": 1}


def test_h18_a_key_field_that_is_not_unique_is_refused(house: House) -> None:
    house.org.retype_field("Lead", "Crm_Pipeline_Key__c", unique=False)
    [key] = [one for one in set_up(key_field_on=("Lead",)).fields if one.wanted.name != SCORE]
    assert key.state is FieldState.REFUSED
    assert "External ID, Unique" in key.reason


def test_h18_fields_of_tasks_and_of_packages_are_left_to_people(house: House) -> None:
    house.configure(objects={**house.settings["objects"], "Task": {"fields": ["Subject"]}})
    want(house, lead_scores={"enabled": True, "fields": {"Lead": "pkg__Score__c"}})
    package, task = set_up(key_field_on=("Task",)).fields
    assert "installed package" in package.reason
    assert "Activity" in task.remedy
    assert metadata_calls(house) == []


def test_h18_nothing_is_made_on_objects_that_the_settings_leave_alone(house: House) -> None:
    want(house, visits={"enabled": True})
    house.configure(objects={"Lead": {"fields": ["LastName"]}})
    found = set_up()
    assert {one.wanted.object_name for one in found.fields} == {"Lead"}
    assert found.left_out == ("Contact",)
    with pytest.raises(UsageError, match="`Contact` is not among the enabled objects"):
        set_up(key_field_on=("Contact",))


@pytest.mark.parametrize(
    "switch_off",
    [
        lambda house: house.configure(syncs_enabled=False),
        lambda house: want(house, enabled=False, lead_scores={"enabled": True}),
    ],
)
def test_h18_nothing_is_made_while_a_switch_is_off(
    house: House, switch_off: Callable[[House], None]
) -> None:
    switch_off(house)
    with pytest.raises(SyncsDisabled):
        set_up()
    assert metadata_calls(house) == []


def test_h18_a_lost_answer_to_the_making_is_no_second_field(house: House) -> None:
    house.served.server.faults.script([Fault("lost_answer", "*/CustomField", "POST")])
    assert only(set_up()).can_be_written
    assert described(house).updateable


def test_h18_the_command_prints_a_table_and_the_lines_to_map(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["write-backs", "fields", "--dry-run"]) == 1
    assert "lacking" in capsys.readouterr().out
    assert run(["write-backs", "fields"]) == 0
    said = capsys.readouterr()
    assert all(word in said.out for word in ("Lead", SCORE, "Number(18, 0)", "created"))
    assert f"      - {SCORE}" in said.err
    house.configure(objects={**house.settings["objects"], "Lead": {"fields": ["LastName", SCORE]}})
    assert run(["write-backs", "fields", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["lines_to_map"] == ""
    assert [one["state"] for one in told["fields"]] == ["present"]


def test_h18_the_command_fails_when_a_field_is_refused(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    house.served.server.settings.customize_application = False
    assert run(["write-backs", "fields"]) == 1
    assert "Customize Application" in capsys.readouterr().out


def said(house: House, *severities: Severity) -> str:
    """What preflight has to say of these severities, in one text."""
    return "\n".join(
        f"{one.subject}: {one.sentence} {one.remedy}"
        for one in findings()
        if one.severity in severities
    )


def test_h18_check_names_the_fields_that_the_command_makes_and_is_content_afterwards(
    house: House,
) -> None:
    want(house, lead_scores={"enabled": True, "fields": {"Lead": SCORE}}, visits={"enabled": True})
    problems = said(house, Severity.PROBLEM)
    assert f"does not show Lead.{SCORE}" in problems
    assert "Contact.Most_Recent_Visit__c" in problems
    assert "crm-pipeline write-backs fields" in problems
    set_up()
    assert said(house, Severity.PROBLEM) == ""


def test_h18_check_names_fields_that_only_a_person_can_mend(house: House) -> None:
    house.org.custom_fields.create(f"Lead.{SCORE}", {"label": "Score", "type": "DateTime"})
    house.org.show_field("Lead", SCORE)
    want(
        house,
        lead_scores={"enabled": True, "fields": {"Lead": SCORE}},
        consent={"direction": "both", "hard_bounced": {}},
    )
    house.org.catalogue.set_access("Contact", "HasOptedOutOfEmail", "read_only")
    problems = said(house, Severity.PROBLEM)
    assert "must be Number(18, 0)" in problems
    assert "may read Contact.HasOptedOutOfEmail and not write it" in problems
    assert "crm-pipeline write-backs fields" not in problems


def test_h18_check_says_nothing_of_write_backs_that_are_off(house: House) -> None:
    want(house)
    assert said(house, Severity.PROBLEM) == ""


def test_h18_check_names_write_backs_of_objects_that_are_left_alone(house: House) -> None:
    want(house, visits={"enabled": True, "fields": {"Lead": SCORE, "Contact": SCORE}})
    house.configure(objects={"Lead": {"fields": ["LastName"]}})
    notices = said(house, Severity.NOTICE)
    assert "Contact: `write_backs.visits.fields` names a field of Contact" in notices
    assert "`Contact: null`" in notices


def without_right(house: House, name: str, *rights: str) -> None:
    """Take rights on an object from our user."""
    for right in rights:
        object.__setattr__(house.org.catalogue.object(name), right, False)
    house.org.catalogue.forget_access()


def test_h18_check_names_a_missing_right_to_edit_or_create(house: House) -> None:
    set_up()
    without_right(house, "Lead", "updateable", "createable")
    assert "may not edit its records" in said(house, Severity.PROBLEM)
    assert "may not create its records" in said(house, Severity.NOTICE)


def test_s12_check_finds_the_rights_that_write_backs_need_not_too_many(house: House) -> None:
    house.org.remove_field("Contact", "Crm_Pipeline_Key__c")
    excess = said(house, Severity.NOTICE)
    assert "Lead: The integration user may `delete` its records" in excess
    assert "Contact: The integration user may `create`, `edit` and `delete`" in excess


@pytest.mark.parametrize(
    ("owner", "word"), [("00Q000000000001AAA", "no user and of no queue"), ("", "no active user")]
)
def test_h24_check_names_a_default_owner_who_could_not_own_a_record(
    house: House, owner: str, word: str
) -> None:
    facts = {"LastName": "Left", "Username": "l@example.com", "Email": "l@example.com"}
    left = house.org.create("User", {**facts, "Alias": "left", "IsActive": False})
    want(house, default_owner=owner or left)
    assert word in said(house, Severity.PROBLEM)
    want(house, default_owner=INTEGRATION_USER)
    assert said(house, Severity.PROBLEM) == ""


def test_h24_a_default_owner_is_named_by_an_id(house: House) -> None:
    want(house, default_owner="Jane Doe")
    with pytest.raises(ConfigurationError, match="is no id; open the user or the queue"):
        Installation.from_environment().settings  # noqa: B018 - reading it is the act
